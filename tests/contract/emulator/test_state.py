"""``--state``: an emulator goes on where the last one was, however that one ended."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from airflow_async_sm.emulator import Unknowns
from airflow_async_sm.emulator.aws import LocalClients
from airflow_async_sm.emulator.errors import StateError
from airflow_async_sm.emulator.settings.faults import ModelError, RollbackFailed
from tests.lab import AT_ONCE, VARIANT, Lab, make_lab, refusal
from tests.world import BUCKET, World, eventually

ROOT = Path(__file__).parents[3]
COMMAND = [sys.executable, "-m", "airflow_async_sm.emulator"]
# The same, but for how often it saves.
SAVES_OFTEN = (
    "import sys\n"
    "from airflow_async_sm.emulator.__main__ import main\n"
    "from airflow_async_sm.emulator.state.autosave import Autosave\n"
    "Autosave.__init__.__kwdefaults__['every'] = 0.5\n"
    "sys.exit(main())\n"
)
OPEN = {"queued", "running"}


@pytest.fixture
def run(tmp_path):
    """Return a function that runs an emulator on the test's folder, as a context manager."""

    @contextlib.contextmanager
    def running(**settings):
        with make_lab(state=tmp_path / "state", **settings) as emulator:
            lab = Lab(emulator)
            yield lab
            lab.close()

    return running


@contextlib.contextmanager
def command(tmp_path):
    """Run the command on the test's folder, and yield its process and a world."""
    temporary = tmp_path / "tmp"
    temporary.mkdir(exist_ok=True)
    options = ["--state", str(tmp_path / "state"), "--image", "model=tests.lab:model"]
    options += ["--creation-seconds", "0", "--speed", "20"]
    errors = tmp_path / "errors.log"
    with (
        errors.open("a") as log,
        subprocess.Popen(
            [sys.executable, "-c", SAVES_OFTEN, *options],
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            cwd=ROOT,
            env={**os.environ, "TMPDIR": str(temporary)},
        ) as process,
    ):
        try:
            said = [process.stdout.readline() for _ in range(7)]
            assert said[3].startswith("AWS_ENDPOINT_URL="), errors.read_text()
            clients = LocalClients(said[3].strip().partition("=")[2])
            yield process, Remote(clients)
            clients.close()
        finally:
            process.kill()


class Remote(World):
    """An emulator in another process."""

    def __init__(self, clients):
        self.client = clients.get
        self.s3, self.control = clients.get("s3"), clients.get("sagemaker")
        self.runtime = clients.get("sagemaker-runtime")

    def requests(self):
        """Return the log of requests."""
        with urllib.request.urlopen(f"{self.s3.meta.endpoint_url}/_emulator/requests", timeout=20) as answer:
            return json.load(answer)

    def stored(self):
        """Return which objects there are, by key."""
        listed = self.s3.list_objects_v2(Bucket=BUCKET).get("Contents", [])
        return {found["Key"] for found in listed}


def target(name):
    return {
        "ServiceNamespace": "sagemaker",
        "ResourceId": f"endpoint/{name}/variant/{VARIANT}",
        "ScalableDimension": "sagemaker:variant:DesiredInstanceCount",
    }


def let_wake(lab, name):
    """Let an endpoint go to zero, and be woken by a request, as the developer guide says."""
    lab.scaling.register_scalable_target(**target(name), MinCapacity=0, MaxCapacity=2)
    policy = lab.scaling.put_scaling_policy(
        **target(name),
        PolicyName="wake",
        PolicyType="StepScaling",
        StepScalingPolicyConfiguration={
            "AdjustmentType": "ChangeInCapacity",
            "StepAdjustments": [{"MetricIntervalLowerBound": 0, "ScalingAdjustment": 1}],
        },
    )
    lab.cloudwatch.put_metric_alarm(
        AlarmName="wake",
        MetricName="HasBacklogWithoutCapacity",
        Namespace="AWS/SageMaker",
        Statistic="Average",
        Period=60,
        EvaluationPeriods=2,
        Threshold=1,
        ComparisonOperator="GreaterThanOrEqualToThreshold",
        Dimensions=[{"Name": "EndpointName", "Value": name}],
        AlarmActions=[policy["PolicyARN"]],
    )


