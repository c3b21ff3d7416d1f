from __future__ import annotations

from contextlib import ExitStack

import pytest
from botocore.stub import ANY, Stubber

from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.scaling import ScalingSpec, ScalingState
from airflow_async_sm.exceptions import EndpointNotReady, RequestRejected, ServiceUnavailable
from airflow_async_sm.hooks._scaling import ScalingCalls

NAMES = ("churn", "AllTraffic")
OWN_ALARM = "airflow-async-sm-wake-churn-AllTraffic"
ARN = "arn:aws:autoscaling:us-east-1:1:scalingPolicy:1:resource/sagemaker/endpoint/churn:policyName/wake"
IDENTITY = {
    "ServiceNamespace": "sagemaker",
    "ResourceId": "endpoint/churn/variant/AllTraffic",
    "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
}
TARGET = {**IDENTITY, "MinCapacity": 0, "MaxCapacity": 5, "RoleARN": "role", "CreationTime": 0}
STEP = {**IDENTITY, "PolicyName": "wake", "PolicyType": "StepScaling", "PolicyARN": ARN, "CreationTime": 0}
TRACKING = {**STEP, "PolicyName": "t", "PolicyType": "TargetTrackingScaling", "PolicyARN": f"{ARN}-t"}
BUSY = "ConcurrentUpdateException"


class Services:
    """A hook, and what the services answer it, in order."""

    def __init__(self, hook, stubs):
        self.hook = hook
        self.slept = []
        self.hook._sleep = self.slept.append
        self._stubs = {
            name: stubs.enter_context(Stubber(getattr(self.hook, attribute)))
            for name, attribute in (
                ("autoscaling", "_autoscaling"),
                ("cloudwatch", "_cloudwatch"),
                ("sagemaker", "_sagemaker"),
            )
        }

    def answer(self, service, operation, reply=None, *, sent=None):
        self._stubs[service].add_response(operation, reply or {}, sent)

    def refuse(self, service, operation, code, status=400):
        self._stubs[service].add_client_error(operation, code, f"It is {code}", http_status_code=status)

    def describe(self, target=None, policies=(), actions=(), alarms=()):
        """Let everything be described once."""
        self.answer_target(target)
        self.answer("autoscaling", "describe_scaling_policies", {"ScalingPolicies": [*policies]})
        self.answer("autoscaling", "describe_scheduled_actions", {"ScheduledActions": [*actions]})
        own = {"MetricAlarms": [*alarms]}
        self.answer("cloudwatch", "describe_alarms", own, sent={"AlarmNames": [OWN_ALARM]})

    def answer_target(self, target):
        found = {"ScalableTargets": [target] if target else []}
        self.answer("autoscaling", "describe_scalable_targets", found)

    def done(self):
        for stub in self._stubs.values():
            stub.assert_no_pending_responses()


@pytest.fixture(scope="module")
def hook():
    """One for all, because clients take long to make."""
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("AWS_ACCESS_KEY_ID", "testing")
        environment.setenv("AWS_SECRET_ACCESS_KEY", "testing")
        hook = ScalingCalls(None, region_name="us-east-1")
        clients = (hook._autoscaling, hook._cloudwatch, hook._sagemaker)
    yield hook
    for client in clients:
        client.close()


@pytest.fixture
def services(hook):
    with ExitStack() as stubs:
        services = Services(hook, stubs)
        yield services
        services.done()


