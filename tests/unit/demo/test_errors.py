"""Error texts carry what a reader needs, and survive being passed between processes."""

from __future__ import annotations

import pickle

import pytest

from airflow_async_sm.demo.errors import ComponentFailed, DagNotFound, LocalAirflowError, NotReady, RestError

ERRORS = {
    "scheduler ended with exit code 1. The end of its log:\nboom": ComponentFailed("scheduler", 1, "boom"),
    "triggerer was not ready after 2.5 s. The end of its log:\n...": NotReady("triggerer", 2.5, "..."),
    "No DAG 'd' in the DAGs folder, and no file of it failed to import.": DagNotFound("d", {}),
    "No DAG 'd'. These DAG files cannot be imported:\na.py:\nboom": DagNotFound("d", {"a.py": "boom\n"}),
    "GET /x: HTTP 404: gone": RestError("GET /x", 404, "gone"),
    "GET /x: no answer: refused": RestError("GET /x", None, "refused"),
}


@pytest.mark.parametrize(("text", "error"), ERRORS.items())
def test_text_and_pickle(text: str, error: LocalAirflowError) -> None:
    assert str(error) == text
    copy = pickle.loads(pickle.dumps(error))
    assert (type(copy), str(copy), vars(copy)) == (type(error), text, vars(error))
