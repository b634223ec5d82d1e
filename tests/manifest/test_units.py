"""Durations and sizes: what is taken, and what is not."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

import pytest

from supervisor.manifest.units import octets, seconds


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("500ms", 0.5), ("30s", 30.0), ("5m", 300.0), ("1h30m", 5400.0), ("1.5s", 1.5), ("1d", 86400.0),
        ("0s", 0.0), (" 30s ", 30.0), (30, 30.0), (0.25, 0.25), ("1m500ms", 60.5),
    ],
)  # fmt: skip
def test_durations(written: object, meant: float) -> None:
    """A duration is exactly what it says."""
    assert seconds(written) == meant


@pytest.mark.parametrize(
    "written",
    ["", "s", "30", "30 s", "-1s", "1e3s", "30S", "1w", True, None, -1, float("nan"), float("inf"), [], "9" * 99 + "s",
     "367d", "1s\n1s", "٣s"],
)  # fmt: skip
def test_no_durations(written: object) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match="expected a duration"):
        seconds(written)


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("50MiB", 50 * 2**20), ("64KiB", 2**16), ("1.5GB", 1_500_000_000), ("10 kB", 10_000), ("7", 7), (7, 7), ("7B", 7),
        (0, 0), ("1TiB", 2**40), ("0.001kB", 1),
    ],
)  # fmt: skip
def test_sizes(written: object, meant: int) -> None:
    """A size is exactly what it says, without the errors of floating point."""
    assert octets(written) == meant


@pytest.mark.parametrize(
    "written", ["", "MiB", "1 MB MB", "-1", -1, 1.5, True, None, "1mb", 2**63, "9999999TiB", "1e3"]
)
def test_no_sizes(written: object) -> None:
    """Everything else is refused."""
    with pytest.raises(ValueError, match="expected a size"):
        octets(written)
