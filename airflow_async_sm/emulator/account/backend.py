"""The endpoints of the emulated account, and the rules for what may be asked of them."""

from __future__ import annotations

import logging
import threading
import uuid
from collections.abc import Mapping
from typing import Any

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.emulator.account.checks import check_endpoint_config, check_model
from airflow_async_sm.emulator.account.endpoints import Endpoint, EndpointStatus, Site
from airflow_async_sm.emulator.account.listing import list_page
from airflow_async_sm.emulator.account.plans import EndpointPlan, Plans
from airflow_async_sm.emulator.errors import AwsError, constraint, control_refusal, runtime_refusal
from airflow_async_sm.emulator.work.engine import Job
from airflow_async_sm.emulator.work.records import RequestRecord, RequestState
from airflow_async_sm.emulator.work.submissions import Submission

log = logging.getLogger(__name__)


class Backend:
    """
    What the emulator knows beyond moto. Names of endpoints are compared without regard to case.

    :param account_id: The emulated account.
    :param plans: Reads configurations and models.
    :param site: Where endpoints are built.
    """

    def __init__(self, *, account_id: str, plans: Plans, site: Site) -> None:
        self._account_id = account_id
        self._plans = plans
        self._site = site
        self._lock = threading.RLock()
        self._endpoints: dict[tuple[str, str], Endpoint] = {}
        self._closed = False

    def close(self) -> None:
        """Accept nothing more and take every endpoint down, all at the same time."""
        with self._lock:
            self._closed = True
            endpoints = list(self._endpoints.values())
        try:
            for step in (Endpoint.ask_to_stop, Endpoint.stop):
                for endpoint in endpoints:
                    try:
                        step(endpoint)
                    except Exception:  # What goes wrong with one must not leave the others running.
                        log.exception("Endpoint %s did not stop as it should", endpoint.name)
        finally:
            # Also after a second Ctrl-C, which ends the waiting above.
            for endpoint in endpoints:
                endpoint.kill()

    def refuse_bad_model(self, region: str, request: Mapping[str, Any]) -> None:
        """Raise what the service answers to a ``CreateModel`` that it does not accept."""
        check_model(request)
        if self._plans.model_exists(request["ModelName"], region):
            raise self._exists("model", request["ModelName"], region)

    def refuse_bad_endpoint_config(self, region: str, request: Mapping[str, Any]) -> None:
        """Raise what the service answers to a ``CreateEndpointConfig`` that it does not accept."""
        check_endpoint_config(request)
        if self._plans.config_exists(request["EndpointConfigName"], region):
            raise self._exists("endpoint-config", request["EndpointConfigName"], region)
        for variant in request["ProductionVariants"]:
            if not self._plans.model_exists(variant.get("ModelName", ""), region):
                raise self._missing("model", variant.get("ModelName", ""), region)

    def create_endpoint(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``CreateEndpoint``."""
        name, config_name = request.get("EndpointName"), request.get("EndpointConfigName")
        try:
            name = limits.ENDPOINT_NAME.check("endpointName", name)
            config_name = limits.ENDPOINT_CONFIG_NAME.check("endpointConfigName", config_name)
        except InvalidInput as refusal:
            raise control_refusal(constraint(str(refusal))) from refusal
        plan = self._plan(config_name, region)
        with self._lock:
            self._refuse_when_closed()
            if (region, name.lower()) in self._endpoints:
                raise self._exists("endpoint", name, region)
            arn = self._arn("endpoint", name, region)
            endpoint = Endpoint(name=name, region=region, arn=arn, plan=plan, site=self._site)
            endpoint.start()
            self._endpoints[region, name.lower()] = endpoint
        return {"EndpointArn": arn}

    def describe_endpoint(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``DescribeEndpoint``."""
        return self._find(region, request).describe()

    def list_endpoints(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``ListEndpoints``."""
        with self._lock:
            summaries = [
                endpoint.summary() for endpoint in self._endpoints.values() if endpoint.region == region
            ]
        return list_page(summaries, request)

    def delete_endpoint(self, region: str, request: Mapping[str, Any]) -> None:
        """Answer ``DeleteEndpoint``."""
        with self._lock:
            self._refuse_when_closed()
            endpoint = self._find(region, request)
            if endpoint.status not in (EndpointStatus.IN_SERVICE, EndpointStatus.FAILED):
                raise control_refusal(f'Cannot update in-progress endpoint "{endpoint.arn}".')
            endpoint.delete(gone=lambda: self._forget(endpoint))

    def invoke_async(
        self, region: str, name: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, str, str | None]:
        """Answer ``InvokeEndpointAsync`` with the inference id and the two locations."""
        endpoint = self._to_invoke(region, name)
        plan = endpoint.plan.asynchronous
        if plan is None:
            raise runtime_refusal(f"Endpoint {name} is not an asynchronous endpoint; use InvokeEndpoint.")
        submission = Submission.parse(headers, body)
        request_id = str(uuid.uuid4())
        output, failure = submission.places(plan, request_id)
        now = self._site.tools.clock.now()
        job = Job(
            request_id=request_id,
            endpoint=endpoint.name,
            payload=submission.body,
            input_location=submission.input_location,
            headers=submission.container_headers(),
            output=output,
            failure=failure,
            ready_at=now + self._site.tools.behaviour.queue_seconds,
            expires_at=now + submission.request_ttl,
            invocation_timeout=submission.invocation_timeout,
        )
        record = RequestRecord(
            request_id=request_id,
            endpoint=endpoint.name,
            region=region,
            inference_id=submission.inference_id,
            state=RequestState.QUEUED,
            input_location=submission.input_location,
            output_location=str(output),
            failure_location=str(failure) if failure else None,
            submitted_at=now,
        )
        if endpoint.status is not EndpointStatus.IN_SERVICE or not endpoint.engine.submit(job, record):
            # The service's own text for this is not known.
            raise runtime_refusal(
                f"Endpoint {name} of account {self._account_id} is {endpoint.status}; it takes requests "
                "when it is InService."
            )
        return submission.inference_id, record.output_location, record.failure_location

    def invoke(self, region: str, name: str) -> AwsError:
        """Return the answer to ``InvokeEndpoint``, which is always a refusal."""
        endpoint = self._to_invoke(region, name)
        if endpoint.plan.asynchronous is None:
            return AwsError(
                "NotImplementedException", "InvokeEndpoint is not imitated by the emulator.", status=501
            )
        return runtime_refusal(f"Endpoint {name} is an asynchronous endpoint; use InvokeEndpointAsync.")

    def overview(self) -> list[dict[str, Any]]:
        """Return every endpoint of every region, with the number of its requests in each state."""
        with self._lock:
            endpoints = list(self._endpoints.values())
        requests = self._site.tools.requests
        return [
            {
                **endpoint.describe(),
                "Region": endpoint.region,
                "Requests": requests.counts(
                    endpoint=endpoint.name, region=endpoint.region, since=endpoint.created_at
                ),
            }
            for endpoint in endpoints
        ]

    def _plan(self, config_name: str, region: str) -> EndpointPlan:
        try:
            plan = self._plans.read(config_name, region)
        except LookupError as missing:
            raise self._missing("model", str(missing.args[0]), region) from missing
        if plan is None:
            raise self._missing("endpoint-config", config_name, region)
        quota = self._site.tools.behaviour.instance_quota
        if plan.instance_count > quota:
            raise AwsError(
                "ResourceLimitExceeded",
                f"The limit for instances of one endpoint is {quota}, and this request asks for "
                f"{plan.instance_count}. Raise the emulator's instance_quota if this machine can hold them.",
            )
        return plan

    def _find(self, region: str, request: Mapping[str, Any]) -> Endpoint:
        name = str(request.get("EndpointName", ""))
        with self._lock:
            endpoint = self._endpoints.get((region, name.lower()))
        if endpoint is None:
            raise self._missing("endpoint", name, region)
        return endpoint

    def _to_invoke(self, region: str, name: str) -> Endpoint:
        self._refuse_when_closed()
        with self._lock:
            endpoint = self._endpoints.get((region, name.lower()))
        if endpoint is None:
            raise runtime_refusal(f"Endpoint {name} of account {self._account_id} not found.")
        return endpoint

    def _forget(self, endpoint: Endpoint) -> None:
        with self._lock:
            del self._endpoints[endpoint.region, endpoint.name.lower()]

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise AwsError("ServiceUnavailable", "The emulator is stopping.", status=503)

    def _arn(self, kind: str, name: str, region: str) -> str:
        # SageMaker writes the name in lower case in it.
        return f"arn:aws:sagemaker:{region}:{self._account_id}:{kind}/{name.lower()}"

    def _exists(self, kind: str, name: str, region: str) -> AwsError:
        return control_refusal(
            f'Cannot create already existing {_KINDS[kind]} "{self._arn(kind, name, region)}".'
        )

    def _missing(self, kind: str, name: str, region: str) -> AwsError:
        return control_refusal(f'Could not find {_KINDS[kind]} "{self._arn(kind, name, region)}".')


_KINDS = {"endpoint": "endpoint", "endpoint-config": "endpoint configuration", "model": "model"}
