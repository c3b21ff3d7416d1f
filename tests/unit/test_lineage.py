"""What a request read and wrote, as OpenLineage's own provider finds it. Nobody needs OpenLineage."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from types import SimpleNamespace

import pytest

from airflow_async_sm._compat import BaseOperator
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.lineage import lineage

WITH_OPENLINEAGE = importlib.util.find_spec("airflow.providers.openlineage") is not None
needs_openlineage = pytest.mark.skipif(not WITH_OPENLINEAGE, reason="OpenLineage's provider is not installed")
EXTRACTORS = "airflow.providers.openlineage.extractors"


def request(**known):
    values = {
        "endpoint_name": "churn",
        "inference_id": "0b5c4a2e",
        "input_location": "s3://inputs/day/1.json",
        "output_location": "s3://bucket/out/0f3c.out",
        "failure_location": "s3://bucket/failures/0f3c-error.out",
        "submitted_at": 1_000.0,
        "expires_at": 2_000.0,
    }
    return InvocationHandle(**values | known)


def places(datasets):
    return [(dataset.namespace, dataset.name) for dataset in datasets]


class Asked(BaseOperator):
    """A task that has what OpenLineage's provider asks for."""

    def get_openlineage_facets_on_complete(self, task_instance):
        return lineage(self.handle, self.copied_to)


@needs_openlineage
class TestWithOpenLineage:
    def found(self, handle, copied_to=None, state="success"):
        """Return what OpenLineage's provider finds when a task ends."""
        from airflow.providers.openlineage.extractors.manager import ExtractorManager
        from airflow.utils.state import TaskInstanceState

        task = Asked(task_id="invoke")
        task.handle, task.copied_to = handle, copied_to
        run, ti = SimpleNamespace(run_id="run"), SimpleNamespace(task=task)
        return ExtractorManager().extract_metadata(run, task, TaskInstanceState(state), ti)

    @pytest.mark.parametrize("state", ["success", "failed"])
    def test_a_request_read_its_input_and_wrote_its_output(self, state):
        found = self.found(request(), state=state)
        assert places(found.inputs) == [("s3://inputs", "day/1.json")]
        assert places(found.outputs) == [("s3://bucket", "out/0f3c.out")]

    def test_it_can_be_put_into_an_event(self):
        from openlineage.client.event_v2 import Job, Run, RunEvent, RunState
        from openlineage.client.serde import Serde

        found = self.found(request())
        event = RunEvent(
            eventTime="2026-01-01T00:00:00Z",
            producer="https://example.org",
            run=Run(runId="3f5e83fa-3480-44ff-99c5-ff943904e5e8"),
            job=Job(namespace="airflow", name="dag.invoke"),
            eventType=RunState.COMPLETE,
            inputs=found.inputs,
            outputs=found.outputs,
        )
        written = Serde.to_dict(event)
        assert [dataset["name"] for dataset in written["inputs"]] == ["day/1.json"]
        assert [dataset["namespace"] for dataset in written["outputs"]] == ["s3://bucket"]

    @pytest.mark.parametrize(
        ("copied_to", "place"),
        [
            ("s3://results/day/1.json", ("s3://results", "day/1.json")),
            ("s3://aws_other@results/day/1.json", ("s3://results", "day/1.json")),
            ("s3a://results/day/1.json", ("s3://results", "day/1.json")),
            ("gs://results/day/1.json", ("gs://results", "day/1.json")),
            ("gcs://google@results/day/1.json", ("gs://results", "day/1.json")),
            ("abfs://azure@container/day/1.json", ("abfs://container", "day/1.json")),
            ("file:///data/1.json", ("file", "/data/1.json")),
            ("/data/1.json", ("file", "/data/1.json")),
            ("s3://results/a b?c#d@e.json", ("s3://results", "a b?c#d@e.json")),
        ],
    )
    def test_a_copy_is_written_too_wherever_it_is(self, copied_to, place):
        assert places(self.found(request(), copied_to).outputs) == [("s3://bucket", "out/0f3c.out"), place]

    def test_what_is_written_once_is_told_once(self):
        copied_to = "https://bucket.s3.eu-west-1.amazonaws.com/out/0f3c.out"
        assert places(self.found(request(), copied_to).outputs) == [("s3://bucket", "out/0f3c.out")]

    def test_what_was_sent_inline_was_read_nowhere(self):
        assert self.found(request(input_location=None)).inputs == []

    def test_a_folder_is_no_object(self):
        found = self.found(request(output_location="s3://bucket/out/task/"))
        assert places(found.inputs) == [("s3://inputs", "day/1.json")]
        assert found.outputs == []

    def test_what_goes_wrong_does_not_end_the_task(self, monkeypatch, caplog):
        def broken(*arguments):
            raise OSError("no network")

        monkeypatch.setattr("airflow_async_sm.lineage._place", broken)
        assert lineage(request()) is None
        assert caplog.messages == ["Request 0b5c4a2e to endpoint churn has no lineage: no network"]


def test_without_openlineage_there_is_none_and_nothing_is_said(monkeypatch, caplog):
    monkeypatch.setitem(sys.modules, EXTRACTORS, None)
    assert lineage(request()) is None
    assert not caplog.messages


def test_an_openlineage_that_does_not_fit_is_told_of(monkeypatch, caplog):
    """It is there, so somebody counts on it."""
    monkeypatch.setitem(sys.modules, EXTRACTORS, SimpleNamespace())
    assert lineage(request()) is None
    (message,) = caplog.messages
    assert message.startswith("Request 0b5c4a2e to endpoint churn has no lineage: cannot import name")


def test_loading_it_does_not_load_openlineage():
    program = (
        "import sys, airflow_async_sm.lineage as module\n"
        "print([name for name in sys.modules if 'openlineage' in name])"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
