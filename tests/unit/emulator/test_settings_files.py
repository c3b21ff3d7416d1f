from __future__ import annotations

import json

import pytest

from airflow_async_sm.emulator.settings.behaviours import Behaviour
from airflow_async_sm.emulator.settings.faults import ModelCrash, ModelLatency, ReplyLost
from airflow_async_sm.emulator.settings.files import (
    Settings,
    read_settings,
)
from airflow_async_sm.emulator.settings.unknowns import LostInstance, Unknowns

EVERYTHING = Settings(
    behaviour=Behaviour(creation_seconds=0.5, instance_quota=3),
    unknowns=Unknowns(lost_instance=LostInstance.FAILED, container_inference_id=True),
    faults=(ModelLatency(2, endpoint="a"), ModelCrash(rate=0.1, times=3), ReplyLost(operation=None)),
    seed=7,
    images={
        "one": ["python", "serve.py"],
        "two:1.0": "http://127.0.0.1:8080",
        "three": "docker",
        "four": "math:sqrt",
    },
)

YAML = """\
# A comment.
behaviour:
  creation_seconds: 0.5
  instance_quota: 3
unknowns: {lost_instance: failed, container_inference_id: true}
faults:
  - {kind: model_latency, seconds: 2, endpoint: a}
  - kind: model_crash
    rate: 0.1
    times: 3
  - kind: reply_lost
    operation: null
seed: 7
images:
  one: [python, serve.py]
  two:1.0: http://127.0.0.1:8080
  three: docker
  four: math:sqrt
"""


DATA = {
    "behaviour": {"creation_seconds": 0.5, "instance_quota": 3},
    "unknowns": {"lost_instance": "failed", "container_inference_id": True},
    "faults": [
        {"kind": "model_latency", "seconds": 2, "endpoint": "a"},
        {"kind": "model_crash", "rate": 0.1, "times": 3},
        {"kind": "reply_lost", "operation": None},
    ],
    "seed": 7,
    "images": EVERYTHING.images,
}


@pytest.fixture
def read(tmp_path):
    def read_text(text, name="settings.yaml"):
        path = tmp_path / name
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return read_settings(str(path))

    return read_text


def refusal(read, text, name="settings.yaml"):
    with pytest.raises(ValueError, match=r".") as refused:
        read(text, name)
    _, found, message = str(refused.value).partition(name)
    assert found
    return message


def test_yaml_file(read):
    assert read(YAML) == EVERYTHING


@pytest.mark.parametrize("name", ["settings.json", "SETTINGS.JSON", "settings.yml", "settings"])
def test_json_can_be_read_under_every_name(read, name):
    assert read(json.dumps(DATA, indent=2), name) == EVERYTHING


def test_json_may_be_indented_with_tabs_and_begin_with_a_byte_order_mark(read):
    text = json.dumps(DATA, indent="\t")
    assert read(b"\xef\xbb\xbf" + text.encode(), "settings.json") == EVERYTHING


