"""
A model container that keeps what AWS's scikit-learn image promises to a script, beyond the bundled server:
the script runs inside a Flask request, so that it can look at the headers and answer any status.
"""

from __future__ import annotations

import os
from pathlib import Path

import flask

from airflow_async_sm.emulator.models.sklearn_server import ModelScript

app = flask.Flask("container")
script = ModelScript(Path(os.environ["SM_MODEL_DIR"]))


@app.get("/ping")
def ping():
    return ""


@app.post("/invocations")
def invocations():
    headers = flask.request.headers
    body, content_type = script.answer(
        flask.request.get_data(),
        headers.get("Content-Type", "application/json"),
        headers.get("Accept", "application/json"),
    )
    return flask.Response(body, content_type=content_type)


if __name__ == "__main__":
    app.run("127.0.0.1", int(os.environ["SAGEMAKER_BIND_TO_PORT"]), threaded=True)
