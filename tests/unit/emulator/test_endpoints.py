"""An endpoint's life in stepped time: models are functions, and no server is there."""

from __future__ import annotations

import threading

import pytest

from airflow_async_sm.core.uris import S3Uri
from airflow_async_sm.emulator.account import workshop
from airflow_async_sm.emulator.account.descriptions import description
from airflow_async_sm.emulator.account.endpoints import Endpoint
from airflow_async_sm.emulator.account.fleets import Fleet, Site
from airflow_async_sm.emulator.account.plans import AsyncPlan, EndpointPlan
from airflow_async_sm.emulator.account.statuses import Change
from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.models.callables import CallableContainer
from airflow_async_sm.emulator.models.images import Images
from airflow_async_sm.emulator.scaling.scalable import CapacityUnavailable
from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.faults import (
    EndpointImpaired,
    InstanceLost,
    InsufficientCapacity,
    ModelCrash,
    RollbackFailed,
)
from airflow_async_sm.emulator.settings.unknowns import Unknowns
from tests.parts import Bench

TIMES = Behaviour(
    queue_seconds=0,
    creation_seconds=10,
    update_seconds=20,
    rollback_seconds=5,
    deletion_seconds=3,
    instance_start_seconds=30,
    container_restart_seconds=7,
    instance_quota=5,
)


def plan(image="echo", *, instances=1, name="config", concurrency=2):
    asynchronous = AsyncPlan(
        output=S3Uri("b", "out"),
        failure=S3Uri("b", "failures"),
        concurrency=concurrency,
        as_configured={"OutputConfig": {"S3OutputPath": "s3://b/out"}},
    )
    return EndpointPlan(
        config_name=name,
        variant_name="v",
        instance_count=instances,
        weight=1.0,
        start_timeout=None,
        image=image,
        model_data_url=None,
        environment={},
        asynchronous=asynchronous,
    )


class Slow(CallableContainer):
    """A container that takes its time to stop, and says what is done to it."""

    def __init__(self):
        super().__init__(name="slow", model=lambda body, headers: body)
        self.done = []
        self.may_stop = threading.Event()
        self.stopping = threading.Event()

    def start(self):
        self.done.append("start")

    def ask_to_stop(self):
        self.done.append("ask_to_stop")

    def stop(self):
        self.stopping.set()
        assert self.may_stop.wait(20)
        self.done.append("stop")

    def kill(self):
        self.done.append("kill")
        self.may_stop.set()


class Life:
    """An endpoint with everything around it."""

    def __init__(self, tmp_path, **settings):
        self.bench = Bench(behaviour=TIMES, **settings)
        self.opened = threading.Event()
        self.inside = threading.Semaphore(0)
        images = {
            "echo": lambda body, headers: body,
            "shout": lambda body, headers: body.upper(),
            "hang": self.hang,
            "broken": ["/no/such/program"],
        }
        self.site = Site(
            url="http://127.0.0.1:1",
            folder=tmp_path,
            images=Images(images),
            storage=self.bench.memory,
            tools=self.bench.tools,
        )
        self.endpoint = self.new()
        self.gone = []

    def new(self, of=None):
        return Endpoint(name="ep", region="us-east-1", arn="arn", plan=of or plan(), site=self.site)

    def hang(self, body, headers):
        self.inside.release()
        assert self.opened.wait(20)
        return body

    def create(self, of=None):
        self.endpoint = self.new(of)
        self.endpoint.create(self.endpoint.plan.instance_count)
        return self.endpoint

    def in_service(self, of=None):
        self.create(of)
        self.bench.advance(10)
        assert self.endpoint.status == "InService"
        return self.endpoint

    def update(self, of, **more):
        given = {"count": of.instance_count, "weight": 1.0, "deployment": None}
        self.endpoint.update(Change(plan=of, began=self.bench.clock.now(), **{**given, **more}))

    def submit(self, **members):
        request = self.bench.request(**members)
        assert self.endpoint.engine.submit(request)
        return request

    def served_by(self):
        """Return the names of the instances that the queue has."""
        return sorted(self.endpoint.engine._posts)

    def counts(self):
        return self.endpoint.instances, self.endpoint.desired_instances

    def stop(self):
        self.opened.set()
        self.endpoint.stop()


