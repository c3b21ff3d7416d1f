from __future__ import annotations

import pytest

from airflow_async_sm.emulator.errors import AwsError
from airflow_async_sm.emulator.reaching import past_proxies
from airflow_async_sm.emulator.web.gate import Gate

LOCAL = Gate(host="127.0.0.1", url="http://127.0.0.1:4000")


def passes(gate, host, *, origin=None, site=None):
    try:
        gate.check(host=host, origin=origin, site=site)
    except AwsError as refusal:
        return refusal.status != 403
    return True


@pytest.mark.parametrize(
    "host",
    [
        "127.0.0.1:4000",
        "127.0.0.1",
        "127.8.8.8:4000",
        "[::1]:4000",
        "localhost:4000",
        "LOCALHOST",
        "bucket.localhost:4000",
        "my.bucket.s3.localhost",
    ],
)
def test_name_of_this_machine_passes(host):
    assert passes(LOCAL, host)


@pytest.mark.parametrize(
    "host",
    [
        "",
        "attacker.example:4000",
        "localhost.attacker.example",
        "notlocalhost",
        "127.0.0.1.attacker.example",
        "192.168.1.5:4000",
        "[::1",
    ],
)
def test_other_name_is_refused(host):
    assert not passes(LOCAL, host)


def test_configured_name_passes():
    gate = Gate(host="Emulator", url="http://Emulator:4000")
    assert passes(gate, "emulator:4000")
    assert passes(gate, "Emulator:4000", origin="http://Emulator:4000")
    assert not passes(gate, "other:4000")


@pytest.mark.parametrize("host", ["0.0.0.0", "::", ""])
def test_emulator_that_listens_everywhere_has_every_address_and_no_foreign_name(host):
    gate = Gate(host=host, url="http://127.0.0.1:4000")
    assert passes(gate, "192.168.1.5:4000")
    assert not passes(gate, "attacker.example:4000")


@pytest.mark.parametrize("origin", ["http://127.0.0.1:4000", "http://localhost:4000"])
def test_own_page_passes(origin):
    assert passes(LOCAL, "localhost:4000", origin=origin, site="same-origin")


@pytest.mark.parametrize(
    "origin",
    [
        "null",
        "",
        "https://attacker.example",
        "http://127.0.0.1:8080",
        "http://127.0.0.1",
        "https://localhost:4000",
    ],
)
def test_page_of_another_site_is_refused(origin):
    assert not passes(LOCAL, "localhost:4000", origin=origin)


@pytest.mark.parametrize(("site", "passed"), [("none", True), ("cross-site", False), ("same-site", False)])
def test_image_or_link_of_another_site_is_refused(site, passed):
    assert passes(LOCAL, "localhost:4000", site=site) is passed


@pytest.mark.parametrize(
    ("environment", "value"),
    [
        ({}, "127.0.0.1"),
        ({"NO_PROXY": "a, b"}, "a,b,127.0.0.1"),
        ({"no_proxy": "a"}, "a,127.0.0.1"),
        ({"no_proxy": "127.0.0.1,a"}, "127.0.0.1,a"),
    ],
)
def test_emulator_is_excepted_from_proxies_beside_what_was(environment, value):
    assert past_proxies("http://127.0.0.1:4000", environment) == {"NO_PROXY": value, "no_proxy": value}
