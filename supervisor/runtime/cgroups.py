"""One control group (v2) for each generation: the only fence that no fork escapes.

Decides where such groups may be made, and makes, reads, kills and removes them. It sets no limit. Where
a part of the hierarchy was delegated to the daemon it enables the memory controller there, so that the
kernel says which group it killed from for want of memory; everywhere else it only tracks and kills,
and works without controllers. Kernel: Documentation/admin-guide/cgroup-v2.rst.
"""

import errno
import logging
import os
from collections.abc import Callable, Collection
from contextlib import suppress
from dataclasses import dataclass

from supervisor.runtime.nofile import open_high
from supervisor.runtime.procfs import read_cgroup
from supervisor.runtime.sideline import Sideline
from supervisor.runtime.sight import BlindError, glance, sighted
from supervisor.runtime.sight import read as _read

log = logging.getLogger(__name__)

_WRITE = os.O_WRONLY | os.O_CLOEXEC

LEAF = "supervisor"
"""The group that the daemon moves into where a group was delegated to it: a group whose children have
controllers may hold no process itself (cgroup-v2.rst, "No Internal Process Constraint")."""

CONTROLLERS = ("memory",)
"""What is enabled for the groups of generations, if it is there."""


@dataclass(frozen=True, slots=True)
class Cgroup:
    """The control group of one generation. `directory` is where it is mounted, `path` how /proc names it.

    `counts_memory` says that it may have a memory controller.
    """

    directory: str
    path: str
    counts_memory: bool = True

    @property
    def procs(self) -> str:
        """The file by which a process joins: "0" means the one that writes."""
        return f"{self.directory}/cgroup.procs"

    def members(self) -> list[int]:
        """The processes in it and below it; zombies are not among them. Raises BlindError."""
        found: list[int] = []
        for directory in sighted(
            lambda: [one for one, _, _ in os.walk(self.directory, onerror=_unless_gone)]
        ):
            with suppress(OSError):
                # "0" stands for a process of another pid namespace.
                found.extend(pid for pid in map(int, _read(f"{directory}/cgroup.procs").split()) if pid)
        return found

    def is_populated(self) -> bool:
        """Whether anything lives in it or below it. Raises BlindError."""
        try:
            return b"populated 1" in glance(f"{self.directory}/cgroup.events")
        except OSError:
            return False

    def kill(self) -> bool:
        """SIGKILL everything in it, concurrent forks included; False where that cannot be (before 5.14)."""
        try:
            _write(f"{self.directory}/cgroup.kill", "1")
        except (OSError, BlindError):
            return False
        return True

    def out_of_memory_kills(self) -> int:
        """How many of its processes the kernel killed for want of memory; 0 without a memory controller."""
        if not self.counts_memory:
            return 0
        try:
            lines = glance(f"{self.directory}/memory.events").splitlines()
        except (OSError, BlindError):
            return 0
        return sum(int(line.split()[1]) for line in lines if line.startswith(b"oom_kill "))

    def remove(self) -> bool:
        """Remove it, and what its members made below it; False while something lives in it."""
        try:
            os.rmdir(self.directory)
        except FileNotFoundError:
            return True
        except OSError:
            with suppress(OSError):
                for directory, _, _ in os.walk(self.directory, topdown=False):
                    os.rmdir(directory)
            return not os.path.exists(self.directory)
        return True