class TestDescribing:
    def test_nothing_is_an_empty_state(self, services):
        services.describe()
        assert services.hook.describe_scaling(*NAMES) == ScalingState()

    def test_pages_are_read_to_the_last(self, services):
        services.answer_target(TARGET)
        for policies, token in (([TRACKING], {"NextToken": "more"}), ([STEP], {})):
            page = {"ScalingPolicies": policies, **token}
            services.answer("autoscaling", "describe_scaling_policies", page)
        services.answer("autoscaling", "describe_scheduled_actions", {"ScheduledActions": []})
        services.answer("cloudwatch", "describe_alarms", {})
        for name, token in (("a", {"NextToken": "more"}), ("b", {})):
            page = {"MetricAlarms": [{"AlarmName": name, "AlarmActions": [ARN]}], **token}
            services.answer("cloudwatch", "describe_alarms", page)
        state = services.hook.describe_scaling(*NAMES)
        assert state.target["MaxCapacity"] == 5
        assert [policy["PolicyName"] for policy in state.policies] == ["t", "wake"]
        assert [alarm["AlarmName"] for alarm in state.alarms] == ["a", "b"]

    def test_alarms_are_those_of_step_policies_whoever_made_them_and_our_own(self, services):
        own = {"AlarmName": OWN_ALARM, "AlarmActions": ["gone"]}
        services.describe(TARGET, [TRACKING, STEP], alarms=[own])
        found = [
            {"AlarmName": "theirs", "AlarmActions": ["sns", ARN]},
            # Its policy has a name that only begins like the one that is asked for.
            {"AlarmName": "another's", "AlarmActions": [f"{ARN}-and-more"]},
            own,
        ]
        sent = {"ActionPrefix": ARN}
        services.answer("cloudwatch", "describe_alarms", {"MetricAlarms": found}, sent=sent)
        alarms = services.hook.describe_scaling(*NAMES).alarms
        assert [alarm["AlarmName"] for alarm in alarms] == [OWN_ALARM, "theirs"]

    @pytest.mark.parametrize("method", ["describe_scaling", "remove_scaling"])
    def test_bad_names_are_refused_before_anybody_is_asked(self, services, method):
        with pytest.raises(InvalidInput, match="endpoint_name"):
            getattr(services.hook, method)("an endpoint", "AllTraffic")
        with pytest.raises(InvalidInput, match="variant_name"):
            getattr(services.hook, method)("churn", "")

    def test_a_missing_right_is_not_worth_a_retry(self, services):
        services.refuse("autoscaling", "describe_scalable_targets", "AccessDeniedException")
        with pytest.raises(RequestRejected, match="Could not describe scalable targets: .*AccessDenied"):
            services.hook.describe_scaling(*NAMES)


class TestApplying:
    def test_the_alarm_triggers_the_policy_that_was_made_just_now(self, services):
        services.describe(TARGET, [TRACKING])
        for arn in ("arn of backlog", "arn of wake"):
            services.answer("autoscaling", "put_scaling_policy", {"PolicyARN": arn})
        alarm = dict.fromkeys(("AlarmDescription", "ActionsEnabled", "MetricName", "Namespace"), ANY)
        alarm |= dict.fromkeys(("Statistic", "Period", "EvaluationPeriods", "DatapointsToAlarm"), ANY)
        alarm |= dict.fromkeys(("Threshold", "ComparisonOperator", "TreatMissingData", "Dimensions"), ANY)
        sent = {**alarm, "AlarmName": OWN_ALARM, "AlarmActions": ["arn of wake"]}
        services.answer("cloudwatch", "put_metric_alarm", sent=sent)
        assert len(services.hook.apply_scaling(*NAMES, ScalingSpec(max_instances=5))) == 3

    def test_a_target_that_vanishes_meanwhile_is_an_error(self, services):
        services.describe(TARGET)
        services.refuse("autoscaling", "put_scaling_policy", "ObjectNotFoundException")
        with pytest.raises(RequestRejected, match="Could not put scaling policy for variant AllTraffic of"):
            services.hook.apply_scaling(*NAMES, ScalingSpec(max_instances=5, min_instances=0))

    def test_each_change_is_logged_when_it_is_made(self, services, monkeypatch):
        lines = []
        monkeypatch.setattr(services.hook.log, "info", lambda text, *values: lines.append(text % values))
        services.describe({**TARGET, "MaxCapacity": 3})
        services.answer("autoscaling", "register_scalable_target", sent={**IDENTITY, "MaxCapacity": 5})
        services.refuse("autoscaling", "put_scaling_policy", "ValidationException")
        with pytest.raises(RequestRejected):
            services.hook.apply_scaling(*NAMES, ScalingSpec(max_instances=5))
        assert lines == [
            "Changed the scaling of variant AllTraffic of endpoint churn: MaxCapacity from 3 to 5."
        ]


class TestRemoving:
    @pytest.mark.parametrize("code", ["ResourceNotFound", "ResourceNotFoundException"])
    def test_what_is_gone_already_is_not_counted(self, services, code):
        services.describe(TARGET, [TRACKING], [action("theirs")], [{"AlarmName": OWN_ALARM}])
        services.refuse("cloudwatch", "delete_alarms", code)
        services.refuse("autoscaling", "delete_scaling_policy", "ObjectNotFoundException")
        services.answer("autoscaling", "delete_scheduled_action")
        services.refuse("autoscaling", "deregister_scalable_target", "ObjectNotFoundException")
        assert services.hook.remove_scaling(*NAMES) == [
            "Deleted scheduled action theirs of variant AllTraffic of endpoint churn."
        ]

    def test_another_refusal_is_an_error(self, services):
        services.describe(TARGET)
        services.refuse("autoscaling", "deregister_scalable_target", "ValidationException")
        with pytest.raises(RequestRejected, match="Could not deregister scalable target for variant"):
            services.hook.remove_scaling(*NAMES)


