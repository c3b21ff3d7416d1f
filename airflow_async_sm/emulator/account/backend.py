"""The control plane's calls about endpoints, and the rules for what may be asked of them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

from airflow_async_sm.core import limits
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.emulator.account.checks import check_deployment, check_endpoint_config, check_model
from airflow_async_sm.emulator.account.descriptions import description, summary
from airflow_async_sm.emulator.account.endpoints import Endpoint, in_progress
from airflow_async_sm.emulator.account.fleets import Site
from airflow_async_sm.emulator.account.listing import CONFIGS, ENDPOINTS, MODELS, list_page
from airflow_async_sm.emulator.account.plans import EndpointPlan, Plans
from airflow_async_sm.emulator.account.registry import Registry
from airflow_async_sm.emulator.account.statuses import (
    DELETABLE,
    UPDATABLE,
    Change,
    EndpointStatus,
    SavedEndpoint,
)
from airflow_async_sm.emulator.account.tags import Tags, check_tags
from airflow_async_sm.emulator.account.wording import broken
from airflow_async_sm.emulator.errors import AwsError, constraint, control_refusal
from airflow_async_sm.emulator.scaling.scalable import CapacityUnavailable
from airflow_async_sm.emulator.settings.faults import ConfigLate

log = logging.getLogger(__name__)


class Backend:
    """
    What the emulator's control plane knows beyond moto.

    :param registry: The endpoints.
    :param plans: Reads configurations and models.
    :param site: Where endpoints are built.
    :param announce: Told the ``AsyncInferenceConfig`` of an endpoint that is being created.
    """

    def __init__(
        self,
        *,
        registry: Registry,
        plans: Plans,
        site: Site,
        announce: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.registry = registry
        self.tags = Tags(registry)
        self._plans = plans
        self._site = site
        self._tools = site.tools
        self._announce = announce
        self._configured: dict[tuple[str, str], float] = {}

    # What is checked before moto stores it.

    def refuse_bad_model(self, region: str, request: Mapping[str, Any]) -> None:
        """Raise what the service answers to a ``CreateModel`` that it does not accept."""
        check_model(request, self.registry.account_id)
        if self._plans.model_exists(request["ModelName"], region):
            raise self.registry.exists("model", request["ModelName"], region)
        _check_quota("models", len(self._plans.models(region)), self._tools.knobs.behaviour.model_quota)

    def refuse_bad_endpoint_config(self, region: str, request: Mapping[str, Any]) -> None:
        """Raise what the service answers to a ``CreateEndpointConfig`` that it does not accept."""
        check_endpoint_config(request, may_be_empty=self._tools.knobs.unknowns.zero_initial_instances)
        name = request["EndpointConfigName"]
        if self._plans.config_exists(name, region):
            raise self.registry.exists("endpoint-config", name, region)
        for variant in request["ProductionVariants"]:
            if not self._plans.model_exists(variant.get("ModelName", ""), region):
                raise self.registry.missing("model", variant.get("ModelName", ""), region)
        quota = self._tools.knobs.behaviour.endpoint_config_quota
        _check_quota("endpoint configurations", len(self._plans.configs(region)), quota)
        self._configured[region, name] = self._tools.clock.now()

    def refuse_missing_model(self, region: str, request: Mapping[str, Any]) -> None:
        """Raise what the service answers to a call about a model that is not there."""
        name = str(request.get("ModelName", ""))
        if not self._plans.model_exists(name, region):
            raise self.registry.missing("model", name, region)

    def refuse_missing_endpoint_config(self, region: str, request: Mapping[str, Any]) -> None:
        """Raise what the service answers to a call about a configuration that is not there."""
        name = str(request.get("EndpointConfigName", ""))
        if not self._plans.config_exists(name, region):
            raise self.registry.missing("endpoint-config", name, region)

    # What follows when moto has stored it.

    def model_created(self, region: str, request: Mapping[str, Any]) -> None:
        """Let ``DescribeModel`` show everything that ``CreateModel`` was given."""
        self._plans.complete_model(region, request, now=self._tools.clock.now())

    def endpoint_config_created(self, region: str, request: Mapping[str, Any]) -> None:
        """Let ``DescribeEndpointConfig`` show everything that ``CreateEndpointConfig`` was given."""
        self._plans.complete_config(region, request, now=self._tools.clock.now())

    # What it answers itself.

    def list_models(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``ListModels``."""
        return list_page(
            MODELS, self._summaries("model", "Model", region, self._plans.models(region)), request
        )

    def list_endpoint_configs(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``ListEndpointConfigs``."""
        found = self._summaries("endpoint-config", "EndpointConfig", region, self._plans.configs(region))
        return list_page(CONFIGS, found, request)

    def create_endpoint(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``CreateEndpoint``."""
        name, config_name = _names(request)
        check_deployment(request.get("DeploymentConfig"))
        tags = request.get("Tags") or []
        check_tags(tags)
        plan = self._plan(config_name, region, endpoint=name)
        registry = self.registry
        with registry.lock:
            self.registry.refuse_when_closed()
            if registry.find(region, name) is not None:
                raise registry.exists("endpoint", name, region)
            quota = self._tools.knobs.behaviour.endpoint_quota
            _check_quota("endpoints", len(registry.all(region)), quota)
            arn = registry.arn("endpoint", name, region)
            endpoint = Endpoint(name=name, region=region, arn=arn, plan=plan, site=self._site)
            self._tools.requests.begin(endpoint=name, region=region)
            self.tags.begin(arn, tags)
            registry.add(endpoint)
        try:
            if plan.asynchronous is not None:
                self._announce(plan.asynchronous.as_configured)
            endpoint.create(plan.instance_count)
        except Exception:
            self._forget(endpoint)
            endpoint.stop()
            raise
        return {"EndpointArn": arn}

    def describe_endpoint(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``DescribeEndpoint``."""
        return description(self._find(region, request))

    def list_endpoints(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``ListEndpoints``."""
        found = [summary(endpoint) for endpoint in self.registry.all(region)]
        return list_page(ENDPOINTS, found, request)

    def update_endpoint(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``UpdateEndpoint``."""
        name, config_name = _names(request)
        check_deployment(request.get("DeploymentConfig"))
        endpoint = self._find(region, request)
        plan = self._plan(config_name, region, endpoint=name)
        with self.registry.lock:
            self.registry.refuse_when_closed()
            _refuse_unless(endpoint, UPDATABLE)
            _check_successor(endpoint, plan, request)
            endpoint.update(self._change(endpoint, plan, request))
        return {"EndpointArn": endpoint.arn}

    def update_weights_and_capacities(self, region: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """Answer ``UpdateEndpointWeightsAndCapacities``."""
        endpoint = self._find(region, request)
        wanted = request.get("DesiredWeightsAndCapacities") or []
        if [one.get("VariantName") for one in wanted] != [endpoint.variant_name]:
            raise control_refusal(
                constraint(f"The endpoint has one variant, {endpoint.variant_name}; give that one.")
            )
        count = wanted[0].get("DesiredInstanceCount", endpoint.desired_instances)
        weight = wanted[0].get("DesiredWeight", endpoint.weight)
        _refuse_below_zero(desiredInstanceCount=count, desiredWeight=weight)
        self.check_instance_quota(count)
        with self.registry.lock:
            self.registry.refuse_when_closed()
            _refuse_unless(endpoint, UPDATABLE)
            try:
                endpoint.resize(count=count, weight=weight)
            except CapacityUnavailable as error:
                raise AwsError("ResourceLimitExceeded", str(error)) from error
        return {"EndpointArn": endpoint.arn}

    def delete_endpoint(self, region: str, request: Mapping[str, Any]) -> None:
        """Answer ``DeleteEndpoint``."""
        with self.registry.lock:
            self.registry.refuse_when_closed()
            endpoint = self._find(region, request)
            _refuse_unless(endpoint, DELETABLE)
            endpoint.delete(gone=lambda: self._forget(endpoint))

    def check_instance_quota(self, count: int) -> None:
        """
        Raise what the service answers to too many instances.

        :param count: How many are asked for.
        :raises AwsError: the quota is smaller.
        """
        quota = self._tools.knobs.behaviour.instance_quota
        if count > quota:
            raise AwsError(
                "ResourceLimitExceeded",
                f"The limit for instances of one endpoint is {quota}, and this request asks for {count}. "
                "Raise the emulator's instance_quota if this machine can hold them.",
            )

    def overview(self) -> list[dict[str, Any]]:
        """Return every endpoint of every region, with the number of its requests in each state."""
        return [
            {
                **description(endpoint, endpoint.actual_status),
                "Region": endpoint.region,
                "Requests": self._tools.requests.counts(endpoint=endpoint.name, region=endpoint.region),
            }
            for endpoint in self.registry.all()
        ]

    # How the emulator stops, and starts again.

    def stop_accepting(self) -> None:
        """Accept nothing more."""
        with self.registry.lock:
            self.registry.closed = True

    def close(self, *, keep: bool = False) -> None:
        """
        Accept nothing more and take every endpoint down, all at the same time.

        :param keep: Leave open requests open; they have been saved.
        """
        self.stop_accepting()
        endpoints = self.registry.all()
        try:
            for endpoint in endpoints:
                _carefully(endpoint, lambda one: one.ask_to_stop(keep=keep))
            for endpoint in endpoints:
                _carefully(endpoint, Endpoint.stop)
        finally:
            # Also after a second Ctrl-C, which ends the waiting above.
            for endpoint in endpoints:
                endpoint.kill()

    def reset(self) -> None:
        """Take every endpoint down, forget it, and go on."""
        self.close()
        self.registry.clear()
        self.tags.restore({})
        self._configured.clear()
        self.registry.closed = False

    def save(self) -> dict[str, Any]:
        """Return what is needed to go on after a restart."""
        return {
            "endpoints": [endpoint.save() for endpoint in self.registry.all()],
            "tags": self.tags.save(),
        }

    def restore(self, saved: Mapping[str, Any]) -> None:
        """Go on where an earlier emulator was."""
        self.tags.restore(saved["tags"])
        found: list[SavedEndpoint] = saved["endpoints"]
        for one in found:
            endpoint = Endpoint(name=one.name, region=one.region, arn=one.arn, plan=one.plan, site=self._site)
            self.registry.add(endpoint)
            endpoint.restore(one, gone=lambda endpoint=endpoint: self._forget(endpoint))  # type: ignore[misc]

    def _summaries(
        self, kind: str, prefix: str, region: str, created: Mapping[str, float]
    ) -> list[dict[str, Any]]:
        return [
            {
                f"{prefix}Name": name,
                f"{prefix}Arn": self.registry.arn(kind, name, region),
                "CreationTime": moment,
            }
            for name, moment in created.items()
        ]

    def _change(self, endpoint: Endpoint, plan: EndpointPlan, request: Mapping[str, Any]) -> Change:
        kept = set()
        if request.get("RetainAllVariantProperties"):
            excluded = request.get("ExcludeRetainedVariantProperties") or []
            kept = {"DesiredInstanceCount", "DesiredWeight"} - {
                one.get("VariantPropertyType") for one in excluded
            }
        deployment = request.get("DeploymentConfig")
        if deployment is None and request.get("RetainDeploymentConfig"):
            deployment = endpoint.last_deployment
        return Change(
            plan=plan,
            count=endpoint.desired_instances if "DesiredInstanceCount" in kept else plan.instance_count,
            weight=endpoint.weight if "DesiredWeight" in kept else plan.weight,
            deployment=deployment,
            began=self._tools.clock.now(),
        )

    def _plan(self, config_name: str, region: str, *, endpoint: str) -> EndpointPlan:
        registry = self.registry
        try:
            plan = self._plans.read(config_name, region)
        except LookupError as missing:
            raise registry.missing("model", str(missing.args[0]), region) from missing
        if plan is None or self._is_too_young(config_name, region, endpoint):
            raise registry.missing("endpoint-config", config_name, region)
        self.check_instance_quota(plan.instance_count)
        return plan

    def _is_too_young(self, config_name: str, region: str, endpoint: str) -> bool:
        age = self._tools.clock.now() - self._configured.get((region, config_name), 0.0)
        board = self._tools.board
        longest = max((one.seconds for one in board.all().values() if isinstance(one, ConfigLate)), default=0)
        if age >= longest:  # Nothing that is on could hit it, so nothing shall be used up.
            return False
        late = board.draw(ConfigLate, f"{region}/{config_name}", endpoint=endpoint)
        return late is not None and age < late.seconds

    def _find(self, region: str, request: Mapping[str, Any]) -> Endpoint:
        name = str(request.get("EndpointName", ""))
        endpoint = self.registry.find(region, name)
        if endpoint is None:
            raise self.registry.missing("endpoint", name, region)
        return endpoint

    def _forget(self, endpoint: Endpoint) -> None:
        self.registry.remove(endpoint)
        self.tags.forget(endpoint.arn)


def _names(request: Mapping[str, Any]) -> tuple[str, str]:
    try:
        return (
            limits.ENDPOINT_NAME.check("endpointName", request.get("EndpointName")),
            limits.ENDPOINT_CONFIG_NAME.check("endpointConfigName", request.get("EndpointConfigName")),
        )
    except InvalidInput as refusal:
        raise control_refusal(constraint(str(refusal))) from refusal


def _check_quota(what: str, there: int, quota: int) -> None:
    if there >= quota:
        raise AwsError(
            "ResourceLimitExceeded",
            f"The account-level service limit for {what} is {quota}, and there are {there} already.",
        )


def _refuse_below_zero(**numbers: object) -> None:
    for member, number in numbers.items():
        path = f"desiredWeightsAndCapacities.1.member.{member}"
        if isinstance(number, bool) or not isinstance(number, int | float):
            raise control_refusal(constraint(str(broken(path, number, "Member must be a number"))))
        if number < 0:
            rule = "Member must have value greater than or equal to 0"
            raise control_refusal(constraint(str(broken(path, number, rule))))


def _refuse_unless(endpoint: Endpoint, allowed: frozenset[EndpointStatus]) -> None:
    status = endpoint.status
    if status is EndpointStatus.FAILED and status not in allowed:
        raise control_refusal(f'Endpoint "{endpoint.arn}" is Failed; it can only be deleted.')
    if status not in allowed:
        raise in_progress(endpoint.arn)


def _check_successor(endpoint: Endpoint, plan: EndpointPlan, request: Mapping[str, Any]) -> None:
    if endpoint.plan.asynchronous is not None and plan.asynchronous is None:
        # The end of this text is not known; the part after "change the" is ours.
        raise control_refusal(
            "The AsyncInferenceConfig parameter cannot be removed from this endpoint "
            f"{endpoint.name}. To change the endpoint to another type, delete it and create it again."
        )
    if endpoint.plan.asynchronous is None and plan.asynchronous is not None:
        raise control_refusal(
            f"The AsyncInferenceConfig parameter cannot be added to this endpoint {endpoint.name}."
        )
    if request.get("DeploymentConfig") and plan.variant_name != endpoint.variant_name:
        raise control_refusal("With a DeploymentConfig the names of the variants must stay the same.")


def _carefully(endpoint: Endpoint, step: Callable[[Endpoint], None]) -> None:
    try:
        step(endpoint)
    except Exception:  # What goes wrong with one must not leave the others running.
        log.exception("Endpoint %s did not stop as it should", endpoint.name)