class Cgroups:
    """The part of the hierarchy that is ours: `directory`/pitboss-TOKEN, with a group for each generation.

    One lock of the kernel guards the whole hierarchy, and a write to `cgroup.procs` may hold it for an RCU
    grace period: some ten milliseconds, unless another one was just made (cgroup_attach_lock,
    percpu_down_write). So all that takes it happens on a thread, in the order in which it was asked for.

    Raises RuntimeError if there can be no thread: now, and not when a worker has been started already.
    """

    def __init__(
        self, directory: str, path: str, reason: str = "", controllers: tuple[str, ...] = ()
    ) -> None:
        self.directory = directory
        self.path = path
        self.reason = reason
        self.controllers = controllers
        self._thread = Sideline("cgroups")
        self._lingering: list[Cgroup] = []
        self._moves_asked = 0
        self._moves_done = 0

    @property
    def is_busy(self) -> bool:
        """Whether the lock may be held for a while: by a move."""
        return self._moves_asked != self._moves_done

    def group(self, name: str) -> Cgroup:
        """The group of one generation, which is not made yet."""
        name = name.replace("/", "_")
        return Cgroup(f"{self.directory}/{name}", f"{self.path}/{name}", "memory" in self.controllers)

    def move(self, group: Cgroup, pids: Collection[int], arrived: Callable[[OSError | None], None]) -> None:
        """Make the group if need be, and move processes into it.

        `arrived` is called in the running loop, with the reason if the first of them could not be moved.
        """
        self._moves_asked += 1
        self._thread.ask(lambda: self._move(group, pids), arrived)

    def when_told(self, then: Callable[[], None]) -> None:
        """Call this after all arrivals of one turn of the loop."""
        self._thread.when_told(then)

    def remove(self, group: Cgroup) -> None:
        """Remove a group. One that is not empty yet is tried again with the next."""
        self._thread.ask(lambda: self._remove([*self._lingering, group]))

    def settle(self) -> None:
        """Wait until everything that was asked for is done."""
        self._thread.settle()

    def close(self) -> None:
        """Remove what is empty, and wait for that."""
        self._thread.ask(lambda: self._remove(self._lingering))
        self._thread.close()
        with suppress(OSError):
            os.rmdir(self.directory)

    def _move(self, group: Cgroup, pids: Collection[int]) -> OSError | None:
        try:
            return self._make_and_fill(group, pids)
        finally:
            self._moves_done += 1

    def _make_and_fill(self, group: Cgroup, pids: Collection[int]) -> OSError | None:
        try:
            self.make(group)
            descriptor = open_high(group.procs, _WRITE)
        except OSError as error:
            return error
        except BlindError as error:
            return OSError(errno.EMFILE, str(error))
        try:
            outcomes = [_enter(descriptor, pid) for pid in pids]
            return outcomes[0]
        finally:
            os.close(descriptor)

    def make(self, group: Cgroup) -> None:
        """Make a group that may be there already. Raises OSError if the kernel refuses."""
        with suppress(FileExistsError):
            try:
                os.mkdir(group.directory)
            except FileNotFoundError:
                os.mkdir(self.directory)
                _enable(self.directory, self.controllers)
                os.mkdir(group.directory)

    def _remove(self, groups: list[Cgroup]) -> None:
        self._lingering = [one for one in groups if not one.remove()]


def _enter(descriptor: int, pid: int) -> OSError | None:
    """Move a process; why it could not be: it is gone, or may not be moved."""
    try:
        os.write(descriptor, str(pid).encode())
    except OSError as error:
        return error
    return None


@dataclass(frozen=True, slots=True)
class Place:
    """A group below which others may be made. `is_own` says that this process sits in it."""

    directory: str
    path: str
    reason: str
    is_own: bool

    @property
    def is_delegated(self) -> bool:
        """Whether it is ours alone, to give its children controllers."""
        return self.reason.startswith("delegated")


def find_place() -> Place | str:
    """Where control groups may be made, or why nowhere. Only looks.

    systemd owns the hierarchy, and lets others write only below a unit with `Delegate=`. Without
    systemd whoever can write may.
    """
    own, mount = read_cgroup(os.getpid()), _find_mount()
    if own is None or mount is None:
        return "no cgroup2 is mounted"
    point, root = mount
    relative = os.path.relpath(own, root)
    if relative.startswith(".."):
        return f"{own} lies outside of the mount {point}"
    places = [relative, os.path.dirname(relative) or "."]
    if os.path.basename(relative) == LEAF:
        # This process made room already, before it replaced itself by exec.
        places.reverse()
    for place in dict.fromkeys(places):
        directory = os.path.normpath(os.path.join(point, place))
        reason = _why_allowed(directory, is_own=place == relative)
        if reason:
            return Place(
                directory, os.path.normpath(os.path.join(root, place)), reason, is_own=place == relative
            )
    return f"{own} is not delegated to this process"


