"""Moments between the record's microseconds and RFC 3339, in plain integers."""

from __future__ import annotations

import re

_DAY_US = 86_400_000_000
_RFC3339 = re.compile(
    r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,12}))?(?:([Zz])|([+-])(\d\d):(\d\d))",
    re.ASCII,
)
_MONTHS = (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
YEAR_10000_US = 253_402_300_800_000_000
"""The first moment that RFC 3339 cannot write."""


def rfc3339(time_us: int) -> str:
    """Write a moment, in UTC with microseconds.

    Args:
        time_us: microseconds since 1970, UTC; from the year 1 to the year 9999.

    Raises:
        ValueError: it lies outside these years.

    Example:
        >>> rfc3339(1_700_000_000_000_001)
        '2023-11-14T22:13:20.000001Z'
    """
    if not -62_135_596_800_000_000 <= time_us < YEAR_10000_US:
        raise ValueError(f"{time_us} microseconds since 1970 is no year from 1 to 9999")
    days, rest = divmod(time_us, _DAY_US)
    year, month, day = _date(days)
    seconds, micros = divmod(rest, 1_000_000)
    minutes, second = divmod(seconds, 60)
    hour, minute = divmod(minutes, 60)
    return f"{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}Z"


def from_rfc3339(text: str) -> int:
    """Read a moment; digits beyond microseconds are cut off, a leap second is the next second.

    Raises:
        ValueError: it is no moment with its offset from UTC.

    Example:
        >>> from_rfc3339("2023-11-14T23:13:20.5+01:00")
        1700000000500000
    """
    found = _RFC3339.fullmatch(text)
    if found is None:
        raise ValueError("write a time as 2026-01-31T12:00:00.000000Z")
    year, month, day, hour, minute, second = (int(n) for n in found.groups()[:6])
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    last = _MONTHS[month - 1] + (month == 2 and leap) if 1 <= month <= 12 else 0
    if year < 1 or not 1 <= day <= last or hour > 23 or minute > 59 or second > 60:
        raise ValueError("there is no such day or time")
    micros = int((found[7] or "0")[:6].ljust(6, "0"))
    offset = 0
    if found[9]:
        if int(found[10]) > 23 or int(found[11]) > 59:
            raise ValueError("there is no such offset from UTC")
        offset = int(found[9] + "1") * (int(found[10]) * 3_600 + int(found[11]) * 60)
    seconds = hour * 3_600 + minute * 60 + second - offset
    return _days(year, month, day) * _DAY_US + seconds * 1_000_000 + micros


def _days(year: int, month: int, day: int) -> int:
    """Count days since 1970, in the calendar of today carried back."""
    year -= month <= 2
    era, of_era = divmod(year, 400)
    of_year = (153 * ((month + 9) % 12) + 2) // 5 + day - 1
    return era * 146_097 + of_era * 365 + of_era // 4 - of_era // 100 + of_year - 719_468


def _date(days: int) -> tuple[int, int, int]:
    era, of_era = divmod(days + 719_468, 146_097)
    year = (of_era - of_era // 1_460 + of_era // 36_524 - of_era // 146_096) // 365
    of_year = of_era - (365 * year + year // 4 - year // 100)
    shifted = (5 * of_year + 2) // 153
    month = shifted + 3 if shifted < 10 else shifted - 9
    return year + era * 400 + (month <= 2), month, of_year - (153 * shifted + 2) // 5 + 1
