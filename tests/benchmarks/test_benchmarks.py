"""The benchmarks run to their end, and nothing that is waited for is missed."""

from __future__ import annotations

import asyncio
import json
import pkgutil
import time

import pytest

from benchmarks import __main__ as benchmarks
from benchmarks import idle
from benchmarks.environment import connection
from benchmarks.fake_aws import FakeAws, Faults
from benchmarks.fake_http import Asked
from benchmarks.fake_store import Bucket, Coverage
from benchmarks.figures import dollars, quantile
from benchmarks.implementations import IMPLEMENTATIONS
from benchmarks.submitters import WAYS
from benchmarks.ticker import cpu_at
from benchmarks.waits import make_waits

pytestmark = pytest.mark.default_airflow

EVERYWHERE = [name for name, who in IMPLEMENTATIONS.items() if not who.needs]


def test_a_handful_of_waits_gives_a_table_of_everybody(tmp_path, capfd):
    figures = tmp_path / "figures.json"
    quick = "--waits 4 --poll 1 --steady 1 --spread 0.5 --calm 0 --heartbeat 0 --history 1500 --failures 0.5"
    names = ",".join(EVERYWHERE)

    missed_or_wrong = benchmarks.main(
        [*quick.split(), "--implementations", names, "--at-once", "5", "--json", str(figures)]
    )

    told = json.loads(figures.read_text())
    assert missed_or_wrong == 0
    assert [row["name"] for row in told["rows"]] == EVERYWHERE
    assert [row["note"] for row in told["rows"]] == [""] * len(EVERYWHERE)
    assert [(row["missed"], row["wrong"]) for row in told["rows"]] == [(0, 0)] * len(EVERYWHERE)
    assert all(row["requests_per_second"] for row in told["rows"] if row["name"] != "null")
    table = [line for line in capfd.readouterr().out.splitlines() if line.startswith("|")]
    assert len(table) == 2 + len(EVERYWHERE)
    assert len({line.count("|") for line in table}) == 1
    for name, line in zip(EVERYWHERE, table[2:], strict=True):
        assert IMPLEMENTATIONS[name].title in line


def test_submitting_is_measured_beside_boto3(capfd):
    assert benchmarks.main(["submit", "--items", "40", "--repetitions", "1"]) == 0
    table = capfd.readouterr().out
    assert all(f"| {way} |" in table for way in WAYS)


def test_a_listing_goes_on_after_its_last_key_and_leaves_out_what_is_still_to_come():
    bucket = Bucket()
    for key in ("a/1", "a/2", "a/3", "b/1"):
        bucket.put(key, b"", 0.0)
    bucket.put("a/0", b"", float("1e12"))

    first = bucket.page("a/", "", "", 2)
    rest = bucket.page("a/", first.last, "", 2)
    folders = bucket.page("", "", "/", 10)

    assert [len(first.rows), first.last] == [2, "a/2"]
    assert ["a/3" in rest.rows[0], len(rest.rows), rest.last] == [True, 1, ""]
    assert [folders.rows, folders.folders] == [[], ["a/", "b/"]]


def test_a_wait_is_asked_for_by_its_own_head_or_by_a_page_it_would_be_on():
    coverage = Coverage()
    coverage.expect("bucket", ["a/1", "a/2", "a/3", "b/1"])

    coverage.listed("bucket", "a/", "", "")
    assert coverage.left == 4  # That LIST came before the waits had begun.
    coverage.lists_count_from = 0.0
    coverage.listed("bucket", "a/", "", "a/2")
    assert coverage.left == 2
    coverage.head("bucket", "b/1")
    coverage.head("bucket", "b/1")
    assert coverage.left == 1
    coverage.listed("bucket", "a/", "a/2", "")
    assert coverage.left == 0


@pytest.mark.parametrize(
    ("faults", "statuses"),
    [
        pytest.param(Faults(), [404, 404, 404], id="ideal"),
        pytest.param(Faults(refused=1.0), [403, 403, 403], id="refused"),
        pytest.param(Faults(most_per_second=1e-9), [503, 503, 503], id="too many requests"),
    ],
)
def test_what_goes_wrong_is_what_was_told_to(faults, statuses):
    aws = FakeAws()
    aws.faults = faults

    answers = [aws.answer(Asked("HEAD", "/bucket/key", "", {}, b"")) for _ in statuses]

    assert [answer.status for answer in answers] == statuses
    assert aws.counts == {"HEAD": 3}


def test_a_trigger_that_looks_at_nothing_fires_at_the_moment_that_is_told(tmp_path, monkeypatch):
    monkeypatch.setenv("AIRFLOW_HOME", str(tmp_path))
    monkeypatch.setenv("AIRFLOW_CONN_AWS_DEFAULT", connection("http://127.0.0.1:9"))
    monkeypatch.setattr(idle, "_read", None)
    monkeypatch.setattr(idle, "_LATER_SECONDS", 0.0)
    wait = make_waits(1, own_folders=False, seed=1)[0]
    path, arguments = IMPLEMENTATIONS["null"].in_triggerer().triggers(None, wait)[0].serialize()
    moment = time.monotonic() + 0.3

    async def fires():
        firing = asyncio.create_task(anext(pkgutil.resolve_name(path)(**arguments).run()))
        await asyncio.sleep(0.1)
        assert not firing.done()
        idle.tell_moments(tmp_path, {wait.index: moment})
        return (await firing).payload, time.monotonic()

    payload, fired_at = asyncio.run(fires())

    assert payload == {"status": "success"}
    assert moment <= fired_at
    assert idle.is_ready(tmp_path)


def test_the_same_seed_gives_the_same_waits_wherever_they_are_made():
    assert make_waits(3, own_folders=True, seed=5) == make_waits(3, own_folders=True, seed=5)
    assert make_waits(3, own_folders=True, seed=5) != make_waits(3, own_folders=True, seed=6)
    shared, own = (make_waits(3, own_folders=own, seed=5) for own in (False, True))
    assert [len({wait.output_key.rpartition("/")[0] for wait in waits}) for waits in (shared, own)] == [1, 3]


def test_figures_are_what_their_names_say():
    assert quantile([4.0, 1.0, 3.0, 2.0], 0.5) == 2.5
    assert cpu_at([(1.0, 0.0, 10.0), (3.0, 0.0, 20.0)], 2.0) == 15.0
    assert dollars({"LIST": 1000, "HEAD": 1000, "DescribeEndpoint": 1000}) == pytest.approx(0.0054)
