"""The commands of the workers that the stories use."""

from pathlib import Path
from typing import Any

from tests.e2e.daemon import WORKERS, public_python
from tests.waiting import eventually

PYTHON = [public_python()[0], "-I"]

QUICK = [
    {"signal": "SIGTERM", "target": "main", "grace": "1s"},
    {"signal": "SIGTERM", "target": "all", "grace": "1s"},
]
"""A short ladder, for workers that do not go by themselves."""

FAST_BACKOFF = {"initial": "50ms", "max": "200ms", "jitter": "none"}


def worker(name: str, *arguments: str) -> list[str]:
    """The command of a worker of `tests/workers`."""
    return [*PYTHON, str(WORKERS / f"{name}.py"), *arguments]


def script(text: str) -> list[str]:
    """A worker written in the test itself."""
    return [*PYTHON, "-c", text]


def pool(command: list[str], **more: Any) -> dict[str, Any]:
    """A pool that is ready soon and stops soon."""
    return {"command": command, "startup": {"min_uptime": "200ms"}, "stop": {"stages": QUICK}, **more}


def read_pid(path: Path) -> int:
    """The pid that a worker wrote down."""
    return int(eventually(lambda: path.exists() and path.read_text(), what=f"{path} is written"))


def tally(record: Path) -> tuple[list[str], list[str]]:
    """The tasks that were begun and done, by the workers' own record."""
    lines = record.read_text().split("\n") if record.exists() else []
    begun = [line.removeprefix("begun ") for line in lines if line.startswith("begun ")]
    done = [line.removeprefix("done ") for line in lines if line.startswith("done ")]
    return begun, done
