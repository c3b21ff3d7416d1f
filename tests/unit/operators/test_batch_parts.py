"""Parts of a batch are sent, and what came of that is written down, whatever happens meanwhile."""

from __future__ import annotations

import logging
import threading
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor

import pytest
from botocore.exceptions import ClientError

from airflow_async_sm.core.batches.failures import REJECTED, ItemFailure
from airflow_async_sm.core.batches.items import BatchInput, BatchItem, index_of
from airflow_async_sm.core.batches.pace import SubmissionRate
from airflow_async_sm.core.batches.state import BatchState, Phase
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.exceptions import (
    BatchTakenOver,
    EndpointNotReady,
    RecordUnreadable,
    RequestRejected,
    ServiceUnavailable,
    SubmissionUnconfirmed,
    Throttled,
)
from airflow_async_sm.operators._batch_form import BatchForm
from airflow_async_sm.operators._batch_ledger import BatchLedger
from airflow_async_sm.operators._batch_parts import PartSender

LOG = logging.getLogger("tests.batch_parts")
OUT, FAILED = "s3://bucket/out/own/token/", "s3://bucket/failures/own/token/"
INPUTS = "s3://bucket/work/inputs/"
LARGE = b"x" * 128_001


class Hook:
    """The service, and the ledger's bucket. ``answer`` says what comes of a request."""

    def __init__(self):
        self.requests = []
        self.uploads = {}
        self.events = []
        self.lock = threading.Lock()
        self.answer = lambda request, index: None
        self.endpoint = dict

    def check_endpoint(self, endpoint_name):
        assert endpoint_name == "model"
        return self.endpoint()

    def invoke_endpoint_async(self, request):
        with self.lock:
            self.requests.append(request)
        index = index_of(f"{request.inference_id.partition('-')[2]}.")
        return self.answer(request, index) or accepted(request)

    def upload(self, content, location, *, content_type, sse_kms_key_id):
        self.uploads[location] = (content.read(), content_type, sse_kms_key_id)

    def append_to_ledger(self, folder, number, event):
        assert number == len(self.events) + 1
        self.events.append(event)
        return True

    def read_ledger(self, folder):
        return iter(enumerate(self.events, 1))

    @property
    def asked_for(self):
        """The items that were asked for, each as often as it was."""
        return sorted(index_of(f"{request.inference_id.partition('-')[2]}.") for request in self.requests)


def accepted(request, *, out=OUT, failed=FAILED, name=None):
    name = name or request.filename
    return InvocationHandle(
        endpoint_name="model",
        inference_id=request.inference_id,
        output_location=f"{out}{name}",
        failure_location=failed and f"{failed}{name}-error.out",
        submitted_at=1.0,
        expires_at=2.0,
    )


class Plan:
    """The inputs, in memory."""

    def __init__(self, *bodies):
        self.items = [BatchItem.of(index, body) for index, body in enumerate(bodies)]
        self.before = lambda item: None

    def reader(self, hook):
        return self

    def chosen(self, indexes):
        for index in indexes:
            self.before(self.items[index])
            yield self.items[index]


class Clock:
    """Time that goes on only where somebody waits for it."""

    def __init__(self):
        self.now = 1_000.0
        self.lock = threading.Lock()
        self.waited = []

    def __call__(self):
        return self.now

    def wait(self, seconds):
        with self.lock:
            self.now += seconds
            self.waited.append(seconds)


class Stopped(threading.Event):
    """The sender's signal, for which nobody waits any longer than the clock says."""

    def __init__(self, clock):
        super().__init__()
        self.clock = clock

    def wait(self, timeout=None):
        self.clock.wait(timeout)
        return self.is_set()


