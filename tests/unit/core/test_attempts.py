"""What a task remembers of its request, and when it makes a new one."""

from __future__ import annotations

import json
from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.attempts import Attempt, BatchAttempt, Phase, Tries, fingerprint, why_anew
from airflow_async_sm.core.handles import BatchHandle, InvocationHandle
from airflow_async_sm.core.limits import InvalidInput

HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out/airflow/x/",
    submitted_at=1.0,
    expires_at=2.0,
)


FIRST = Tries(number=1, most=2, retries=2)
RETRY = Tries(number=2, most=2, retries=2)
# Each of these runs a task again, and is no retry.
CLEARED = {
    "cleared": Tries(number=2, most=3, retries=2),
    "cleared, with fewer retries than before": Tries(number=2, most=2, retries=1),
    "its run deleted and made again": Tries(number=1, most=2, retries=2),
}
cleared = pytest.mark.parametrize("tries", CLEARED.values(), ids=CLEARED.keys())


def attempt(phase=Phase.OPEN, **changes):
    return Attempt(**{"fingerprint": "same", "tries": FIRST, "handle": HANDLE, "phase": phase, **changes})


def why(found, tries=RETRY, *, fingerprint="same", on_clear="reattach", **more):
    return why_anew(found, fingerprint=fingerprint, tries=tries, on_clear=on_clear, **more)


class TestWhyAnew:
    def test_a_first_try_knows_of_nothing(self):
        assert why(None) == "nothing is known of an earlier one"

    @pytest.mark.parametrize("phase", [Phase.OPEN, Phase.COLLECTED])
    def test_a_retry_takes_up_what_there_is(self, phase):
        assert why(attempt(phase)) == ""

    @cleared
    def test_a_cleared_task_takes_up_a_request_whose_end_was_not_seen(self, tries):
        assert why(attempt(), tries) == ""

    @cleared
    def test_a_cleared_task_lets_it_go_if_told_so(self, tries):
        text = why(attempt(), tries, on_clear="fresh")
        assert "on_clear is 'fresh'; the earlier one, id-1, goes on unseen" in text

    def test_a_retry_is_no_clearing(self):
        assert why(attempt(), on_clear="fresh") == ""

    @cleared
    @pytest.mark.parametrize("on_clear", ["reattach", "fresh"])
    def test_clearing_a_task_that_had_its_answer_asks_anew(self, tries, on_clear):
        text = why(attempt(Phase.COLLECTED), tries, on_clear=on_clear)
        assert text.startswith("the earlier one, id-1, was answered, and this is no retry")

    @pytest.mark.parametrize("tries", [RETRY, *CLEARED.values()])
    def test_a_request_that_failed_is_not_taken_up(self, tries):
        assert why(attempt(Phase.ENDED), tries) == "the earlier one, id-1, failed"

    @pytest.mark.parametrize("phase", [Phase.OPEN, Phase.COLLECTED])
    def test_another_input_is_another_request(self, phase):
        assert why(attempt(phase), fingerprint="new") == "the earlier one, id-1, was for another input"

    @pytest.mark.parametrize("tries", [FIRST, RETRY, *CLEARED.values()])
    @pytest.mark.parametrize("phase", [Phase.OPEN, Phase.COLLECTED])
    @pytest.mark.parametrize("on_clear", ["reattach", "fresh"])
    def test_what_another_process_asked_for_meanwhile_is_taken_up(self, tries, phase, on_clear):
        assert why(attempt(phase), tries, on_clear=on_clear, meanwhile=True) == ""

    def test_unless_it_failed_or_is_for_another_input(self):
        assert why(attempt(Phase.ENDED), meanwhile=True) == "the earlier one, id-1, failed"
        assert why(attempt(), fingerprint="new", meanwhile=True).endswith("was for another input")

    @pytest.mark.parametrize("number", [1, 2])
    def test_a_number_that_airflow_gives_once_more_in_the_same_run_is_no_clearing(self, number):
        tries, later = (Tries(number=number, most=2, retries=2) for number in (number, 2))
        found = attempt(Phase.COLLECTED, tries=later)
        assert why(found, tries, on_clear="fresh", run_began_at=0.5) == ""
        assert "this is no retry" in why(found, tries, run_began_at=HANDLE.submitted_at)
        assert "this is no retry" in why(found, tries)

    @pytest.mark.parametrize(
        "tries", [Tries(number=2, most=3, retries=2), Tries(number=2, most=2, retries=1)]
    )
    def test_clearing_in_the_same_run_is_clearing(self, tries):
        assert "this is no retry" in why(attempt(Phase.COLLECTED), tries, run_began_at=0.5)

    @given(
        st.sampled_from(Phase),
        st.booleans(),
        st.sampled_from([RETRY, *CLEARED.values()]),
        st.sampled_from(["reattach", "fresh"]),
    )
    def test_nothing_that_may_still_be_answered_is_asked_twice_unless_somebody_wants_it(
        self, phase, same, tries, on_clear
    ):
        anew = why(
            attempt(phase),
            tries,
            fingerprint="same" if same else "new",
            on_clear=on_clear,
        )
        wanted = not same or (tries != RETRY and (on_clear == "fresh" or phase is Phase.COLLECTED))
        assert bool(anew) == (phase is Phase.ENDED or wanted)


