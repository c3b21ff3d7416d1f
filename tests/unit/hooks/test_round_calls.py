"""Asking for a few keys at once: what becomes of the others where one cannot be asked for."""

from __future__ import annotations

import pytest

from airflow_async_sm.core.buckets import Heads, Sight, Spot
from airflow_async_sm.exceptions import RequestRejected, ServiceUnavailable, Throttled
from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook


@pytest.fixture
def asked(monkeypatch):
    """Ask for keys whose sights are given, or what is raised. Return what is seen, and who was asked for."""

    def ask(**sights):
        tried = []

        def sight(_, uri):
            key = uri.key
            tried.append(key)
            if isinstance(sights[key], Exception):
                raise sights[key]
            return sights[key]

        monkeypatch.setattr(SageMakerAsyncHook, "_sight", sight)
        seen = SageMakerAsyncHook().heads(Heads("b", [Spot(n, "b", key) for n, key in enumerate(sights)]))
        assert seen.requests == len(tried)
        return {key: seen.at(key) for key in sights}, tried, seen

    return ask


def unavailable(why):
    error = ServiceUnavailable("Could not look.")
    error.__cause__ = TimeoutError(why)
    return error


def test_what_is_there_and_what_is_not(asked):
    sights = {"a": Sight.PRESENT, "b": Sight.ABSENT, "c": Sight.REFUSED}
    found, tried, _ = asked(**sights)
    assert found == sights
    assert tried == ["a", "b", "c"]


def test_one_that_fails_leaves_the_others_as_they_are(asked):
    found, _, seen = asked(a=unavailable("too slow"), b=Sight.PRESENT, c=Sight.ABSENT)
    assert found == {"a": Sight.FAILED, "b": Sight.PRESENT, "c": Sight.ABSENT}
    assert seen.failed == {"a": "TimeoutError: too slow"}


def test_after_two_that_fail_the_rest_is_not_asked_for(asked):
    found, tried, _ = asked(a=Sight.PRESENT, b=unavailable("1"), c=unavailable("2"), d=Sight.PRESENT)
    assert found == {"a": Sight.PRESENT, "b": Sight.FAILED, "c": Sight.FAILED, "d": Sight.FAILED}
    assert tried == ["a", "b", "c"]


def test_who_is_too_busy_is_not_asked_again(asked):
    found, tried, _ = asked(a=Sight.ABSENT, b=Throttled("slow down"), c=Sight.PRESENT)
    assert found == {"a": Sight.ABSENT, "b": Sight.FAILED, "c": Sight.FAILED}
    assert tried == ["a", "b"]


@pytest.mark.parametrize(
    "error", [RequestRejected("400"), UnicodeEncodeError("utf-8", "\ud800", 0, 1, "surrogates")]
)
def test_a_key_that_cannot_be_asked_for_takes_a_look_of_its_own(asked, error):
    found, _, _ = asked(a=Sight.ABSENT, b=error, c=Sight.PRESENT)
    assert found == {"a": Sight.ABSENT, "b": Sight.REFUSED, "c": Sight.PRESENT}


@pytest.mark.parametrize("error", [RequestRejected("400"), Throttled("slow down"), unavailable("too slow")])
def test_where_nobody_is_answered_that_is_an_error(asked, error):
    with pytest.raises(type(error)):
        asked(a=error, b=error)


def test_a_key_that_several_wait_for_is_asked_for_once(monkeypatch):
    tried = []
    monkeypatch.setattr(SageMakerAsyncHook, "_sight", lambda _, uri: tried.append(uri.key) or Sight.ABSENT)
    SageMakerAsyncHook().heads(Heads("b", [Spot(1, "b", "k"), Spot(2, "b", "k")]))
    assert tried == ["k"]