class World:
    def __init__(self, count=20, *, bodies=None, threads=4, rate=None, **form):
        self.hook, self.clock = Hook(), Clock()
        found = bodies or [b"%d" % index for index in range(count)]
        self.plan = Plan(*(BatchInput(origin=f"input {i}", body=body) for i, body in enumerate(found)))
        self.ledger = BatchLedger(self.hook, "s3://bucket/work/", len(found))
        self.rate = SubmissionRate(rate)
        given = {
            "members": {"endpoint_name": "model", "content_type": "text/plain"},
            "token": "token",
            "extension": "own/token",
            "can_inline": True,
            "inputs": INPUTS,
        }
        self.sender = PartSender(
            hook=self.hook,
            plan=self.plan,
            ledger=self.ledger,
            form=BatchForm(**(given | form)),
            rate=self.rate,
            threads=threads,
            log=LOG,
            clock=lambda: 1_000.0,
            ticks=self.clock,
        )
        self.sender._stopped = self.sender._items._stopped = Stopped(self.clock)

    @property
    def state(self):
        return self.ledger.state

    def phases(self):
        """Return what the ledger says of each item to whoever reads it next."""
        state = BatchLedger(self.hook, "s3://bucket/work/", self.state.count).state
        return [state.phase(index) for index in range(state.count)]

    def items(self, phase):
        return [index for index, its in enumerate(self.phases()) if its is phase]


class TestOutcomes:
    def test_everything_is_sent_and_written_down_before_and_after(self):
        world = World()
        world.sender.send(100)
        assert world.hook.asked_for == list(range(20))
        assert world.items(Phase.OPEN) == list(range(20))
        assert [event["event"] for event in world.hook.events] == ["sending", "sent"]
        assert world.state.folders == (OUT, FAILED)
        assert world.hook.events[1]["places"] == {}

    def test_no_more_than_there_is_room_for(self):
        world = World()
        world.sender.send(7)
        assert world.hook.asked_for == list(range(7))
        world.sender.send(7)
        assert len(world.hook.requests) == 7
        world.sender.send(9)
        assert world.hook.asked_for == list(range(9))

    def test_what_is_many_is_sent_in_parts(self):
        world = World(1_100)
        world.sender.send(1_050)
        parts = [event["items"] for event in world.hook.events if event["event"] == "sending"]
        assert parts == ["0-249", "250-499", "500-749", "750-999", "1000-1049"]

    def test_a_request_says_what_all_say_and_what_is_its_own(self):
        world = World(1)
        world.sender.send(1)
        (request,) = world.hook.requests
        item = world.plan.items[0]
        assert (request.body, request.content_type, request.input_location) == (b"0", "text/plain", None)
        assert request.inference_id == f"token-{item.item_id}-1"
        assert (request.s3_output_path_extension, request.filename) == ("own/token", item.filename(1))

    def test_a_mix_of_all_of_them(self, caplog):
        world = World()

        def answer(request, index):
            match index % 4:
                case 1:
                    raise SubmissionUnconfirmed("The reply was lost.")
                case 2:
                    raise RequestRejected("The model is picky.")
                case 3 if index < 12:
                    raise ServiceUnavailable("No route.")

        world.hook.answer = answer
        flushed = []
        real = world.ledger.flush

        def twice():
            real()
            flushed.append(len(world.hook.events))
            if flushed == [1, 2]:
                raise BatchTakenOver("Enough for this test.")

        world.ledger.flush = twice
        with caplog.at_level("WARNING", LOG.name), pytest.raises(BatchTakenOver):
            world.sender.send(100)
        assert world.items(Phase.OPEN) == [0, 4, 8, 12, 15, 16, 19]
        assert world.items(Phase.SENDING) == [1, 5, 9, 13, 17]
        assert world.items(Phase.REFUSED) == [2, 6, 10, 14, 18]
        assert world.items(Phase.PLANNED) == [3, 7, 11]
        assert world.state.failure(2) == ItemFailure(REJECTED, "The model is picky.")
        # Each of those that were unreachable was asked for again, and only these.
        asked = Counter(int(request.filename[:8]) for request in world.hook.requests)
        assert {index for index, times in asked.items() if times > 1} == {3, 7, 11}
        assert "It is waited for, and not sent again before it has expired" in caplog.text

    def test_what_cannot_be_reached_is_asked_for_ever_more_seldom(self):
        world = World(1, threads=1)
        world.hook.answer = failing(ServiceUnavailable("No route."))
        with pytest.raises(ServiceUnavailable, match="No route"):
            world.sender.send(1)
        assert world.clock.waited == [1.0, 2.0, 4.0, 8.0, 16.0]
        assert world.items(Phase.PLANNED) == [0]

    def test_what_was_not_accepted_for_a_moment_is_sent_all_the_same(self):
        world = World(30)
        troubled = set()

        def answer(request, index):
            if index not in troubled:
                troubled.add(index)
                raise ServiceUnavailable("No route.")

        world.hook.answer = answer
        world.sender.send(100)
        assert world.items(Phase.OPEN) == list(range(30))

    def test_a_text_of_a_refusal_is_cut_short(self):
        world = World(2)
        world.hook.answer = lambda request, index: reject("no " * 500) if index else None
        world.sender.send(2)
        assert len(world.state.failure(1).text) == 200


