"""Chance in a running emulator: a seed makes a run repeatable."""

from __future__ import annotations

from airflow_async_sm.emulator.settings.faults import ModelError, ModelLatency, ServiceFailed
from tests.lab import Lab, make_lab


def run_with_chance(seed):
    """Return which of some requests were hit by what, and every id that was made."""
    faults = [
        ModelError(rate=0.4),
        ModelLatency(seconds=1, up_to=9, distribution="uniform"),
        ServiceFailed(rate=0.3, operation="DescribeEndpoint"),
    ]
    with make_lab(faults=faults, seed=seed) as emulator:
        lab = Lab(emulator)
        name = lab.create("chance")
        hit = []
        for _ in range(16):
            response = lab.run(name)
            lab.advance(9)
            record = lab.record(response)
            taken = round(record.finished_at - record.started_at, 6)
            hit.append((record.state.value, taken, record.request_id, response["InferenceId"]))
        client = lab.own("sagemaker")
        described = []
        for _ in range(12):
            try:
                client.describe_endpoint(EndpointName=name)
                described.append(True)
            except client.exceptions.ClientError:
                described.append(False)
        lab.close()
        return hit, described


def test_seed_makes_a_run_repeatable():
    first, second, other, unseeded = (run_with_chance(seed) for seed in (7, 7, 8, None))
    assert first == second
    assert {state for state, *_ in first[0]} == {"failed", "succeeded"}
    assert set(first[1]) == {True, False}
    for different in (other, unseeded):
        assert [hit[0] for hit in first[0]] != [hit[0] for hit in different[0]]
        assert not {hit[2:] for hit in first[0]} & {hit[2:] for hit in different[0]}


def test_chance_begins_anew_with_a_reset():
    def outcomes(lab):
        name = lab.deploy("chance")
        return [lab.record(lab.run(name)).request_id for _ in range(3)], lab.emulator.faults.all()

    with make_lab(faults=[ModelError(rate=0.5)], seed=7) as emulator:
        first = outcomes(Lab(emulator))
        emulator.reset()
        assert outcomes(Lab(emulator)) == first
