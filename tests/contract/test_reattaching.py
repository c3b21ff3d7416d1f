"""A task that runs again takes up the request there is. The emulator counts what was asked for."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace

import pytest

from airflow_async_sm.emulator.settings.faults import ReplyLost, S3Denied
from airflow_async_sm.exceptions import (
    InferenceFailed,
    RecordUnreadable,
    RequestRejected,
    ResultInvalid,
    SubmissionUnconfirmed,
    WaitTimedOut,
)
from airflow_async_sm.operators import _sender
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from tests.contract.conftest import TaskInstance
from tests.world import BUCKET


class Killed(BaseException):
    """In the place of a signal: nothing of the package may catch it."""


class Store(dict):
    """Airflow's task state store: JSON values, by key."""

    def set(self, key, value):
        self[key] = json.loads(json.dumps(value))


class Task:
    """A task whose tries are run one after the other, each by a new object."""

    def __init__(self, run, world, endpoint, where):
        self._run, self._world, self._endpoint = run, world, endpoint
        self.context = {"ti": TaskInstance(try_number=0, max_tries=2)}
        self.arguments = {"endpoint_name": endpoint, "payload": [1], "custom_attributes": "echo"}
        if where == "store":
            self.context["task_state_store"] = Store()
        if where == "s3":
            self.arguments["work_prefix"] = f"s3://{BUCKET}/work"
        self._before = len(world.emulator.requests())

    def again(self, **changes):
        """Run the next try of the task to its end."""
        self.context["ti"].try_number += 1
        return self._run(SageMakerAsyncInvokeOperator, self.context, **(self.arguments | changes))

    def clear(self):
        self.context["ti"].max_tries += 1

    def make_run_again(self):
        """As when a run is deleted and made again: what Airflow knew of it is gone, what is in S3 is not."""
        self.context["ti"].try_number = 0

    @property
    def requests(self):
        """How many requests the emulator has accepted of it."""
        return len(self._world.emulator.requests()) - self._before


@pytest.fixture(params=["store", "s3"])
def task(request, run, world, echo):
    return Task(run, world, echo, request.param)


@pytest.fixture
def waiting(task, held):
    """A task whose requests have no answer until ``held.let_go()``."""
    task.arguments["endpoint_name"] = held.endpoint
    return task


@pytest.fixture
def forgetful(run, world, echo):
    return Task(run, world, echo, "nowhere")


@pytest.fixture
def killed(monkeypatch):
    """Return a function that lets the task's process die before or after a call, once."""

    def arrange(owner, name, *, after):
        whole = getattr(owner, name)

        def dying(*args, **kwargs):
            monkeypatch.setattr(owner, name, whole)
            if after:
                whole(*args, **kwargs)
            raise Killed

        monkeypatch.setattr(owner, name, dying)

    return arrange


def hook_type():
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

    return SageMakerAsyncHook


