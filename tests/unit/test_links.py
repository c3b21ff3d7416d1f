"""Links from a task to its endpoint and its request: stored by the worker, shown as each Airflow does."""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import UTC, datetime
from types import SimpleNamespace
from unittest.mock import create_autospec

import airflow
import pytest

from airflow_async_sm._compat import BaseOperator
from airflow_async_sm.core.consoles import console_pages
from airflow_async_sm.core.handles import EndpointHandle, InvocationHandle
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.links import (
    ENDPOINT_LINKS,
    INVOCATION_LINKS,
    PAGES_KEY,
    store_pages,
)
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator
from airflow_async_sm.provider_info import get_provider_info

IS_AIRFLOW_2 = airflow.__version__.startswith("2.")
HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="0b5c4a2e-7d1f-4f0e-9f51-0f2a6f3a1c11",
    output_location="s3://bucket/out/0f3c.out",
    failure_location="s3://bucket/failures/0f3c-error.out",
    submitted_at=1_000.0,
    expires_at=2_000.0,
)
PAGES = console_pages(
    HANDLE,
    region="eu-west-1",
    partition="aws",
    api_url="https://api.sagemaker.eu-west-1.amazonaws.com",
)
SHOWN = {
    "SageMaker endpoint": PAGES["endpoint"],
    "CloudWatch logs": PAGES["logs"],
    "CloudWatch data log": PAGES["data_log"],
    "Output object": PAGES["output"],
    "Failure object": PAGES["failure"],
}
KEY = {"dag_id": "dag", "task_id": "invoke", "run_id": "run", "map_index": -1}


class TaskInstance:
    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


class Broken:
    def __init__(self):
        self.tried = []

    def xcom_push(self, key, value):
        self.tried.append(key)
        raise OSError("no space left")


def task(**arguments):
    return SageMakerAsyncInvokeOperator(task_id="invoke", endpoint_name="model", payload=[1], **arguments)


@pytest.fixture(autouse=True)
def _links_of_a_request(monkeypatch):
    """Whatever the operator itself leads to, it leads to everything here."""
    monkeypatch.setattr(SageMakerAsyncInvokeOperator, "operator_extra_links", INVOCATION_LINKS)


