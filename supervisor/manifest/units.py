"""Durations and sizes as an operator writes them.

Decides the spelling and the range of both; raises `ValueError` with what was expected, and never
with what was found.
"""

import math
import re

DURATION_PATTERN = r"^(?:[0-9]{1,9}(?:\.[0-9]{1,6})?(?:ms|s|m|h|d))+$"
SIZE_PATTERN = r"^[0-9]{1,15}(?:\.[0-9]{1,3})? ?(?:B|[kKMGT]B|[KMGT]iB)?$"

LONGEST_SECONDS = 366 * 86400.0
"""A year; whatever is longer was meant otherwise."""

_DURATION = re.compile(DURATION_PATTERN)
_PART = re.compile(r"([0-9.]+)(ms|s|m|h|d)")
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_SIZE = re.compile(r"^([0-9.]+) ?([A-Za-z]*)$")
_BYTES = {"": 1, "B": 1, "kB": 10**3, "KB": 10**3, "MB": 10**6, "GB": 10**9, "TB": 10**12} | {
    "KiB": 2**10,
    "MiB": 2**20,
    "GiB": 2**30,
    "TiB": 2**40,
}
_LONGEST_TEXT = 64


def seconds(value: object) -> float:
    """A duration in seconds: `"500ms"`, `"30s"`, `"1h30m"`, or a number of seconds.

    Raises:
        ValueError: Anything else, a negative one, or one longer than a year.
    """
    expected = 'expected a duration such as "500ms", "30s" or "5m", or a number of seconds'
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        raise ValueError(expected)  # noqa: TRY004 - one complaint for any wrong value
    if isinstance(value, str):
        text = value.strip()
        if len(text) > _LONGEST_TEXT or not _DURATION.match(text):
            raise ValueError(expected)
        total = math.fsum(float(number) * _SECONDS[unit] for number, unit in _PART.findall(text))
    else:
        total = float(value)
    if not 0 <= total <= LONGEST_SECONDS:
        raise ValueError("expected a duration between 0 and 366 days")
    return total


def octets(value: object) -> int:
    """A size in bytes: `"50MiB"`, `"64KiB"`, `"1.5GB"`, or a number of bytes.

    Raises:
        ValueError: Anything else, a negative one, or one of 2**63 or more.
    """
    expected = 'expected a size such as "64KiB" or "50MiB", or a number of bytes'
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise ValueError(expected)  # noqa: TRY004 - one complaint for any wrong value
    if isinstance(value, int):
        total = int(value)
    else:
        text = value.strip()
        match = _SIZE.match(text) if len(text) <= _LONGEST_TEXT and re.match(SIZE_PATTERN, text) else None
        if match is None or match[2] not in _BYTES:
            raise ValueError(expected)
        whole, _, fraction = match[1].partition(".")
        unit = _BYTES[match[2]]
        total = int(whole) * unit + (int(fraction) * unit // 10 ** len(fraction) if fraction else 0)
    if not 0 <= total < 2**63:
        raise ValueError("expected a size between 0 and 8 EiB")
    return total


def said(value: float) -> str:
    """A duration as a message says it: `90s`, `0.5s`."""
    return f"{value:g}s"