def reject(text):
    raise RequestRejected(text)


def failing(error):
    def answer(request, index):
        raise error

    return answer


class TestUploads:
    def test_what_no_request_holds_is_put_there_first(self):
        world = World(bodies=[b"small", LARGE], sse_kms_key_id="key")
        world.sender.send(2)
        location = f"{INPUTS}{world.plan.items[1].item_id}"
        assert world.hook.uploads == {location: (LARGE, None, "key")}
        assert {request.input_location for request in world.hook.requests} == {None, location}

    def test_so_is_everything_where_the_user_wants_that(self):
        world = World(3, can_inline=False)
        world.sender.send(3)
        assert len(world.hook.uploads) == 3
        assert all(request.body is None for request in world.hook.requests)

    def test_what_is_in_s3_is_not_put_there_again(self):
        world = World(1)
        given = BatchInput(origin="x", input_location="s3://other/key", content_type="image/png")
        world.plan.items = [BatchItem.of(0, given)]
        world.sender.send(1)
        (request,) = world.hook.requests
        assert (request.input_location, request.content_type) == ("s3://other/key", "image/png")
        assert world.hook.uploads == {}

    def test_what_could_not_be_put_there_was_not_sent(self):
        world = World(bodies=[LARGE])

        def upload(*args, **kwargs):
            raise ServiceUnavailable("S3 is busy.")

        world.hook.upload = upload
        with pytest.raises(ServiceUnavailable, match="S3 is busy"):
            world.sender.send(1)
        assert world.hook.requests == []
        assert world.items(Phase.PLANNED) == [0]


class TestPlaces:
    def test_without_names_each_has_a_place(self):
        world = World(3, extension=None)
        world.hook.answer = lambda request, index: accepted(request, name=f"id-{index}")
        world.sender.send(3)
        assert all(request.filename is None for request in world.hook.requests)
        assert world.state.folders == (None, None)
        assert dict(world.state.elsewhere()) == {
            index: (f"{OUT}id-{index}", f"{FAILED}id-{index}-error.out") for index in range(3)
        }

    def test_failures_may_have_names_of_the_services_own(self):
        world = World(2)

        def answer(request, index):
            named = accepted(request)
            return InvocationHandle(
                **{**named.to_dict(), "failure_location": f"{FAILED}service-{index}-error.out"}
            )

        world.hook.answer = answer
        world.sender.send(2)
        assert world.state.folders == (OUT, None)
        assert world.state.place(1) == (
            f"{OUT}{world.plan.items[1].filename(1)}",
            f"{FAILED}service-1-error.out",
        )

    def test_an_endpoint_may_have_no_folder_for_failures(self):
        world = World(2)
        world.hook.answer = lambda request, index: accepted(request, failed=None)
        world.sender.send(2)
        assert world.state.folders == (OUT, None)
        assert dict(world.state.elsewhere()) == {}

    def test_an_endpoint_whose_folders_change_meanwhile_gives_those_after_it_a_place(self):
        world = World(4, threads=1)
        world.hook.answer = lambda request, index: accepted(request, out="s3://new/") if index > 1 else None
        world.sender.send(4)
        assert world.state.folders == (OUT, FAILED)
        assert [index for index, _ in world.state.elsewhere()] == [2, 3]