class TestStoring:
    def stored(
        self,
        ti,
        *,
        connection="aws://k:s@/?region_name=eu-west-1",
        handle=HANDLE,
        monkeypatch,
        **arguments,
    ):
        """Store with a hook that is real; making a client calls nobody."""
        monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection)
        store_pages(task(**arguments), SageMakerAsyncHook(), handle, {"ti": ti})

    def test_the_addresses_are_one_small_value(self, monkeypatch):
        ti = TaskInstance()
        self.stored(ti, monkeypatch=monkeypatch)
        assert ti.pushed == {PAGES_KEY: PAGES}
        assert len(str(ti.pushed)) < 1_000

    def test_an_endpoint_has_those_that_a_request_shares_with_it(self, monkeypatch):
        ti = TaskInstance()
        handle = EndpointHandle(endpoint_name="model", goal="InService", submitted_at=1_000.0)
        self.stored(ti, handle=handle, monkeypatch=monkeypatch)
        assert ti.pushed == {PAGES_KEY: {page: PAGES[page] for page in ("endpoint", "logs")}}

    def test_a_request_of_which_only_the_output_location_is_known_has_that(self, monkeypatch):
        ti = TaskInstance()
        handle = InvocationHandle(
            output_location=HANDLE.output_location, submitted_at=1_000.0, expires_at=2_000.0
        )
        self.stored(ti, handle=handle, monkeypatch=monkeypatch)
        assert ti.pushed == {PAGES_KEY: {"output": PAGES["output"]}}

    def test_a_request_of_which_nothing_is_known_but_its_folder_stores_nothing(self, monkeypatch):
        ti = TaskInstance()
        handle = InvocationHandle(output_location="s3://b/out/", submitted_at=1_000.0, expires_at=2_000.0)
        self.stored(ti, handle=handle, monkeypatch=monkeypatch)
        assert ti.pushed == {}

    def test_what_is_found_in_a_folder_is_stored_when_it_is_found(self, monkeypatch):
        ti = TaskInstance()
        folder = replace(HANDLE, output_location="s3://bucket/out/")
        self.stored(ti, handle=folder, monkeypatch=monkeypatch)
        assert "output" not in ti.pushed[PAGES_KEY]
        found = folder.found(HANDLE.output_location, answer=True)
        self.stored(ti, handle=found, monkeypatch=monkeypatch)
        assert ti.pushed == {PAGES_KEY: PAGES}

    @pytest.mark.parametrize("region", ["us-gov-west-1", "cn-north-1"])
    def test_they_are_those_of_the_regions_partition(self, monkeypatch, region):
        ti = TaskInstance()
        self.stored(ti, connection=f"aws://k:s@/?region_name={region}", monkeypatch=monkeypatch)
        console = {"us-gov-west-1": "amazonaws-us-gov.com", "cn-north-1": "amazonaws.cn"}[region]
        assert all(page.startswith(f"https://console.{console}/") for page in ti.pushed[PAGES_KEY].values())

    def test_a_task_that_is_not_to_store_anything_does_not(self, monkeypatch):
        ti = TaskInstance()
        self.stored(ti, monkeypatch=monkeypatch, do_xcom_push=False)
        assert ti.pushed == {}

    def test_an_address_in_the_connection_has_no_console(self, monkeypatch):
        ti = TaskInstance()
        connection = "aws://k:s@/?region_name=eu-west-1&endpoint_url=http%3A%2F%2F127.0.0.1%3A5000"
        self.stored(ti, connection=connection, monkeypatch=monkeypatch)
        assert ti.pushed == {}

    @pytest.mark.parametrize("name", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_SAGEMAKER"])
    def test_nor_has_one_in_the_environment(self, monkeypatch, name):
        ti = TaskInstance()
        monkeypatch.setenv(name, "http://127.0.0.1:5000")
        self.stored(ti, monkeypatch=monkeypatch)
        assert ti.pushed == {}

    def test_a_store_that_fails_does_not_end_the_task(self, monkeypatch):
        ti = Broken()
        self.stored(ti, monkeypatch=monkeypatch)
        assert ti.tried == [PAGES_KEY]

    def test_nor_does_a_hook_that_fails(self):
        hook = create_autospec(SageMakerAsyncHook, instance=True)
        type(hook).region = property(lambda hook: (_ for _ in ()).throw(OSError("no network")))
        ti = TaskInstance()
        operator = SimpleNamespace(do_xcom_push=True, log=create_autospec(logging.Logger, instance=True))
        store_pages(operator, hook, HANDLE, {"ti": ti})
        assert ti.pushed == {}
        (call,) = operator.log.warning.call_args_list
        assert call.args[0] % call.args[1:] == f"{HANDLE.subject} has no links to the AWS console: no network"


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 3 reads them on the worker")
class TestShowingOnAirflow3:
    @pytest.fixture
    def supervisor(self, monkeypatch):
        """What a worker talks to: it keeps XComs."""
        from airflow.sdk.execution_time import task_runner
        from airflow.sdk.execution_time.comms import GetXCom, SetXCom, XComResult

        stored = {}

        def send(message):
            if isinstance(message, SetXCom):
                stored[message.key] = message.value
            elif isinstance(message, GetXCom):
                assert {name: getattr(message, name) for name in KEY} == KEY
                return XComResult(key=message.key, value=stored.get(message.key))
            return None

        comms = SimpleNamespace(send=send)
        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", comms, raising=False)
        return stored

    @pytest.mark.parametrize("state", ["deferred", "success", "failed", "up_for_retry"])
    def test_the_addresses_are_there_once_the_worker_has_left_the_task(self, supervisor, state):
        from airflow.sdk.api.datamodels._generated import TaskInstanceState
        from airflow.sdk.execution_time import task_runner

        supervisor[PAGES_KEY] = PAGES
        self.leave(task_runner, TaskInstanceState(state))
        assert self.shown(supervisor) == SHOWN

    def test_a_task_without_addresses_has_empty_links(self, supervisor):
        from airflow.sdk.api.datamodels._generated import TaskInstanceState
        from airflow.sdk.execution_time import task_runner

        self.leave(task_runner, TaskInstanceState("success"))
        assert set(self.shown(supervisor).values()) == {""}

    def leave(self, task_runner, state):
        """Do what a worker does at its end, which it comes to when it defers a task as well."""
        ti = SimpleNamespace(**KEY, task=task(), start_date=None, end_date=None, stats_tags={})
        task_runner.finalize(ti, state, {}, logging.getLogger(__name__))

    def shown(self, supervisor):
        """Return what the API server finds, which knows of a link its name and the key of its address."""
        links = serialized().operator_extra_links
        return {link.name: supervisor[link.xcom_key] for link in links}


@pytest.mark.skipif(not IS_AIRFLOW_2, reason="Airflow 2.11 reads them in the web server")
class TestShowingOnAirflow2:
    @pytest.fixture
    def ti(self):
        """A task instance in the database."""
        from airflow import settings
        from airflow.models import DagRun, TaskInstance
        from airflow.models.base import Base
        from airflow.utils.session import create_session

        needed = ("dag_run", "log_template", "task_instance", "task_map", "trigger", "xcom")
        Base.metadata.create_all(settings.engine, [Base.metadata.tables[name] for name in needed])
        at = datetime(2026, 1, 1, tzinfo=UTC)
        with create_session() as session:
            run = DagRun(dag_id="dag", run_id="run", run_type="manual", execution_date=at)
            session.add(run)
            session.flush()
            ti = TaskInstance(in_a_dag(), run_id="run")
            session.add(ti)
            session.flush()
            session.expunge_all()
        yield ti
        with create_session() as session:
            session.query(TaskInstance).filter_by(dag_id="dag").delete()
            session.query(DagRun).filter_by(dag_id="dag").delete()

    @pytest.fixture(autouse=True)
    def registered(self, monkeypatch):
        """Whether or not the package is installed, what it says to Airflow is what counts."""
        known = set(get_provider_info()["extra-links"])
        monkeypatch.setattr(
            "airflow.serialization.serialized_objects.get_operator_extra_links", lambda: known
        )

    def test_the_addresses_are_there_as_soon_as_they_are_stored(self, ti):
        ti.xcom_push(key=PAGES_KEY, value=PAGES)
        assert self.shown(ti) == SHOWN

    def test_a_task_without_addresses_has_empty_links(self, ti):
        assert set(self.shown(ti).values()) == {""}

    def shown(self, ti):
        """Return what the web server finds."""
        seen = serialized()
        return {name: seen.get_extra_links(ti, name) for name in seen.extra_links}


def in_a_dag():
    try:
        from airflow.sdk import DAG
    except ImportError:
        from airflow.models.dag import DAG

    with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)):
        return task()


