from __future__ import annotations

import pytest

from airflow_async_sm.core.deployments import Action, IfExists, config_objection, plan_deployment
from airflow_async_sm.core.endpoint_states import STATUS_PHASES
from airflow_async_sm.core.limits import InvalidInput
from tests.unit.core.test_endpoints import spec

SPEC = spec(endpoint_config_name="new")


def described(status="InService", config="old", **more):
    return {
        "EndpointStatus": status,
        "EndpointConfigName": config,
        "AsyncInferenceConfig": {},
        **more,
    }


def plan(description, if_exists="update"):
    step = plan_deployment(SPEC, description, IfExists(if_exists))
    return step.action.value, step.goal, step.config_name


def test_what_is_missing_is_created():
    assert plan(None) == ("create", "InService", "new")


def test_what_is_the_same_is_left_alone():
    assert plan(described(config="new")) == ("nothing", "InService", "new")


def test_what_is_different_is_updated():
    assert plan(described()) == ("update", "InService", "new")


@pytest.mark.parametrize("if_exists", list(IfExists))
def test_what_is_the_same_already_is_no_matter_of_choice(if_exists):
    assert plan(described(config="new"), if_exists) == ("nothing", "InService", "new")


@pytest.mark.parametrize("if_exists", list(IfExists))
def test_what_failed_is_cleared_away_if_it_is_an_earlier_attempt(if_exists):
    assert plan(described("Failed", "new"), if_exists) == ("delete", "Deleted", None)


def test_anything_else_that_failed_is_cleared_away_only_where_it_may_be_changed():
    assert plan(described("Failed"), "update") == ("delete", "Deleted", None)
    for if_exists in ("reuse", "fail"):
        assert plan(described("Failed"), if_exists)[0] == "refuse"


def test_what_is_rolled_back_is_waited_for_and_then_judged_whatever_it_has():
    for if_exists in IfExists:
        assert plan(described("RollingBack", "new"), if_exists) == ("nothing", "Settled", None)


@pytest.mark.parametrize("if_exists", list(IfExists))
def test_what_is_being_deleted_is_waited_for(if_exists):
    assert plan(described("Deleting"), if_exists) == ("nothing", "Deleted", None)


@pytest.mark.parametrize("status", ["OutOfService", "UpdateRollbackFailed"])
def test_what_is_broken_is_for_a_person_to_judge(status):
    step = plan_deployment(SPEC, described(status, FailureReason="Disk full"), IfExists.UPDATE)
    assert step.action is Action.REFUSE
    assert f"it is {status}: Disk full. It may go on costing money" in step.text


class TestInMotion:
    def test_a_creation_of_the_same_is_an_earlier_attempt(self):
        assert plan(described("Creating", "new")) == ("nothing", "InService", "new")

    def test_an_update_to_the_same_is_an_earlier_attempt(self):
        pending = {"PendingDeploymentSummary": {"EndpointConfigName": "new"}}
        assert plan(described("Updating", **pending)) == ("nothing", "InService", "new")

    @pytest.mark.parametrize("status", ["Creating", "Updating", "RollingBack", "Unheard-of"])
    def test_any_other_change_is_waited_for(self, status):
        assert plan(described(status)) == ("nothing", "Settled", None)

    def test_a_change_away_from_what_is_meant_is_waited_for(self):
        pending = {"PendingDeploymentSummary": {"EndpointConfigName": "other"}}
        assert plan(described("Updating", "new", **pending)) == ("nothing", "Settled", None)


class TestIfExists:
    def test_reuse_takes_it_with_any_configuration(self):
        assert plan(described(), "reuse") == ("nothing", "InService", None)
        assert plan(described("Updating"), "reuse") == ("nothing", "InService", None)

    def test_fail_refuses_and_names_both_configurations(self):
        step = plan_deployment(SPEC, described(), IfExists.FAIL)
        assert step.action is Action.REFUSE
        assert "configuration old instead of new" in step.text

    @pytest.mark.parametrize("if_exists", list(IfExists))
    @pytest.mark.parametrize("config", ["old", "new"])
    def test_a_real_time_endpoint_is_refused_in_any_case(self, if_exists, config):
        description = described(config=config)
        del description["AsyncInferenceConfig"]
        step = plan_deployment(SPEC, description, if_exists)
        assert step.action is Action.REFUSE
        assert "real-time endpoint" in step.text

    def test_nothing_else_can_be_asked_for(self):
        assert IfExists.check("reuse") is IfExists.REUSE
        with pytest.raises(InvalidInput, match="if_exists is None; expected one of update, reuse, fail"):
            IfExists.check(None)


@pytest.mark.parametrize("status", [*STATUS_PHASES, "Unheard-of"])
@pytest.mark.parametrize("config", ["old", "new"])
@pytest.mark.parametrize("if_exists", list(IfExists))
def test_every_state_has_a_step_and_a_reason(status, config, if_exists):
    step = plan_deployment(SPEC, described(status, config), if_exists)
    assert step.text
    assert (step.goal == "InService") or step.config_name is None


@pytest.mark.parametrize(
    ("change", "objection"),
    [
        ({}, ""),
        ({"AsyncInferenceConfig": None}, "it has no AsyncInferenceConfig"),
        ({"ProductionVariants": [{"ServerlessConfig": {"MemorySizeInMB": 1024}}]}, "it is serverless"),
        ({"ProductionVariants": [{}, {}]}, "it has several variants"),
        ({"ShadowProductionVariants": [{}]}, "it has several variants"),
    ],
)
def test_a_configuration_that_exists_must_be_for_asynchronous_endpoints(change, objection):
    config = {"AsyncInferenceConfig": {"OutputConfig": {}}, "ProductionVariants": [{}]} | change
    assert config_objection(config).startswith(objection)
    assert bool(config_objection(config)) == bool(objection)