class TestPace:
    def test_the_users_rate_is_kept(self):
        world = World(50, rate=10.0, threads=8)
        world.sender.send(100)
        # The clock is put forward by each wait, so all of them together are the least that it took.
        assert world.clock.now - 1_000.0 >= 49 / 10.0 - 1e-6

    def test_a_service_that_is_too_busy_is_asked_less_often_and_then_as_often_as_before(self):
        world = World(300, threads=1)
        busy = iter([True] * 5)
        slowest = []

        def answer(request, index):
            world.clock.now += 0.01
            slowest.append(world.rate.rate)
            if index > 20 and next(busy, False):
                raise Throttled("Too many.")

        world.hook.answer = answer
        world.sender.send(300)
        assert world.items(Phase.OPEN) == list(range(300))
        assert slowest[0] == float("inf")
        assert min(slowest) < 70
        assert min(slowest) < slowest[-1]
        assert len(world.hook.requests) == 305

    def test_one_that_is_always_too_busy_ends_the_try_and_loses_nothing(self):
        world = World(5)
        world.hook.answer = failing(Throttled("Too many."))
        with pytest.raises(Throttled):
            world.sender.send(100)
        assert world.items(Phase.PLANNED) == list(range(5))
        assert len(world.hook.requests) == 5 * 8


class TestHopeless:
    @pytest.mark.parametrize("error", [RequestRejected("No such endpoint."), InvalidInput("No such type")])
    def test_where_the_first_are_all_refused_it_is_not_the_items_that_are(self, error):
        world = World(3)
        world.hook.answer = failing(error)
        with pytest.raises(RequestRejected, match=str(error)):
            world.sender.send(100)
        assert world.items(Phase.PLANNED) == [0, 1, 2]
        assert world.state.kinds == {}

    def test_so_it_is_where_many_are_later(self):
        world = World(40)
        world.sender.send(20)
        world.hook.answer = failing(RequestRejected("No rights any more."))
        with pytest.raises(RequestRejected, match="No rights any more"):
            world.sender.send(100)
        assert world.items(Phase.PLANNED) == list(range(20, 40))

    def test_a_few_later_may_be_bad_ones(self):
        world = World(24)
        world.sender.send(15)
        world.hook.answer = failing(RequestRejected("Bad."))
        world.sender.send(100)
        assert world.items(Phase.REFUSED) == list(range(15, 24))

    def test_what_is_refused_among_others_is_bad(self):
        world = World(40)
        world.hook.answer = lambda request, index: reject("Bad.") if index else None
        world.sender.send(100)
        assert world.items(Phase.REFUSED) == list(range(1, 40))

    def test_a_right_that_is_missing_is_no_fault_of_the_items_it_is_told_of(self):
        world = World(800, threads=1)
        world.hook.answer = lambda request, index: deny() if 300 <= index < 310 else None
        with pytest.raises(RequestRejected, match="No rights any more"):
            world.sender.send(1_000)
        # The next one is not asked for, and what was accepted before stays so.
        assert world.hook.asked_for == list(range(301))
        assert world.items(Phase.OPEN) == list(range(300))
        assert world.items(Phase.PLANNED) == list(range(300, 800))

    @pytest.mark.parametrize("gone", [RequestRejected, EndpointNotReady])
    def test_so_it_is_with_an_endpoint_that_is_gone(self, gone):
        def endpoint():
            raise gone("There is no endpoint.")

        world = World(40, threads=1)
        world.hook.answer = lambda request, index: reject("Not found.") if index >= 10 else None
        world.hook.endpoint = endpoint
        with pytest.raises(gone, match="There is no endpoint"):
            world.sender.send(1_000)
        assert world.items(Phase.OPEN) == list(range(10))
        assert world.items(Phase.PLANNED) == list(range(10, 40))

    def test_of_an_endpoint_that_cannot_be_looked_at_nothing_is_thought(self, caplog):
        world = World(20)
        world.hook.answer = lambda request, index: reject("Bad.") if index == 7 else None
        world.hook.endpoint = unreachable
        with caplog.at_level("INFO", LOG.name):
            world.sender.send(100)
        assert world.items(Phase.REFUSED) == [7]
        assert "The endpoint is not looked at after refusals: No route." in caplog.text


def deny():
    reply = {"Error": {"Code": "AccessDeniedException"}, "ResponseMetadata": {"HTTPStatusCode": 400}}
    raise RequestRejected("No rights any more.") from ClientError(reply, "InvokeEndpointAsync")


