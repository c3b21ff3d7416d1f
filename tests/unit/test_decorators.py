"""The decorator makes a payload of what a function returns, and the invoke operator of the rest."""

from __future__ import annotations

import copy
import json
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from unittest.mock import create_autospec

import pytest

from airflow_async_sm._compat import BaseSensorOperator
from airflow_async_sm.core.answers import ObjectFacts
from airflow_async_sm.core.events import encode_event
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.outcomes import End, Outcome, Pending, Settled
from airflow_async_sm.decorators.sagemaker_async import sagemaker_async_task
from airflow_async_sm.exceptions import RequestRejected
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook
from airflow_async_sm.links import INVOCATION_LINKS
from airflow_async_sm.operators.base import SageMakerAsyncBaseOperator
from airflow_async_sm.triggers.base import SageMakerAsyncBaseTrigger

try:
    from airflow.sdk import DAG, Asset, task
    from airflow.sdk.exceptions import TaskDeferred
except ImportError:
    from airflow import DAG
    from airflow.datasets import Dataset as Asset
    from airflow.decorators import task
    from airflow.exceptions import TaskDeferred

AIRFLOW_2 = BaseSensorOperator.__module__ == "airflow.sensors.base"
HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out/1.out",
    failure_location="s3://bucket/fail/1-error.out",
    submitted_at=1_000.0,
    expires_at=23_800.0,
)
ANSWER = {"score": 0.5, "labels": ["a"]}


class TaskInstance:
    dag_id, run_id, task_id, map_index, max_tries = "dag", "run", "build", -1, 0
    try_number = 1

    def __init__(self):
        self.pushed = {}

    def xcom_push(self, key, value):
        self.pushed[key] = value


@pytest.fixture
def context():
    return {"ti": TaskInstance(), "ds": "2026-01-31", "run_id": "run", "secret": "s3cr3t", "where": "model"}


@pytest.fixture(autouse=True)
def hook(monkeypatch):
    hook = create_autospec(SageMakerAsyncHook, instance=True)
    hook.invoke_endpoint_async.return_value = HANDLE
    hook.check_endpoint.return_value = {}
    hook.invoke_members = frozenset({"Body", "S3OutputPathExtension", "Filename"})
    hook.work_prefix = hook.expected_bucket_owner = None
    hook.region = "us-east-1"
    hook.look_at_result.return_value = Settled(True)
    hook.describe_result.return_value = ObjectFacts(
        size=32, content_type="application/json", last_modified=1_003.0, etag="e"
    )
    hook.read_result.return_value = json.dumps(ANSWER).encode()
    for way in ("from_params", "shared"):
        monkeypatch.setattr(SageMakerAsyncHook, way, lambda params: hook)
    for kind in (SageMakerAsyncBaseOperator, SageMakerAsyncBaseTrigger):
        monkeypatch.setattr(kind, "clock", lambda self: 1_010.0)
    return hook


def decorated(function, **arguments):
    return sagemaker_async_task(**({"endpoint_name": "model", "deferrable": False} | arguments))(function)


def ran(argument, context):
    """Render and execute a task as Airflow would, and return what it returns."""
    operator = argument.operator
    operator.render_template_fields(context)
    return operator.execute(context)


def submitted(hook):
    (request,) = [call.args[0] for call in hook.invoke_endpoint_async.call_args_list]
    return request


def body(hook):
    return json.loads(submitted(hook).body)


def rendered_for_the_page(operator):
    """Return what Airflow would store for its page of rendered templates."""
    try:
        from airflow.serialization.helpers import serialize_template_field
    except ImportError:
        from airflow.models.renderedtifields import serialize_template_field
    return {
        name: serialize_template_field(getattr(operator, name), name) for name in operator.template_fields
    }


@pytest.mark.skipif(
    AIRFLOW_2, reason="the package is not installed there, and nobody registers its decorator"
)
def test_airflow_knows_the_decorator_by_its_name():
    @task.sagemaker_async(endpoint_name="model")
    def build():
        return [1]

    assert build().operator.custom_operator_name == "@task.sagemaker_async"


