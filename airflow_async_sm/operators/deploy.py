"""Make an asynchronous endpoint what it is meant to be."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from airflow_async_sm._compat import Context
from airflow_async_sm.core.deployments import Action, IfExists, plan_deployment
from airflow_async_sm.core.endpoint_states import capacity, progress, variant_name
from airflow_async_sm.core.endpoints import AsyncEndpointSpec
from airflow_async_sm.core.handles import IN_SERVICE, EndpointHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.scaling import ScalingSpec
from airflow_async_sm.core.templates import optional, whole_number
from airflow_async_sm.core.texts import sentence
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected, SageMakerAsyncError
from airflow_async_sm.operators.endpoint import SageMakerAsyncEndpointBaseOperator

__all__ = ["SageMakerAsyncDeployOperator"]

# A configuration that was made a moment ago may not be known everywhere: seconds between the attempts.
_PAUSES: Final = (1.0, 2.0, 4.0, 8.0)


class SageMakerAsyncDeployOperator(SageMakerAsyncEndpointBaseOperator):
    """
    Ensure that an asynchronous endpoint is there, is what the arguments say, and serves.

    What is missing is created. What is different is updated: the new configuration gets a name of its own,
    made of its content. What is the same is left alone, and then no call is made that changes anything. All
    arguments are checked before anything is created. A retry goes on where an earlier attempt stopped.

    There are three ways to describe the endpoint: with ``image`` and ``output_path`` model and configuration
    are made; with ``model_name`` in place of ``image`` the model exists already; with
    ``endpoint_config_name`` alone the configuration does.

    An update whose new machines do not come up is undone by the service, which then is in service with the
    configuration it had: that is an error. An endpoint that could not be created is deleted again.

    ``InService`` does not mean that a machine is running: an endpoint that was scaled to zero is in service
    too, and wakes up with the first request if its scaling says so.

    The task returns ``{"endpoint_name", "endpoint_config_name", "model_name", "output_path",
    "failure_path"}``.

    The numbers are from the API models of CreateModel, CreateEndpointConfig, CreateEndpoint and
    UpdateEndpoint.

    :param endpoint_name: Name of the endpoint, at most 63 characters. (templated)
    :param image: Address of the container image, at most 255 characters. Default: ``model_name`` exists.
        (templated)
    :param execution_role_arn: ARN of the role that the endpoint runs under: it reads inputs and the model,
        and writes outputs. Needed with ``image``. (templated)
    :param model_data_url: S3 URI of the packed model, ``model.tar.gz``. Default: the image holds the model.
        (templated)
    :param environment: Environment variables of the container, at most 100. Default: none. (templated)
    :param subnets: Subnets that the containers are attached to, 1 to 16. Default: none. (templated)
    :param security_group_ids: Security groups in them, 1 to 5. Default: none. (templated)
    :param model_name: Name of the model, at most 63 characters. Default: the endpoint's, with an ``x`` and
        ten digits made of the model's content. (templated)
    :param endpoint_config_name: Name of the configuration, at most 63 characters. Default: the endpoint's,
        with an ``x`` and ten digits made of the configuration's content. (templated)
    :param instance_type: Kind of machine, for example ``ml.m5.large``. Needed with ``output_path``.
        (templated)
    :param initial_instance_count: Machines to begin with, at least 1. Default 1. (templated)
    :param output_path: S3 folder for answers, at most 512 characters. Default: ``endpoint_config_name``
        exists. (templated)
    :param failure_path: S3 folder for failures, at most 512 characters. Default: ``output_path`` with
        ``-failures`` added to its last folder. (templated)
    :param kms_key_id: KMS key for answers and failures, at most 2,048 characters. Default: S3's own
        encryption. (templated)
    :param success_topic: ARN of a standard SNS topic of the endpoint's region that hears of answers. Default:
        none. (templated)
    :param error_topic: ARN of a standard SNS topic of the endpoint's region that hears of failures. Default:
        none. (templated)
    :param include_inference_response_in: Which messages hold the answer itself, up to 128 KB:
        ``SUCCESS_NOTIFICATION_TOPIC``, ``ERROR_NOTIFICATION_TOPIC``. Default: neither.
    :param max_concurrent_invocations_per_instance: Requests one machine works on at a time, 1 to 1,000.
        Default: the service chooses.
    :param deployment_config: Guardrails of an update, as UpdateEndpoint's ``DeploymentConfig``. Default:
        everything at once. (templated)
    :param tags: Tags of model, configuration and endpoint, at most 50; written when one is made or updated.
        Default: none. (templated)
    :param extra_api_args: Further API arguments, by call: ``create_model``, ``create_endpoint_config``,
        ``create_endpoint``, ``update_endpoint``. They are merged into the others. Default: none. (templated)
    :param scaling: How the number of machines follows the backlog: a :class:`ScalingSpec`, or a dictionary of
        its arguments. Default: scaling is neither looked at nor changed. (templated)
    :param if_exists: What to do about an endpoint that is something else: ``"update"`` it; ``"reuse"`` it as
        it is; or ``"fail"``. Default ``"update"``.
    :param keep_failed: Leave an endpoint that failed, to look at it, until something else is deployed under
        its name. Default ``False``: it is deleted. Its logs stay either way.
    :param timeout: Seconds until the endpoint serves, all steps together. Default 3,600, as botocore's own
        waiter.
    :param poll_interval: Longest pause between two looks, in seconds, at least 1. Default 15. Each look is
        one DescribeEndpoint request.
    :param wait_for_completion: Wait until the endpoint serves. If ``False``, return the handle at once, and
        ``deferrable`` has no effect; ``scaling`` cannot be given then. Default ``True``.
    :param deferrable: Wait in the triggerer and hold no worker. Default: Airflow's ``[operators]
        default_deferrable``.
    :param aws_conn_id: Airflow connection with the credentials. ``None``: boto3's own chain.
        Default: ``aws_default``. (templated)
    :param region_name: AWS region. Default: the connection's, then boto3's. (templated)
    :param verify: Whether TLS certificates are verified, or the path of a certificate bundle. Default: the
        connection's setting. (templated)
    :param botocore_config: Arguments of ``botocore.config.Config``, as a dictionary. Default: the
        connection's.
    :raises RequestRejected: bad input, a name that is taken, or a refusal by the service. Not retried.
    :raises ServiceUnavailable: AWS could not be reached, is busy, or a quota is used up.
    :raises EndpointNotReady: the endpoint failed, or is in service with another configuration.
    :raises WaitTimedOut: ``timeout`` passed first; the creation goes on.
    :raises LookFailed: the endpoint could not be looked at, too often in a row.
    """

    template_fields: Sequence[str] = (
        *SageMakerAsyncEndpointBaseOperator.template_fields,
        "image",
        "execution_role_arn",
        "model_data_url",
        "environment",
        "subnets",
        "security_group_ids",
        "model_name",
        "endpoint_config_name",
        "instance_type",
        "initial_instance_count",
        "output_path",
        "failure_path",
        "kms_key_id",
        "success_topic",
        "error_topic",
        "deployment_config",
        "tags",
        "extra_api_args",
        "scaling",
    )

    def __init__(
        self,
        *,
        endpoint_name: str,
        image: str | None = None,
        execution_role_arn: str | None = None,
        model_data_url: str | None = None,
        environment: Mapping[str, str] | None = None,
        subnets: Sequence[str] | None = None,
        security_group_ids: Sequence[str] | None = None,
        model_name: str | None = None,
        endpoint_config_name: str | None = None,
        instance_type: str | None = None,
        initial_instance_count: int | str = 1,
        output_path: str | None = None,
        failure_path: str | None = None,
        kms_key_id: str | None = None,
        success_topic: str | None = None,
        error_topic: str | None = None,
        include_inference_response_in: Sequence[str] = (),
        max_concurrent_invocations_per_instance: int | None = None,
        deployment_config: Mapping[str, Any] | None = None,
        tags: Mapping[str, str] | None = None,
        extra_api_args: Mapping[str, Mapping[str, Any]] | None = None,
        scaling: ScalingSpec | Mapping[str, Any] | None = None,
        if_exists: str = IfExists.UPDATE.value,
        keep_failed: bool = False,
        timeout: float = 3_600.0,
        poll_interval: float = 15.0,
        **kwargs: Any,
    ) -> None:
        super().__init__(endpoint_name=endpoint_name, timeout=timeout, poll_interval=poll_interval, **kwargs)
        self.image = image
        self.execution_role_arn = execution_role_arn
        self.model_data_url = model_data_url
        self.environment = environment
        self.subnets = subnets
        self.security_group_ids = security_group_ids
        self.model_name = model_name
        self.endpoint_config_name = endpoint_config_name
        self.instance_type = instance_type
        self.initial_instance_count = initial_instance_count
        self.output_path = output_path
        self.failure_path = failure_path
        self.kms_key_id = kms_key_id
        self.success_topic = success_topic
        self.error_topic = error_topic
        self.include_inference_response_in = include_inference_response_in
        self.max_concurrent_invocations_per_instance = max_concurrent_invocations_per_instance
        self.deployment_config = deployment_config
        self.tags = tags
        self.extra_api_args = extra_api_args
        self.scaling = scaling
        self.if_exists = if_exists
        self.keep_failed = keep_failed

    def request(self, context: Context) -> AsyncEndpointSpec:  # noqa: ARG002 - others need to know their task
        """Check everything that can be checked without a network."""
        IfExists.check(self.if_exists)
        if self._scaling_spec() is not None and not self.wait_for_completion:
            raise InvalidInput(
                "scaling is given with wait_for_completion=False; an endpoint can be scaled only once it is "
                "in service. Wait for it, or leave scaling out."
            )
        spec = AsyncEndpointSpec(
            endpoint_name=self.endpoint_name,
            image=self._text("image"),
            execution_role_arn=self._text("execution_role_arn"),
            model_data_url=self._text("model_data_url"),
            environment=self._text("environment") or {},
            subnets=self._text("subnets") or (),
            security_group_ids=self._text("security_group_ids") or (),
            model_name=self._text("model_name"),
            endpoint_config_name=self._text("endpoint_config_name"),
            instance_type=self._text("instance_type"),
            initial_instance_count=whole_number("initial_instance_count", self.initial_instance_count),
            output_path=self._text("output_path"),
            failure_path=self._text("failure_path"),
            kms_key_id=self._text("kms_key_id"),
            success_topic=self._text("success_topic"),
            error_topic=self._text("error_topic"),
            include_inference_response_in=self.include_inference_response_in,
            max_concurrent_invocations_per_instance=self.max_concurrent_invocations_per_instance,
            deployment_config=self._text("deployment_config"),
            tags=self._text("tags") or {},
            extra_api_args=self._text("extra_api_args") or {},
        )
        if spec.success_topic or spec.error_topic:
            spec.check_region(self.hook.region)
        return spec

    def submit(self, request: AsyncEndpointSpec, context: Context) -> EndpointHandle:  # noqa: ARG002 - others remember
        """Do what is to be done first, and return what to wait for."""
        return self._pursue(request, since=self.clock())

    def follow(self, handle: EndpointHandle, context: Context) -> EndpointHandle | None:
        """Go on after a wait that was not the last; let the endpoint scale once it is in service."""
        if handle.goal != IN_SERVICE:
            return self._pursue(self.again(handle, context), since=handle.submitted_at)
        scaling = self._scaling_spec()
        if scaling is not None:
            self.again(handle, context)
            self._scale(self.hook.describe_endpoint(handle.endpoint_name), handle.endpoint_name, scaling)
        return None

    def failure(self, handle: EndpointHandle) -> str:
        """Delete an endpoint that could not be created; let one go on scaling that was rolled back."""
        try:
            description = self.hook.describe_endpoint(handle.endpoint_name) or {}
            status, scaling = description.get("EndpointStatus"), self._scaling_spec()
            if status == "Failed" and not self.keep_failed:
                self.hook.delete_endpoint(handle.endpoint_name)
                return (
                    "It is being deleted, so that nothing is left to pay for; keep_failed=True would keep it."
                )
            if status == IN_SERVICE and scaling is not None:
                # An update to another kind of machine has taken it away.
                self.hook.apply_scaling(handle.endpoint_name, variant_name(description), scaling)
        except SageMakerAsyncError as error:
            return f"What is left of it could not be put in order: {error}"
        return ""

    def collect(self, handle: EndpointHandle, context: Context) -> dict[str, Any]:  # noqa: ARG002
        """Return the names and folders of what was deployed, as the service has them."""
        description = self.hook.describe_endpoint(handle.endpoint_name) or {}
        config_name = str(handle.endpoint_config_name or description.get("EndpointConfigName"))
        config = self.hook.describe_endpoint_config(config_name) or {}
        variants = config.get("ProductionVariants") or [{}]
        output = config.get("AsyncInferenceConfig", {}).get("OutputConfig", {})
        return {
            "endpoint_name": handle.endpoint_name,
            "endpoint_config_name": config_name,
            "model_name": variants[0].get("ModelName"),
            "output_path": output.get("S3OutputPath"),
            "failure_path": output.get("S3FailurePath"),
        }

    def _pursue(self, spec: AsyncEndpointSpec, *, since: float) -> EndpointHandle:
        """Look what there is, and do the next thing."""
        description = self.hook.describe_endpoint(spec.endpoint_name)
        step = plan_deployment(spec, description, IfExists.check(self.if_exists))
        if step.action is Action.REFUSE:
            raise RequestRejected(
                f"Endpoint {spec.endpoint_name} was not deployed: {step.text} Nothing was changed; a retry "
                "would be refused as well.",
                endpoint_name=spec.endpoint_name,
            )
        if step.goal == IN_SERVICE:
            self.log.info("Endpoint %s: %s.", spec.endpoint_name, step.text)
        else:
            self.must_wait(step.text)
        if step.action is Action.CREATE:
            self._create(spec)
        elif step.action is Action.UPDATE and description is not None:
            self._update(spec, description)
        elif step.action is Action.DELETE and description is not None:
            self._clear_away(spec, description)
        elif step.config_name is not None and (self.model_name or self.endpoint_config_name):
            # Only names that are made of the content say by themselves that it is the same.
            self.hook.check_made_parts(spec)
        return EndpointHandle(
            endpoint_name=spec.endpoint_name,
            goal=step.goal,
            submitted_at=since,
            endpoint_config_name=step.config_name,
            changed_at=0.0 if step.action is Action.NOTHING else self.clock(),
        )

    def _create(self, spec: AsyncEndpointSpec) -> None:
        self.hook.check_existing_parts(spec)
        self.hook.create_parts(spec)
        self._patiently(lambda: self.hook.create_endpoint(spec))
        self.log.info("Endpoint %s is being created.", spec.endpoint_name)

    def _clear_away(self, spec: AsyncEndpointSpec, description: Mapping[str, Any]) -> None:
        if self.keep_failed and description["EndpointConfigName"] == spec.config_name:
            raise RequestRejected(
                f"Endpoint {spec.endpoint_name} is {sentence(progress(description))} It is kept, as "
                "keep_failed says. Delete it, or change what is deployed. A retry would be refused as well.",
                endpoint_name=spec.endpoint_name,
            )
        self.remove_scaling(spec.endpoint_name, description)
        self.hook.delete_endpoint(spec.endpoint_name)

    def _update(self, spec: AsyncEndpointSpec, description: Mapping[str, Any]) -> None:
        self.hook.check_existing_parts(spec)
        self.hook.create_parts(spec)
        old, new = (
            _variant(self.hook.describe_endpoint_config(name))
            for name in (description["EndpointConfigName"], spec.config_name)
        )
        # Where somebody has scaled it, an update must not throw it back to where it begins.
        desired, before = capacity(description)[1], old.get("InitialInstanceCount")
        retain = desired != before and desired > new.get("InitialInstanceCount", desired)
        released = any(old.get(name) != new.get(name) for name in ("InstanceType", "VariantName"))
        if released:
            self._release(description)
        try:
            self._patiently(lambda: self.hook.update_endpoint(spec, description, retain_capacity=retain))
        except SageMakerAsyncError:
            scaling = self._scaling_spec()
            if released and scaling is not None:
                self._scale(description, spec.endpoint_name, scaling)
            raise
        self.log.info("Endpoint %s is being updated to %s.", spec.endpoint_name, spec.config_name)

    def _release(self, description: Mapping[str, Any]) -> None:
        """Remove the scaling before the kind of machine changes: the service refuses the change otherwise."""
        if self._scaling_spec() is not None:
            self.hook.remove_scaling(self.endpoint_name, variant_name(description))
            return
        try:
            state = self.hook.describe_scaling(self.endpoint_name, variant_name(description))
        except RequestRejected as error:
            self.log.info("Whether endpoint %s is scaled cannot be seen: %s", self.endpoint_name, error)
            return
        if state.target is not None:
            raise RequestRejected(
                f"Endpoint {self.endpoint_name} is scaled, and SageMaker refuses another kind of machine, or "
                "another name of its variant, while it is. Give scaling, so that this task removes it and "
                "sets it up again, or remove it first. A retry would be refused as well.",
                endpoint_name=self.endpoint_name,
            )

    def _scale(self, description: Mapping[str, Any] | None, endpoint_name: str, scaling: ScalingSpec) -> None:
        self.hook.apply_scaling(endpoint_name, variant_name(description), scaling)

    def _patiently(self, call: Callable[[], None]) -> None:
        for pause in _PAUSES:
            try:
                return call()
            except EndpointNotReady as error:
                self.log.info("%s Trying again in %.0f s.", error, pause)
                self.sleep(pause)
        return call()

    def _scaling_spec(self) -> ScalingSpec | None:
        value = self._text("scaling")
        return None if value is None else ScalingSpec.from_value(value)

    def _text(self, argument: str) -> Any:
        return optional(argument, getattr(self, argument))


def _variant(config: Mapping[str, Any] | None) -> Mapping[str, Any]:
    variants: list[Mapping[str, Any]] = (config or {}).get("ProductionVariants") or [{}]
    return variants[0]