class TestPartsAtOnce:
    def events(self, world):
        return [f"{event['event']} {event.get('items')}" for event in world.hook.events]

    def test_a_part_begins_before_what_came_of_the_one_before_is_written_down(self):
        world = World(800)
        world.sender.send(1_000)
        assert self.events(world) == [
            # Nothing is known of a service that has accepted nothing yet.
            "sending 0-249",
            "sent 0-249",
            "sending 250-499",
            "sending 500-749",
            "sent 250-499",
            "sending 750-799",
            "sent 500-749",
            "sent 750-799",
        ]

    def test_those_on_their_way_take_up_room(self):
        world = World(800)
        world.sender.send(600)
        assert world.hook.asked_for == list(range(600))

    def test_it_is_written_down_what_came_of_the_first_before_the_next_can_be_found(self):
        world = World(3, is_found=False)
        world.sender.send(3)
        assert self.events(world) == ["sending 0", "sent 0", "sending 1-2", "sent 1-2"]

    def test_so_it_is_of_each_where_none_can(self):
        world = World(3, is_found=False)
        world.hook.answer = lambda request, index: accepted(request, name=f"id-{index}")
        world.sender.send(3)
        assert self.events(world) == [
            text for index in range(3) for text in (f"sending {index}", f"sent {index}")
        ]

    def test_an_interruption_loses_none_of_two(self):
        world = World(800, threads=1)
        world.plan.before = lambda item: interrupt() if item.index == 600 else None
        with pytest.raises(Interruption):
            world.sender.send(1_000)
        assert [event["event"] for event in world.hook.events][-2:] == ["sent", "sent"]
        assert world.items(Phase.OPEN) == world.hook.asked_for
        assert world.items(Phase.SENDING) == []

    def test_where_everything_is_refused_none_of_two_counts_as_refused(self):
        world = World(800)
        world.hook.answer = lambda request, index: reject("No rights any more.") if index >= 250 else None
        with pytest.raises(RequestRejected, match="No rights any more"):
            world.sender.send(1_000)
        assert world.items(Phase.OPEN) == list(range(250))
        assert world.items(Phase.PLANNED) == list(range(250, 800))
        assert world.state.kinds == {}

    def test_so_it_is_where_a_few_of_the_second_were_refused_already(self):
        world = World(800)

        def answer(request, index):
            if index > 503:
                assert threading.Event.wait(world.sender._stopped, 10)
            return reject("No rights any more.") if index >= 250 else None

        world.hook.answer = answer
        with pytest.raises(RequestRejected, match="No rights any more"):
            world.sender.send(1_000)
        assert world.items(Phase.PLANNED) == list(range(250, 800))

    def test_a_service_that_is_gone_ends_the_turn_and_is_asked_in_the_next(self, caplog):
        world = World(800)
        world.hook.answer = lambda request, index: unreachable() if index >= 250 else None
        with caplog.at_level("WARNING", LOG.name):
            world.sender.send(1_000)
        assert "Nothing more can be sent now; it is tried again later. No route." in caplog.text
        assert world.items(Phase.PLANNED) == list(range(250, 800))
        world.hook.answer = lambda request, index: None
        world.sender.send(1_000)
        assert world.items(Phase.OPEN) == list(range(800))

    def test_nothing_is_written_after_another_process_has(self):
        world = World(1_200)
        real = world.hook.append_to_ledger
        # The second part's answers come when another process has the ledger.
        world.hook.append_to_ledger = lambda folder, number, event: (
            number != 5 and real(folder, number, event)
        )
        with pytest.raises(BatchTakenOver, match="part 5"):
            world.sender.send(2_000)
        assert len(world.hook.events) == 4
        assert world.items(Phase.SENDING) == list(range(250, 750))


def unreachable():
    raise ServiceUnavailable("No route.")


class Interruption(BaseException):
    """What Airflow raises in the main thread, wherever it is: a timeout, or somebody's Ctrl-C."""