class TestRetry:
    def test_a_task_that_ran_out_of_time_waits_for_the_same_request(self, waiting, held):
        with pytest.raises(WaitTimedOut, match="waits for the same request"):
            waiting.again(timeout=0.1)
        held.let_go()
        assert waiting.again()["size"] == 3
        assert waiting.requests == 1

    def test_a_worker_that_died_before_the_submission_leaves_no_request(self, task, killed):
        killed(_sender.Sender, "_ask", after=False)
        with pytest.raises(Killed):
            task.again()
        task.again()
        assert task.requests == 1

    def test_a_worker_that_died_with_the_reply_unread_is_replaced_by_one_that_finds_the_answer(
        self, task, killed
    ):
        killed(hook_type(), "invoke_endpoint_async", after=True)
        with pytest.raises(Killed):
            task.again()
        found = task.again()
        assert task.requests == 1
        assert found["size"] == 3
        assert "/airflow/dag/" in found["output_location"]

    def test_a_worker_that_died_after_the_answer_was_taken_over_is_replaced_without_a_request(
        self, task, killed
    ):
        killed(SageMakerAsyncInvokeOperator, "_clean_up", after=True)
        with pytest.raises(Killed):
            task.again()
        task.again()
        assert task.requests == 1

    def test_a_failure_that_a_dead_worker_left_is_found_in_the_requests_own_folder(self, task, killed):
        killed(hook_type(), "invoke_endpoint_async", after=True)
        with pytest.raises(Killed):
            task.again(custom_attributes="refuse")
        with pytest.raises(InferenceFailed, match="Unknown task"):
            task.again(custom_attributes="refuse")
        assert task.requests == 1

    def test_a_request_that_failed_is_asked_for_anew(self, task):
        for tries in (1, 2):
            with pytest.raises(InferenceFailed):
                task.again(custom_attributes="refuse")
            assert task.requests == tries

    def test_another_input_is_another_request(self, waiting, held):
        with pytest.raises(WaitTimedOut):
            waiting.again(timeout=0.1)
        held.let_go()
        assert waiting.again(payload=[1, 2])["size"] == 5
        assert waiting.requests == 2

    def test_an_answer_that_could_not_be_used_is_read_again_and_not_inferred_again(self, task):
        with pytest.raises(ResultInvalid, match="reads the same"):
            task.again(result="json", result_schema={"type": "object"})
        assert task.again(result="json", result_schema={"type": "array"}) == [1]
        assert task.requests == 1

    def test_the_request_keeps_its_name_when_its_arguments_name_another(self, waiting, held):
        with pytest.raises(WaitTimedOut):
            waiting.again(timeout=0.1, inference_id="try-1")
        held.let_go()
        assert waiting.again(inference_id="try-2")["inference_id"] == "try-1"

    def test_a_handle_that_was_handed_on_is_handed_on_again(self, task):
        first = task.again(wait_for_completion=False)
        assert task.again(wait_for_completion=False)["inference_id"] == first["inference_id"]
        assert task.requests == 1

    def test_a_request_of_which_nothing_can_come_any_more_is_asked_for_anew_in_the_same_try(
        self, task, killed, monkeypatch
    ):
        limits = {"request_ttl": 60, "invocation_timeout": 1}
        killed(hook_type(), "invoke_endpoint_async", after=False)
        with monkeypatch.context() as soon:
            soon.setattr("airflow_async_sm.core.limits.EXPIRY_SLACK", -61)
            with pytest.raises(Killed):
                task.again(**limits)
        assert task.again(**limits)["size"] == 3
        assert task.requests == 1


class TestClear:
    def test_a_waiting_task_takes_up_its_request(self, waiting, held):
        with pytest.raises(WaitTimedOut):
            waiting.again(timeout=0.1)
        held.let_go()
        waiting.clear()
        waiting.again()
        assert waiting.requests == 1

    def test_or_makes_a_new_one_if_told_so(self, waiting, held):
        with pytest.raises(WaitTimedOut):
            waiting.again(timeout=0.1, on_clear="fresh")
        held.let_go()
        waiting.clear()
        waiting.again(on_clear="fresh")
        assert waiting.requests == 2

    def test_a_task_that_had_its_answer_asks_again(self, task):
        task.again()
        task.clear()
        task.again()
        assert task.requests == 2

    def test_a_run_that_was_made_again_does_not_get_the_answer_of_the_old_one(self, task):
        task.again()
        task.make_run_again()
        task.again()
        assert task.requests == 2


