"""Read about processes in /proc: who is whose parent, group and session, since when, and with what mark.

Every answer is a snapshot and may be out of date when it arrives; a process that is gone or may not
be looked at answers None. Each raises `BlindError` where nothing could be seen for want of descriptors.
What follows from an answer is not decided here. Format: proc(5).
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass

from supervisor.runtime.sight import glance, read, sighted

ENVIRON_BYTES = 128 * 1024
"""At most this much of an environment is searched. The marker is put in front of it."""

ANCESTORS = 256
"""No chain of parents is followed for longer: it may change while it is read."""


@dataclass(frozen=True, slots=True)
class Stat:
    """One line of /proc/PID/stat. `started` is clock ticks since boot; with the pid it is an identity."""

    pid: int
    state: str
    parent: int
    group: int
    session: int
    started: int

    @property
    def is_alive(self) -> bool:
        """Whether it can still run: not a zombie, not dead."""
        return self.state not in "ZX"


def read_stat(pid: int) -> Stat | None:
    """How a process stands, or None if there is none."""
    try:
        text = glance(f"/proc/{pid}/stat")
    except OSError:
        return None
    # The name in parentheses may hold anything, also a parenthesis.
    fields = text.rpartition(b")")[2].split()
    if len(fields) < 20:
        return None
    state, parent, group, session = fields[:4]
    return Stat(pid, state.decode("ascii"), int(parent), int(group), int(session), int(fields[19]))


def children_of(pid: int) -> list[int]:
    """The children of all threads of a process, zombies included.

    The list of another process may miss one while its siblings end; ask again to be sure. That of
    this process is exact as long as nobody reaps meanwhile.
    """
    found: list[int] = []
    directory = f"/proc/{pid}/task"
    try:
        threads = sighted(lambda: os.listdir(directory))
    except OSError:
        return found
    for thread in threads:
        try:
            found.extend(map(int, read(f"{directory}/{thread}/children").split()))
        except FileNotFoundError:
            if not _lists_children():
                return _children_the_slow_way(pid)
        except OSError:
            continue
    return found


def has_children(pid: int) -> bool:
    """Whether a process has children, zombies included: a quick look, which says yes where it cannot tell.

    What it had before the look counts also if another thread forked it: the children of a thread that
    ended are those of the others by the time when it is no thread any more (exit_notify, release_task).
    """
    try:
        # Two links of a directory, and one for each thread (proc_task_getattr).
        if os.stat(f"/proc/{pid}/task").st_nlink != 3:
            return True
        return bool(glance(f"/proc/{pid}/task/{pid}/children"))
    except OSError:
        return True


def _lists_children() -> bool:
    """Whether the kernel has the file; it may be built without it (CONFIG_PROC_CHILDREN)."""
    return os.path.exists(f"/proc/self/task/{os.getpid()}/children")


def _children_the_slow_way(pid: int) -> list[int]:
    stats = (read_stat(int(name)) for name in sighted(lambda: os.listdir("/proc")) if name.isdigit())
    return [stat.pid for stat in stats if stat is not None and stat.parent == pid]


def ancestors_of(pid: int) -> Iterator[int]:
    """The process itself, its parent, and so on upwards."""
    for _ in range(ANCESTORS):
        yield pid
        stat = read_stat(pid)
        if stat is None or stat.parent <= 0:
            return
        pid = stat.parent


def read_variable(pid: int, name: str) -> str | None:
    """A variable of the environment that a process was started with; None too if it may not be read."""
    try:
        block = b"\0" + read(f"/proc/{pid}/environ", ENVIRON_BYTES)
    except OSError:
        return None
    start = block.find(b"\0" + name.encode() + b"=")
    if start < 0:
        return None
    return block[start + len(name) + 2 :].partition(b"\0")[0].decode("utf-8", "replace")


def last_pid() -> int:
    """The pid that was given out last in this pid namespace; the last field of /proc/loadavg."""
    return int(glance("/proc/loadavg").split()[-1])


def read_cgroup(pid: int) -> str | None:
    """The path of a process in the cgroup v2 hierarchy, as /proc shows it to this process."""
    try:
        lines = read(f"/proc/{pid}/cgroup").splitlines()
    except OSError:
        return None
    return next((os.fsdecode(line[3:]) for line in lines if line.startswith(b"0::")), None)
