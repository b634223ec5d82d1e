"""Durations as people write and read them: "1h30m" in, "3m12s" out. Inside, a duration is seconds."""

import math
import re

import click

_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
LONGEST_SECONDS = 366 * 86400.0
"""A year: anything longer is a mistake in the unit."""


def parse_duration(text: str) -> float:
    """Seconds of "30s", "5m", "1h30m", "500ms" or a plain number; raises ValueError with the reason."""
    text = text.strip().lower()
    try:
        seconds = float(text)
    except ValueError:
        parts = _PART.findall(text)
        if not parts or "".join(number + unit for number, unit in parts) != text:
            raise ValueError(
                f'"{text}" is not a duration such as 30s, 5m, 1h30m, 500ms or a number'
            ) from None
        seconds = math.fsum(float(number) * _UNITS[unit] for number, unit in parts)
    if not 0 <= seconds <= LONGEST_SECONDS:
        raise ValueError(f'"{text}" is not between 0 and a year')
    return seconds


def duration(value: str) -> float:
    """The type of an option whose value is a duration; click shows its name in `--help`."""
    try:
        return parse_duration(value)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def age(seconds: float) -> str:
    """How long something has lasted, in at most six characters: "59s", "3m12s", "1h02m", "3d04h", "120d"."""
    whole = int(max(0.0, seconds))
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    if whole < 86400:
        return f"{whole // 3600}h{whole % 3600 // 60:02}m"
    if whole < 100 * 86400:
        return f"{whole // 86400}d{whole % 86400 // 3600:02}h"
    return f"{whole // 86400}d"


def left(seconds: float) -> str:
    """How long something may still last; rounded up, so that "0s" means that the time is over."""
    return age(math.ceil(max(0.0, seconds) - 1e-9))


def took(seconds: float) -> str:
    """How long something took, with a tenth where it was quick: "0.4s", "12s", "1m05s"."""
    return f"{max(0.0, seconds):.1f}s" if seconds < 9.95 else age(seconds + 0.5)
