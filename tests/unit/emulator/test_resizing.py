"""How long an endpoint is ``Updating`` because of its number of instances."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from airflow_async_sm.emulator.account.resizing import Resizing
from airflow_async_sm.emulator.settings.behaviours import Behaviour


@pytest.mark.parametrize(
    ("update", "start", "speed", "expected"),
    [
        (20, 30, 1, (20, 30 + 240)),
        (900, 30, 1, (900, 900)),
        # The containers' time is real, however fast the emulator's passes.
        (20, 30, 60, (20, 30 + 240 * 60)),
    ],
)
def test_it_ends_when_it_is_complete_or_when_the_first_start_had_its_time(update, start, speed, expected):
    behaviour = Behaviour(update_seconds=update, instance_start_seconds=start)
    tools = SimpleNamespace(knobs=SimpleNamespace(behaviour=behaviour), clock=SimpleNamespace(speed=speed))
    resizing = Resizing.begin(tools, now=1000, start_timeout=240)
    least, most = (1000 + seconds for seconds in expected)
    assert (resizing.not_before, resizing.give_up_at) == (least, most)
    assert not resizing.is_over(least - 1, complete=True)
    assert resizing.is_over(least, complete=True)
    assert not resizing.is_over(most - 1, complete=False)
    assert resizing.is_over(most, complete=False)