@pytest.fixture
def make_life(tmp_path):
    made = []

    def make(**settings):
        made.append(Life(tmp_path, **settings))
        return made[-1]

    yield make
    for life in made:
        life.stop()


@pytest.fixture
def life(make_life):
    return make_life()


@pytest.fixture
def slow(monkeypatch):
    """Make every container a slow one, and return them all."""
    made = []

    def new(stand, **described):
        made.append(Slow())
        return made[-1]

    monkeypatch.setattr(workshop, "new_container", new)
    yield made
    for container in made:
        container.may_stop.set()


class TestCreation:
    def test_takes_its_time_and_then_every_instance_is_there(self, life):
        endpoint = life.create(plan(instances=2))
        life.bench.advance(9.9)
        assert endpoint.status == "Creating"
        assert life.counts() == (0, 2)
        life.bench.advance(0.1)
        assert endpoint.status == "InService"
        assert life.counts() == (2, 2)
        assert endpoint.modified_at == pytest.approx(endpoint.created_at + 10)

    @pytest.mark.parametrize(
        ("image", "reason"), [("broken", "cannot be started"), ("nobody", 'image "nobody" not found')]
    )
    def test_fails_with_the_reason(self, life, image, reason):
        endpoint = life.create(plan(image))
        life.bench.settle()
        assert endpoint.status == "Failed"
        assert reason in endpoint.failure_reason
        assert endpoint.instances == 0
        assert list(life.site.folder.iterdir()) == []

    def test_fails_without_capacity(self, life):
        life.bench.board.add(InsufficientCapacity())
        endpoint = life.create()
        life.bench.settle()
        assert endpoint.status == "Failed"
        assert "InsufficientInstanceCapacity" in endpoint.failure_reason

    def test_fails_loudly_on_a_bug_of_the_emulator(self, life, monkeypatch, caplog):
        monkeypatch.setattr(life.site.images, "find", lambda image: 1 / 0)
        endpoint = life.create()
        life.bench.settle()
        assert endpoint.status == "Failed"
        assert "The emulator itself failed" in endpoint.failure_reason
        assert "ZeroDivisionError" in caplog.text

    def test_ends_with_the_emulator(self, life):
        endpoint = life.create()
        endpoint.ask_to_stop()
        life.bench.advance(100)
        assert endpoint.status == "Creating"


