from __future__ import annotations

import pytest

from airflow_async_sm.core.endpoint_states import (
    STATUS_PHASES,
    Phase,
    admit,
    capacity,
    log_group,
    observe_endpoint,
    phase_of,
    progress,
    variant_name,
)
from airflow_async_sm.core.handles import CAPACITY, DELETED, DRAINED, IN_SERVICE, SETTLED, EndpointHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import Pending, Settled

SERVING = EndpointHandle(endpoint_name="m", goal=IN_SERVICE, submitted_at=1.0, endpoint_config_name="m-2")
GONE = EndpointHandle(endpoint_name="m", goal=DELETED, submitted_at=1.0)


def aiming(goal, count=0):
    return EndpointHandle(endpoint_name="m", goal=goal, submitted_at=1.0, count=count)


def instances(current, desired):
    variant = {"VariantName": "V", "CurrentInstanceCount": current, "DesiredInstanceCount": desired}
    return {"ProductionVariants": [variant]}


def described(status, **more):
    return {"EndpointStatus": status, "EndpointConfigName": "m-2", "AsyncInferenceConfig": {}, **more}


@pytest.mark.parametrize("status", ["Creating", "Updating", "SystemUpdating", "RollingBack", "Unheard-of"])
def test_an_endpoint_in_motion_is_waited_for(status):
    assert observe_endpoint(SERVING, described(status)) == Pending(status)


def test_in_service_with_the_wanted_configuration_is_success():
    assert observe_endpoint(SERVING, described("InService")) == Settled(True, "InService")


def test_in_service_with_any_configuration_will_do_if_none_was_named():
    anything = EndpointHandle(endpoint_name="m", goal=IN_SERVICE, submitted_at=1.0)
    assert observe_endpoint(anything, described("InService", EndpointConfigName="m-1")).succeeded


def test_in_service_with_the_old_configuration_is_a_silent_roll_back():
    seen = observe_endpoint(
        SERVING, described("InService", EndpointConfigName="m-1", FailureReason="The new model crashed.")
    )
    assert seen == Settled(
        False, "InService, but with configuration m-1 instead of m-2: The new model crashed."
    )


@pytest.mark.parametrize("status", ["Failed", "OutOfService", "UpdateRollbackFailed", "Deleting"])
def test_an_endpoint_that_will_not_serve_is_a_failure(status):
    assert observe_endpoint(SERVING, described(status)) == Settled(False, f"{status}.")


def test_the_reason_of_a_failure_is_kept():
    seen = observe_endpoint(SERVING, described("Failed", FailureReason="The container did not start."))
    assert seen == Settled(False, "Failed: The container did not start.")


def test_an_endpoint_that_vanished_will_not_serve():
    assert observe_endpoint(SERVING, None) == Settled(False, "The endpoint does not exist.")


def test_a_deletion_is_done_when_the_endpoint_is_gone():
    assert observe_endpoint(GONE, None) == Settled(True, "Deleted")


@pytest.mark.parametrize("status", ["Deleting", "InService"])
def test_a_deletion_under_way_is_waited_for(status):
    assert observe_endpoint(GONE, described(status)) == Pending(status)


def test_a_deletion_that_failed_is_a_failure():
    seen = observe_endpoint(GONE, described("Failed", FailureReason="Network interface in use."))
    assert seen == Settled(False, "Failed: Network interface in use.")


@pytest.mark.parametrize("status", [*STATUS_PHASES, "Unheard-of"])
def test_an_endpoint_has_settled_when_nothing_changes_it_any_more(status):
    seen = observe_endpoint(aiming(SETTLED), described(status))
    moving = {"Creating", "Updating", "SystemUpdating", "RollingBack", "Deleting", "Unheard-of"}
    assert seen == (Pending(status) if status in moving else Settled(True))


def test_what_is_gone_has_settled_and_has_no_backlog():
    for goal in (SETTLED, DRAINED):
        assert observe_endpoint(aiming(goal), None).succeeded
    for goal in (IN_SERVICE, CAPACITY):
        assert not observe_endpoint(aiming(goal), None).succeeded


class TestCapacity:
    @pytest.mark.parametrize(
        ("current", "desired", "seen"),
        [
            (0, 2, Pending("0 of 2 instances")),
            (1, 1, Pending("1 of 2 instances")),
            (2, 2, Settled(True, "2 instances")),
            (3, 1, Settled(True, "3 instances")),
        ],
    )
    def test_instances_that_serve_are_counted(self, current, desired, seen):
        description = described("InService", **instances(current, desired))
        assert observe_endpoint(aiming(CAPACITY, 2), description) == seen

    def test_an_endpoint_that_is_updated_serves_with_what_it_has(self):
        updating = described("Updating", **instances(2, 3))
        assert observe_endpoint(aiming(CAPACITY, 2), updating).succeeded
        assert observe_endpoint(aiming(CAPACITY, 3), updating) == Pending("Updating, 2 of 3 instances")
        creating = described("Creating", **instances(0, 1))
        assert observe_endpoint(aiming(CAPACITY, 0), creating) == Pending("Creating")

    def test_an_endpoint_that_is_broken_will_have_none(self):
        assert not observe_endpoint(aiming(CAPACITY, 1), described("OutOfService")).succeeded

    def test_an_endpoint_without_variants_has_none(self):
        assert capacity(described("Creating")) == (0, 0)