class TestPayload:
    @pytest.mark.parametrize(
        ("returned", "sent", "content_type"),
        [
            ({"rows": [1]}, b'{"rows":[1]}', "application/json"),
            ([], b"[]", "application/json"),
            (0, b"0", "application/json"),
            ("None", b"None", "text/plain; charset=utf-8"),
            ("{{ secret }}", b"{{ secret }}", "text/plain; charset=utf-8"),
            (b"\x00", b"\x00", "application/octet-stream"),
        ],
    )
    def test_what_the_function_returns_is_sent_as_it_is(self, hook, context, returned, sent, content_type):
        ran(decorated(lambda: returned, task_id="build")(), context)
        assert (submitted(hook).body, submitted(hook).content_type) == (sent, content_type)

    def test_a_path_is_the_file(self, hook, context, tmp_path):
        (tmp_path / "rows.csv").write_bytes(b"1,2\n")

        def build(folder: str) -> Path:
            return Path(folder) / "rows.csv"

        ran(decorated(build)(str(tmp_path)), context)
        assert (submitted(hook).body, submitted(hook).content_type) == (b"1,2\n", "text/csv")

    def test_a_function_that_returns_nothing_is_refused(self, hook, context):
        def build():
            pass

        with pytest.raises(RequestRejected, match=r"build\(\) returned None; what it returns is the payload"):
            ran(decorated(build)(), context)
        hook.invoke_endpoint_async.assert_not_called()

    def test_an_error_of_the_function_is_the_tasks(self, hook, context):
        def build():
            raise LookupError("no rows")

        with pytest.raises(LookupError, match="no rows"):
            ran(decorated(build)(), context)
        hook.invoke_endpoint_async.assert_not_called()


class TestArguments:
    def test_the_function_gets_its_arguments_with_their_templates_rendered(self, hook, context):
        def build(first, *, second, third=3):
            return [first, second, third]

        ran(decorated(build)("{{ secret }}", second={"deep": ["{{ ds }}"]}), context)
        assert body(hook) == ["s3cr3t", {"deep": ["2026-01-31"]}, 3]

    def test_the_function_gets_what_it_wants_to_know_of_the_context(self, hook, context):
        def build(row, ds=None, ti=None):
            return [row, ds, ti.task_id]

        ran(decorated(build)(7), context)
        assert body(hook) == [7, "2026-01-31", "build"]

    def test_a_function_that_takes_everything_gets_the_context_and_its_arguments(self, hook, context):
        def build(**everything):
            return [everything["row"], everything["run_id"]]

        ran(decorated(build)(row=7), context)
        assert body(hook) == [7, "run"]

    def test_an_argument_that_is_named_as_something_of_the_context_stays_the_functions(self, hook, context):
        def build(ti, run_id):
            return [ti, run_id]

        ran(decorated(build)(ti="mine", run_id="also mine"), context)
        assert body(hook) == ["mine", "also mine"]
        assert isinstance(context["ti"], TaskInstance)
        assert context["run_id"] == "run"

    def test_the_operators_own_arguments_are_rendered(self, hook, context):
        def build():
            return [1]

        ran(decorated(build, endpoint_name="{{ where }}", inference_id="{{ run_id }}-1")(), context)
        assert (submitted(hook).endpoint_name, submitted(hook).inference_id) == ("model", "run-1")

    def test_they_can_be_changed_for_one_of_several_tasks(self, hook, context):
        def build():
            return [1]

        changed = decorated(build).override(task_id="other", endpoint_name="other", result="location")
        assert ran(changed(), context)["output_location"] == HANDLE.output_location
        assert (changed().operator.task_id, submitted(hook).endpoint_name) == ("other", "other")

    def test_assets_among_the_functions_arguments_are_inlets(self, context):
        asset = Asset("s3://bucket/rows")
        argument = decorated(lambda rows: rows.uri, task_id="build")(asset)
        ran(argument, context)
        assert argument.operator.inlets == [asset]

    def test_the_defaults_of_a_dag_are_in_force_but_for_the_payload(self, hook, context):
        with DAG("dag", schedule=None, default_args={"endpoint_name": "default", "payload": [2]}):
            ran(sagemaker_async_task(lambda: [1], task_id="build", deferrable=False)(), context)
        assert (submitted(hook).endpoint_name, body(hook)) == ("default", [1])

    @pytest.mark.parametrize("name", ["payload", "payload_path", "input_location"])
    def test_another_payload_is_refused_when_the_dag_is_parsed(self, name):
        complaint = f"@task.sagemaker_async takes no {name}: what the function returns is sent"
        with pytest.raises(InvalidInput, match=complaint):
            sagemaker_async_task(endpoint_name="model", **{name: "s3://bucket/in"})
        with pytest.raises(InvalidInput, match=complaint):
            decorated(lambda: [1], task_id="build").override(**{name: "s3://bucket/in"})()

    def test_a_coroutine_function_is_refused_when_the_dag_is_parsed(self):
        async def build():
            return [1]

        with pytest.raises(InvalidInput, match="build is a coroutine function"):
            sagemaker_async_task(build, endpoint_name="model")
        with pytest.raises(InvalidInput, match="build is a coroutine function"):
            decorated(build)()

    def test_an_argument_that_the_function_does_not_have_is_refused_when_the_dag_is_parsed(self):
        with pytest.raises(TypeError, match="nonsense"):
            decorated(lambda row: row, task_id="build")(row=1, nonsense=1)