class TestUpdate:
    def test_brings_the_new_configuration_and_then_removes_the_old_instances(self, life):
        endpoint = life.in_service(plan(instances=2))
        life.update(plan("shout", name="second"))
        life.bench.advance(19.9)
        assert endpoint.status == "Updating"
        assert endpoint.plan.config_name == "config"
        during = life.submit()
        life.bench.settle()
        assert life.bench.output(during) == b"payload"
        life.bench.advance(0.1)
        assert endpoint.status == "InService"
        assert endpoint.plan.config_name == "second"
        assert life.counts() == (1, 1)
        after = life.submit()
        life.bench.settle()
        assert life.bench.output(after) == b"PAYLOAD"

    def test_rolls_back_when_the_new_model_does_not_come_up(self, life):
        endpoint = life.in_service()
        life.update(plan("broken", name="second"))
        life.bench.settle()
        assert endpoint.status == "RollingBack"
        assert "cannot be started" in endpoint.failure_reason
        request = life.submit()
        life.bench.advance(5)
        assert endpoint.status == "InService"
        assert endpoint.failure_reason is None
        assert endpoint.plan.config_name == "config"
        assert life.bench.output(request) == b"payload"

    def test_may_fail_to_roll_back(self, life):
        life.bench.board.add(RollbackFailed())
        endpoint = life.in_service()
        life.update(plan("broken", name="second"))
        life.bench.advance(5)
        assert endpoint.status == "UpdateRollbackFailed"

    def test_keeps_the_queue(self, life):
        endpoint = life.in_service(plan("hang", concurrency=1))
        running, waiting = life.submit(), life.submit()
        assert life.inside.acquire(timeout=10)
        life.update(plan("shout", name="second"))
        life.bench.advance(20, patience=0.1)
        assert endpoint.status == "InService"
        life.bench.settle(patience=0.1)
        # The one that waited is done by the new instance; the one that ran goes on at the old one.
        assert life.bench.output(waiting) == b"PAYLOAD"
        assert life.bench.state(running) == "running"
        life.opened.set()
        life.bench.settle()
        assert life.bench.output(running) == b"payload"

    def test_may_give_running_requests_to_the_new_instances(self, make_life):
        life = make_life(unknowns=Unknowns(update_in_flight="requeued"))
        life.in_service(plan("hang"))
        running = life.submit()
        assert life.inside.acquire(timeout=10)
        life.update(plan("shout", name="second"))
        life.bench.advance(20, patience=0.1)
        life.opened.set()
        life.bench.settle()
        assert life.bench.output(running) == b"PAYLOAD"
        assert life.bench.record(running).invocations == 2

    def test_waits_for_running_requests_as_long_as_the_deployment_says(self, life):
        life.in_service(plan("hang"))
        running = life.submit()
        assert life.inside.acquire(timeout=10)
        deployment = {"BlueGreenUpdatePolicy": {"TerminationWaitInSeconds": 60}}
        life.update(plan("shout", name="second"), deployment=deployment)
        life.bench.advance(20 + 59, patience=0.1)
        assert life.bench.state(running) == "running"
        life.bench.advance(1, patience=0.1)
        life.opened.set()
        life.bench.settle()
        # It lost its instance, and ran again on a new one.
        assert life.bench.output(running) == b"PAYLOAD"
        assert life.endpoint.last_deployment == deployment

    def test_instances_that_were_coming_to_the_old_configuration_do_not(self, life):
        endpoint = life.in_service()
        endpoint.set_desired(3)
        old = endpoint._fleet
        life.update(plan("hang", name="second"))
        life.bench.advance(20)
        assert (endpoint.status, life.counts()) == ("InService", (1, 1))
        assert (old.desired, old.is_over) == (0, True)
        life.bench.advance(100)
        assert life.counts() == (1, 1)
        assert len(life.served_by()) == 1

    def test_lost_instance_of_the_old_configuration_is_not_replaced(self, life):
        endpoint = life.in_service(plan("hang"))
        life.submit()
        assert life.inside.acquire(timeout=10)
        old, [post] = endpoint._fleet, endpoint.engine._posts.values()
        life.update(plan("echo", name="second"))
        life.bench.advance(20, patience=0.1)
        assert (old.desired, old.is_over) == (0, False)
        endpoint.engine._vanish(post.instance)
        life.opened.set()
        life.bench.advance(100)
        assert old.is_over
        assert life.counts() == (1, 1)

    def test_instances_of_the_new_configuration_are_handed_over_once(self, life, monkeypatch):
        life.in_service()
        serve = Fleet.serve

        def serve_later(fleet, engine):
            # Somebody wants more between the change of configurations and the work of the new instances.
            fleet.set_desired(3)
            serve(fleet, engine)

        monkeypatch.setattr(Fleet, "serve", serve_later)
        life.update(plan("shout", name="second"))
        life.bench.advance(20)
        assert (life.counts(), len(life.served_by())) == ((1, 3), 1)
        life.bench.advance(30)
        assert (life.counts(), len(life.served_by())) == ((3, 3), 3)
        request = life.submit()
        life.bench.settle()
        assert life.bench.output(request) == b"PAYLOAD"

    def test_works_from_and_to_no_instances(self, life):
        endpoint = life.in_service(plan(instances=0))
        assert life.counts() == (0, 0)
        life.update(plan("shout", name="second", instances=0))
        life.bench.advance(20)
        assert (endpoint.status, endpoint.plan.config_name) == ("InService", "second")

    def test_is_described_while_it_goes_on(self, life):
        endpoint = life.in_service()
        life.update(plan("shout", name="second", instances=3), weight=0.5)
        during = description(endpoint)
        assert during["EndpointConfigName"] == "config"
        assert during["ProductionVariants"][0]["VariantStatus"][0]["Status"] == "Updating"
        pending = during["PendingDeploymentSummary"]
        assert pending["EndpointConfigName"] == "second"
        assert pending["ProductionVariants"][0]["DesiredInstanceCount"] == 3
        life.bench.advance(20)
        after = description(endpoint)
        assert "PendingDeploymentSummary" not in after
        assert after["ProductionVariants"][0]["CurrentWeight"] == 0.5


