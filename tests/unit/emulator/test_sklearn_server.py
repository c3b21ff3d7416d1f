"""The bundled model server: its script contract without a socket, and its HTTP side in a thread."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
import urllib.error
import urllib.request

import numpy
import pytest

from airflow_async_sm.emulator.models.sklearn_server import ModelScript, Refused, serve

SUMS = """
class Sums:
    def predict(self, rows):
        if rows.shape[1] == 1:
            raise RuntimeError("one column")
        return rows.sum(axis=1)

def model_fn(model_dir):
    return Sums()
"""
JSON, CSV = "application/json", "text/csv"


@pytest.fixture
def script(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "path", list(sys.path))

    def make(source):
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "inference.py").write_text(source)
        return ModelScript(tmp_path)

    return make


class TestDefaults:
    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"[[1, 2], [3, 4]]", JSON),
            (b'{"instances": [[1, 2], [3, 4]]}', JSON),
            (b"1,2\n3,4\n", CSV),
            (b"1,2\r\n\r\n3,4", CSV),
        ],
    )
    def test_rows_are_read(self, script, body, content_type):
        answer, given = script(SUMS).answer(body, content_type, JSON)
        assert (json.loads(answer), given) == ([3, 7], JSON)

    def test_single_row_needs_no_outer_array(self, script):
        assert script(SUMS).answer(b"[1, 2]", JSON, JSON)[0] == b"[3]"

    def test_csv_is_given_where_it_is_asked_for(self, script):
        assert script(SUMS).answer(b"[[1, 2], [3, 4]]", JSON, CSV) == (b"3\n7\n", CSV)

    @pytest.mark.parametrize(
        ("body", "content_type"),
        [
            (b"{", JSON),
            (b"\xff", JSON),
            (b"[]", JSON),
            (b'"text"', JSON),
            (b'{"rows": [[1]]}', JSON),
            (b"[[1, 2], [3]]", JSON),
            (b"1,x", CSV),
            (b"", CSV),
        ],
    )
    def test_body_that_cannot_be_read_is_refused(self, script, body, content_type):
        with pytest.raises(Refused, match="cannot be read as") as refused:
            script(SUMS).answer(body, content_type, JSON)
        assert refused.value.status == 400

    def test_other_types_are_refused(self, script):
        made = script(SUMS)
        for types, status in ((("image/png", JSON), 415), ((JSON, "image/png"), 406)):
            with pytest.raises(Refused, match="image/png is not supported") as refused:
                made.answer(b"[[1, 2]]", *types)
            assert refused.value.status == status


class TestScript:
    def test_functions_of_the_script_are_used(self, script):
        made = script(
            "def model_fn(d): return 'model of ' + d[-4:]\n"
            "def input_fn(body, content_type): return (body, content_type)\n"
            "def predict_fn(data, model): return (*data, model[:8])\n"
            "def output_fn(prediction, accept): return repr(prediction) + accept\n"
        )
        assert made.answer(b"x", "a/b", "c/d") == (b"(b'x', 'a/b', 'model of')c/d", "c/d")
        assert made.answer(b"x", CSV, JSON)[0].startswith(b"('x', ")

    def test_output_may_name_its_type(self, script):
        made = script(SUMS + "def output_fn(prediction, accept): return bytes(2), 'image/png'\n")
        assert made.answer(b"[[1, 2]]", JSON, JSON) == (b"\0\0", "image/png")

    def test_error_of_the_model_is_not_a_refusal(self, script):
        with pytest.raises(RuntimeError, match="one column"):
            script(SUMS).answer(b"[[1]]", JSON, JSON)

    def test_numpy_values_become_json(self, script):
        made = script(SUMS + "def predict_fn(data, model):\n    import numpy\n    return numpy.eye(2)\n")
        assert json.loads(made.answer(b"[[1]]", JSON, JSON)[0]) == numpy.eye(2).tolist()


class Running:
    """The server in a thread."""

    def __init__(self, model_dir):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        self.server = None
        self.code = None
        self.bound = threading.Event()
        environment = {"SM_MODEL_DIR": str(model_dir), "SAGEMAKER_BIND_TO_PORT": str(self.port)}

        def started(server):
            self.server = server
            self.bound.set()

        def run():
            self.code = serve(environment, started=started)

        self.thread = threading.Thread(target=run)
        self.thread.start()
        assert self.bound.wait(10)

    def call(self, path, body=None, **headers):
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        request = urllib.request.Request(f"http://127.0.0.1:{self.port}{path}", data=body, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            with error:
                return error.code, error.read()

    def pings_until_healthy(self):
        """Return the other statuses that were seen on the way."""
        seen, give_up_at = set(), time.monotonic() + 10
        while (status := self.call("/ping")[0]) != 200:
            seen.add(status)
            assert time.monotonic() < give_up_at
        return seen

    def stop(self):
        self.server.shutdown()
        self.thread.join(10)
        assert not self.thread.is_alive()


@pytest.fixture
def served(tmp_path, monkeypatch):
    """Return a function that serves a script which loads only when ``tmp_path/go`` is there."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    running = []

    def make(source):
        (tmp_path / "code").mkdir()
        (tmp_path / "code" / "inference.py").write_text(source)
        running.append(Running(tmp_path))
        return running[-1]

    yield make
    for server in running:
        server.stop()


class TestServer:
    def test_it_is_healthy_when_the_model_is_loaded(self, served, tmp_path):
        wait = (
            "import pathlib, time\n"
            "while not (pathlib.Path(__file__).parent.parent / 'go').exists():\n    time.sleep(0.01)\n"
        )
        server = served(wait + SUMS)
        assert server.call("/ping") == (503, b"")
        assert server.call("/invocations", b"[[1, 2]]")[0] == 503
        (tmp_path / "go").touch()
        assert server.pings_until_healthy() <= {503}
        assert server.call("/invocations", b"[[1, 2]]", Content_Type="") == (200, b"[3]")

    def test_answers_have_their_status_and_an_error_text(self, served):
        server = served(SUMS)
        server.pings_until_healthy()
        for status, body, headers in (
            (200, b"1,2", {"Content_Type": "text/csv; charset=utf-8", "Accept": "*/*"}),
            (400, b"{", {"Content_Type": JSON}),
            (406, b"[[1, 2]]", {"Content_Type": JSON, "Accept": "image/png"}),
            (415, b"x", {"Content_Type": "image/png"}),
            (500, b"[[1]]", {"Content_Type": JSON}),
        ):
            code, answer = server.call("/invocations", body, **headers)
            assert code == status
            assert (list(json.loads(answer)) == ["error"]) is (status != 200)
        assert json.loads(answer)["error"] == "RuntimeError: one column"
        assert server.call("/other", b"x")[0] == 404
        assert server.call("/other")[0] == 404

    @pytest.mark.parametrize("source", ["raise ValueError('broken')", "model_fn = None", "x = 1"])
    def test_script_that_cannot_be_loaded_ends_the_server(self, served, source, capfd):
        server = served(source)
        server.thread.join(10)
        assert server.code == 1
        assert "Error" in capfd.readouterr().err