class TestTwoProcesses:
    """Airflow 2.11 may give up a try whose process lives on for a while, and begin the next one."""

    @pytest.fixture(params=[(2, 3), (3, 2)], ids=["the later one is faster", "the earlier one is faster"])
    def two(self, request, run, world, echo):
        """Return two tries of one task."""
        run_id = str(uuid.uuid4())

        def one(number):
            task = Task(run, world, echo, "s3")
            # Running it counts up.
            task.context["ti"] = TaskInstance(run_id=run_id, try_number=number - 1, max_tries=5)
            return task

        return [one(number) for number in request.param]

    @pytest.fixture
    def meanwhile(self, monkeypatch):
        """Return a function that lets something happen before the next write of a record, once."""

        def arrange(happens):
            write = hook_type()._put_record

            def late(*args):
                monkeypatch.setattr(hook_type(), "_put_record", write)
                happens()
                write(*args)

            monkeypatch.setattr(hook_type(), "_put_record", late)

        return arrange

    @pytest.mark.parametrize("on_clear", ["reattach", "fresh"])
    def test_the_slower_one_takes_over_the_answer_of_the_faster_one(self, two, meanwhile, on_clear):
        slow, fast = two
        answers = []
        meanwhile(lambda: answers.append(fast.again(on_clear=on_clear)))
        answers.append(slow.again(on_clear=on_clear))
        assert answers[0]["output_location"] == answers[1]["output_location"]
        assert slow.requests == 1

    @pytest.mark.parametrize("on_clear", ["reattach", "fresh"])
    def test_so_it_does_where_a_record_is_replaced(self, two, meanwhile, on_clear):
        slow, fast = two
        with pytest.raises(InferenceFailed):
            fast.again(custom_attributes="refuse")
        fast.context["ti"].try_number -= 1
        meanwhile(lambda: fast.again(on_clear=on_clear))
        assert slow.again(on_clear=on_clear)["size"] == 3
        assert slow.requests == 2

    @pytest.mark.parametrize("number", [2, 3], ids=["numbers go back", "a number comes twice"])
    def test_one_that_comes_too_late_to_write_takes_over_the_answer_too(self, two, number):
        slow, fast = two
        run = SimpleNamespace(start_date=datetime.now(tz=UTC) - timedelta(seconds=1))
        for task, its in ((fast, 3), (slow, number)):
            task.context["dag_run"] = run
            task.context["ti"].try_number = its - 1
        found = fast.again(on_clear="fresh")
        assert slow.again(on_clear="fresh")["output_location"] == found["output_location"]
        assert slow.requests == 1

    def test_a_faster_one_that_died_before_it_asked_may_have_asked(self, two, meanwhile, killed):
        slow, fast = two

        def dies():
            killed(hook_type(), "invoke_endpoint_async", after=False)
            with pytest.raises(Killed):
                fast.again(timeout=0.1)

        meanwhile(dies)
        with pytest.raises(WaitTimedOut, match="waits for the same request"):
            slow.again(timeout=0.1)
        assert slow.requests == 0

    def test_another_input_is_another_request(self, two, meanwhile):
        slow, fast = two
        meanwhile(lambda: fast.again(payload=[1, 2]))
        assert slow.again()["size"] == 3
        assert slow.requests == 2

    def test_a_request_that_failed_is_asked_for_anew(self, two, meanwhile):
        slow, fast = two

        def fails():
            with pytest.raises(InferenceFailed):
                fast.again(custom_attributes="refuse")

        meanwhile(fails)
        with pytest.raises(InferenceFailed):
            slow.again(custom_attributes="refuse")
        assert slow.requests == 2

    def test_a_record_that_was_deleted_is_written_anew(self, two, meanwhile, world):
        slow, fast = two
        with pytest.raises(InferenceFailed):
            fast.again(custom_attributes="refuse")
        (record,) = [
            found["Key"]
            for found in world.s3.list_objects_v2(Bucket=BUCKET, Prefix="work/records/")["Contents"]
            if slow.context["ti"].run_id in found["Key"]
        ]
        meanwhile(lambda: world.s3.delete_object(Bucket=BUCKET, Key=record))
        assert slow.again()["size"] == 3
        assert slow.requests == 2

    def test_a_write_that_the_client_repeats_is_no_other_process(self, two, monkeypatch):
        """The first one arrived, and its reply was lost."""
        write = hook_type()._put_record

        def twice(*args):
            monkeypatch.setattr(hook_type(), "_put_record", write)
            write(*args)
            write(*args)

        monkeypatch.setattr(hook_type(), "_put_record", twice)
        slow, _ = two
        assert slow.again()["size"] == 3
        assert slow.requests == 1