def test_what_is_no_number_counts_as_none():
    assert Tries.of(object(), None, 2) == Tries(number=0, most=0, retries=2)


class TestTriesOfATask:
    def test_they_are_what_airflow_says(self):
        task = SimpleNamespace(try_number=2, max_tries=3)
        assert Tries.of_task(task, 1) == Tries(number=2, most=3, retries=1)

    @pytest.mark.parametrize(
        "task", [None, SimpleNamespace(), SimpleNamespace(try_number=None, max_tries="3")]
    )
    def test_an_operator_that_is_run_by_hand_has_none(self, task):
        assert Tries.of_task(task, 1) == Tries(number=0, most=0, retries=1)


class TestFingerprint:
    def test_the_same_input_has_the_same(self):
        assert fingerprint(a=1, b=None) == fingerprint(b=None, a=1)

    @pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": 1, "b": 0}, {}])
    def test_any_other_has_another(self, other):
        assert fingerprint(a=1) != fingerprint(**other)

    def test_what_json_cannot_hold_is_refused_by_others(self):
        assert fingerprint(a=b"1") != fingerprint(a="1")

    def test_it_is_short(self):
        assert len(fingerprint(a="x" * 10_000)) == 32


class TestRecord:
    def test_it_survives_json(self):
        assert Attempt.from_dict(json.loads(json.dumps(attempt().to_dict()))) == attempt()

    def test_it_can_be_in_another_phase(self):
        assert attempt().at(Phase.ENDED) == attempt(Phase.ENDED)

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"fingerprint": ""}, "Attempt.fingerprint is ''"),
            (
                {"tries": {"number": "1", "most": 2, "retries": 2}},
                "Tries.number is '1'; a whole number is needed",
            ),
            ({"tries": {"number": 1, "most": True, "retries": 2}}, "Tries.most is True"),
            ({"tries": 2}, "Attempt.tries is int; a dictionary is needed"),
            ({"handle": None}, "Attempt.handle is NoneType; a dictionary is needed"),
            ({"handle": {"endpoint_name": "model"}}, "InvocationHandle lacks output_location"),
            ({"phase": "lost"}, "Attempt.phase is 'lost'; expected one of open, collected, ended"),
        ],
    )
    def test_a_damaged_one_is_refused(self, change, complaint):
        with pytest.raises(InvalidInput, match=complaint):
            Attempt.from_dict({**attempt().to_dict(), **change})


class TestBatch:
    BATCH = BatchHandle(
        endpoint_name="model", location="s3://b/own/token/", submitted_at=1.0, began_at=1.0, items=3
    )

    def attempt(self, phase=Phase.OPEN):
        return BatchAttempt(fingerprint="same", tries=FIRST, handle=self.BATCH, phase=phase)

    def test_it_survives_json(self):
        read = BatchAttempt.from_dict(json.loads(json.dumps(self.attempt().to_dict())))
        assert read == self.attempt()
        assert type(read.handle) is BatchHandle

    def test_it_can_be_in_another_phase(self):
        ended = self.attempt().at(Phase.COLLECTED)
        assert (type(ended), ended) == (BatchAttempt, self.attempt(Phase.COLLECTED))

    def test_it_is_gone_on_with_like_a_request(self):
        assert why(self.attempt()) == ""
        assert why(self.attempt(), fingerprint="new") == (
            "the earlier one, in s3://b/own/token/, was for another input"
        )

    def test_what_a_task_remembers_of_one_request_is_no_batch(self):
        with pytest.raises(InvalidInput, match="BatchHandle lacks"):
            BatchAttempt.from_dict(attempt().to_dict())
        with pytest.raises(InvalidInput, match="InvocationHandle lacks output_location"):
            Attempt.from_dict(self.attempt().to_dict())
        with pytest.raises(
            InvalidInput, match=r"Attempt\.handle is InvocationHandle; a dictionary is needed"
        ):
            BatchAttempt(fingerprint="same", tries=FIRST, handle=HANDLE)
