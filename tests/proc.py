"""What /proc says about a process: its descriptors, its children, the fields of its stat (proc(5)).

A process that is gone raises FileNotFoundError or ProcessLookupError: whether that is a failure, only the
test knows.
"""

import os
from contextlib import suppress
from itertools import count
from pathlib import Path

from tests.waiting import eventually

LOOKS_AT_REST = 50


def open_descriptors() -> set[int]:
    """The descriptors of this very process, without the one by which the list was read."""
    return {int(name) for name in os.listdir("/proc/self/fd") if os.path.exists(f"/proc/self/fd/{name}")}


def descriptor_count(pid: int) -> int:
    """How many descriptors another process holds open."""
    return len(os.listdir(f"/proc/{pid}/fd"))


def descriptor_targets(pid: int) -> dict[int, str]:
    """What each descriptor of a process stands for; one that is closed meanwhile is left out."""
    targets: dict[int, str] = {}
    for path in Path(f"/proc/{pid}/fd").iterdir():
        try:
            targets[int(path.name)] = os.readlink(path)
        except FileNotFoundError:
            continue
    return targets


def children_of(pid: int) -> list[int]:
    """The children of the main thread of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def is_alive(pid: int) -> bool:
    """Whether a process exists and has not ended: a zombie has."""
    try:
        return stat_fields(pid)[0] not in {"Z", "X"}
    except OSError:
        return False


def stat_fields(pid: int) -> list[str]:
    """The fields of its stat from the third on, the state: the second is a name that may hold anything."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()


def lowest_free(pid: int) -> int:
    """The number that the next descriptor of a process would have."""
    used = {int(name) for name in os.listdir(f"/proc/{pid}/fd")}
    return next(number for number in count() if number not in used)


def lowest_at_rest(pid: int) -> int:
    """The lowest number that a process had free at any of many looks while it slept.

    One look is not enough: a connection, a check or a file that is open at that moment hides a number that
    is free again at the next.
    """
    found: list[int] = []

    def seen_often() -> bool:
        if stat_fields(pid)[0] == "S":
            found.append(lowest_free(pid))
        return len(found) >= LOOKS_AT_REST

    eventually(seen_often, 60, f"process {pid} sleeps now and then")
    return min(found)


def pidfd_of(holder: int, pid: int) -> int:
    """The descriptor by which one process holds another, 0 if it has none."""
    for path in Path(f"/proc/{holder}/fdinfo").iterdir():
        with suppress(FileNotFoundError):
            if f"\nPid:\t{pid}\n" in path.read_text():
                return int(path.name)
    return 0