class TestElsewhere:
    def test_a_request_to_another_region_is_another_request(self, waiting, held, monkeypatch):
        with pytest.raises(WaitTimedOut):
            waiting.again(timeout=0.1)
        held.let_go()
        with monkeypatch.context() as moved:
            moved.setattr(hook_type(), "region", "eu-west-1")
            waiting.again()
        assert waiting.requests == 2

    def test_bad_input_of_a_retry_does_not_hide_the_request_that_goes_on(self, waiting):
        with pytest.raises(WaitTimedOut):
            waiting.again(timeout=0.1, inference_id="mine")
        with pytest.raises(
            RequestRejected, match=r"Nothing was submitted.*Request mine .*, of an earlier try, goes on"
        ):
            waiting.again(payload=None, payload_path="/no/such/file")


class TestLostReply:
    @pytest.fixture(autouse=True)
    def _lost(self, world):
        world.emulator.faults.add(ReplyLost())
        yield
        world.emulator.faults.clear()

    def test_the_answer_is_found_in_the_requests_own_folder(self, task):
        assert task.again()["size"] == 3
        assert task.requests == 1

    def test_nothing_has_to_be_remembered_for_that(self, forgetful):
        assert forgetful.again()["size"] == 3
        assert forgetful.requests == 1

    def test_without_a_folder_of_its_own_the_task_ends_and_is_not_retried(self, task):
        with pytest.raises(SubmissionUnconfirmed, match="not retried"):
            task.again(s3_output_path_extension="mine")
        assert task.requests == 1

    def test_a_boto3_that_knows_no_folders_leaves_the_same_window(self, task, monkeypatch):
        members = frozenset({"Body", "InferenceId", "ContentType", "CustomAttributes", "EndpointName"})
        monkeypatch.setattr(hook_type(), "invoke_members", members)
        with pytest.raises(SubmissionUnconfirmed, match="not retried"):
            task.again()
        assert task.requests == 1

    def test_a_member_that_boto3_does_not_know_is_refused_before_anything_is_uploaded(
        self, task, monkeypatch, world
    ):
        members = frozenset(
            {"InputLocation", "InferenceId", "ContentType", "CustomAttributes", "EndpointName"}
        )
        monkeypatch.setattr(hook_type(), "invoke_members", members)
        with pytest.raises(RequestRejected, match="cannot send Filename"):
            task.again(filename="a.json", work_prefix=f"s3://{BUCKET}/refused")
        assert world.s3.list_objects_v2(Bucket=BUCKET, Prefix="refused/")["KeyCount"] == 0
        assert task.requests == 0


class TestMemory:
    def test_without_one_each_try_makes_a_request_and_says_so(self, forgetful, held):
        for _ in range(2):
            with pytest.raises(WaitTimedOut, match="submits a new request"):
                forgetful.again(endpoint_name=held.endpoint, timeout=0.1)
        assert forgetful.requests == 2

    def test_one_that_cannot_be_read_stops_the_task_before_it_asks(self, run, world, echo):
        task = Task(run, world, echo, "store")
        task.context["task_state_store"].get = lambda key: 1 / 0
        with pytest.raises(RecordUnreadable, match=r"cannot be read.*Nothing was submitted"):
            task.again()
        assert task.requests == 0

    def test_one_in_s3_that_may_not_be_read_names_the_rights_that_takes(self, run, world, echo):
        task = Task(run, world, echo, "s3")
        world.emulator.faults.add(S3Denied(operation="GetObject"))
        try:
            with pytest.raises(
                RecordUnreadable, match=r"that takes s3:GetObject and, on the bucket, s3:ListBucket"
            ) as no:
                task.again()
        finally:
            world.emulator.faults.clear()
        assert "refused as well" not in str(no.value)
        assert task.requests == 0

    def test_one_that_is_damaged_stops_the_task_too(self, run, world, echo):
        task = Task(run, world, echo, "store")
        task.context["task_state_store"]["sagemaker_async"] = {"fingerprint": 7}
        with pytest.raises(RecordUnreadable, match=r"is damaged.*delete it"):
            task.again()
        assert task.requests == 0

    def test_one_that_cannot_be_written_stops_the_task_before_it_asks(self, run, world, echo):
        task = Task(run, world, echo, "store")
        task.context["task_state_store"].set = lambda key, value: 1 / 0
        with pytest.raises(RecordUnreadable, match=r"was not submitted, because it could not be recorded"):
            task.again()
        assert task.requests == 0
