"""The runtime's calls: a request is held against the endpoint, and enters its queue."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Mapping

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.account.endpoints import Endpoint
from airflow_async_sm.emulator.account.plans import AsyncPlan
from airflow_async_sm.emulator.account.registry import Registry
from airflow_async_sm.emulator.account.statuses import SERVES, EndpointStatus
from airflow_async_sm.emulator.account.wording import check_text
from airflow_async_sm.emulator.errors import AwsError, not_imitated, runtime_refusal
from airflow_async_sm.emulator.settings.unknowns import FilenameReuse
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.submissions import Submission
from airflow_async_sm.emulator.work.tools import Tools


class Runtime:
    """
    Takes requests.

    :param registry: The endpoints.
    :param tools: What they share.
    """

    def __init__(self, registry: Registry, tools: Tools) -> None:
        self._registry = registry
        self._tools = tools
        self._naming = threading.Lock()

    def invoke_async(
        self, region: str, name: str, headers: Mapping[str, str], body: bytes
    ) -> tuple[str, str, str | None]:
        """
        Answer ``InvokeEndpointAsync`` with the inference id and the two locations.

        :param region: Region of the call.
        :param name: Name of the endpoint.
        :param headers: HTTP headers, their names in lower case.
        :param body: The HTTP payload.
        :raises AwsError: what the service answers to a request that it does not take.
        """
        endpoint = self._find(region, name)
        plan = endpoint.plan.asynchronous
        if plan is None:
            raise runtime_refusal(f"Endpoint {name} is not an asynchronous endpoint; use InvokeEndpoint.")
        tools = self._tools
        submission = Submission.parse(
            headers, body, unknowns=tools.knobs.unknowns, new_id=lambda: tools.board.new_id("inference")
        )
        request = self._request(endpoint, plan, submission)
        # Two requests with one name must not both find it free.
        with self._naming if submission.filename else contextlib.nullcontext():
            self._refuse_reused_name(submission, request.output)
            status = endpoint.status
            if status in SERVES and not endpoint.engine.submit(request):
                status = EndpointStatus.DELETING  # It was still up a moment ago.
        if status not in SERVES:
            # The service's own text for this is not known.
            raise runtime_refusal(
                f"Endpoint {name} of account {self._registry.account_id} is {status}; it takes requests when "
                "it is InService."
            )
        tools.tally.submitted(submission)
        return submission.inference_id, str(request.output), self._failure_location(request)

    def invoke(self, region: str, name: str, operation: str) -> AwsError:
        """
        Return the answer to a call that waits for its result, which is always a refusal.

        :param region: Region of the call.
        :param name: Name of the endpoint.
        :param operation: ``InvokeEndpoint`` or ``InvokeEndpointWithResponseStream``.
        """
        if self._find(region, name).plan.asynchronous is None:
            return not_imitated(operation)
        return runtime_refusal(f"Endpoint {name} is an asynchronous endpoint; use InvokeEndpointAsync.")

    def _find(self, region: str, name: str) -> Endpoint:
        self._registry.refuse_when_closed()
        try:
            check_text(limits.ENDPOINT_NAME, "endpointName", name)
        except InvalidInput as refusal:
            raise runtime_refusal(self._tools.knobs.unknowns.refusal_text(str(refusal))) from refusal
        endpoint = self._registry.find(region, name)
        if endpoint is None:
            raise runtime_refusal(f"Endpoint {name} of account {self._registry.account_id} not found.")
        return endpoint

    def _request(self, endpoint: Endpoint, plan: AsyncPlan, submission: Submission) -> Request:
        request_id = self._tools.board.new_id("request")
        output, failure = submission.places(
            plan.output, plan.failure, request_id=request_id, unknowns=self._tools.knobs.unknowns
        )
        now = self._tools.clock.now()
        return Request(
            request_id=request_id,
            endpoint=endpoint.name,
            region=endpoint.region,
            variant=endpoint.variant_name,
            submission=submission,
            output=output,
            failure=failure,
            config=plan.as_configured,
            submitted_at=now,
            expires_at=now + submission.request_ttl,
        )

    def _refuse_reused_name(self, submission: Submission, output: S3Uri) -> None:
        reuse = self._tools.knobs.unknowns.filename_reuse
        if not submission.filename or reuse is not FilenameReuse.REJECTED:
            return
        # Taken is also a name whose object is still to come.
        if self._tools.requests.is_expected(output) or self._tools.objects.exists(output):
            raise runtime_refusal(
                self._tools.knobs.unknowns.refusal_text(f"Filename {submission.filename!r} is in use.")
            )

    def _failure_location(self, request: Request) -> str | None:
        if request.failure is not None:
            return str(request.failure)
        if self._tools.knobs.unknowns.failure_location_always:
            name = self._tools.knobs.unknowns.failure_name(request.submission.filename, request.request_id)
            return f"{str(request.output).rpartition('/')[0]}/{name}"
        return None