class TestDrain:
    @pytest.mark.parametrize(
        ("backlog", "seen"),
        [
            (None, Pending("no figure of its backlog yet")),
            (5, Pending("a backlog of 5")),
            (4, Settled(True, "a backlog of 4")),
            (0, Settled(True, "a backlog of 0")),
        ],
    )
    def test_a_backlog_at_or_below_the_count_is_enough(self, backlog, seen):
        assert observe_endpoint(aiming(DRAINED, 4), described("InService"), backlog) == seen

    @pytest.mark.parametrize("status", ["Failed", "OutOfService", "Deleting"])
    def test_what_works_on_nothing_any_more_is_drained(self, status):
        assert observe_endpoint(aiming(DRAINED), described(status)).succeeded


class TestJustAfterAChange:
    """The service needs a moment to tell everybody of a change."""

    @pytest.mark.parametrize(
        ("handle", "description"),
        [
            (SERVING, None),
            (SERVING, described("InService", EndpointConfigName="m-1")),
            (GONE, described("Failed")),
        ],
    )
    def test_an_endpoint_as_it_was_is_no_failure_yet(self, handle, description):
        assert isinstance(observe_endpoint(handle, description, may_be_stale=True), Pending)
        assert not observe_endpoint(handle, description).succeeded

    def test_what_the_change_has_come_to_counts_at_once(self):
        assert observe_endpoint(SERVING, described("InService"), may_be_stale=True).succeeded
        assert not observe_endpoint(SERVING, described("Failed"), may_be_stale=True).succeeded
        assert observe_endpoint(GONE, None, may_be_stale=True).succeeded


class TestProgress:
    @pytest.mark.parametrize(
        ("description", "text"),
        [
            (described("Creating", **instances(0, 1)), "Creating"),
            (described("Updating", **instances(1, 2)), "Updating, 1 of 2 instances"),
            (
                described("Updating", PendingDeploymentSummary={"EndpointConfigName": "m-3"}),
                "Updating, on the way to configuration m-3",
            ),
            (described("RollingBack", FailureReason="No."), "RollingBack: No."),
        ],
    )
    def test_one_line_says_what_there_is(self, description, text):
        assert progress(description) == text


def test_the_variant_is_the_endpoints_or_the_one_that_we_would_make():
    assert variant_name(described("InService", **instances(1, 1))) == "V"
    assert variant_name(None) == variant_name({"ProductionVariants": [{}]}) == "AllTraffic"


def test_what_does_not_exist_has_no_phase():
    assert phase_of(None) is None
    assert phase_of(described("Unheard-of")) is Phase.MOVING


@pytest.mark.parametrize("changes", [{"goal": "Updated"}, {"count": -1}, {"count": True}, {"count": "2"}])
def test_a_goal_that_cannot_be_is_refused(changes):
    with pytest.raises(InvalidInput, match="|".join(changes)):
        EndpointHandle(**{"endpoint_name": "m", "goal": IN_SERVICE, "submitted_at": 1.0, **changes})


@pytest.mark.parametrize(
    ("goal", "words"),
    [
        (IN_SERVICE, "in service"),
        (DELETED, "gone"),
        (SETTLED, "settled"),
        (CAPACITY, "in service with at least 2 instances"),
        (DRAINED, "drained to a backlog of at most 2"),
    ],
)
def test_a_goal_in_words(goal, words):
    assert aiming(goal, 2).aim == words


@pytest.mark.parametrize("status", sorted(STATUS_PHASES))
def test_an_endpoint_takes_requests_while_it_serves_or_changes(status):
    admission = admit("m", described(status))
    assert admission.accepts is (status in {"InService", "Updating", "SystemUpdating", "RollingBack"})
    assert admission.later is (status == "Creating")
    assert admission.accepts or f"it is {status}" in admission.text


def test_a_status_that_is_not_known_is_left_to_the_service_to_judge():
    assert admit("m", described("Unheard-of")).accepts


def test_a_missing_endpoint_takes_no_requests():
    assert admit("m", None).text.startswith("Endpoint 'm' does not exist.")


def test_a_real_time_endpoint_takes_no_asynchronous_requests():
    description = described("InService")
    del description["AsyncInferenceConfig"]
    admission = admit("m", description)
    assert not admission.accepts
    assert not admission.later
    assert "is not asynchronous" in admission.text


def test_an_endpoint_that_is_being_created_may_still_turn_out_to_be_asynchronous():
    assert admit("m", {"EndpointStatus": "Creating"}).later


def test_the_log_group_is_the_endpoints():
    assert log_group("m") == "/aws/sagemaker/Endpoints/m"


def test_the_phases_are_all_in_use():
    assert set(STATUS_PHASES.values()) == set(Phase)
