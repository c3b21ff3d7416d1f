"""Faults in a running emulator: what goes on beside them, how they come and go, and how they meet."""

from __future__ import annotations

import json
import urllib.error
import urllib.request

import pytest

from airflow_async_sm.emulator.settings.faults import (
    ConfigLate,
    EndpointImpaired,
    InstanceLost,
    InsufficientCapacity,
    ModelCrash,
    ModelError,
    ModelLatency,
    NotificationDoubled,
    NotificationLate,
    NotificationLost,
    ReplyLost,
    RoleDenied,
    RollbackFailed,
    SlowAnswer,
    Throttled,
)
from tests.lab import VARIANT, Lab, make_lab, refusal, response_body
from tests.world import BUCKET


@pytest.fixture(scope="module")
def shared():
    with make_lab(seed=1) as emulator:
        lab = Lab(emulator)
        yield lab
        lab.close()


@pytest.fixture
def lab(shared):
    yield shared
    shared.emulator.faults.clear()


def test_scale_out_is_refused_without_capacity(lab):
    name = lab.deploy()
    fault = lab.on(InsufficientCapacity(endpoint=name))
    wanted = [{"VariantName": VARIANT, "DesiredInstanceCount": 2}]
    resize = lab.control.update_endpoint_weights_and_capacities
    _, code, text = refusal(resize, EndpointName=name, DesiredWeightsAndCapacities=wanted)
    assert code == "ResourceLimitExceeded"
    assert "InsufficientInstanceCapacity" in text
    assert (lab.counts(name), lab.status(name)) == ((1, 1), "InService")
    lab.emulator.faults.remove(fault)
    lab.resize(name, 2)
    assert lab.counts(name) == (2, 2)


def test_scaling_policy_meets_missing_capacity_and_asks_again(lab):
    name = lab.deploy()
    target = {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }
    fault = lab.on(InsufficientCapacity(endpoint=name))
    lab.scaling.register_scalable_target(**target, MinCapacity=2, MaxCapacity=3)
    about = {"ServiceNamespace": "sagemaker", "ResourceId": target["ResourceId"]}
    [activity] = lab.scaling.describe_scaling_activities(**about)["ScalingActivities"]
    assert activity["StatusCode"] == "Failed"
    assert "InsufficientInstanceCapacity" in activity["StatusMessage"]
    assert lab.counts(name) == (1, 1)
    lab.emulator.faults.remove(fault)
    lab.scaling.register_scalable_target(**target, MinCapacity=2, MaxCapacity=3)
    lab.settle()
    assert lab.counts(name) == (2, 2)


def test_update_without_capacity_rolls_back(lab):
    name = lab.deploy()
    before = lab.describe(name)["EndpointConfigName"]
    lab.on(InsufficientCapacity(endpoint=name))
    lab.control.update_endpoint(EndpointName=name, EndpointConfigName=lab.configure())
    lab.settle()
    described = lab.describe(name)
    assert (described["EndpointStatus"], described["EndpointConfigName"]) == ("InService", before)
    assert lab.objects(lab.run(name)) == {"output"}


def test_update_sees_no_young_configuration_either(lab):
    name = lab.deploy()
    lab.on(ConfigLate(seconds=10))
    wanted = {"EndpointName": name, "EndpointConfigName": lab.configure()}
    assert refusal(lab.control.update_endpoint, **wanted)[1] == "ValidationException"
    lab.advance(10)
    lab.control.update_endpoint(**wanted)


def test_impaired_endpoint_goes_on_when_the_fault_is_off(lab):
    name = lab.deploy()
    fault = lab.on(EndpointImpaired())
    assert lab.status(name) == "SystemUpdating"
    listed = lab.control.list_endpoints(NameContains=name)["Endpoints"]
    assert [endpoint["EndpointStatus"] for endpoint in listed] == ["SystemUpdating"]
    assert lab.objects(lab.run(name)) == {"output"}
    refused = refusal(lab.control.update_endpoint, EndpointName=name, EndpointConfigName=lab.configure())
    assert refused[2].startswith("Cannot update in-progress endpoint")
    lab.emulator.faults.remove(fault)
    assert lab.status(name) == "InService"


