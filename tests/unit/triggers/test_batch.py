"""The wait for a batch, in a time of its own: what it counts, when it ends, and what it tells meanwhile."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from airflow_async_sm.core.events import decode_event
from airflow_async_sm.core.handles import BatchHandle
from airflow_async_sm.core.outcomes import End, LookError, Pending, Settled
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable
from airflow_async_sm.triggers._watcher import Watcher
from airflow_async_sm.triggers.batch import SageMakerAsyncBatchTrigger
from tests.stepped import in_no_time

OUT, FAILED = "s3://bucket/out/own/", "s3://bucket/failures/own/"
LOCATION = "s3://bucket/work/batches/own/token/"
START = 1_000_000.0
BATCH = {
    "endpoint_name": "model",
    "location": LOCATION,
    "submitted_at": START - 100.0,
    "began_at": START - 100.0,
    "items": 1_000,
    "output_folder": OUT,
    "failure_folder": FAILED,
    "enough": 50,
    "wake_at": START + 3_600.0,
    "done": 100,
    "failed": 4,
    "in_flight": 100,
    "sent_at": START,
    "deadline_at": START + 4_500.0,
}


def answer(index, attempt=1):
    return f"{index:08d}-0123456789-{attempt}.out"


def failure(index, attempt=1):
    return f"{answer(index, attempt)}-error.out"


class Hook:
    """What a batch's wait asks of AWS. Each of its answers may be an error, and may change with time."""

    region = "eu-west-1"

    def __init__(self, clock):
        self.clock = clock
        self.folders = {OUT: [], FAILED: []}
        self.arrivals: list[tuple[float, str, str]] = []
        self.endpoint: list[tuple[float, object]] = [(0.0, Pending("InService"))]
        self.figure = 7
        self.asked: list[tuple] = []
        self.written: list[tuple[float, str, dict]] = []
        self.write_error = None

    def names_in(self, folder, after="", *, patiently=True):
        assert patiently is False, "the triggerer's threads wait for nothing"
        self.asked.append((folder, after))
        found = self.folders[folder]
        if isinstance(found, Exception):
            raise found
        here = [name for at, place, name in self.arrivals if place == folder and at <= self.clock()]
        yield from (name for name in sorted([*found, *here]) if name > after)

    def look_at_endpoint_of(self, handle):
        self.handle = handle
        return [seen for at, seen in self.endpoint if at <= self.clock()][-1]

    def backlog(self, endpoint_name, *, since):
        assert endpoint_name == "model"
        self.since = since
        if isinstance(self.figure, Exception):
            raise self.figure
        return self.figure

    def write_record(self, location, record):
        if self.write_error:
            raise self.write_error
        self.written.append((self.clock(), location, record))

    def look_at_endpoints(self, handles):
        pass

    def close(self):
        pass


class Stepped(SageMakerAsyncBatchTrigger):
    """The trigger in a loop whose time goes on by itself. A watcher looks with the hook of the last one."""

    made: Hook

    def __init__(self, **changes):
        self.loop = asyncio.get_running_loop()
        self.lines: list[tuple[float, str]] = []
        super().__init__(**(BATCH | changes))
        self.hook = Stepped.made = Hook(self.clock)

    def clock(self):
        return self.loop.time()

    def arrive(self, seconds, folder, *names):
        self.hook.arrivals += [(START + seconds, folder, name) for name in names]


@pytest.fixture(autouse=True)
def it_is_looked_with_the_triggers_hook(monkeypatch):
    monkeypatch.setattr("airflow_async_sm.triggers.base._settling_time", lambda: 0.0)
    monkeypatch.setattr(Watcher, "_make", lambda self: Stepped.made)


async def outcome_of(trigger, monkeypatch=None):
    if monkeypatch is not None:

        def note(text, *values):
            trigger.lines.append((trigger.clock() - START, text % values))

        monkeypatch.setattr(trigger.log, "info", note)
    (event,) = [event.payload async for event in trigger.run()]
    handle, outcome = decode_event(event, BatchHandle)
    assert handle == trigger.handle
    return outcome