class TestSize:
    def test_grows_after_the_time_that_an_instance_takes(self, life):
        endpoint = life.in_service()
        endpoint.set_desired(3)
        life.bench.advance(29.9)
        assert (endpoint.status, life.counts()) == ("InService", (1, 3))
        life.bench.advance(0.1)
        assert life.counts() == (3, 3)

    def test_shrinks_at_once_and_stays_in_service_at_zero(self, life):
        endpoint = life.in_service(plan(instances=2))
        endpoint.set_desired(0)
        life.bench.settle()
        assert (endpoint.status, life.counts()) == ("InService", (0, 0))
        request = life.submit()
        life.bench.advance(600)
        assert life.bench.state(request) == "queued"
        load = endpoint.load()
        assert (load.queued, load.running, load.instances, load.desired) == (1, 0, 0, 0)
        assert load.oldest_age == pytest.approx(600)

    def test_wakes_up_with_its_queue(self, life):
        endpoint = life.in_service(plan(instances=0))
        request = life.submit()
        endpoint.set_desired(1)
        life.bench.advance(30)
        assert life.bench.state(request) == "succeeded"

    def test_running_work_of_an_instance_that_is_scaled_in_goes_back_to_the_queue(self, life):
        endpoint = life.in_service(plan("hang"))
        request = life.submit()
        assert life.inside.acquire(timeout=10)
        endpoint.set_desired(0)
        life.opened.set()
        life.bench.settle()
        assert life.bench.state(request) == "queued"

    def test_an_instance_that_is_not_wanted_any_more_does_not_come(self, life):
        endpoint = life.in_service()
        endpoint.set_desired(3)
        life.bench.advance(10)
        endpoint.set_desired(1)
        life.bench.advance(100)
        assert life.counts() == (1, 1)

    def test_an_instance_that_has_to_go_while_it_is_handed_over_never_serves(self, life, monkeypatch):
        endpoint = life.in_service(plan(instances=0))
        attach = endpoint.engine.attach

        def attach_what_is_not_wanted(instance):
            endpoint.set_desired(0)
            return attach(instance)

        monkeypatch.setattr(endpoint.engine, "attach", attach_what_is_not_wanted)
        endpoint.set_desired(1)
        life.bench.advance(30)
        assert (life.counts(), life.served_by()) == ((0, 0), [])
        request = life.submit()
        life.bench.settle()
        assert life.bench.state(request) == "queued"

    def test_an_instance_that_the_queue_does_not_take_is_stopped(self, life, slow, monkeypatch):
        endpoint = life.in_service(plan(instances=0))
        monkeypatch.setattr(endpoint.engine, "attach", lambda instance: False)
        endpoint.set_desired(1)
        life.bench.advance(30, patience=0.1)
        [container] = slow
        container.may_stop.set()
        endpoint._background.join()
        assert container.done == ["start", "ask_to_stop", "stop"]
        assert life.counts() == (0, 1)

    @pytest.mark.parametrize("change", ["update", "resize"])
    def test_does_not_change_twice_at_a_time(self, life, change):
        endpoint = life.in_service()
        if change == "update":
            life.update(plan("shout", name="second"))
        else:
            endpoint.resize(count=2, weight=1.0)
        wanted = endpoint.desired_instances
        with pytest.raises(AwsError, match='^Cannot update in-progress endpoint "arn".$'):
            endpoint.set_desired(3)
        assert endpoint.desired_instances == wanted
        life.bench.advance(30)
        endpoint.set_desired(3)
        assert endpoint.desired_instances == 3

    def test_does_not_grow_without_capacity(self, life):
        endpoint = life.in_service()
        life.bench.board.add(InsufficientCapacity())
        with pytest.raises(CapacityUnavailable, match="InsufficientInstanceCapacity"):
            endpoint.set_desired(2)
        assert life.counts() == (1, 1)
        endpoint.set_desired(0)
        assert life.counts() == (0, 0)

    def test_does_not_grow_over_the_quota(self, life):
        endpoint = life.in_service()
        with pytest.raises(ValueError, match="limit for instances of one endpoint is 5"):
            endpoint.set_desired(6)

    def test_a_callers_change_of_it_is_an_update(self, life):
        endpoint = life.in_service()
        endpoint.resize(count=2, weight=0.3)
        assert endpoint.status == "Updating"
        life.bench.advance(20)
        assert endpoint.status == "Updating"
        life.bench.advance(10)
        assert (endpoint.status, life.counts(), endpoint.weight) == ("InService", (2, 2), 0.3)

    def test_a_callers_change_takes_its_time_also_when_nothing_has_to_start(self, life):
        endpoint = life.in_service(plan(instances=2))
        endpoint.resize(count=1, weight=1.0)
        life.bench.advance(19)
        assert endpoint.status == "Updating"
        life.bench.advance(1)
        assert endpoint.status == "InService"

    def test_a_callers_change_that_cannot_be_completed_ends_all_the_same(self, life, caplog):
        endpoint = life.in_service()
        stands = life.site.images._stands
        endpoint._fleet._workshop._stand = stands["broken"]
        endpoint.resize(count=2, weight=1.0)
        life.bench.advance(30 + 239)
        assert endpoint.status == "Updating"
        life.bench.advance(1)
        assert (endpoint.status, life.counts()) == ("InService", (1, 2))
        assert "has 1 instances so far; it shall have 2" in caplog.text
        # It is still tried to have what was asked for.
        endpoint._fleet._workshop._stand = stands["echo"]
        life.bench.advance(600)
        assert life.counts() == (2, 2)

    def test_one_change_does_not_end_with_the_time_of_an_earlier_one(self, life):
        endpoint = life.in_service()
        endpoint.resize(count=2, weight=1.0)
        life.bench.advance(200)
        assert endpoint.status == "InService"
        endpoint._fleet._workshop._stand = life.site.images._stands["broken"]
        endpoint.resize(count=3, weight=1.0)
        life.bench.advance(100)
        assert endpoint.status == "Updating"
        life.bench.advance(170)
        assert endpoint.status == "InService"