class TestLedgerThatCannotBeWritten:
    """Of what this process knows, nothing is lost that can be written down in the end."""

    def failing(self, world, number, error):
        """Let the ledger's bucket fail once, when that part is to be written and two are on their way."""
        real, failed = world.hook.append_to_ledger, []

        def append(folder, at, event):
            if at == number and not failed:
                failed.append(at)
                raise error
            return real(folder, at, event)

        world.hook.append_to_ledger = append

    @pytest.mark.parametrize("error", [ServiceUnavailable("S3 is busy."), Interruption()])
    @pytest.mark.parametrize(("number", "event"), [(4, "sending"), (5, "sent"), (6, "sending")])
    def test_every_item_is_told_of(self, number, event, error):
        world = World(1_200, threads=1)
        self.failing(world, number, error)
        with pytest.raises(type(error)):
            world.sender.send(2_000)
        assert world.hook.events[number - 1]["event"] == event
        assert world.items(Phase.OPEN) == world.hook.asked_for
        assert world.items(Phase.SENDING) == []

    def test_what_failed_for_good_is_told_and_leaves_no_gap(self):
        world = World(800)
        real = world.hook.append_to_ledger

        def append(folder, number, event):
            return real(folder, number, event) if number < 4 else unreachable()

        world.hook.append_to_ledger = append
        with pytest.raises(ServiceUnavailable, match="No route"):
            world.sender.send(1_000)
        assert [event["event"] for event in world.hook.events] == ["sending", "sent", "sending"]
        assert world.items(Phase.SENDING) == list(range(250, 500))


class TestInTime:
    """A part ends before what was sent last could be thought to have expired."""

    def bounded(self, world, most):
        """Let a batch that never comes to its end fail."""
        real = world.hook.append_to_ledger

        def append(folder, number, event):
            assert number < most
            return real(folder, number, event)

        world.hook.append_to_ledger = append

    def test_a_service_that_takes_one_a_second_is_sent_all(self):
        world = World(400, threads=1)
        last = [0.0]

        def answer(request, index):
            world.clock.now += 0.01
            if world.clock.now - last[0] < 1.0:
                raise Throttled("Too many.")
            last[0] = world.clock.now

        world.hook.answer = answer
        self.bounded(world, 200)
        world.sender.send(1_000)
        while world.items(Phase.PLANNED):
            world.sender.send(1_000)
        assert world.items(Phase.OPEN) == list(range(400))
        assert world.clock.now - 1_000.0 < 2_000

    def test_a_user_may_want_one_in_a_hundred_seconds(self):
        world = World(6, threads=4, rate=0.01)
        self.bounded(world, 13)
        world.sender.send(100)
        assert world.items(Phase.OPEN) == list(range(6))

    def test_a_rate_that_falls_while_a_part_begins_gives_it_no_more_time(self):
        world, ends, rates = World(250), [], []
        flush, send = world.ledger.flush, world.sender._items.send

        def flush_while_the_service_gets_busy():
            world.rate.turned_away(world.clock())
            rates.append(world.rate.rate)
            flush()

        def note_end(item, attempt, *, ends_at):
            ends.append(ends_at)
            return send(item, attempt, ends_at=ends_at)

        world.ledger.flush, world.sender._items.send = flush_while_the_service_gets_busy, note_end
        world.sender.send(1_000)
        assert rates[0] == 1.0
        assert max(ends) <= 1_000.0 + 90.0