def action(name):
    arn, created = f"arn of {name}", 0
    described = {"ScheduledActionName": name, "ScheduledActionARN": arn, "CreationTime": created}
    return {**IDENTITY, **described, "Schedule": "rate(1 hour)"}


class TestBusyService:
    def test_a_call_is_made_again_while_others_change_the_target(self, services):
        services.describe(TARGET)
        for _ in range(2):
            services.refuse("autoscaling", "deregister_scalable_target", BUSY)
        services.answer("autoscaling", "deregister_scalable_target")
        assert len(services.hook.remove_scaling(*NAMES)) == 1
        assert services.slept == [0.5, 1.0]

    def test_looking_is_patient_too(self, services):
        services.refuse("autoscaling", "describe_scalable_targets", BUSY)
        services.describe(TARGET)
        assert services.hook.describe_scaling(*NAMES).target["MaxCapacity"] == 5
        assert services.slept == [0.5]

    def test_it_is_not_made_for_ever(self, services):
        services.describe(TARGET)
        for _ in range(5):
            services.refuse("autoscaling", "deregister_scalable_target", BUSY)
        with pytest.raises(ServiceUnavailable, match="ConcurrentUpdate.* 5 times in a row. A retry may suc"):
            services.hook.remove_scaling(*NAMES)
        assert services.slept == [0.5, 1.0, 2.0, 4.0]

    def test_a_service_that_fails_is_worth_a_retry_of_the_task(self, services):
        services.refuse("autoscaling", "describe_scalable_targets", "InternalServiceException", status=500)
        with pytest.raises(ServiceUnavailable):
            services.hook.describe_scaling(*NAMES)
        assert services.slept == []


class TestCapacity:
    def endpoint(self, services, status, *variants):
        reply = {
            "EndpointName": "churn",
            "EndpointArn": "arn:aws:sagemaker:us-east-1:123456789012:endpoint/churn",
            "EndpointConfigName": "churn",
            "EndpointStatus": status,
            "CreationTime": 0,
            "LastModifiedTime": 0,
        }
        if variants:
            reply["ProductionVariants"] = list(variants)
        services.answer("sagemaker", "describe_endpoint", reply)

    @pytest.mark.parametrize("count", [-1, "3", None, 1.0, True])
    def test_bad_count_is_refused_before_anybody_is_asked(self, services, count):
        with pytest.raises(InvalidInput, match="count"):
            services.hook.set_capacity(*NAMES, count)

    def test_target_that_keeps_so_many_is_left_alone(self, services):
        services.answer_target({**TARGET, "MinCapacity": 3})
        assert services.hook.set_capacity(*NAMES, 3) == (
            "Nothing was to change: variant AllTraffic of endpoint churn has its 3 instances, or will."
        )

    def test_refusal_while_the_endpoint_is_updated_is_worth_a_retry(self, services):
        services.answer_target(None)
        self.endpoint(services, "InService", {"VariantName": "AllTraffic", "DesiredInstanceCount": 1})
        services.refuse("sagemaker", "update_endpoint_weights_and_capacities", "ValidationException")
        self.endpoint(services, "Updating")
        with pytest.raises(EndpointNotReady, match="Endpoint churn is Updating: .*A retry can succeed once"):
            services.hook.set_capacity(*NAMES, 3)

    def test_other_refusal_is_not(self, services):
        services.answer_target(None)
        self.endpoint(services, "InService", {"VariantName": "AllTraffic", "DesiredInstanceCount": 1})
        services.refuse("sagemaker", "update_endpoint_weights_and_capacities", "ValidationException")
        self.endpoint(services, "InService")
        with pytest.raises(RequestRejected, match="Could not update endpoint weights and capacities for var"):
            services.hook.set_capacity(*NAMES, 3)

    def test_an_endpoint_that_is_being_created_has_no_variant_yet(self, services):
        services.answer_target(None)
        for _ in range(2):
            self.endpoint(services, "Creating")
        with pytest.raises(EndpointNotReady, match="Endpoint churn is Creating"):
            services.hook.set_capacity(*NAMES, 3)

    def test_an_unknown_variant_is_refused(self, services):
        services.answer_target(None)
        for _ in range(2):
            self.endpoint(services, "InService", {"VariantName": "Blue"}, {"VariantName": "Green"})
        with pytest.raises(RequestRejected, match="no variant AllTraffic; it has: Blue, Green"):
            services.hook.set_capacity(*NAMES, 3)