class TestRestart:
    def test_open_requests_go_on_and_nothing_is_lost_or_done_again(self, run):
        with run() as lab:
            inbox = lab.inbox()
            name = lab.deploy("busy", inbox=inbox, concurrency=1)
            done = [lab.run(name, Body=b"done"), lab.run(name, mode="refuse")]
            lab.resize(name, 3)
            lab.hold(3600)
            waiting = [lab.submit(name, Body=f"w{number}".encode()) for number in range(7)]
            lab.settle()
            states = [lab.state(response) for response in waiting]
            assert (states.count("running"), states.count("queued")) == (3, 4)
            told = {response["InferenceId"]: len(inbox.messages(response)) for response in (*done, *waiting)}
            before, now = lab.emulator.requests(), lab.clock.now()
        # What was open is so in the log also after the end.
        assert {lab.state(response) for response in waiting} <= OPEN

        with run() as lab:
            assert lab.clock.now() >= now
            assert lab.status(name) == "InService"
            lab.settle()
            assert lab.counts(name) == (3, 3)
            ended = [lab.ended(response) for response in waiting]
            assert [record.number for record in ended] == list(range(3, 10))
            for number, response in enumerate(waiting):
                assert lab.body(response["OutputLocation"]) == f"w{number}".encode()
            assert [lab.record(response) for response in done] == before[:2]
            assert lab.body(done[0]["OutputLocation"]) == b"done"
            inbox = reopened(lab, inbox)
            for response in waiting:
                assert len(inbox.messages(response)) == 1
            assert [told[response["InferenceId"]] for response in done] == [1, 1]
            assert [inbox.messages(response) for response in done] == [[], []]
            assert lab.record(lab.run(name)).number == 10

    def test_messages_of_what_has_just_ended_are_not_lost(self, run):
        with run() as lab:
            inbox = lab.inbox()
            name = lab.deploy(inbox=inbox, concurrency=10)
            responses = lab.submit_many(name, 60)
            for response in responses:
                lab.ended(response)
        with run() as lab:
            inbox = reopened(lab, inbox)
            assert [len(inbox.messages(response)) for response in responses] == [1] * 60

    def test_sleeping_endpoint_wakes_after_a_restart(self, run):
        with run() as lab:
            name = lab.deploy("sleeper")
            let_wake(lab, name)
            lab.resize(name, 0)
            lab.advance(60 - lab.clock.now() % 60)
            response = lab.run(name)
            lab.advance(60)
        with run() as lab:
            assert (lab.status(name), lab.counts(name)) == ("InService", (0, 0))
            assert len(lab.metric(name, "HasBacklogWithoutCapacity")) == 2
            lab.settle()
            assert lab.objects(response) == set()
            # The minute before the restart counts.
            lab.advance(60)
            assert lab.counts(name)[1] == 1
            lab.settle()
            assert lab.objects(response) == {"output"}
            [found] = lab.scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"]
            assert (found["MinCapacity"], found["MaxCapacity"]) == (0, 2)

    def test_time_in_the_queue_goes_on(self, run):
        with run() as lab:
            name = lab.deploy_asleep()
            response = lab.run(name, RequestTTLSeconds=600)
            lab.advance(500)
            expires_at = lab.record(response).submitted_at + 600
        with run() as lab:
            lab.advance(expires_at - lab.clock.now() - 1)
            assert lab.state(response) == "queued"
            lab.advance(1)
            assert lab.state(response) == "expired"

    def test_endpoints_go_on_with_what_they_were_doing(self, run):
        behaviour = {"creation_seconds": 100, "update_seconds": 100, "deletion_seconds": 100}
        with run() as lab:
            names = [lab.deploy(name) for name in ("updated", "deleted", "resized")]
            broken = lab.create(image="unheard-of")
            lab.emulator.knobs.change(behaviour=behaviour)
            config = lab.configure()
            lab.control.update_endpoint(EndpointName="updated", EndpointConfigName=config)
            lab.control.delete_endpoint(EndpointName="deleted")
            lab.resize("resized", 2)
            lab.create("created")
            lab.advance(50)
            names = ["updated", "deleted", "resized", "created", broken]
            assert [lab.status(name) for name in names] == [
                "Updating",
                "Deleting",
                "Updating",
                "Creating",
                "Failed",
            ]
            reason = lab.describe(broken)["FailureReason"]
        with run() as lab:
            lab.emulator.knobs.change(behaviour=behaviour)
            lab.settle()
            lab.advance(101)
            for name in ("updated", "resized", "created"):
                assert lab.status(name) == "InService", name
                assert lab.objects(lab.run(name)) == {"output"}
            assert lab.describe("updated")["EndpointConfigName"] == config
            assert lab.counts("resized") == (2, 2)
            assert refusal(lab.describe, "deleted")[1] == "ValidationException"
            assert (lab.status(broken), lab.describe(broken)["FailureReason"]) == ("Failed", reason)

    def test_failed_way_back_is_still_to_be_seen(self, run):
        with run(faults=[RollbackFailed()]) as lab:
            name = lab.deploy()
            config = lab.configure(image="unheard-of")
            lab.control.update_endpoint(EndpointName=name, EndpointConfigName=config)
            lab.settle()
            before = lab.describe(name)
            assert before["EndpointStatus"] == "UpdateRollbackFailed"
        with run() as lab:
            lab.settle()
            after = lab.describe(name)
            members = ("EndpointStatus", "FailureReason", "EndpointConfigName", "LastModifiedTime")
            assert [after[one] for one in members] == [before[one] for one in members]
            assert lab.objects(lab.run(name)) == {"output"}

    def test_input_and_large_output_are_there(self, run):
        large = bytes(range(256)) * 4096
        with run() as lab:
            name = lab.deploy_asleep()
            response = lab.submit(name, InputLocation=lab.put(large))
        with run() as lab:
            lab.resize(name, 1)
            assert lab.body(response["OutputLocation"]) == large
        with run() as lab:
            assert lab.body(response["OutputLocation"]) == large

    def test_faults_and_settings_are_those_of_the_new_start(self, run):
        with run(faults=[ModelError()]) as lab:
            name = lab.deploy()
            assert lab.objects(lab.run(name)) == {"failure"}
            lab.emulator.knobs.change(unknowns={"filename_suffix": "out"})
        with run() as lab:
            lab.settle()
            response = lab.run(name, Filename="name")
            assert response["OutputLocation"].endswith("/name")
            assert lab.objects(response) == {"output"}

    def test_tags_of_an_endpoint_are_kept(self, run):
        with run() as lab:
            name = lab.deploy()
            arn = lab.describe(name)["EndpointArn"]
            lab.control.add_tags(ResourceArn=arn, Tags=[{"Key": "k", "Value": "v"}])
        with run() as lab:
            assert lab.control.list_tags(ResourceArn=arn)["Tags"] == [{"Key": "k", "Value": "v"}]