class TestInterruption:
    def interrupted(self, world):
        with pytest.raises(Interruption):
            world.sender.send(100)
        assert [event["event"] for event in world.hook.events] == ["sending", "sent"]

    def while_it_waits(self, monkeypatch, begun):
        """Let it be interrupted while its threads send, once so much has begun."""

        def result(future, timeout=None):
            begun.wait(10)
            raise Interruption

        monkeypatch.setattr(Future, "result", result)

    def until_interrupted(self, world):
        assert threading.Event.wait(world.sender._stopped, 10)

    def test_what_was_accepted_is_written_down_and_the_rest_is_left(self, monkeypatch):
        world, begun = World(20, threads=1), threading.Event()

        def answer(request, index):
            if index == 5:
                begun.set()
                self.until_interrupted(world)

        world.hook.answer = answer
        self.while_it_waits(monkeypatch, begun)
        self.interrupted(world)
        assert world.hook.asked_for == list(range(6))
        assert world.items(Phase.OPEN) == list(range(6))
        assert world.items(Phase.PLANNED) == list(range(6, 20))

    def test_what_is_being_sent_is_waited_for(self, monkeypatch):
        world, both = World(8, threads=2), threading.Barrier(3)

        def answer(request, index):
            both.wait(10)
            self.until_interrupted(world)
            if index == 1:
                raise SubmissionUnconfirmed("The reply was lost.")

        world.hook.answer = answer
        self.while_it_waits(monkeypatch, both)
        self.interrupted(world)
        assert world.items(Phase.OPEN) == [0]
        assert world.items(Phase.SENDING) == [1]
        assert world.items(Phase.PLANNED) == list(range(2, 8))

    def test_one_that_is_turned_away_then_is_not_asked_for_again(self, monkeypatch):
        world, begun = World(3, threads=1), threading.Event()

        def answer(request, index):
            begun.set()
            self.until_interrupted(world)
            raise Throttled("Too many.")

        world.hook.answer = answer
        self.while_it_waits(monkeypatch, begun)
        self.interrupted(world)
        assert world.hook.asked_for == [0]
        assert world.items(Phase.PLANNED) == [0, 1, 2]

    def test_one_that_was_begun_while_the_interruption_came_is_known_of(self, monkeypatch):
        """A pool gives work to its threads first, and may be interrupted before it says so."""
        world, begun = World(5, threads=1), threading.Event()
        real = ThreadPoolExecutor.submit

        def answer(request, index):
            if index == 2:
                begun.set()
                self.until_interrupted(world)

        def submit(pool, work, part):
            real(pool, work, part)
            assert begun.wait(10)
            raise Interruption

        world.hook.answer = answer
        monkeypatch.setattr(ThreadPoolExecutor, "submit", submit)
        self.interrupted(world)
        assert world.hook.asked_for == [0, 1, 2]
        assert world.items(Phase.OPEN) == [0, 1, 2]
        assert world.items(Phase.PLANNED) == [3, 4]

    def test_of_one_that_ended_in_an_unforeseen_way_nobody_knows(self):
        world = World(3, threads=1)
        world.hook.answer = lambda request, index: 1 / 0 if index == 1 else None
        with pytest.raises(ZeroDivisionError):
            world.sender.send(100)
        assert world.items(Phase.SENDING) == [1]
        assert set(world.items(Phase.OPEN)) == set(world.hook.asked_for) - {1}

    def test_a_plan_that_cannot_be_read_on_leaves_the_rest(self):
        world = World(6, threads=1)

        def before(item):
            if item.index == 3:
                raise ServiceUnavailable("S3 is busy.")

        world.plan.before = before
        with pytest.raises(ServiceUnavailable, match="S3 is busy"):
            world.sender.send(100)
        assert world.items(Phase.OPEN) == world.hook.asked_for
        assert set(world.items(Phase.PLANNED)) >= {3, 4, 5}

    def test_one_that_stops_sends_nothing_more_later(self):
        world = World(4, threads=1)
        world.plan.before = lambda item: interrupt() if item.index == 0 else None
        self.interrupted(world)
        assert world.hook.requests == []
        assert world.items(Phase.PLANNED) == [0, 1, 2, 3]


def interrupt():
    raise Interruption


class TestTakenOver:
    def test_nothing_is_sent_that_is_not_written_down(self):
        world = World(3)
        world.hook.append_to_ledger = lambda folder, number, event: False
        with pytest.raises(BatchTakenOver, match=r"has written part 1 of s3://bucket/work/ledger/"):
            world.sender.send(100)
        assert world.hook.requests == []


class TestLedger:
    @pytest.mark.parametrize("event", [{}, {"event": "sending"}, {"event": "ended", "succeeded": "x"}])
    def test_one_that_is_damaged_is_not_gone_on_with(self, event):
        hook = Hook()
        hook.events = [BatchState(3).sending(1, [0], 1.0), event]
        with pytest.raises(RecordUnreadable, match=r"s3://b/ledger/, is damaged after part 1 \(\w+: .*again"):
            BatchLedger(hook, "s3://b/", 3)

    def test_one_of_more_items_than_the_plan_has_is_damaged(self):
        hook = Hook()
        hook.events = [BatchState(3).sending(1, [0, 2], 1.0)]
        with pytest.raises(RecordUnreadable, match="is damaged after part 0"):
            BatchLedger(hook, "s3://b/", 2)

    def test_after_many_parts_one_stands_for_all_before_it(self):
        world = World(200)
        for allowed in range(1, 31):
            world.sender.send(allowed)
        events = [event["event"] for event in world.hook.events]
        assert events.count("checkpoint") == 1
        assert events[50] == "checkpoint"
        later = BatchState(200)
        for event in world.hook.events[50:]:
            later.apply(event)
        assert later.checkpoint() == world.state.checkpoint()