def find_cgroups(token: str) -> Cgroups | None:
    """The groups of this daemon; None (with a log line that says why) where none may be made.

    In a group that was delegated this process moves into a leaf.
    """
    place = find_place()
    if isinstance(place, str):
        log.info("cannot use control groups: %s; process groups and tags are used", place)
        return None
    enabled = _settle(place.directory, is_own=place.is_own) if place.is_delegated else ()
    name = f"pitboss-{token}"
    directory, path = os.path.join(place.directory, name), os.path.join(place.path, name)
    try:
        return Cgroups(directory, path, place.reason, enabled)
    except RuntimeError as error:
        log.warning("cannot use control groups: %s; process groups and tags are used", error)
        return None


def _settle(directory: str, *, is_own: bool) -> tuple[str, ...]:
    """Make room in a delegated group: move this process into a leaf, and enable controllers beside it.

    Returns the controllers that the groups of generations will have. Where it is not possible they have
    none, and tracking and killing work all the same.
    """
    try:
        if is_own:
            leaf = os.path.join(directory, LEAF)
            with suppress(FileExistsError):
                os.mkdir(leaf)
            _write(f"{leaf}/cgroup.procs", "0")
        there = _read(f"{directory}/cgroup.controllers").decode().split()
        wanted = tuple(name for name in CONTROLLERS if name in there)
        _enable(directory, wanted)
    except OSError as error:
        log.warning(
            "cannot enable controllers in %s: %s; ends for want of memory are shown as SIGKILL",
            directory,
            error.strerror,
        )
        return ()
    return wanted


def _enable(directory: str, controllers: tuple[str, ...]) -> None:
    """Give the children of a group these controllers. Raises OSError if the kernel refuses."""
    if controllers:
        _write(f"{directory}/cgroup.subtree_control", " ".join(f"+{name}" for name in controllers))


def _why_allowed(directory: str, *, is_own: bool) -> str:
    """Why groups may be made in a directory; empty if not.

    With DelegateSubgroup= the daemon sits in a leaf, and the unit above it carries the mark; a leaf
    that is merely writable says nothing about the group above.
    """
    if not os.access(directory, os.W_OK) or not os.access(f"{directory}/cgroup.procs", os.W_OK):
        return ""
    for attribute in ("trusted.delegate", "user.delegate"):
        with suppress(OSError):
            if os.getxattr(directory, attribute) == b"1":
                return f"delegated ({attribute})"
    if not is_own:
        return ""
    if not os.path.isdir("/run/systemd/system"):
        return "writable, and systemd does not run here"
    # systemd gives the directory to User= only where it delegates; the trusted mark is root's to read.
    if os.geteuid() != 0 and os.stat(directory).st_uid == os.geteuid():
        return "delegated (owned by this user)"
    return ""


def _find_mount() -> tuple[str, str] | None:
    """The mount point of cgroup v2 and which path of the hierarchy it shows; proc_pid_mountinfo(5)."""
    with open("/proc/self/mountinfo", "rb") as file:
        for line in file:
            before, _, after = line.partition(b" - ")
            if after.startswith(b"cgroup2 "):
                fields = before.split()
                return _unescape(fields[4]), _unescape(fields[3])
    return None


def _unescape(field_: bytes) -> str:
    for code, character in ((b"\\040", b" "), (b"\\011", b"\t"), (b"\\012", b"\n"), (b"\\134", b"\\")):
        field_ = field_.replace(code, character)
    return os.fsdecode(field_)


def _unless_gone(error: OSError) -> None:
    if not isinstance(error, FileNotFoundError):
        raise error


def _write(path: str, text: str) -> None:
    def write() -> None:
        descriptor = os.open(path, _WRITE)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)

    sighted(write)
