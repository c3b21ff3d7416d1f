"""What the events of a task's outlets tell, in the form in which each Airflow stores them."""

from __future__ import annotations

import json

import airflow
import pytest

from airflow_async_sm.assets import describe_outlets

IS_AIRFLOW_2 = airflow.__version__.startswith("2.")
if IS_AIRFLOW_2:
    from airflow.datasets import Dataset as Asset
    from airflow.datasets import DatasetAlias as AssetAlias
    from airflow.utils.context import OutletEventAccessors
else:
    from airflow.sdk import Asset, AssetAlias
    from airflow.sdk.execution_time.context import OutletEventAccessors

URI = "s3://bucket/scores"
ANSWER = {
    "endpoint_name": "churn",
    "inference_id": "0b5c4a2e",
    "output_location": "s3://bucket/out/0f3c.out",
    "content_type": "application/json",
    "size": 0,
    "submitted_at": 1_000.0,
    "answered_at": 1_012.5,
    "seconds": 12.5,
    "copied_to": "s3://results/1.json",
}
TOLD = {
    "location": "s3://bucket/out/0f3c.out",
    "inference_id": "0b5c4a2e",
    "endpoint_name": "churn",
    "size": 0,
    "seconds": 12.5,
}


@pytest.fixture
def context():
    return {"outlet_events": OutletEventAccessors()}


def told(context, outlet):
    return context["outlet_events"][outlet].extra


def test_an_event_tells_where_the_answer_is_and_whose_it_is(context):
    describe_outlets(context, [Asset(URI)], ANSWER)
    assert told(context, Asset(URI)) == TOLD
    assert json.loads(json.dumps(TOLD)) == TOLD


def test_each_outlet_has_an_event_of_its_own(context):
    outlets = [Asset(URI), Asset("s3://bucket/audit")]
    describe_outlets(context, outlets, ANSWER)
    assert [told(context, outlet) for outlet in outlets] == [TOLD, TOLD]
    assert told(context, outlets[0]) is not told(context, outlets[1])


@pytest.mark.parametrize("uri", ["s3://bucket/scores/", "S3://bucket/scores", "scores", "x-own://a/b"])
def test_it_is_the_event_of_the_outlet_however_its_address_is_written(context, uri):
    outlet = Asset(uri)
    describe_outlets(context, [outlet], ANSWER)
    assert len(context["outlet_events"]) == 1
    assert told(context, outlet) == TOLD


def test_an_alias_and_what_is_no_asset_are_left_alone(context):
    describe_outlets(context, [AssetAlias("scores"), "text", 1, None], ANSWER)
    assert len(context["outlet_events"]) == 0


def test_the_event_of_a_batch_tells_all_that_the_task_returns(context):
    places = {
        name: f"s3://work/{name}" for name in ("manifest", "summary", "dead_letter", "parquet", "results")
    }
    returned = {**places, "counts": {"Succeeded": 3}}
    describe_outlets(context, [Asset(URI)], {**returned, "endpoint_name": "model"})
    assert told(context, Asset(URI)) == {**returned, "endpoint_name": "model"}


def test_what_was_told_before_stays(context):
    told(context, Asset(URI)).update(size="small", owner="me")
    describe_outlets(context, [Asset(URI)], ANSWER)
    assert told(context, Asset(URI)) == TOLD | {"size": "small", "owner": "me"}


def test_what_is_not_known_is_not_told(context):
    describe_outlets(context, [Asset(URI)], {"output_location": "s3://bucket/a.out", "inference_id": None})
    assert told(context, Asset(URI)) == {"location": "s3://bucket/a.out"}


def test_a_task_without_outlets_needs_no_events(caplog):
    describe_outlets({}, [], ANSWER)
    assert not caplog.messages


def test_events_that_are_missing_do_not_end_the_task(caplog):
    describe_outlets({}, [Asset(URI), Asset("s3://bucket/audit")], ANSWER)
    (message,) = caplog.messages
    assert message.startswith("Events of outlets do not tell of the answer: ")
    assert message.count("KeyError: 'outlet_events'") == 2


@pytest.mark.parametrize("broken", [{"outlets": None}, {"answer": None}])
def test_nor_does_anything_else(context, caplog, broken):
    describe_outlets(**{"context": context, "outlets": [Asset(URI)], "answer": ANSWER} | broken)
    assert len(caplog.messages) == 1


def test_one_event_that_cannot_be_told_does_not_keep_the_others_from_it(caplog):
    events = OutletEventAccessors()

    class Broken(dict):
        def __getitem__(self, outlet):
            if outlet == Asset("s3://bucket/broken"):
                raise OSError("no network")
            return events[outlet]

    outlets = [Asset("s3://bucket/broken"), Asset(URI)]
    describe_outlets({"outlet_events": Broken()}, outlets, ANSWER)
    assert events[Asset(URI)].extra == TOLD
    assert len(caplog.messages) == 1
    assert "OSError: no network" in caplog.text


@pytest.mark.skipif(IS_AIRFLOW_2, reason="Airflow 3 has references, and sends events from the worker")
class TestOnAirflow3:
    @pytest.fixture
    def supervisor(self, monkeypatch):
        """What a worker asks for the asset behind a reference."""
        from types import SimpleNamespace

        from airflow.sdk.execution_time import context, task_runner
        from airflow.sdk.execution_time.comms import AssetResult, ErrorResponse

        def send(message):
            if getattr(message, "name", "scores") != "scores":
                return ErrorResponse()
            return AssetResult(name="scores", uri=URI, group="asset")

        monkeypatch.setattr(task_runner, "SUPERVISOR_COMMS", SimpleNamespace(send=send), raising=False)
        monkeypatch.setattr(context._AssetRefResolutionMixin, "_asset_ref_cache", {})

    @pytest.mark.parametrize("reference", [{"name": "scores"}, {"uri": URI}])
    def test_the_asset_behind_a_reference_is_told_of(self, context, supervisor, reference):
        describe_outlets(context, [Asset.ref(**reference)], ANSWER)
        assert told(context, Asset(name="scores", uri=URI)) == TOLD

    def test_a_reference_to_nothing_does_not_end_the_task(self, context, supervisor, caplog):
        describe_outlets(context, [Asset.ref(name="other"), Asset(URI)], ANSWER)
        assert told(context, Asset(URI)) == TOLD
        assert len(caplog.messages) == 1

    def test_the_worker_sends_it(self, context):
        from airflow.sdk.execution_time.task_runner import _serialize_outlet_events

        describe_outlets(context, [Asset(name="scores", uri=URI), AssetAlias("scores")], ANSWER)
        (sent,) = _serialize_outlet_events(context["outlet_events"])
        assert sent == {"dest_asset_key": {"name": "scores", "uri": URI}, "extra": TOLD}


@pytest.mark.skipif(not IS_AIRFLOW_2, reason="Airflow 2.11 stores events at the end of the task")
def test_airflow_2_stores_it(context, monkeypatch):
    from types import SimpleNamespace

    from airflow.models import TaskInstance

    stored = []
    manager = SimpleNamespace(register_dataset_change=lambda **values: stored.append(values))
    monkeypatch.setattr("airflow.models.taskinstance.dataset_manager", manager)
    outlet = Asset(URI)
    describe_outlets(context, [outlet], ANSWER)
    ti = SimpleNamespace(
        task=SimpleNamespace(outlets=[outlet]), log=SimpleNamespace(debug=lambda *text: None)
    )
    TaskInstance._register_dataset_changes(ti, events=context["outlet_events"], session=object())
    assert [(values["dataset"], values["extra"]) for values in stored] == [(outlet, TOLD)]