def test_impairment_is_used_up_by_callers_of_the_service_only(lab):
    name = lab.deploy()
    lab.on(EndpointImpaired(times=1, endpoint=name))
    lab.advance(120)
    with urllib.request.urlopen(f"{lab.emulator.url}/_emulator/endpoints", timeout=10) as answer:
        assert '"SystemUpdating"' not in answer.read().decode()
    for_people = urllib.request.Request(lab.emulator.url, headers={"Accept": "text/html"})
    with urllib.request.urlopen(for_people, timeout=10) as page:
        assert name in page.read().decode()
    assert [lab.status(name), lab.status(name)] == ["SystemUpdating", "InService"]


def test_impaired_endpoint_still_scales(lab):
    name = lab.deploy()
    lab.on(EndpointImpaired(status="OutOfService", endpoint=name))
    lab.scaling.register_scalable_target(
        ServiceNamespace="sagemaker",
        ResourceId=f"endpoint/{name}/variant/{VARIANT}",
        ScalableDimension="sagemaker:variant:DesiredInstanceCount",
        MinCapacity=2,
        MaxCapacity=3,
    )
    lab.settle()
    assert lab.counts(name) == (2, 2)


def test_refusal_says_which_status_it_is_for(lab):
    name = lab.deploy()
    lab.on(EndpointImpaired(status="OutOfService", times=1, endpoint=name))
    submit = lab.runtime.invoke_endpoint_async
    assert "is OutOfService" in refusal(submit, EndpointName=name, Body=b"x")[2]
    submit(EndpointName=name, Body=b"x")


def test_rollback_that_fails_only_once(lab):
    lab.on(RollbackFailed(times=1))
    name = lab.deploy()
    seen = []
    for _ in range(2):
        lab.control.update_endpoint(EndpointName=name, EndpointConfigName=lab.configure(image="unheard-of"))
        lab.settle()
        seen.append(lab.status(name))
    assert seen == ["UpdateRollbackFailed", "InService"]


def test_crash_takes_other_requests_of_the_instance_along(lab):
    name = lab.deploy(concurrency=2)
    lab.on(ModelCrash(times=1))
    responses = lab.submit_many(name, 3)
    lab.settle()
    states = [lab.state(response) for response in responses]
    assert states.count("failed") >= 1
    assert set(states) <= {"failed", "succeeded"}
    assert lab.counts(name) == (1, 1)


def test_instance_that_vanishes_loses_all_it_works_on(lab):
    name = lab.deploy(concurrency=2)
    lab.hold(1000, times=1)
    slow = lab.run(name, Body=b"slow")
    lab.on(InstanceLost(times=1))
    quick = lab.run(name, Body=b"quick")
    assert [lab.objects(response) for response in (slow, quick)] == [{"output"}, {"output"}]
    assert [lab.model_calls(body) for body in (b"slow", b"quick")] == [2, 2]


@pytest.mark.parametrize(
    ("fault", "least", "most"),
    [
        (ModelLatency(seconds=10), 10, 10),
        (ModelLatency(seconds=10, up_to=20, distribution="uniform"), 10, 20),
        (ModelLatency(seconds=10, up_to=40, distribution="exponential"), 0, 40),
    ],
    ids=["fixed", "uniform", "exponential"],
)
def test_latency_has_its_distribution(lab, fault, least, most):
    lab.on(fault)
    name = lab.deploy(concurrency=12)
    responses = lab.submit_many(name, 12)
    lab.settle()
    lab.advance(most)
    records = [lab.record(response) for response in responses]
    taken = [record.finished_at - record.started_at for record in records]
    assert all(least - 0.01 <= seconds <= most + 0.01 for seconds in taken)
    assert len({round(seconds, 3) for seconds in taken}) == (1 if least == most else 12)


def test_latency_beyond_the_time_limit_is_a_failure(lab):
    lab.on(ModelLatency(seconds=1000))
    response = lab.run(lab.deploy(), InvocationTimeoutSeconds=60)
    lab.advance(60)
    assert lab.body(response["FailureLocation"]).startswith(b"Timed out uploading object")


