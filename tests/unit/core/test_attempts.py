"""What a task remembers of its request, and when it makes a new one."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.core.attempts import Attempt, Phase, fingerprint, why_anew
from airflow_async_sm.core.handles import InvocationHandle
from airflow_async_sm.core.limits import InvalidInput

HANDLE = InvocationHandle(
    endpoint_name="model",
    inference_id="id-1",
    output_location="s3://bucket/out/airflow/x/",
    submitted_at=1.0,
    expires_at=2.0,
)


def attempt(phase=Phase.OPEN, **changes):
    return Attempt(**{"fingerprint": "same", "max_tries": 2, "handle": HANDLE, "phase": phase, **changes})


def why(found, *, fingerprint="same", max_tries=2, on_clear="reattach"):
    return why_anew(found, fingerprint=fingerprint, max_tries=max_tries, on_clear=on_clear)


class TestWhyAnew:
    def test_a_first_try_knows_of_nothing(self):
        assert why(None) == "nothing is known of an earlier one"

    @pytest.mark.parametrize("phase", [Phase.OPEN, Phase.COLLECTED])
    def test_a_retry_takes_up_what_there_is(self, phase):
        assert why(attempt(phase)) == ""

    def test_a_cleared_task_takes_up_a_request_whose_end_was_not_seen(self):
        assert why(attempt(), max_tries=3) == ""

    def test_a_cleared_task_lets_it_go_if_told_so(self):
        assert "on_clear is 'fresh'; the earlier one, id-1, goes on unseen" in why(
            attempt(), max_tries=3, on_clear="fresh"
        )

    def test_a_retry_is_no_clearing(self):
        assert why(attempt(), on_clear="fresh") == ""

    @pytest.mark.parametrize("on_clear", ["reattach", "fresh"])
    def test_clearing_a_task_that_had_its_answer_asks_anew(self, on_clear):
        text = why(attempt(Phase.COLLECTED), max_tries=3, on_clear=on_clear)
        assert text == "the earlier one, id-1, was answered, and the task was cleared since"

    @pytest.mark.parametrize("max_tries", [2, 3])
    def test_a_request_that_failed_is_not_taken_up(self, max_tries):
        assert why(attempt(Phase.ENDED), max_tries=max_tries) == "the earlier one, id-1, failed"

    @pytest.mark.parametrize("phase", [Phase.OPEN, Phase.COLLECTED])
    def test_another_input_is_another_request(self, phase):
        assert why(attempt(phase), fingerprint="new") == "the earlier one, id-1, was for another input"

    @given(
        st.sampled_from(Phase),
        st.booleans(),
        st.booleans(),
        st.sampled_from(["reattach", "fresh"]),
    )
    def test_nothing_that_may_still_be_answered_is_asked_twice_unless_somebody_wants_it(
        self, phase, same, cleared, on_clear
    ):
        anew = why(
            attempt(phase),
            fingerprint="same" if same else "new",
            max_tries=3 if cleared else 2,
            on_clear=on_clear,
        )
        wanted = not same or (cleared and (on_clear == "fresh" or phase is Phase.COLLECTED))
        assert bool(anew) == (phase is Phase.ENDED or wanted)


class TestFingerprint:
    def test_the_same_input_has_the_same(self):
        assert fingerprint(a=1, b=None) == fingerprint(b=None, a=1)

    @pytest.mark.parametrize("other", [{"a": 2}, {"a": "1"}, {"a": 1, "b": 0}, {}])
    def test_any_other_has_another(self, other):
        assert fingerprint(a=1) != fingerprint(**other)

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
            ({"max_tries": "2"}, "Attempt.max_tries is '2'; a whole number is needed"),
            ({"max_tries": True}, "Attempt.max_tries is True"),
            ({"handle": None}, "Attempt.handle is NoneType; a dictionary is needed"),
            ({"handle": {"endpoint_name": "model"}}, "InvocationHandle lacks output_location"),
            ({"phase": "lost"}, "Attempt.phase is 'lost'; expected one of open, collected, ended"),
        ],
    )
    def test_a_damaged_one_is_refused(self, change, complaint):
        with pytest.raises(InvalidInput, match=complaint):
            Attempt.from_dict({**attempt().to_dict(), **change})
