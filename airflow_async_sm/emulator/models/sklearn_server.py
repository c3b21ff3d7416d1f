"""
A model server for scikit-learn models, run by ``python -m airflow_async_sm.emulator.models.sklearn_server``.

It keeps SageMaker's container contract (``GET /ping``, ``POST /invocations``) and the script contract of
AWS's own scikit-learn container: ``code/inference.py`` in the model folder defines ``model_fn(model_dir)``
and may define ``input_fn(body, content_type)``, ``predict_fn(data, model)`` and ``output_fn(prediction,
accept)``.

It reads ``SM_MODEL_DIR`` (the folder with the unpacked model) and ``SAGEMAKER_BIND_TO_PORT``.
"""

from __future__ import annotations

import csv
import importlib.util
import io
import json
import os
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, Final

JSON: Final = "application/json"
CSV: Final = "text/csv"


class Refused(Exception):
    """A request that cannot be answered with a prediction."""

    def __init__(self, status: HTTPStatus, message: str) -> None:
        super().__init__(message)
        self.status = status


def default_input(body: str | bytes, content_type: str) -> Any:
    """
    Return the rows of a JSON or CSV body as a numpy array. A single row may come without the outer array.

    :raises Refused: another content type.
    :raises ValueError: a body that cannot be parsed.
    """
    import numpy

    if content_type == JSON:
        parsed = json.loads(body)
        rows = parsed.get("instances") if isinstance(parsed, dict) else parsed
        if not isinstance(rows, list) or not rows:
            raise ValueError('expected an array of rows, or {"instances": [...]}')
    elif content_type == CSV:
        text = body if isinstance(body, str) else body.decode()
        rows = [[float(cell) for cell in row] for row in csv.reader(io.StringIO(text)) if row]
        if not rows:
            raise ValueError("no rows")
    else:
        raise Refused(HTTPStatus.UNSUPPORTED_MEDIA_TYPE, f"Content type {content_type} is not supported.")
    return numpy.array(rows if isinstance(rows[0], list) else [rows])


def default_predict(data: Any, model: Any) -> Any:
    """Return what the model predicts for the rows."""
    return model.predict(data)


def default_output(prediction: Any, accept: str) -> tuple[str, str]:
    """
    Return a prediction as JSON, or as CSV where that is asked for, with its content type.

    :raises Refused: another type is asked for.
    """
    import numpy

    values = numpy.asarray(prediction)
    if accept == JSON:
        return json.dumps(values.tolist()), JSON
    if accept == CSV:
        rows = values.reshape(len(values), -1).tolist()
        return "".join(",".join(str(cell) for cell in row) + "\n" for row in rows), CSV
    raise Refused(HTTPStatus.NOT_ACCEPTABLE, f"Accept type {accept} is not supported.")


class ModelScript:
    """
    The functions of one model.

    :param model_dir: The folder with the unpacked model.
    :raises FileNotFoundError: it has no ``code/inference.py``.
    :raises AttributeError: the script has no ``model_fn``.
    """

    def __init__(self, model_dir: Path) -> None:
        script = _import_script(model_dir / "code" / "inference.py")
        self._input = getattr(script, "input_fn", default_input)
        self._predict = getattr(script, "predict_fn", default_predict)
        self._output = getattr(script, "output_fn", default_output)
        self._model = script.model_fn(str(model_dir))

    def answer(self, body: bytes, content_type: str, accept: str) -> tuple[bytes, str]:
        """
        Return the answer to a request and its content type.

        :raises Refused: the body, or one of the types, cannot be used.
        :raises Exception: whatever the script raises.
        """
        try:
            # AWS's container, too, hands text over as text.
            content = body.decode() if content_type in (JSON, CSV) else body
            data = self._input(content, content_type)
        except ValueError as error:
            raise Refused(
                HTTPStatus.BAD_REQUEST, f"The body cannot be read as {content_type}: {error}"
            ) from error
        result = self._output(self._predict(data, self._model), accept)
        text, given_type = result if isinstance(result, tuple) else (result, accept)
        return text.encode() if isinstance(text, str) else bytes(text), given_type


class Server(ThreadingHTTPServer):
    """Answers pings from the start, with 200 once :attr:`script` is there."""

    daemon_threads = True
    request_queue_size = 128
    script: ModelScript | None = None


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    wbufsize = -1
    server: Server

    def do_GET(self) -> None:
        if self.path != "/ping":
            self._send(HTTPStatus.NOT_FOUND, b"", JSON)
        elif self.server.script is None:
            self._send(HTTPStatus.SERVICE_UNAVAILABLE, b"", JSON)
        else:
            self._send(HTTPStatus.OK, b"", JSON)

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        script = self.server.script
        if self.path != "/invocations":
            self._refuse(HTTPStatus.NOT_FOUND, f"There is no {self.path}.")
        elif script is None:
            self._refuse(HTTPStatus.SERVICE_UNAVAILABLE, "The model is not loaded yet.")
        else:
            self._invoke(script, body)

    def _invoke(self, script: ModelScript, body: bytes) -> None:
        content_type = _media_type(self.headers.get("Content-Type"))
        accept = _media_type(self.headers.get("Accept"))
        try:
            answer, given_type = script.answer(body, content_type, accept)
        except Refused as refused:
            self._refuse(refused.status, str(refused))
        except Exception as error:  # noqa: BLE001 - whatever the model's script raises is an answer
            traceback.print_exc()
            self._refuse(HTTPStatus.INTERNAL_SERVER_ERROR, f"{type(error).__name__}: {error}")
        else:
            self._send(HTTPStatus.OK, answer, given_type)

    def _refuse(self, status: HTTPStatus, message: str) -> None:
        self._send(status, json.dumps({"error": message}).encode(), JSON)

    def _send(self, status: HTTPStatus, body: bytes, content_type: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        if self.path != "/ping":
            super().log_message(format, *args)


def serve(environment: Mapping[str, str], *, started: Callable[[Server], object] = id) -> int:
    """
    Load the model and serve it until the process ends; return 1 if it cannot be loaded.

    :param environment: Has ``SM_MODEL_DIR`` and ``SAGEMAKER_BIND_TO_PORT``.
    :param started: Called with the server when it answers pings, before the model is loaded.
    """
    with Server(("127.0.0.1", int(environment["SAGEMAKER_BIND_TO_PORT"])), _Handler) as server:
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        started(server)
        try:
            server.script = ModelScript(Path(environment["SM_MODEL_DIR"]))
        except Exception:  # noqa: BLE001 - whatever the model's script raises, there is nothing to serve
            traceback.print_exc()
            server.shutdown()
            return 1
        thread.join()
    return 0


def _media_type(header: str | None) -> str:
    """Return a header's type without parameters; JSON where the caller does not care."""
    media_type = (header or "").partition(";")[0].strip().lower()
    return JSON if media_type in ("", "*/*") else media_type


def _import_script(path: Path) -> ModuleType:
    if not path.is_file():
        raise FileNotFoundError(f"The model archive has no code/{path.name}.")
    # The script may import modules that lie beside it.
    sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ImportError(f"{path} is no Python module.")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


if __name__ == "__main__":
    sys.exit(serve(os.environ))
