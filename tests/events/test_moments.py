"""Moments are those of the standard library, to the microsecond."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tocsin.events.moments import YEAR_10000_US, from_rfc3339, rfc3339

_FIRST_US = -62_135_596_800_000_000


@given(st.integers(_FIRST_US, YEAR_10000_US - 1))
def test_a_moment_is_written_as_the_standard_library_writes_it(time_us: int) -> None:
    at = datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=time_us)
    text = at.replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"
    assert rfc3339(time_us) == text
    assert from_rfc3339(text) == time_us


@given(
    st.integers(_FIRST_US // 2, YEAR_10000_US // 2),
    st.integers(-23 * 60 - 59, 23 * 60 + 59),
)
def test_an_offset_is_taken_off(time_us: int, minutes: int) -> None:
    sign, ahead = ("-", -minutes) if minutes < 0 else ("+", minutes)
    local = rfc3339(time_us + minutes * 60_000_000).removesuffix("Z")
    assert from_rfc3339(f"{local}{sign}{ahead // 60:02}:{ahead % 60:02}") == time_us


@pytest.mark.parametrize(
    "text",
    [
        "",
        "2026-01-31",
        "2026-01-31T00:00:00",
        "2026-02-29T00:00:00Z",
        "2026-13-01T00:00:00Z",
        "2026-00-01T00:00:00Z",
        "2026-01-00T00:00:00Z",
        "0000-01-01T00:00:00Z",
        "2026-01-01T24:00:00Z",
        "2026-01-01T00:60:00Z",
        "2026-01-01T00:00:61Z",
        "2026-01-01T00:00:00+24:00",
        "2026-01-01T00:00:00.Z",
        "2026-01-01 00:00:00Z",
        "٢026-01-01T00:00:00Z",
        "2026-01-01T00:00:00Z\n",
    ],
)
def test_what_is_no_moment_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"write a time|there is no such"):
        from_rfc3339(text)


@pytest.mark.parametrize("time_us", [_FIRST_US - 1, YEAR_10000_US])
def test_years_that_cannot_be_written_are_refused(time_us: int) -> None:
    with pytest.raises(ValueError, match="is no year"):
        rfc3339(time_us)
