from __future__ import annotations

import threading

import pytest

from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.knobs import Knobs
from airflow_async_sm.emulator.settings.unknowns import BothObjects, Unknowns
from airflow_async_sm.emulator.settings.values import SettingError


def test_knobs_begin_with_the_defaults_or_what_they_are_given():
    assert (Knobs().behaviour, Knobs().unknowns) == (Behaviour(), Unknowns())
    behaviour, unknowns = Behaviour(queue_seconds=0), Unknowns(container_inference_id=True)
    knobs = Knobs(behaviour, unknowns)
    assert knobs.behaviour is behaviour
    assert knobs.unknowns is unknowns


def test_what_is_not_named_stays():
    knobs = Knobs(Behaviour(queue_seconds=3), Unknowns(container_inference_id=True))
    knobs.change(behaviour={"update_seconds": 4})
    knobs.change(unknowns={"both_objects": "output_after_failure"})
    knobs.change()
    assert knobs.behaviour == Behaviour(queue_seconds=3, update_seconds=4)
    assert knobs.unknowns == Unknowns(
        container_inference_id=True, both_objects=BothObjects.OUTPUT_AFTER_FAILURE
    )


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        (
            {"behaviour": {"queue_seconds": -1}},
            "behaviour.queue_seconds is -1.0; it must be a number of at least 0.",
        ),
        (
            {"behaviour": {"queue_second": 1}},
            "behaviour.queue_second is not known: .* Did you mean queue_seconds?",
        ),
        ({"unknowns": {"both_objects": "x"}}, "unknowns.both_objects is 'x'; it must be one of"),
        ({"unknowns": {"both": "x"}}, "unknowns.both is not known: unknowns has no such name."),
        ({"unknowns": [1]}, "unknowns is \\[1\\]; it must be a mapping"),
        ({"behaviour": []}, "behaviour is \\[\\]; it must be a mapping"),
    ],
)
def test_change_that_cannot_be_changes_nothing(changes, text):
    knobs = Knobs()
    both = {"behaviour": {"update_seconds": 9}, "unknowns": {"container_inference_id": True}} | changes
    with pytest.raises(SettingError, match=text):
        knobs.change(**both)
    assert (knobs.behaviour, knobs.unknowns) == (Behaviour(), Unknowns())


def test_changes_of_many_threads_are_all_kept():
    knobs = Knobs()
    names = ["creation_seconds", "deletion_seconds", "update_seconds", "rollback_seconds"]
    start = threading.Barrier(len(names))

    def turn(name):
        start.wait(10)
        for value in range(1, 200):
            knobs.change(behaviour={name: value})

    threads = [threading.Thread(target=turn, args=(name,)) for name in names]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [getattr(knobs.behaviour, name) for name in names] == [199] * len(names)
