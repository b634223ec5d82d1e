"""What this kernel, control group hierarchy and systemd allow, in sentences for `pitbossd doctor`.

Only looks: nothing is changed, and nothing has to run. What is found holds for a process that is where
this one is; a daemon in a unit may have more.
"""

import os
import re
import resource
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from supervisor.runtime.cgroups import find_place

OLDEST_KERNEL = (5, 10)
KILLS_GROUPS = (5, 14)
"""The first kernel with cgroup.kill (Documentation/admin-guide/cgroup-v2.rst)."""

DESCRIPTORS_EACH = 3
"""What an instance holds: its process, its output, its notify socket."""

SHORT_QUEUE = 64
"""The kernel's own default for datagrams that wait on a socket is 10; systemd raises it to 512 (unix(7))."""

CAPABILITIES = {"CHOWN": 0, "DAC_OVERRIDE": 1, "KILL": 5, "SETGID": 6, "SETUID": 7}
"""What root needs for workers of other users, by their numbers in linux/capability.h."""

SYS_RESOURCE = 24


class Verdict(StrEnum):
    """`WITHOUT`: pitboss works, but not with this. `BAD`: it does not work."""

    OK = "ok"
    WITHOUT = "without"
    BAD = "bad"


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at; `consequence` says what follows from its absence and what to do."""

    topic: str
    verdict: Verdict
    fact: str
    consequence: str = ""


def examine() -> Iterator[Finding]:
    """Look at everything."""
    yield _kernel()
    yield _process_descriptors()
    yield _list_of_children()
    yield from _control_groups()
    yield from _identity()
    yield _descriptors()
    yield _notify_queue()
    yield _pressure()
    yield _systemd()


def _release() -> tuple[int, int]:
    found = re.match(r"(\d+)\.(\d+)", os.uname().release)
    return (int(found[1]), int(found[2])) if found else (0, 0)


def _found(topic: str, there: bool, fact: str, without: str, verdict: Verdict = Verdict.WITHOUT) -> Finding:
    return Finding(topic, Verdict.OK if there else verdict, fact, "" if there else without)


def _kernel() -> Finding:
    oldest = ".".join(map(str, OLDEST_KERNEL))
    new_enough = _release() >= OLDEST_KERNEL
    return _found("kernel", new_enough, os.uname().release, f"pitboss needs Linux {oldest}", Verdict.BAD)


def _process_descriptors() -> Finding:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except OSError as error:
        return Finding(
            "pidfd",
            Verdict.BAD,
            f"pidfd_open fails: {error.strerror}",
            "no worker can be watched; a sandbox may forbid it",
        )
    return Finding("pidfd", Verdict.OK, "processes are watched by descriptor")


def _list_of_children() -> Finding:
    there = os.path.exists(f"/proc/self/task/{os.getpid()}/children")
    fact = f"/proc/PID/task/TID/children is {'there' if there else 'missing (CONFIG_PROC_CHILDREN)'}"
    return _found("list of children", there, fact, "the tree of a worker is found by reading all of /proc")


def _control_groups() -> Iterator[Finding]:
    place = find_place()
    if isinstance(place, str):
        consequence = (
            "the processes of a worker are held together by groups, tags and adoption; "
            "a unit with Delegate=yes has control groups"
        )
        yield Finding("control groups", Verdict.WITHOUT, place, consequence)
        return
    yield Finding("control groups", Verdict.OK, f"{place.directory} is {place.reason}")
    kills = _release() >= KILLS_GROUPS
    word = "has" if kills else "does not have"
    yield _found(
        "cgroup.kill", kills, f"this kernel {word} it", "a tree is killed process by process, in rounds"
    )
    try:
        with open(f"{place.directory}/cgroup.controllers", encoding="ascii") as file:
            controllers = file.read().split()
    except OSError:
        controllers = []
    accounts = place.is_delegated and "memory" in controllers
    fact = f"controllers here: {' '.join(controllers) or 'none'}"
    if controllers and not place.is_delegated:
        fact += ", but they are not ours to give on"
    yield _found("memory", accounts, fact, "an end for want of memory is shown as SIGKILL")


def _identity() -> Iterator[Finding]:
    if os.geteuid() != 0:
        consequence = "workers run as this user, and a manifest with another `user` is refused"
        yield Finding("users", Verdict.WITHOUT, f"uid {os.geteuid()} is not root", consequence)
        return
    held = _capabilities()
    missing = [f"CAP_{name}" for name, number in CAPABILITIES.items() if not held >> number & 1]
    fact = f"root, but without {', '.join(missing)}" if missing else "root: workers may run as any user"
    without = "workers of other users cannot be started or stopped; add to CapabilityBoundingSet="
    yield _found("users", not missing, fact, without, Verdict.BAD)
    raises = bool(held >> SYS_RESOURCE & 1)
    fact = "hard limits may be raised" if raises else "CAP_SYS_RESOURCE is missing"
    yield _found("limits", raises, fact, "a pool cannot have higher `limits` than the daemon has")


def _capabilities() -> int:
    with open("/proc/self/status", encoding="ascii", errors="replace") as file:
        return next((int(line.split()[1], 16) for line in file if line.startswith("CapEff:")), 0)


def _descriptors() -> Finding:
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    if hard == resource.RLIM_INFINITY:
        return Finding("descriptors", Verdict.OK, "as many as one likes")
    room = hard // DESCRIPTORS_EACH
    return _found(
        "descriptors",
        room >= 1000,
        f"at most {hard}: room for {room} instances",
        "raise LimitNOFILE= of the unit",
    )


def _notify_queue() -> Finding:
    try:
        with open("/proc/sys/net/unix/max_dgram_qlen", encoding="ascii") as file:
            length = int(file.read())
    except (OSError, ValueError):
        return Finding("notify queue", Verdict.WITHOUT, "its length cannot be read")
    fact = f"{length} messages may wait on a socket"
    without = "workers that say much at once wait for the daemon: sysctl net.unix.max_dgram_qlen=512"
    return _found("notify queue", length >= SHORT_QUEUE, fact, without)


def _pressure() -> Finding:
    there = os.path.exists("/proc/pressure/memory")
    fact = "/proc/pressure is there" if there else "the kernel was built or started without it (psi=1)"
    return _found("pressure", there, fact, "how short the machine is of memory or CPU cannot be asked")


def _systemd() -> Finding:
    if not os.path.isdir("/run/systemd/system"):
        fact = "it does not run this machine"
        return Finding("systemd", Verdict.WITHOUT, fact, "nobody restarts a daemon that crashes or hangs")
    program = shutil.which("systemctl")
    said = ""
    if program is not None:
        said = subprocess.run([program, "--version"], capture_output=True, text=True, check=False).stdout
    version = said.split()[1] if said.startswith("systemd ") else "of unknown version"
    listens = (
        "listens to this process" if os.environ.get("NOTIFY_SOCKET") else "does not listen to this process"
    )
    return Finding("systemd", Verdict.OK, f"{version}; it {listens}")
