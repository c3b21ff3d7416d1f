from __future__ import annotations

import pytest

from airflow_async_sm.core.endpoint_states import STATUS_PHASES, Phase, admit, log_group, observe_endpoint
from airflow_async_sm.core.handles import DELETED, IN_SERVICE, EndpointHandle
from airflow_async_sm.core.outcomes import Pending, Settled

SERVING = EndpointHandle(endpoint_name="m", goal=IN_SERVICE, submitted_at=1.0, endpoint_config_name="m-2")
GONE = EndpointHandle(endpoint_name="m", goal=DELETED, submitted_at=1.0)


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
