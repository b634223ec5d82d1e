"""The wall clock of one daemon, to be stepped by a test.

libfaketime is preloaded into the daemon alone, with a file that says by how much its wall clock is off;
the monotonic clock stays true, as it does when an administrator or NTP steps a real machine.
"""

from datetime import UTC, datetime, timedelta
from pathlib import Path

LIBRARIES = sorted(Path("/usr/lib").glob("**/faketime/libfaketimeMT.so.1"))


class Clock:
    """The wall clock of one daemon, as far as the daemon can tell."""

    def __init__(self, directory: Path) -> None:
        self.path = directory / "offset"
        self.offset_seconds = 0
        self.step(0)
        self.env = {
            "LD_PRELOAD": str(LIBRARIES[0]),
            "FAKETIME_TIMESTAMP_FILE": str(self.path),
            "FAKETIME_NO_CACHE": "1",
            "DONT_FAKE_MONOTONIC": "1",
        }

    def step(self, seconds: int) -> None:
        """Set the clock forward, or back."""
        self.offset_seconds += seconds
        fresh = self.path.with_suffix(".new")
        fresh.write_text(f"{self.offset_seconds:+d}s\n")
        fresh.rename(self.path)

    def shows(self, text: str) -> bool:
        """Whether a time that the daemon wrote is about now by this clock."""
        now = datetime.now(UTC) + timedelta(seconds=self.offset_seconds)
        return abs((datetime.fromisoformat(text) - now).total_seconds()) < 3600