class TestBreakage:
    def test_a_dead_container_is_started_again(self, life):
        endpoint = life.in_service()
        life.bench.board.add(ModelCrash(times=1))
        lost = life.submit()
        life.bench.settle()
        assert life.bench.state(lost) == "failed"
        waiting = life.submit()
        life.bench.advance(6.9)
        assert life.bench.state(waiting) == "queued"
        assert life.counts() == (1, 1)
        life.bench.advance(0.1)
        assert life.bench.state(waiting) == "succeeded"
        assert endpoint.status == "InService"

    def test_a_lost_instance_is_replaced_and_its_work_done_there(self, life):
        life.in_service()
        life.bench.board.add(InstanceLost(times=1))
        request = life.submit()
        life.bench.settle()
        assert life.counts() == (0, 1)
        life.bench.advance(30)
        assert life.counts() == (1, 1)
        assert life.bench.state(request) == "succeeded"
        assert life.bench.record(request).invocations == 2

    def test_an_instance_that_does_not_come_up_is_tried_again(self, life, caplog):
        endpoint = life.in_service()
        stands = life.site.images._stands
        endpoint._fleet._workshop._stand = stands["broken"]
        endpoint.set_desired(2)
        life.bench.advance(31)
        assert life.counts() == (1, 2)
        assert "cannot be started" in caplog.text
        endpoint._fleet._workshop._stand = stands["echo"]
        life.bench.advance(60)
        assert life.counts() == (2, 2)

    def test_an_instance_that_a_bug_of_the_emulator_stops_is_tried_again(self, life, caplog, monkeypatch):
        endpoint = life.in_service()
        with monkeypatch.context() as broken:
            broken.setattr(endpoint._fleet._workshop, "new_container", lambda number: 1 / 0)
            endpoint.set_desired(2)
            life.bench.advance(30)
        assert life.counts() == (1, 2)
        assert "did not come up: division by zero" in caplog.text
        assert "Traceback" in caplog.text
        life.bench.advance(30)
        assert life.counts() == (2, 2)

    def test_tries_come_ever_less_often(self, make_life, caplog):
        life = make_life()
        life.bench.knobs.change(behaviour={"instance_start_seconds": 0})
        endpoint = life.in_service()
        endpoint._fleet._workshop._stand = life.site.images._stands["broken"]
        endpoint.set_desired(2)
        life.bench.advance(3600)
        # After 5, 10, ..., 320 seconds, and then again and again after 320.
        assert 15 <= caplog.text.count("did not come up") <= 20

    def test_two_instances_lost_at_the_same_time_are_both_replaced(self, life):
        endpoint = life.in_service(plan(instances=2))
        lost = [post.instance for post in endpoint.engine._posts.values()]
        for instance in lost:
            endpoint.engine.lose(instance)
        together = threading.Barrier(2)
        threads = [
            threading.Thread(target=lambda one=one: (together.wait(), endpoint._fleets.broken(one, True)))
            for one in lost
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert life.counts() == (0, 2)
        life.bench.advance(30)
        assert life.counts() == (2, 2)
        assert not {instance.name for instance in lost} & set(life.served_by())

    def test_another_status_is_used_up_by_callers_only(self, life):
        endpoint = life.in_service()
        fault = life.bench.board.add(EndpointImpaired(status="OutOfService", times=1))
        endpoint.set_desired(2)
        life.bench.advance(60)
        assert (endpoint.actual_status, endpoint.save().status) == ("InService", "InService")
        assert life.bench.board.hits().get(fault, 0) == 0
        assert [endpoint.status, endpoint.status] == ["OutOfService", "InService"]

    @pytest.mark.parametrize("status", ["SystemUpdating", "OutOfService"])
    def test_may_show_another_status_for_a_while(self, life, status):
        endpoint = life.in_service()
        fault = life.bench.board.add(EndpointImpaired(status=status))
        assert endpoint.status == status
        life.bench.board.remove(fault)
        assert endpoint.status == "InService"


class TestDeletion:
    def test_drops_the_queue_and_takes_its_time(self, life):
        endpoint, gone = life.in_service(plan(instances=0)), []
        request = life.submit()
        endpoint.delete(lambda: gone.append(1))
        life.bench.advance(2.9)
        assert (endpoint.status, gone) == ("Deleting", [])
        assert life.bench.state(request) == "dropped"
        life.bench.advance(0.1)
        assert gone == [1]
        assert not endpoint.engine.submit(life.bench.request())

    def test_takes_a_running_request_along(self, life):
        endpoint = life.in_service(plan("hang"))
        request = life.submit()
        assert life.inside.acquire(timeout=10)
        endpoint.delete(lambda: None)
        life.opened.set()
        life.bench.advance(3)
        assert life.bench.state(request) == "dropped"
        assert life.bench.memory.objects == {}

    def test_waits_for_containers_that_are_leaving(self, life, slow):
        endpoint, gone = life.in_service(), []
        endpoint.set_desired(0)
        [container] = slow
        endpoint.delete(lambda: gone.append(1))
        life.bench.advance(10, patience=0.1)
        assert gone == []
        container.may_stop.set()
        life.bench.advance(3)
        assert gone == [1]
        assert "stop" in container.done

    def test_waits_for_what_is_being_started(self, life, monkeypatch):
        endpoint, gone = life.in_service(), []
        began, may_go_on = threading.Event(), threading.Event()

        def unpack(url, folder, storage):
            began.set()
            assert may_go_on.wait(20)
            (folder / "weights").write_text("1 2 3")

        monkeypatch.setattr(workshop, "unpack_model_data", unpack)
        endpoint._fleet._workshop._stand = None
        endpoint.set_desired(2)
        life.bench.advance(30, patience=0.1)
        assert began.wait(10)
        endpoint.delete(lambda: gone.append(1))
        life.bench.advance(10, patience=0.1)
        assert gone == []
        may_go_on.set()
        life.bench.advance(3)
        assert gone == [1]
        assert list(life.site.folder.iterdir()) == []


class TestStop:
    def test_a_container_that_is_leaving_is_killed(self, life, slow):
        endpoint = life.in_service()
        endpoint.set_desired(0)
        [container] = slow
        assert container.stopping.wait(10)
        endpoint.kill()
        assert container.done[-1] == "kill"

    def test_a_container_that_is_leaving_is_waited_for(self, life, slow):
        endpoint = life.in_service()
        endpoint.set_desired(0)
        [container] = slow
        assert container.stopping.wait(10)
        stopped = threading.Event()
        stopper = threading.Thread(target=lambda: (endpoint.stop(), stopped.set()))
        stopper.start()
        assert not stopped.wait(0.2)
        container.may_stop.set()
        assert stopped.wait(10)
        stopper.join()
        assert "stop" in container.done

    def test_nothing_is_started_again_after_it(self, life, slow):
        endpoint = life.in_service()
        [dead], [post] = slow, endpoint.engine._posts.values()
        dead.crash()
        life.submit()
        life.bench.advance(
            7, patience=0.1
        )  # The dead one is about to be stopped, and to be followed by another.
        assert dead.stopping.wait(10)
        endpoint.ask_to_stop()
        dead.may_stop.set()
        endpoint.stop()
        assert [container.done.count("start") for container in slow] in ([1], [1, 0])
        assert post.instance.name not in life.served_by()

    def test_nothing_that_was_planned_is_started_after_a_kill(self, life, slow):
        endpoint = life.in_service(plan(instances=0))
        endpoint.set_desired(1)
        life.bench.advance(29)
        endpoint.kill()
        life.bench.advance(100)
        assert slow == []


class TestRestart:
    def restart(self, life):
        saved = life.endpoint.save()
        life.endpoint.ask_to_stop(keep=True)
        life.opened.set()
        life.endpoint.stop()
        life.endpoint = life.new(saved.plan)
        life.endpoint.restore(saved, gone=lambda: life.gone.append(1))
        return life.endpoint

    def test_an_endpoint_in_service_gets_its_instances_anew_and_goes_on_with_its_requests(self, life):
        created = life.in_service(plan("hang", concurrency=1))
        running, waiting = life.submit(), life.submit()
        assert life.inside.acquire(timeout=10)
        endpoint = self.restart(life)
        assert (endpoint.status, endpoint.created_at) == ("InService", created.created_at)
        assert life.counts()[0] == 0
        life.bench.advance(31)
        assert life.counts() == (1, 1)
        assert [life.bench.state(one) for one in (running, waiting)] == ["succeeded", "succeeded"]

    def test_one_that_was_scaled_stays_so(self, life):
        life.in_service().set_desired(3)
        self.restart(life)
        life.bench.advance(31)
        assert life.counts() == (3, 3)

    def test_one_that_was_coming_up_does_so_again(self, life):
        life.create()
        endpoint = self.restart(life)
        life.bench.advance(10)
        assert endpoint.status == "InService"

    def test_one_that_was_being_deleted_is_gone(self, life):
        life.in_service().delete(lambda: None)
        self.restart(life)
        life.bench.advance(3)
        assert life.gone == [1]

    def test_one_that_was_being_updated_is_updated(self, life):
        life.in_service()
        life.update(plan("shout", name="second"))
        endpoint = self.restart(life)
        assert endpoint.status == "Updating"
        life.bench.advance(20)
        assert (endpoint.status, endpoint.plan.config_name) == ("InService", "second")

    def test_one_that_failed_has_still_failed(self, life):
        life.create(plan("broken"))
        life.bench.settle()
        endpoint = self.restart(life)
        assert endpoint.status == "Failed"
        assert "cannot be started" in endpoint.failure_reason

    def test_one_whose_image_is_gone_comes_back_without_an_instance(self, life, caplog):
        life.in_service(plan(instances=2))
        stand = life.site.images._stands.pop("echo")
        endpoint = self.restart(life)
        assert life.counts() == (0, 2)
        life.bench.advance(31)
        assert (endpoint.status, life.counts()) == ("InService", (0, 2))
        assert "did not come up: Requested image" in caplog.text
        # It can be changed, and comes up when the image is there again.
        endpoint.resize(count=1, weight=1.0)
        life.bench.advance(600)
        assert (endpoint.status, life.counts()) == ("InService", (0, 1))
        life.site.images._stands["echo"] = stand
        life.bench.advance(320)
        assert life.counts() == (1, 1)
        request = life.submit()
        life.bench.settle()
        assert life.bench.output(request) == b"payload"

    def test_it_is_saved_while_its_queue_is_busy(self, life):
        endpoint, saved = life.in_service(), []
        with endpoint.engine._lock:
            saver = threading.Thread(target=lambda: saved.append(endpoint.save()))
            saver.start()
            saver.join(10)
            assert len(saved) == 1


def test_everything_is_killed_in_the_end(life):
    life.in_service()
    life.endpoint.kill()


def test_fleets_of_earlier_configurations_are_forgotten(life):
    endpoint = life.in_service()
    for number in range(3):
        life.update(plan("shout", name=f"config-{number}"))
        life.bench.advance(20)
    assert len(endpoint._fleets.all()) <= 2