class TestEnd:
    @in_no_time
    async def test_it_is_over_when_enough_have_come_to_either_folder(self):
        trigger = Stepped()
        trigger.arrive(40, OUT, *(answer(index) for index in range(100, 149)))
        trigger.arrive(90, FAILED, failure(149))
        outcome = await outcome_of(trigger)
        assert outcome.end is End.SUCCEEDED
        assert START + 90.0 <= outcome.seen_at <= START + 101.0

    @in_no_time
    async def test_what_had_come_before_the_wait_does_not_count_again(self):
        trigger = Stepped(counted=60)
        trigger.hook.folders[OUT] = [answer(index) for index in range(100, 160)]
        trigger.arrive(500, OUT, *(answer(index) for index in range(160, 210)))
        outcome = await outcome_of(trigger)
        assert outcome.end is End.SUCCEEDED
        assert outcome.seen_at >= START + 500.0

    @in_no_time
    async def test_only_what_lies_behind_the_items_that_are_done_with_is_asked_for(self):
        trigger = Stepped(after="00000100", enough=1)
        trigger.hook.folders[OUT] = [answer(index) for index in range(100)]
        trigger.arrive(300, OUT, answer(100))
        outcome = await outcome_of(trigger)
        assert outcome.seen_at >= START + 300.0
        assert set(trigger.hook.asked) == {(OUT, "00000100"), (FAILED, "00000100")}

    @in_no_time
    async def test_what_is_nobodys_does_not_count(self):
        trigger = Stepped(enough=1)
        trigger.hook.folders[OUT] = [f"{number}f0c-error.out" for number in range(10, 90)]
        outcome = await outcome_of(trigger)
        assert outcome.seen_at >= BATCH["wake_at"]

    @in_no_time
    async def test_a_folder_for_both_is_counted_once(self):
        trigger = Stepped(failure_folder=OUT, enough=2)
        trigger.arrive(5, OUT, answer(100))
        trigger.arrive(200, OUT, failure(101))
        outcome = await outcome_of(trigger)
        assert outcome.seen_at >= START + 200.0

    @in_no_time
    async def test_it_is_over_at_its_moment_whatever_has_come(self):
        trigger = Stepped(wake_at=START + 77.0)
        outcome = await outcome_of(trigger)
        assert outcome.end is End.SUCCEEDED
        assert START + 77.0 <= outcome.seen_at <= START + 87.1

    @in_no_time
    async def test_without_folders_it_waits_for_its_moment_alone(self):
        trigger = Stepped(output_folder=None, failure_folder=None, wake_at=START + 120.0)
        outcome = await outcome_of(trigger)
        assert outcome.end is End.SUCCEEDED
        assert trigger.hook.asked == []

    @in_no_time
    async def test_nothing_to_wait_for_is_no_wait(self):
        trigger = Stepped(enough=0)
        assert (await outcome_of(trigger)).seen_at < START + 1.0

    @in_no_time
    async def test_it_gives_up_at_its_deadline_and_not_before(self):
        trigger = Stepped(deadline_at=START + 250.0)
        outcome = await outcome_of(trigger)
        assert outcome.end is End.TIMED_OUT
        assert START + 250.0 <= outcome.seen_at < START + 250.2

    @in_no_time
    async def test_a_batch_is_lost_with_its_endpoint(self):
        trigger = Stepped()
        trigger.hook.endpoint.append((START + 130.0, Settled(False, "Endpoint model is gone.")))
        outcome = await outcome_of(trigger)
        assert (outcome.end, outcome.detail) == (End.FAILED, "Endpoint model is gone.")
        assert START + 130.0 <= outcome.seen_at <= START + 141.0

    @in_no_time
    async def test_enough_answers_count_for_more_than_an_endpoint_that_is_gone(self):
        trigger = Stepped(enough=1)
        trigger.hook.folders[OUT] = [answer(100)]
        trigger.hook.endpoint = [(0.0, Settled(False, "Endpoint model is gone."))]
        assert (await outcome_of(trigger)).end is End.SUCCEEDED

    @in_no_time
    async def test_the_endpoint_is_looked_at_as_that_of_the_newest_request(self):
        trigger = Stepped(wake_at=START + 20.0)
        await outcome_of(trigger)
        asked = trigger.hook.handle
        assert (asked.endpoint_name, asked.endpoint_region) == ("model", "eu-west-1")
        assert (asked.submitted_at, asked.expires_at) == (START, START + 20.0)