def reopened(lab, inbox):
    """Return an inbox of before the restart; the address of its queue has another port now."""
    again = type(inbox).__new__(type(inbox))
    again._service, again._seen, again.topics = lab, [], inbox.topics
    again.queue = lab.sqs.get_queue_url(QueueName=inbox.queue.rpartition("/")[2])["QueueUrl"]
    return again


class TestSuddenEnd:
    def test_killed_command_loses_at_most_what_came_since_the_last_save(self, tmp_path):
        stamp = tmp_path / "state" / "state.json"
        with command(tmp_path) as (process, world):
            world.s3.create_bucket(Bucket=BUCKET)
            name = world.deploy(image="model")
            done = world.submit(name)
            eventually(lambda: world.exists(done["OutputLocation"]))
            asleep = world.deploy(image="model")
            world.control.update_endpoint_weights_and_capacities(
                EndpointName=asleep,
                DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 0}],
            )
            world.wait("endpoint_in_service", asleep)
            queued = world.submit(asleep)
            world.put(b"kept", "kept")
            finished = time.time()

            def saved():
                # Something changes all the time, so every look of the emulator finds something to save.
                world.put(b"tick", "tick")
                return stamp.exists() and stamp.stat().st_mtime > finished + 1

            eventually(saved, within=40)
            world.put(b"after", "after")
            late = world.submit(name)
            process.send_signal(signal.SIGKILL)
            process.wait(20)
        with command(tmp_path) as (process, world):
            world.wait("endpoint_in_service", name)
            assert {"kept", done["OutputLocation"].partition(f"{BUCKET}/")[2]} <= world.stored()
            assert not world.exists(queued["OutputLocation"])
            world.control.update_endpoint_weights_and_capacities(
                EndpointName=asleep,
                DesiredWeightsAndCapacities=[{"VariantName": "AllTraffic", "DesiredInstanceCount": 1}],
            )
            eventually(lambda: world.exists(queued["OutputLocation"]), within=30)
            assert world.body(queued["OutputLocation"]) == b"payload"
            # Whether the last ones were saved is chance. If the request was, it is processed.
            known = {record["output_location"]: record["state"] for record in world.requests()}
            if late["OutputLocation"] in known:
                eventually(lambda: world.exists(late["OutputLocation"]))
            assert known[done["OutputLocation"]] == "succeeded"
            new = world.submit(name)
            eventually(lambda: world.exists(new["OutputLocation"]), within=30)
            process.terminate()
            assert process.wait(20) == 0

    def test_leftovers_of_a_save_that_was_cut_short_do_no_harm(self, run, tmp_path):
        with run() as lab:
            lab.put(b"x", "kept")
        (tmp_path / "state" / "own-999.pickle").write_bytes(b"half")
        (tmp_path / "state" / "state.json.new").write_bytes(b"{")
        with run() as lab:
            assert lab.body(f"s3://{BUCKET}/kept") == b"x"
        assert not (tmp_path / "state" / "own-999.pickle").exists()

    def test_damaged_state_is_refused_and_left_alone(self, run, tmp_path):
        with run() as lab:
            lab.put(b"x", "kept")
        [own] = (tmp_path / "state").glob("own-*.pickle")
        whole = own.read_bytes()
        own.write_bytes(whole[:-5])
        with pytest.raises(StateError, match="cannot be read"), run():
            pass
        own.write_bytes(whole)
        with run() as lab:
            assert lab.body(f"s3://{BUCKET}/kept") == b"x"


