"""The engine without a server: stepped time, objects in a dictionary, models that are functions."""

from __future__ import annotations

import io
import itertools
from types import SimpleNamespace

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.clock import SteppedClock
from airflow_async_sm.emulator.errors import StorageError
from airflow_async_sm.emulator.models.callables import CallableContainer
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.board import FaultBoard
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from airflow_async_sm.emulator.work.endings import Request
from airflow_async_sm.emulator.work.engine import Engine
from airflow_async_sm.emulator.work.objects import Objects
from airflow_async_sm.emulator.work.request_log import RequestLog
from airflow_async_sm.emulator.work.submissions import Submission
from airflow_async_sm.emulator.work.tools import Tools


class Memory:
    """Storage in a dictionary."""

    def __init__(self):
        self.objects = {}
        self.order = []

    def open(self, location):
        if location not in self.objects:
            raise StorageError(location)
        content = self.objects[location].content
        return io.BytesIO(content), len(content)

    def write(self, place, content, **described):
        if place.bucket == "closed":
            raise StorageError(str(place))
        self.order.append(str(place))
        self.objects[str(place)] = SimpleNamespace(content=content.read(), **described)


class Ears:
    """Hears what the engine says, in the place of metrics, notifications and counters."""

    lead = 0.0

    def __init__(self):
        self.ends = []
        self.early = []
        self.invoked_with = []

    def invoked(self, submission):
        self.invoked_with.append(submission)

    def ended(self, request, ending):
        self.ends.append((request, ending))

    def before_object(self, request, ending):
        if self.lead:
            self.early.append((request, ending))
        return self.lead


class Bench:
    """An engine with everything that it needs. ``settle`` and ``advance`` move its time."""

    def __init__(self, *, behaviour=None, unknowns=None, seed=7, **more):
        self.clock = SteppedClock()
        self.began = self.clock.now()
        self.knobs = Knobs(behaviour or Behaviour(queue_seconds=0), unknowns or Unknowns())
        self.board = FaultBoard(seed=seed)
        self.log = RequestLog()
        self.memory = Memory()
        self.ears = Ears()
        self.broken = []
        self.tools = Tools(
            clock=self.clock,
            knobs=self.knobs,
            board=self.board,
            requests=self.log,
            objects=Objects(storage=self.memory, knobs=self.knobs, board=self.board),
            tally=self.ears,
            herald=self.ears,
            metrics=self.ears,
        )
        self.engine = Engine("ep", self.tools, broken=lambda *what: self.broken.append(what))
        self.instances = itertools.count(1)
        self.numbers = itertools.count(1)

    def instance(self, model=lambda body, headers: body, *, concurrency=4, container=None):
        """Attach an instance whose model is a function."""
        name = f"i-{next(self.instances)}"
        made = SimpleNamespace(
            name=name,
            concurrency=concurrency,
            container=container or CallableContainer(name=name, model=model),
        )
        assert self.engine.attach(made)
        return made

    def request(self, body=b"payload", *, ttl=21_600, timeout=900, bucket="b", failure=True, **members):
        number = next(self.numbers)
        given = {"input_location": None, "content_type": None, "accept": None, "custom_attributes": None}
        submission = Submission(
            **{
                **given,
                "body": None if "input_location" in members else body,
                "inference_id": f"id-{number}",
                "output_path_extension": None,
                "filename": None,
                "request_ttl": ttl,
                "invocation_timeout": timeout,
                **members,
            }
        )
        now = self.clock.now()
        return Request(
            request_id=f"r-{number}",
            endpoint="ep",
            region="us-east-1",
            variant="v",
            submission=submission,
            output=S3Uri(bucket, f"out/r-{number}.out"),
            failure=S3Uri("b", f"failures/r-{number}-error.out") if failure else None,
            config={"OutputConfig": {"S3OutputPath": f"s3://{bucket}/out"}},
            submitted_at=now,
            expires_at=now + ttl,
        )

    def submit(self, *args, **members):
        request = self.request(*args, **members)
        assert self.engine.submit(request)
        return request

    def settle(self, **more):
        self.clock.settle(**more)

    def advance(self, seconds, **more):
        self.clock.advance(seconds, **more)

    def record(self, request):
        return self.log.get(request.request_id)

    def state(self, request):
        return self.record(request).state.value

    def content(self, place):
        found = self.memory.objects.get(str(place))
        return None if found is None else found.content

    def output(self, request):
        return self.content(request.output)

    def failure(self, request):
        return self.content(request.failure)

    def close(self):
        self.engine.close(5)
