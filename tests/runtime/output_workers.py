"""Workers whose output is read: child processes that end with the test, and what their logs hold."""

import os
import subprocess
import sys
from pathlib import Path


class Workers:
    """Child processes that are gone at the end of the test."""

    def __init__(self) -> None:
        self.started: list[subprocess.Popen[bytes]] = []

    def start(self, code: str, stdout: int, stdin: int = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Run Python code with this descriptor as its output, and close ours."""
        child = subprocess.Popen(
            [sys.executable, "-S", "-c", code], stdin=stdin, stdout=stdout, stderr=stdout
        )
        os.close(stdout)
        self.started.append(child)
        return child


def text_of(directory: Path, name: str, keep: int = 0) -> bytes:
    """The log over its rotated files, oldest first."""
    paths = [directory / f"{name}.{number}" for number in range(keep, 0, -1)] + [directory / name]
    return b"".join(path.read_bytes() for path in paths if path.exists())