@pytest.fixture(scope="module")
def refused(tmp_path_factory):
    """What the command said and did on a folder that another emulator has."""
    folder = tmp_path_factory.mktemp("one") / "state"
    with make_lab(state=folder) as emulator:
        done = subprocess.run(
            [*COMMAND, "--state", str(folder)],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
            stdin=subprocess.DEVNULL,
        )
        # The first one goes on.
        assert emulator.client("s3").list_buckets()["Buckets"] == []
    return done


class TestOneFolder:
    def test_second_emulator_on_a_folder_is_refused(self, refused):
        assert (refused.returncode, refused.stdout) == (1, "")
        assert f"in use by another emulator (process {os.getpid()})" in refused.stderr

    def test_refusal_of_the_command_is_a_sentence(self, refused):
        assert refused.stderr.startswith("The emulator cannot start: ")
        assert "Traceback" not in refused.stderr

    def test_folder_with_other_things_is_refused(self, run, tmp_path):
        (tmp_path / "state").mkdir(mode=0o700)
        (tmp_path / "state" / "thesis.txt").write_text("all of it")
        with pytest.raises(StateError, match=r"thesis\.txt"), run():
            pass
        # The way is free for another one.
        with make_lab():
            pass


class TestReset:
    def test_everything_is_as_at_the_start(self):
        with make_lab(faults=[ModelError(endpoint="first")]) as emulator:
            lab = Lab(emulator)
            url = emulator.url
            lab.hold(3600)
            name = lab.deploy("second")
            running = lab.run(name)
            assert lab.state(running) == "running"
            lab.inbox()
            let_wake(lab, name)
            emulator.knobs.change(unknowns={"filename_suffix": "out"}, behaviour={"creation_seconds": 9})

            emulator.reset()

            assert emulator.url == url
            assert emulator.requests() == []
            assert emulator.counters()["submissions"]["total"] == 0
            assert [fault.kind for fault in emulator.faults.all().values()] == ["model_error"]
            assert emulator.knobs.behaviour == AT_ONCE
            assert lab.control.list_endpoints()["Endpoints"] == []
            assert lab.control.list_models()["Models"] == []
            assert lab.s3.list_buckets()["Buckets"] == []
            assert lab.sqs.list_queues().get("QueueUrls", []) == []
            assert lab.cloudwatch.describe_alarms()["MetricAlarms"] == []
            assert (
                lab.scaling.describe_scalable_targets(ServiceNamespace="sagemaker")["ScalableTargets"] == []
            )
            # The same names can be used anew.
            lab = Lab(emulator)
            lab.deploy("second")
            response = lab.run("second", Filename="name")
            assert response["OutputLocation"].endswith("/name")
            assert (lab.record(response).number, lab.objects(response)) == (1, {"output"})
            lab.advance(120)
            assert lab.counts("second") == (1, 1)

    def test_positions_of_the_start_are_in_force_again(self):
        with make_lab(unknowns=Unknowns(failure_location_always=True)) as emulator:
            emulator.knobs.change(unknowns={"failure_location_always": False})
            emulator.reset()
            lab = Lab(emulator)
            assert "FailureLocation" in lab.run(lab.deploy(failure=False))

    def test_reset_over_http(self):
        with make_lab() as emulator:
            lab = Lab(emulator)
            lab.run(lab.deploy())
            assert lab.control_address("POST", "reset") == {"endpoints": [], "requests": 0}
            assert emulator.requests() == []

    def test_kept_state_is_reset_too(self, run, tmp_path):
        with run() as lab:
            lab.run(lab.deploy("gone"))
            lab.emulator.reset()
            lab.s3.create_bucket(Bucket="made-afterwards")
        with run() as lab:
            assert lab.emulator.requests() == []
            assert lab.control.list_endpoints()["Endpoints"] == []
            names = {bucket["Name"] for bucket in lab.s3.list_buckets()["Buckets"]}
            # The other one is the lab's own.
            assert names == {"made-afterwards", BUCKET}
        assert json.loads((tmp_path / "state" / "state.json").read_text())["generation"] >= 2