@pytest.mark.parametrize(
    "text", ["", "# nothing\n", "{}", "faults:\nseed:\nbehaviour:\nunknowns:\nimages:\n"]
)
def test_what_is_left_out_has_its_default(read, text):
    assert read(text) == Settings()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("- 1\n", ", line 1: What was given is [1]; it must be a mapping of names to values."),
        (
            "\n\nfault: []\n",
            ", line 3: fault is not known: a settings file has no such name. Did you mean faults?",
        ),
        ("1: 2\n", ", line 1: What was given has the key 1; keys must be texts."),
        ("seed: 1.5\n", ", line 1: seed is 1.5; it must be a whole number."),
        ("seed: yes\n", ", line 1: seed is True; it must be a whole number."),
        ("seed: 1\nbehaviour: 3\n", ", line 2: behaviour is 3; it must be a mapping of names to values."),
        (
            "behaviour:\n  ping_timeout: 1\n  queue_second: 1\n",
            ", line 3: behaviour.queue_second is not known: behaviour has no such name. "
            "Did you mean queue_seconds?",
        ),
        (
            "behaviour:\n  queue_seconds: fast\n",
            ", line 2: behaviour.queue_seconds is 'fast'; it must be a finite number.",
        ),
        (
            "unknowns:\n  seed: 1\n",
            ", line 2: unknowns.seed is not known: unknowns has no such name. There are: both_objects,",
        ),
        (
            "unknowns:\n\n  lost_instance: found\n",
            ", line 3: unknowns.lost_instance is 'found'; it must be one of 'requeued', 'failed', 'lost'.",
        ),
        (
            "faults: {kind: model_crash}\n",
            ", line 1: faults is {'kind': 'model_crash'}; it must be a list of faults.",
        ),
        (
            "faults:\n  - kind: model_crash\n  - kind: model_latency\n    rate: 1\n",
            ", line 3: faults[1].seconds is missing; model_latency needs it.",
        ),
        (
            "faults:\n  - kind: model_crash\n    rate: 2\n",
            ", line 3: faults[0].rate is 2.0; it must be a number from 0 to 1.",
        ),
        ("faults:\n  - rate: 1\n", ", line 2: faults[0].kind is missing; every fault needs it."),
        ("faults:\n  - kind: model\n", ", line 2: faults[0].kind is 'model', which is no kind of fault."),
        (
            "faults: [model_crash]\n",
            ", line 1: faults[0] is 'model_crash'; it must be a mapping of names to values.",
        ),
        ("images:\n  a: []\n", ", line 2: images.a is []; it must be a command, the address"),
        ("images:\n  a: ''\n", ", line 2: images.a is ''; it must be"),
        ("images:\n  a: [1]\n", ", line 2: images.a is [1]; it must be"),
        ("images:\n  a: {b: c}\n", ", line 2: images.a is {'b': 'c'}; it must be"),
    ],
)
def test_setting_that_cannot_be_used_is_refused_with_its_line(read, text, message):
    assert refusal(read, text).startswith(message)


def test_lines_are_known_in_json_too(read):
    text = '{\n\t"seed": 1,\n\t"faults": [\n\t\t{"kind": "model_crash",\n\t\t "rate": 3}]}'
    assert (
        refusal(read, text, "a.json") == ", line 5: faults[0].rate is 3.0; it must be a number from 0 to 1."
    )


def test_json_that_yaml_does_not_know_is_refused_without_a_line(read):
    # A control character in a text is right in JSON, and is not in YAML.
    text = '{"seed": "\x7f"}'
    assert refusal(read, text, "a.json") == ": seed is '\\x7f'; it must be a whole number."


@pytest.mark.parametrize(
    ("text", "name", "message"),
    [
        ("seed: 1\nfaults: [\n", "a.yaml", ", line 3: It is not YAML: while parsing a flow node, "),
        ("a: *nobody\n", "a.yaml", ", line 1: It is not YAML: found undefined alias 'nobody'."),
        ("a: \x07\n", "a.yaml", ": It is not YAML: "),
        ("a: 2020-13-45\n", "a.yaml", ": It is not YAML: month must be in 1..12"),
        ("a: !!python/object:os.system {}\n", "a.yaml", ", line 1: It is not YAML: could not determine"),
        ("seed: 1\nseed: 2\n", "a.yaml", ", line 2: The key 'seed' is there twice."),
        ('{"seed": 1,\n "seed": 2}', "a.json", ", line 2: The key 'seed' is there twice."),
        ('{"seed": 1,\n}', "a.json", ", line "),
        ("seed: 1", "a.json", ", line 1: It is not JSON: Expecting value."),
        (b"seed: \xff", "a.yaml", ": It is not text in UTF-8: "),
    ],
)
def test_file_that_is_not_what_it_should_be_is_refused(read, text, name, message):
    assert refusal(read, text, name).startswith(message)


def test_mapping_may_take_over_another_and_change_it(read):
    text = (
        "faults:\n"
        "  - &first {kind: model_latency, seconds: 1}\n"
        "  - &second {<<: *first, seconds: 2}\n"
        "  - {<<: *second, endpoint: a}\n"
    )
    assert read(text).faults == (ModelLatency(1), ModelLatency(2), ModelLatency(2, endpoint="a"))


def test_key_that_is_no_text_is_refused(read):
    assert "found unhashable key" in refusal(read, "? [a]\n: 1\n")


def test_file_that_is_not_there(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_settings(tmp_path / "none.yaml")
