"""The hours in which nodes may be begun."""

from datetime import datetime, time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nodeprep.errors import UsageError
from nodeprep.rollout.windows import Window, parse_window


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2026-11-23T{text}")


@pytest.mark.parametrize(
    ("window", "open_at", "closed_at"),
    [
        ("08:00-17:30", ["08:00", "12:00", "17:29:59"], ["07:59:59", "17:30", "00:00"]),
        ("22:00-05:30", ["22:00", "23:59", "00:00", "05:29"], ["05:30", "12:00", "21:59"]),
        ("00:00-23:59", ["00:00", "12:00"], ["23:59"]),
    ],
)
def test_a_window_is_open_from_its_begin_until_its_end(
    window: str, open_at: list[str], closed_at: list[str]
) -> None:
    parsed = parse_window(window)
    assert str(parsed) == window
    assert [parsed.refusal(at(moment)) for moment in open_at] == [""] * len(open_at)
    assert {parsed.refusal(at(moment)) for moment in closed_at} == {
        f"the window {window} is closed"
    }


@pytest.mark.parametrize(
    "text",
    [
        "",
        "22-5",
        "22:00",
        "24:00-05:00",
        "22:60-05:00",
        "22:00-22:00",
        "2:00-3:00",
        "22:00 - 05:00",
        "22:00-05:00-06:00",
    ],
)
def test_anything_else_is_no_window(text: str) -> None:
    with pytest.raises(UsageError, match="--window"):
        parse_window(text)


@given(st.times(), st.times(), st.times())
def test_a_window_and_the_hours_outside_of_it_share_no_moment(a: time, b: time, now: time) -> None:
    if a == b:
        return
    moment = datetime.combine(at("00:00").date(), now)
    assert bool(Window(a, b).refusal(moment)) != bool(Window(b, a).refusal(moment))