class TestPrivacy:
    def test_the_names_of_arguments_are_shown_and_their_values_are_not(self, context):
        argument = decorated(lambda *rows, **more: rows, task_id="build")(
            "{{ secret }}", who=["{{ secret }}"]
        )
        argument.operator.render_template_fields(context)
        shown = json.dumps(rendered_for_the_page(argument.operator))
        assert "s3cr3t" not in shown
        assert "<str, 6 characters>" in shown
        assert "who" in shown
        assert "<list, 1 items>" in shown

    def test_rendering_twice_as_airflow_does_after_a_deferral_is_harmless(self, hook, context):
        argument = decorated(lambda row: [row], task_id="build")("{{ secret }}")
        argument.operator.render_template_fields(context)
        ran(argument, context)
        assert body(hook) == ["s3cr3t"]

    def test_a_task_without_arguments_shows_none(self, context):
        argument = decorated(lambda: [1], task_id="build")()
        argument.operator.render_template_fields(context)
        assert rendered_for_the_page(argument.operator)["op_kwargs"] == {}


class TestAnswer:
    def test_the_task_returns_the_models_answer(self, context):
        assert ran(decorated(lambda: [1], task_id="build")(), context) == ANSWER
        assert context["ti"].pushed["answer"]["output_location"] == HANDLE.output_location

    def test_a_deferred_task_does_not_call_the_function_again(self, hook, context):
        calls = []

        def build():
            calls.append(1)
            return [1]

        hook.look_at_result.return_value = Pending()
        with pytest.raises(TaskDeferred) as deferred:
            ran(decorated(build, deferrable=True)(), context)
        fresh = decorated(build, deferrable=True)().operator
        fresh.render_template_fields(context)
        event = encode_event(HANDLE, Outcome(end=End.SUCCEEDED, seen_at=1_010.0))
        kwargs = {"event": event, **deferred.value.kwargs}
        assert fresh.resume_execution(deferred.value.method_name, kwargs, context) == ANSWER
        assert len(calls) == 1

    def test_what_the_function_is_annotated_to_return_says_nothing_of_the_answer(self):
        def build() -> dict:
            return {}

        assert not decorated(build)().operator.multiple_outputs
        assert decorated(build, multiple_outputs=True)().operator.multiple_outputs

    def test_the_task_leads_to_its_request(self):
        assert decorated(lambda: [1], task_id="build")().operator.operator_extra_links == INVOCATION_LINKS

    def test_a_task_can_be_copied_as_airflow_does(self, hook, context):
        argument = decorated(lambda row: [row], task_id="build", result=json.loads)("{{ secret }}")
        operator = copy.deepcopy(argument.operator)
        operator.render_template_fields(context)
        assert operator.execute(context) == ANSWER


class TestMapping:
    def build(self):
        def build(row, more):
            return [row, more]

        with DAG("dag", schedule=None, start_date=datetime(2026, 1, 1, tzinfo=UTC)) as dag:
            decorated(build, result=json.loads, endpoint_name="{{ where }}").partial(more="{{ ds }}").expand(
                row=["{{ secret }}", 2]
            )
        return dag

    def test_each_of_the_mapped_tasks_has_its_own_payload(self, hook, context):
        mapped = self.build().get_task("build")
        operator = mapped.unmap({"op_kwargs": {"row": "{{ secret }}"}})
        operator._do_render_template_fields(
            parent=operator,
            template_fields=mapped.template_fields,
            context=context,
            jinja_env=operator.get_template_env(),
            seen_oids=set(),
        )
        assert "s3cr3t" not in json.dumps(rendered_for_the_page(operator))
        assert operator.execute(context) == ANSWER
        assert body(hook) == ["s3cr3t", "2026-01-31"]
        assert submitted(hook).endpoint_name == "model"
        assert mapped.operator_extra_links == INVOCATION_LINKS

    def test_airflow_can_store_the_dag(self):
        module = import_module("airflow.serialization.serialized_objects")
        serializer = getattr(module, "DagSerialization", None) or module.SerializedDAG
        stored = json.loads(json.dumps(serializer.to_dict(self.build())))
        restored = getattr(serializer, "from_dict", getattr(serializer, "deserialize_dag", None))(stored)
        assert restored.get_task("build").task_type == "_SageMakerAsyncDecoratedOperator"