class TestTrouble:
    @in_no_time
    @pytest.mark.parametrize(
        "error", [ServiceUnavailable("busy"), RequestRejected("no"), OSError("no route")]
    )
    async def test_a_folder_that_cannot_be_listed_for_a_while_ends_nothing(self, error):
        trigger = Stepped(enough=1)
        trigger.hook.folders[FAILED] = error
        trigger.arrive(0, OUT, answer(100))

        async def mend():
            await asyncio.sleep(300.0)
            trigger.hook.folders[FAILED] = []

        mending = asyncio.create_task(mend())
        outcome = await outcome_of(trigger)
        await mending
        assert outcome.end is End.SUCCEEDED
        assert outcome.seen_at >= START + 300.0

    @in_no_time
    async def test_one_that_can_never_be_listed_is_told(self):
        trigger = Stepped()
        trigger.hook.folders[OUT] = ServiceUnavailable("S3 is busy.")
        outcome = await outcome_of(trigger)
        assert (outcome.end, outcome.detail) == (End.LOOK_FAILED, "S3 is busy.")

    @in_no_time
    async def test_an_endpoint_that_cannot_be_seen_ends_nothing(self, monkeypatch):
        trigger = Stepped(wake_at=START + 200.0)
        trigger.hook.endpoint = [(0.0, Pending())]
        trigger.hook.figure = RequestRejected("not allowed")
        trigger.hook.write_error = RequestRejected("not allowed either")
        assert (await outcome_of(trigger, monkeypatch)).end is End.SUCCEEDED
        assert [text for _, text in trigger.lines] == [
            "The batch of 1,000 inputs to endpoint model: "
            "10 % of 1,000 inputs done, 4 failed, 100 in the queue."
        ]

    @in_no_time
    async def test_an_endpoint_that_cannot_be_asked_for_now_is_a_failed_look(self):
        trigger = Stepped()
        trigger.hook.endpoint = [(0.0, LookError("busy"))]
        assert trigger.look() == LookError("busy")