def test_input_that_the_role_may_not_read(lab):
    lab.on(RoleDenied(operation="GetObject", bucket=BUCKET))
    name, place = lab.deploy(), lab.put(b"x")
    response = lab.run(name, InputLocation=place)
    assert lab.body(response["FailureLocation"]).startswith(b"Failed to download object (bucket: ")
    assert lab.objects(lab.run(name)) == {"output"}
    # The caller's own rights are another matter.
    assert lab.body(place) == b"x"
    lab.advance(61)
    assert lab.metric(name, "RequestDownloadFailures", variant=VARIANT)[-1]["Sum"] == 1


def test_reply_that_is_late_comes_after_the_work(lab):
    name = lab.deploy()
    lab.on(ReplyLost(seconds=40))
    taken, came = lab.during(lab.submit, name)
    assert taken >= 40
    assert lab.record(came.answer).submitted_at <= lab.clock.now() - 40


def test_client_that_tries_again_after_a_lost_reply_submits_twice(lab):
    lab.on(ReplyLost(times=1))
    name = lab.deploy()
    lab.own("sagemaker-runtime", attempts=3).invoke_endpoint_async(
        EndpointName=name, Body=b"same body", InferenceId="same"
    )
    lab.settle()
    assert lab.emulator.counters()["submissions"]["by_inference_id"]["same"] == 2
    assert lab.model_calls(b"same body") == 2
    mine = [record for record in lab.emulator.requests() if record.endpoint == name]
    assert len({record.output_location for record in mine}) == 2


def test_slow_submission_is_accepted_when_its_time_has_come(lab):
    name = lab.deploy()
    lab.on(SlowAnswer(seconds=30, operation="InvokeEndpointAsync"))
    before = lab.clock.now()
    _, came = lab.during(lab.submit, name)
    assert lab.record(came.answer).submitted_at >= before + 30


def test_notifications_of_failures_have_faults_too(lab):
    inbox = lab.inbox()
    name = lab.deploy(inbox=inbox, include=["SUCCESS_NOTIFICATION_TOPIC"])
    lab.on(NotificationDoubled())
    lab.on(NotificationLate(seconds=60))
    response = lab.run(name, mode="refuse")
    assert inbox.messages(response) == []
    lab.advance(60)
    assert [side for side, _ in inbox.messages(response)] == ["error", "error"]
    lab.emulator.faults.replace([NotificationLost(rate=0.0)])
    assert response_body(inbox.one(lab.run(name, Body=b"told"))) == b"told"


def test_fault_is_used_up(lab):
    lab.on(ModelError(times=2))
    name = lab.deploy()
    assert [lab.objects(lab.run(name)) for _ in range(3)] == [{"failure"}, {"failure"}, {"output"}]
    assert list(lab.emulator.faults.hits().values()) == [2]


def test_endpoint_is_named_in_any_case(lab):
    lab.on(ModelError(endpoint="MiXed"), Throttled(endpoint="MIXED", operation="DeleteEndpoint"))
    lab.deploy("mixed")
    assert lab.objects(lab.run("mixed")) == {"failure"}
    assert refusal(lab.own("sagemaker").delete_endpoint, EndpointName="Mixed")[1] == "ThrottlingException"
    assert lab.objects(lab.run(lab.deploy())) == {"output"}


def test_faults_come_and_go_over_http(lab):
    name = lab.deploy()
    lab.control_address("PUT", "faults", [{"kind": "model_error"}, {"kind": "model_latency", "seconds": 5}])
    response = lab.run(name)
    lab.advance(5)
    assert lab.objects(response) == {"failure"}
    there = lab.control_address("GET", "faults")["faults"]
    assert {fault["kind"]: fault["hits"] for fault in there} == {"model_error": 1, "model_latency": 1}
    [error] = [fault["id"] for fault in there if fault["kind"] == "model_error"]
    lab.control_address("DELETE", f"faults/{error}")
    lab.control_address("DELETE", "faults")
    assert lab.objects(lab.run(name)) == {"output"}
    with pytest.raises(urllib.error.HTTPError) as refused:
        lab.control_address("POST", "faults", {"kind": "model_eror"})
    with refused.value as answer:
        assert (answer.code, "model_error" in json.load(answer)["error"]) == (400, True)
