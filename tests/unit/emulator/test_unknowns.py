from __future__ import annotations

import dataclasses
import json
import typing
from enum import StrEnum

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_async_sm.emulator.settings.unknowns import (
    FailureExtension,
    FailureFilename,
    FilenameSuffix,
    ObjectContentType,
    RefusalTexts,
    ThrottlingStatus,
    Unknowns,
)
from airflow_async_sm.emulator.settings.values import build, plain

KINDS = typing.get_type_hints(Unknowns)
CHOICES = {name: kind for name, kind in KINDS.items() if issubclass(kind, StrEnum)}


def explained(name):
    text = Unknowns.__doc__.partition(f":param {name}:")[2].partition(":param")[0]
    return " ".join(text.split())


@pytest.mark.parametrize("name", KINDS)
def test_every_switch_says_its_default_and_why(name):
    text = explained(name)
    assert "Default " in text
    assert any(
        source in text for source in ("our inference", "our choice", "documented", "reported", "API model")
    )


@pytest.mark.parametrize("name", CHOICES)
def test_every_position_is_explained_and_can_be_written_as_text(name):
    default = getattr(Unknowns(), name)
    assert f"Default ``{default.value}``" in explained(name)
    assert len(CHOICES[name]) > 1
    for position in CHOICES[name]:
        assert f"``{position.value}``" in explained(name)
        assert getattr(Unknowns(**{name: position.value}), name) is position


@given(st.builds(Unknowns, **{name: st.from_type(kind) for name, kind in CHOICES.items()}))
def test_positions_make_the_same_again(unknowns):
    assert build(Unknowns, json.loads(json.dumps(plain(unknowns))), kind="unknowns") == unknowns


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("lost_instance", "found"),
        ("lost_instance_requeues", -1),
        ("lost_instance_requeues", 0.5),
        ("notification_lead_seconds", 1.01),
        ("notification_lead_seconds", -0.1),
        ("container_inference_id", "yes"),
    ],
)
def test_position_that_does_not_exist_is_refused(name, value):
    with pytest.raises(ValueError, match=f"^{name} is "):
        Unknowns(**{name: value})


@pytest.mark.parametrize(
    ("suffix", "filename", "key"),
    [
        (FilenameSuffix.ABSENT, None, "id.out"),
        (FilenameSuffix.OUT, None, "id.out"),
        (FilenameSuffix.ABSENT, "a.json", "a.json"),
        (FilenameSuffix.OUT, "a.json", "a.json.out"),
    ],
)
def test_name_of_an_output(suffix, filename, key):
    assert Unknowns(filename_suffix=suffix).output_name(filename, "id") == key


@pytest.mark.parametrize(
    ("position", "filename", "key"),
    [
        (FailureFilename.KEPT, None, "id-error.out"),
        (FailureFilename.IGNORED, None, "id-error.out"),
        (FailureFilename.KEPT, "a", "a-error.out"),
        (FailureFilename.IGNORED, "a", "id-error.out"),
    ],
)
def test_name_of_a_failure(position, filename, key):
    assert Unknowns(failure_filename=position).failure_name(filename, "id") == key


@pytest.mark.parametrize(
    ("position", "extension", "folder"),
    [
        (FailureExtension.KEPT, None, ""),
        (FailureExtension.IGNORED, None, ""),
        (FailureExtension.KEPT, "a/b", "a/b"),
        (FailureExtension.IGNORED, "a/b", ""),
    ],
)
def test_folder_of_a_failure(position, extension, folder):
    assert Unknowns(failure_extension=position).failure_folder(extension) == folder


@pytest.mark.parametrize(
    ("position", "answered", "content_type"),
    [
        (ObjectContentType.CONTAINER, "text/csv", "text/csv"),
        (ObjectContentType.CONTAINER, None, "binary/octet-stream"),
        (ObjectContentType.BINARY, "text/csv", "binary/octet-stream"),
    ],
)
def test_content_type_of_an_object(position, answered, content_type):
    assert Unknowns(object_content_type=position).content_type(answered) == content_type


@pytest.mark.parametrize(
    ("position", "status"), [(ThrottlingStatus.BAD_REQUEST, 400), (ThrottlingStatus.TOO_MANY_REQUESTS, 429)]
)
def test_throttling(position, status):
    assert Unknowns(throttling_status=position).throttling() == ("ThrottlingException", status)


def test_refusals_have_something_else_in_common_in_each_position():
    problem = "Value at 'body' is too long."
    constraint = Unknowns().refusal_text(problem)
    sentence = Unknowns(refusal_texts=RefusalTexts.SENTENCE).refusal_text(problem)
    assert constraint == f"1 validation error detected: {problem}"
    assert "1 validation error" not in sentence
    assert problem in sentence


def test_positions_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Unknowns().both_objects = "never"
