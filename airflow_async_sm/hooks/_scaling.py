"""The calls that look at and change how many instances an endpoint has."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, TypeVar

from botocore.exceptions import ClientError

from airflow_async_sm.core import limits
from airflow_async_sm.core.arguments import given
from airflow_async_sm.core.endpoint_states import STATUS_PHASES, Phase
from airflow_async_sm.core.scaling import ScalingState
from airflow_async_sm.core.scaling_parts import ScalableVariant
from airflow_async_sm.core.scaling_plans import plan_instances, plan_minimum, plan_removal, plan_scaling
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected, ServiceUnavailable
from airflow_async_sm.hooks._clients import AwsClients
from airflow_async_sm.hooks._translate import error_code, translated

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

    from airflow_async_sm.core.scaling import ScalingSpec
    from airflow_async_sm.core.scaling_plans import ScalingChange

    Described = dict[str, Any]

T = TypeVar("T")

_CLIENTS: Final = {
    limits.AUTOSCALING: "_autoscaling",
    limits.CLOUDWATCH: "_cloudwatch",
    limits.CONTROL: "_sagemaker",
}
# Two changes of one target at a time: the service refuses the second, which is over in seconds.
_CONCURRENT: Final = "ConcurrentUpdateException"
_PAUSES: Final = (0.5, 1.0, 2.0, 4.0)
_GONE: Final = frozenset({"ObjectNotFoundException", "ResourceNotFound", "ResourceNotFoundException"})


class ScalingCalls(AwsClients):
    """
    The part of the hook that talks to Application Auto Scaling and CloudWatch.

    Each method looks first and then makes the calls that are needed, so a task that was interrupted after any
    of them can be tried again.
    """

    _sleep: Callable[[float], None] = staticmethod(time.sleep)

    def describe_scaling(self, endpoint_name: str, variant_name: str) -> ScalingState:
        """
        Return what exists of a variant's scaling; that of an endpoint that does not exist is empty.

        :param endpoint_name: Name of the endpoint.
        :param variant_name: Name of its variant.
        :raises RequestRejected: a right is missing.
        :raises ServiceUnavailable: AWS could not be reached or is busy.
        """
        variant = ScalableVariant(endpoint_name, variant_name)
        state = ScalingState(
            target=self._target(variant),
            policies=self._described("describe_scaling_policies", "ScalingPolicies", variant),
            scheduled_actions=self._described("describe_scheduled_actions", "ScheduledActions", variant),
        )
        alarms = self._alarms(state.step_policy_arns, variant)
        return ScalingState(
            target=state.target,
            policies=state.policies,
            scheduled_actions=state.scheduled_actions,
            alarms=alarms,
        )

    def apply_scaling(self, endpoint_name: str, variant_name: str, spec: ScalingSpec) -> list[str]:
        """
        Make a variant scale as a spec says, and return one sentence for each change; none if it does.

        What others made for the same variant stays.

        :param endpoint_name: Name of the endpoint. It has to be in service.
        :param variant_name: Name of its variant.
        :param spec: How it shall scale.
        :raises RequestRejected: the service refused a change, for example because there is no such variant.
        :raises ServiceUnavailable: AWS could not be reached, or others change the same scaling all the time.
        """
        variant = ScalableVariant(endpoint_name, variant_name)
        state = self.describe_scaling(endpoint_name, variant_name)
        arns = {str(policy["PolicyName"]): str(policy["PolicyARN"]) for policy in state.policies}
        return self._make(plan_scaling(spec, state, variant), variant, arns)

    def remove_scaling(self, endpoint_name: str, variant_name: str) -> list[str]:
        """
        Remove all scaling of a variant, whoever made it, and return one sentence for each change.

        The number of instances stays as it is. Nothing to remove is fine as well.

        :param endpoint_name: Name of the endpoint, which may be gone.
        :param variant_name: Name of its variant.
        :raises RequestRejected: the service refused a change.
        :raises ServiceUnavailable: AWS could not be reached, or others change the same scaling all the time.
        """
        variant = ScalableVariant(endpoint_name, variant_name)
        state = self.describe_scaling(endpoint_name, variant_name)
        return self._make(plan_removal(state, variant), variant, {})

    def set_capacity(self, endpoint_name: str, variant_name: str, count: int) -> str:
        """
        Let a variant have so many instances, and return a sentence that says what that took.

        Where the variant scales, ``count`` becomes the fewest instances it may have, and its maximum is
        raised if it is smaller. Where it does not, ``count`` is exactly how many it gets. They take minutes
        to start, which is not waited for. A call with a smaller number, 0 for instance, lets them go again.

        :param endpoint_name: Name of the endpoint.
        :param variant_name: Name of its variant.
        :param count: How many instances, at least 0.
        :raises InvalidInput: ``count`` is not a number of instances.
        :raises EndpointNotReady: the endpoint is being created or updated.
        :raises RequestRejected: there is no such variant, or the service refused the number.
        :raises ServiceUnavailable: AWS could not be reached or is busy.
        """
        variant = ScalableVariant(endpoint_name, variant_name)
        limits.INSTANCES.check("count", count)
        target = self._target(variant)
        if target is not None:
            change = plan_minimum(target, count, variant)
        else:
            change = plan_instances(self._variant(variant), count, variant)
        if change is None:
            text = f"Nothing was to change: {variant} has its {count} instances, or will."
            self.log.info("%s", text)
            return text
        try:
            return self._make([change], variant, {})[0]
        except RequestRejected as error:
            self._check_settled(variant, error)
            raise

    def _target(self, variant: ScalableVariant) -> Described | None:
        identity = variant.identity
        found = self._pages(
            limits.AUTOSCALING,
            "describe_scalable_targets",
            "ScalableTargets",
            ServiceNamespace=identity["ServiceNamespace"],
            ResourceIds=[identity["ResourceId"]],
            ScalableDimension=identity["ScalableDimension"],
        )
        return found[0] if found else None

    def _described(self, operation: str, member: str, variant: ScalableVariant) -> tuple[Described, ...]:
        return tuple(self._pages(limits.AUTOSCALING, operation, member, **variant.identity))

    def _alarms(self, policies: Iterable[str], variant: ScalableVariant) -> tuple[Described, ...]:
        """Return the alarm of this package, and all that trigger one of the policies."""

        def described(**which: Any) -> list[Described]:
            return self._pages(limits.CLOUDWATCH, "describe_alarms", "MetricAlarms", **which)

        found = described(AlarmNames=[variant.wake_alarm])
        for arn in policies:
            # The service looks for a beginning, which may be that of a longer name as well.
            found += [one for one in described(ActionPrefix=arn) if arn in one.get("AlarmActions", ())]
        return tuple({str(alarm["AlarmName"]): alarm for alarm in found}.values())

    def _pages(self, service: str, operation: str, member: str, **arguments: Any) -> list[Described]:
        paginator = self._client_of(service).get_paginator(operation)

        def read() -> list[Described]:
            return [one for page in paginator.paginate(**arguments) for one in page.get(member, ())]

        return self._patiently(operation.replace("_", " "), read)

    def _variant(self, variant: ScalableVariant) -> Mapping[str, Any]:
        """Return the description of a variant."""
        description = self._describe_endpoint_of(variant)
        found: list[Mapping[str, Any]] = list(description.get("ProductionVariants", ()))
        for one in found:
            if one["VariantName"] == variant.variant_name:
                return one
        error = RequestRejected(
            f"Endpoint {variant.endpoint_name} has no variant {variant.variant_name}; it has: "
            f"{', '.join(str(one['VariantName']) for one in found) or 'none'}. A retry would find the same.",
            endpoint_name=variant.endpoint_name,
        )
        self._check_settled(variant, error)
        raise error

    def _describe_endpoint_of(self, variant: ScalableVariant) -> Mapping[str, Any]:
        with translated(f"describe endpoint {variant.endpoint_name}"):
            return self._sagemaker.describe_endpoint(EndpointName=variant.endpoint_name)

    def _check_settled(self, variant: ScalableVariant, error: RequestRejected) -> None:
        """Raise what is worth a retry if the endpoint is in motion, which explains a refusal."""
        status = str(self._describe_endpoint_of(variant)["EndpointStatus"])
        if STATUS_PHASES.get(status) is Phase.MOVING:
            raise EndpointNotReady(
                f"Endpoint {variant.endpoint_name} is {status}: {sentence(str(error.__cause__ or error))} "
                "A retry can succeed once it is in service.",
                endpoint_name=variant.endpoint_name,
            ) from error

    def _make(
        self, changes: Iterable[ScalingChange], variant: ScalableVariant, arns: dict[str, str]
    ) -> list[str]:
        """
        Make the calls of a plan, and return what they changed.

        :param arns: The policies that exist, by name; those that are made come in.
        """
        texts = []
        for change in changes:
            arguments = given(change.arguments)
            if change.triggers is not None:
                arguments["AlarmActions"] = [arns[change.triggers]]
            reply = self._call(change, arguments, variant)
            if reply is None:
                continue
            if "PolicyARN" in reply:
                arns[arguments["PolicyName"]] = reply["PolicyARN"]
            self.log.info("%s", change.text)
            texts.append(change.text)
        return texts

    def _call(
        self, change: ScalingChange, arguments: Mapping[str, Any], variant: ScalableVariant
    ) -> Mapping[str, Any] | None:
        """Return the reply of one call, or ``None`` if what it deletes was gone already."""
        method = getattr(self._client_of(change.service), change.operation)
        action = f"{change.operation.replace('_', ' ')} for {variant}"
        try:
            reply: Mapping[str, Any] = self._patiently(action, lambda: method(**arguments) or {})
        except RequestRejected as error:
            deletes = change.operation.startswith(("delete_", "deregister_"))
            if not deletes or _code(error) not in _GONE:
                raise
            self.log.info("What was to be deleted is gone already: %s", change.text)
            return None
        return reply

    def _patiently(self, action: str, call: Callable[[], T]) -> T:
        """Make a call again while the service is busy with another change of the same target."""
        pauses = iter(_PAUSES)
        while True:
            try:
                with translated(action):
                    return call()
            except RequestRejected as error:
                if _code(error) != _CONCURRENT:
                    raise
                pause = next(pauses, None)
                if pause is None:
                    raise ServiceUnavailable(
                        f"Could not {action}: {sentence(str(error.__cause__))} So said the service "
                        f"{len(_PAUSES) + 1} times in a row. A retry may succeed."
                    ) from error.__cause__
                self._sleep(pause)

    def _client_of(self, service: str) -> Any:
        return getattr(self, _CLIENTS[service])


def _code(error: RequestRejected) -> str:
    return error_code(error.__cause__) if isinstance(error.__cause__, ClientError) else ""