class TestTold:
    @in_no_time
    async def test_how_far_it_is_is_told_once_a_change(self, monkeypatch):
        trigger = Stepped(enough=100, wake_at=START + 55.0)
        trigger.arrive(15, OUT, *(answer(index) for index in range(100, 105)))
        trigger.arrive(30, OUT, *(answer(index) for index in range(105, 120)))
        await outcome_of(trigger, monkeypatch)
        begin = "The batch of 1,000 inputs to endpoint model: "
        assert [text.removeprefix(begin).split(",")[0] for _, text in trigger.lines] == [
            "10 % of 1",
            "12 % of 1",
        ]
        at, text = trigger.lines[1]
        assert 30.0 <= at <= 41.0
        assert text.startswith(f"{begin}12 % of 1,000 inputs done, 4 failed, 80 in the queue, ")

    @in_no_time
    async def test_and_is_there_for_others_to_read(self):
        trigger = Stepped(enough=100, wake_at=START + 55.0)
        trigger.arrive(15, OUT, *(answer(index) for index in range(100, 105)))
        trigger.arrive(30, OUT, *(answer(index) for index in range(105, 120)))
        await outcome_of(trigger)
        assert {location for _, location, _ in trigger.hook.written} == {f"{LOCATION}progress.json"}
        first, second = (record for _, _, record in trigger.hook.written)
        assert (first["percent"], first["done"], first["rate"]) == (10, 100, None)
        assert (second["percent"], second["done"], second["in_flight"], second["failed"]) == (12, 120, 80, 4)

    @in_no_time
    async def test_more_than_all_is_never_told(self):
        trigger = Stepped(items=110, in_flight=10, enough=100, wake_at=START + 55.0)
        trigger.hook.folders[OUT] = [answer(index, attempt) for index in range(20) for attempt in (1, 2)]
        await outcome_of(trigger)
        (record,) = (record for _, _, record in trigger.hook.written)
        assert (record["done"], record["in_flight"], record["unsent"]) == (110, 0, 0)

    @in_no_time
    async def test_less_than_before_is_no_progress(self):
        """Somebody may have deleted answers that were counted."""
        trigger = Stepped(counted=30, wake_at=START + 15.0)
        await outcome_of(trigger)
        (record,) = (record for _, _, record in trigger.hook.written)
        assert (record["done"], record["in_flight"]) == (100, 100)

    @in_no_time
    async def test_how_fast_it_is_counts_from_the_wait_and_not_from_the_triggerer(self):
        trigger = Stepped(sent_at=START - 200.0)
        trigger.hook.folders[OUT] = [answer(index) for index in range(100, 140)]
        trigger.look()
        (record,) = (record for _, _, record in trigger.hook.written)
        assert record["rate"] == pytest.approx(0.2)
        assert record["seconds_left"] == 4_300

    @in_no_time
    async def test_after_a_quiet_minute_it_says_what_the_endpoint_does(self, monkeypatch):
        trigger = Stepped(wake_at=START + 200.0)
        trigger.hook.endpoint.append((START + 100.0, Pending("Updating")))
        trigger.hook.figure = 1_234
        await outcome_of(trigger, monkeypatch)
        ends = [(at, text.partition("queue. ")[2]) for at, text in trigger.lines]
        assert [text for _, text in ends] == [
            "",
            "InService for 1 min, its backlog is 1,234.",
            "Its backlog is 1,234.",
            "Updating for 1 min, its backlog is 1,234.",
        ]
        assert all(later - before >= 60.0 for (before, _), (later, _) in itertools.pairwise(ends))
        # CloudWatch has its figures some minutes late.
        assert trigger.hook.since < START

    @in_no_time
    async def test_it_is_not_called_quiet_while_it_goes_on(self, monkeypatch):
        trigger = Stepped(enough=1_000, wake_at=START + 300.0)
        trigger.hook.figure = AssertionError("nobody asks for the backlog")
        for step in range(10):
            first = 100 + 10 * step
            trigger.arrive(30 * step, OUT, *(answer(index) for index in range(first, first + 10)))
        assert (await outcome_of(trigger, monkeypatch)).end is End.SUCCEEDED
        assert len(trigger.lines) == 10

    @in_no_time
    async def test_a_figure_that_is_not_there_yet_is_left_out(self, monkeypatch):
        trigger = Stepped(wake_at=START + 100.0)
        trigger.hook.figure = None
        await outcome_of(trigger, monkeypatch)
        assert trigger.lines[-1][1].endswith("in the queue. InService for 1 min.")

    @in_no_time
    async def test_a_killed_task_says_that_its_requests_go_on(self, monkeypatch):
        trigger = Stepped()
        lines = []
        monkeypatch.setattr(trigger.log, "info", lambda text, *values: lines.append(text % values))
        await trigger.on_kill()
        (line,) = lines
        assert line.startswith("The batch of 1,000 inputs to endpoint model is not waited for here any more.")


class TestStored:
    def test_it_knows_its_batch(self):
        trigger = SageMakerAsyncBatchTrigger(**BATCH)
        fields = {name: value for name, value in BATCH.items() if name != "deadline_at"}
        assert trigger.handle == BatchHandle(**fields)

    def test_one_of_an_earlier_version_is_still_a_wait(self):
        first = ("endpoint_name", "location", "submitted_at", "began_at", "items", "deadline_at")
        trigger = SageMakerAsyncBatchTrigger(**{name: BATCH[name] for name in first})
        path, stored = trigger.serialize()
        assert path == "airflow_async_sm.triggers.batch.SageMakerAsyncBatchTrigger"
        assert SageMakerAsyncBatchTrigger(**stored).serialize() == (path, stored)