def serialized():
    """Return the task as those processes know it that never run it."""
    try:
        from airflow.serialization.serialized_objects import DagSerialization as SerializedDAG
    except ImportError:
        from airflow.serialization.serialized_objects import SerializedDAG
    dag = SerializedDAG.from_dict(SerializedDAG.to_dict(in_a_dag().dag))
    return dag.get_task("invoke")


def test_a_request_has_the_links_of_its_endpoint_and_its_own():
    assert [link.name for link in ENDPOINT_LINKS] == ["SageMaker endpoint", "CloudWatch logs"]
    assert INVOCATION_LINKS[: len(ENDPOINT_LINKS)] == ENDPOINT_LINKS
    assert [link.name for link in INVOCATION_LINKS[len(ENDPOINT_LINKS) :]] == [
        "Output object",
        "Failure object",
        "CloudWatch data log",
    ]


def test_every_page_has_one_link():
    assert sorted(link.page for link in INVOCATION_LINKS) == sorted(PAGES)
    assert len({type(link) for link in INVOCATION_LINKS}) == len(PAGES)


@pytest.mark.parametrize("stored", [None, "text", {}, {"other": "x"}])
def test_whatever_is_stored_a_link_is_text(monkeypatch, stored):
    monkeypatch.setattr("airflow_async_sm.links.read_xcom", lambda ti_key, key: stored)
    links = [link.get_link(create_autospec(BaseOperator), ti_key=None) for link in INVOCATION_LINKS]
    assert links == [""] * len(INVOCATION_LINKS)


def test_what_cannot_be_read_fails_neither_task_nor_page(monkeypatch):
    def broken(ti_key, key):
        raise OSError("no network")

    monkeypatch.setattr("airflow_async_sm.links.read_xcom", broken)
    links = [link.get_link(create_autospec(BaseOperator), ti_key=None) for link in INVOCATION_LINKS]
    assert links == [""] * len(INVOCATION_LINKS)
