"""When scheduled actions are due."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from airflow_async_sm.emulator.scaling.schedules import BadSchedule, parse_schedule


def moment(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC).timestamp()


def minutes(expression, first, last, **more):
    """Return the full minutes between two times at which a schedule runs."""
    schedule = parse_schedule(expression, **{"created": moment("2026-01-01T00:00"), **more})
    found, now = [], moment(first)
    while now <= moment(last):
        if schedule.runs(now - 60, now):
            found.append(datetime.fromtimestamp(now, UTC).strftime("%d %H:%M"))
        now += 60
    return found


def test_at():
    assert minutes("at(2026-03-01T12:00:00)", "2026-03-01T11:00", "2026-03-01T13:00") == ["01 12:00"]
    # What falls between two minutes runs at the next one.
    assert minutes("at(2026-03-01T12:00:01)", "2026-03-01T11:00", "2026-03-01T13:00") == ["01 12:01"]


def test_at_in_a_time_zone():
    found = minutes(
        "at(2026-07-01T12:00:00)", "2026-07-01T09:00", "2026-07-01T13:00", timezone="Europe/Paris"
    )
    assert found == ["01 10:00"]


def test_start_and_end_do_not_matter_for_at():
    more = {"begins": moment("2027-01-01"), "ends": moment("2025-01-01")}
    assert minutes("at(2026-03-01T12:00:00)", "2026-03-01T11:59", "2026-03-01T12:01", **more) == ["01 12:00"]


def test_rate_counts_from_the_creation():
    found = minutes("rate(2 hours)", "2026-01-01T00:00", "2026-01-01T05:00")
    assert found == ["01 02:00", "01 04:00"]
    odd = minutes(
        "rate(2 minutes)", "2026-01-01T00:00", "2026-01-01T00:05", created=moment("2026-01-01") + 30
    )
    assert odd == ["01 00:03", "01 00:05"]


def test_rate_from_its_beginning_to_its_end():
    found = minutes(
        "rate(1 hour)",
        "2026-01-01T00:00",
        "2026-01-01T12:00",
        begins=moment("2026-01-01T03:00"),
        ends=moment("2026-01-01T05:00"),
    )
    assert found == ["01 03:00", "01 04:00", "01 05:00"]


def test_rate_of_a_day():
    assert minutes("rate(1 day)", "2026-01-01T00:00", "2026-01-03T01:00") == ["02 00:00", "03 00:00"]


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ("cron(30 8 * * ? *)", ["05 08:30", "06 08:30"]),
        # The fifth of January 2026 is a Monday: the second day of the week for AWS.
        ("cron(0 8 ? * 2 *)", ["05 08:00"]),
        ("cron(0 8 ? * MON-FRI *)", ["05 08:00", "06 08:00"]),
        ("cron(0 8 ? * 2-3 2026)", ["05 08:00", "06 08:00"]),
        ("cron(0 8 ? * 2-3 2027-2030)", []),
        ("cron(0 8 ? * 2-3 2025,2026-2027)", ["05 08:00", "06 08:00"]),
        ("cron(0 0/12 * * ? *)", ["05 00:00", "05 12:00", "06 00:00", "06 12:00"]),
        ("cron(0 9 6 1 ? *)", ["06 09:00"]),
    ],
)
def test_cron(expression, expected):
    assert minutes(expression, "2026-01-05T00:00", "2026-01-06T23:00") == expected


def test_cron_in_a_time_zone():
    found = minutes("cron(0 8 * * ? *)", "2026-01-05T00:00", "2026-01-05T23:00", timezone="Asia/Tokyo")
    assert found == ["05 23:00"]


@pytest.mark.parametrize(
    "expression",
    [
        "",
        "daily",
        "at(tomorrow)",
        "at(2026-03-01 12:00:00)",
        "rate(0 minutes)",
        "rate(5 seconds)",
        "rate(1.5 hours)",
        "cron(0 8 * * *)",
        "cron(0 8 L * ? *)",
        "cron(0 8 ? * 6#3 *)",
        "cron(0 8 ? * 6L *)",
        "cron(99 8 * * ? *)",
        "cron(0 8 * * ? soon)",
    ],
)
def test_what_cannot_be_read(expression):
    with pytest.raises(BadSchedule):
        parse_schedule(expression, created=0.0)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "../etc/passwd"])
def test_an_unknown_time_zone(zone):
    with pytest.raises(BadSchedule, match="is not a time zone"):
        parse_schedule("at(2026-03-01T12:00:00)", timezone=zone, created=0.0)
