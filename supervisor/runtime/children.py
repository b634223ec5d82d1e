"""Start a child process, learn how it ended, and send it a signal, always by descriptor and never by pid.

Knows what a `Launch` asks of a process and how the kernel grants it. Which instance a child belongs
to, what else its tree holds and what happens when it ends is the business of `processes`.

Two ways lead to a child. Where nothing but a command, a directory, an environment, a umask and limits that
can be lent (`lent_limits`) are asked for, posix_spawn(3) executes the program: it lends the child our memory
instead of copying it, and takes a tenth of a millisecond however many descriptors are open. An identity,
another limit, a priority or an OOM adjustment is applied by the exec helper (`become_worker`) inside the
child; sockets take the same way, because the worker must be told its own pid (LISTEN_PID). The child is a
recruit where a `Starter` has one, or else a new interpreter. Its failures come back through a socket or a
pipe: see `spawn_failure`.
"""

import errno
import marshal
import os
import signal
import socket
import sys
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor.core.exits import SIGNAL_NUMBERS, ExitStatus
from supervisor.core.launch import Launch
from supervisor.runtime.become_worker import EXECUTING
from supervisor.runtime.execution import execute, umasked
from supervisor.runtime.lent_limits import lent, may_lend
from supervisor.runtime.nofile import workers_limit, workers_limits
from supervisor.runtime.spawn_errors import SpawnError, describe
from supervisor.runtime.starter import Starter
from supervisor.runtime.tags import limit_of, tagged

EXEC_HELPER = str(Path(__file__).with_name("become_worker.py"))

REPORT_BYTES = 4096
"""At most this much of a helper's report is read: by then it runs as the worker's user."""

PLAN_BYTES = 1 << 16
"""A plan for a recruit is one message, a third of the usual buffer; a longer one goes into a memory file."""

HANDED_MOST = 250
"""Descriptors that one message can carry, a few less than SCM_MAX_FD of unix(7)."""

__all__ = [
    "Child",
    "SpawnError",
    "hold_child",
    "needs_helper",
    "reap",
    "reap_or_release",
    "release_child",
    "signal_child",
    "spawn_failure",
    "start_child",
    "unreaped",
    "wait_status",
]

_unreaped: set[int] = set()
"""The pids that stand for a `Child`. None of them can be used again before `reap`."""


@dataclass(slots=True)
class Child:
    """A child process that is not reaped yet. Owns its descriptors; `reap` closes them.

    `report` is the pipe of an exec helper or the socket of a recruit, or None where the program was started
    directly.
    """

    pid: int
    pidfd: int
    report: int | None = None

    def fileno(self) -> int:
        """The descriptor that turns readable when the process ends."""
        return self.pidfd

    def close(self) -> None:
        """Close the descriptors; the process is not touched, and is still to be reaped by somebody."""
        if self.pidfd >= 0:
            os.close(self.pidfd)
            self.pidfd = -1
        if self.report is not None:
            os.close(self.report)
            self.report = None


def start_child(
    launch: Launch,
    *,
    argv: tuple[str, ...] | None = None,
    output: int | None = None,
    environment: Mapping[str, str] | None = None,
    new_session: bool = False,
    tag: int | None = None,
    sockets: Sequence[int] = (),
    starter: Starter | None = None,
) -> Child:
    """Start the program of `launch` in a process group (or session) of its own.

    `argv` and `environment` replace those of the launch; `output` is the descriptor for standard
    output and error, /dev/null if None; standard input is /dev/null. `tag` is the
    mark (see `tags`) that the child and all its descendants carry. `sockets` are the
    descriptors of `launch.sockets`, or nothing for a child that is not handed them. `starter` gives
    recruits.

    Raises SpawnError if there is no such child. With an exec helper the program may still turn out
    not to be runnable: then the child ends at once and `spawn_failure` says why.
    """
    argv = launch.argv if argv is None else argv
    environment = launch.environment if environment is None else environment
    if not argv or not argv[0]:
        raise SpawnError("cannot run a command without words; name a program")
    try:
        if not sockets and not needs_helper(launch):
            with tagged(tag):
                return _start_directly(launch, argv, environment, output, new_session)
        plan = _plan(launch, argv, environment, sockets)
        recruit = None if starter is None else _recruited(starter, plan, output, tag, new_session)
        if recruit is not None:
            return recruit
        with tagged(tag):
            return _start_through_helper(plan, output, new_session)
    except OSError as error:
        step = "fork" if error.filename is None else "exec"
        if error.filename == launch.working_directory != argv[0]:
            step = "working_directory"
        code = error.errno or 0
        raise SpawnError(describe(launch, argv, environment, step, code), code) from error
    except ValueError as error:
        raise SpawnError(f"cannot run {argv[0]}: {error}; correct the command or the environment") from error


def needs_helper(launch: Launch) -> bool:
    """Whether something is asked for that does not hold already and only a helper in the child can do."""
    if launch.oom_score_adjust is not None:
        return True
    if launch.nice is not None and launch.nice != os.getpriority(os.PRIO_PROCESS, 0):
        return True
    return not may_lend(launch.limits) or not _is_own(launch)


def _is_own(launch: Launch) -> bool:
    wanted = launch.identity
    if wanted is None:
        return True
    return (
        os.getresuid() == (wanted.uid,) * 3
        and os.getresgid() == (wanted.gid,) * 3
        and set(os.getgroups()) == set(wanted.groups)
    )


def _hold(pid: int) -> Child:
    try:
        return hold_child(pid)
    except OSError:
        # Without a descriptor it could not be watched. It is our child and unreaped: the pid is its own.
        os.killpg(pid, signal.SIGKILL)
        os.waitid(os.P_PID, pid, os.WEXITED)
        raise


def hold_child(pid: int) -> Child:
    """A process that came to this one by fork or by the death of its parent, as a `Child`.

    The caller has made sure that the pid is the process that is meant, and checks it again
    afterwards. Raises OSError if there is no such process or no descriptor is left.
    """
    child = Child(pid, os.pidfd_open(pid, os.O_NONBLOCK))
    _unreaped.add(pid)
    return child


def unreaped() -> AbstractSet[int]:
    """The pids of all children that were started or held and are not reaped yet."""
    return _unreaped


def _start_directly(
    launch: Launch,
    argv: tuple[str, ...],
    environment: Mapping[str, str],
    output: int | None,
    new_session: bool,
) -> Child:
    own, _hard = launch.limits.get("NOFILE", (None, None))
    with umasked(launch.umask), lent(launch.limits), workers_limit(output, own) as low:
        pid = execute(argv, low, launch.working_directory, environment, new_session=new_session)
    # Not in there: its descriptor would take a low number for good.
    return _hold(pid)


def _plan(
    launch: Launch, argv: tuple[str, ...], environment: Mapping[str, str], sockets: Sequence[int]
) -> dict[str, Any]:
    """What `become_worker` is to carry out."""
    if sockets:
        names = ":".join(one.name for one in launch.sockets)
        environment = {**environment, "LISTEN_FDS": str(len(sockets)), "LISTEN_FDNAMES": names}
    identity = None if _is_own(launch) else launch.identity
    return {
        "argv": [os.fsencode(word) for word in argv],
        "environment": {os.fsencode(key): os.fsencode(value) for key, value in environment.items()},
        "working_directory": os.fsencode(launch.working_directory),
        "identity": None if identity is None else (identity.uid, identity.gid, tuple(identity.groups)),
        "umask": launch.umask,
        "nice": launch.nice,
        "oom_score_adjust": launch.oom_score_adjust,
        "limits": {**workers_limits(), **launch.limits},
        "watchdog": "WATCHDOG_USEC" in environment,
        "sockets": list(sockets),
        "new_session": False,
        "tag": None,
    }


def _recruited(
    starter: Starter, plan: dict[str, Any], output: int | None, tag: int | None, new_session: bool
) -> Child | None:
    """A recruit that has got the plan; None if there is none, or it cannot take it."""
    handed = [*([] if output is None else [output]), *plan["sockets"]]
    own = {"has_output": output is not None, "new_session": new_session, "tag": limit_of(tag)}
    text = marshal.dumps({**plan, **own})
    if len(text) > PLAN_BYTES or len(handed) > HANDED_MOST:
        return None
    recruit = starter.recruit(own_group=not new_session)
    if recruit is None:
        return None
    _unreaped.add(recruit.pid)
    child = Child(recruit.pid, recruit.pidfd, recruit.channel)
    channel = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET, 0, recruit.channel)
    try:
        socket.send_fds(channel, [text], handed)
    except OSError:
        # Without a plan it ends. Whoever adopts orphans reaps it, as it is nobody's child here any more.
        release_child(child)
        return None
    finally:
        channel.detach()
    return child


def _start_through_helper(plan: dict[str, Any], output: int | None, new_session: bool) -> Child:
    report, report_end = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        memory = os.memfd_create("pitboss-launch", os.MFD_CLOEXEC)
        try:
            os.write(memory, marshal.dumps(plan))
            os.lseek(memory, 0, os.SEEK_SET)
            helper = (sys.executable, "-I", "-S", EXEC_HELPER, str(memory), str(report_end))
            handed = (memory, report_end, *plan["sockets"])
            child = _hold(execute(helper, output, "/", {}, new_session=new_session, inherit=handed))
        finally:
            os.close(memory)
    except BaseException:
        os.close(report)
        raise
    finally:
        os.close(report_end)
    child.report = report
    return child


def spawn_failure(child: Child, launch: Launch, argv: tuple[str, ...] | None = None) -> SpawnError | None:
    """Why the program never ran, if an exec helper failed; ask when the child has ended, before `reap`."""
    if child.report is None:
        return None
    report = _read_report(child.report)
    executing, failure = report.startswith(EXECUTING), report.removeprefix(EXECUTING)
    argv = launch.argv if argv is None else argv
    if not failure:
        status = wait_status(child)
        # Whoever ended the helper by a signal may say how the worker ended: it had not begun.
        if executing or status is None or status.code in {None, 0}:
            return None
        return SpawnError(f"cannot run {argv[0]}: the exec helper failed; its output says why")
    step, _, number = failure.decode("ascii", "replace").partition("\0")
    code = int(number) if number.isascii() and number.isdigit() and len(number) < 6 else 0
    return SpawnError(describe(launch, argv, launch.environment, step, code), code)


def _read_report(descriptor: int) -> bytes:
    report = b""
    # A recruit that ended before it read its plan resets the connection.
    with suppress(BlockingIOError, ConnectionResetError):
        while len(report) < REPORT_BYTES and (piece := os.read(descriptor, REPORT_BYTES)):
            report += piece
    return report


def wait_status(child: Child) -> ExitStatus | None:
    """How a child ended, or None while it lives. It stays a zombie, so its pid and group stay its own."""
    try:
        result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOWAIT | os.WNOHANG)
    except ChildProcessError:
        return ExitStatus()
    return None if result is None else _status(result)


def reap(child: Child) -> ExitStatus:
    """Take the child out of the process table and close its descriptors.

    Raises BlockingIOError if it is still alive. The status is empty if something else reaped it.
    """
    try:
        result = os.waitid(os.P_PIDFD, child.pidfd, os.WEXITED | os.WNOHANG)
    except ChildProcessError:
        release_child(child)
        return ExitStatus()
    if result is None:
        raise BlockingIOError(errno.EAGAIN, f"cannot reap process {child.pid}: it is still alive")
    release_child(child)
    return _status(result)


def reap_or_release(child: Child) -> None:
    """Reap a child if it has ended; if not, close its descriptors and leave it alone."""
    try:
        reap(child)
    except BlockingIOError:
        release_child(child)


def release_child(child: Child) -> None:
    """Be done with a child without reaping it: its pid stands for nothing here any more."""
    _unreaped.discard(child.pid)
    child.close()


def _status(result: os.waitid_result) -> ExitStatus:
    if result.si_code == os.CLD_EXITED:
        return ExitStatus(code=result.si_status)
    return ExitStatus(signal=signal_name(result.si_status), core_dumped=result.si_code == os.CLD_DUMPED)


def signal_name(number: int) -> str:
    """The name of a signal, "SIG35" for one that has none of its own."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIG{number}"


def signal_child(child: Child, name: str) -> bool:
    """Send a signal by name to exactly this process; False if it has ended.

    Raises PermissionError if the kernel forbids it: a child that runs as another user.
    """
    with suppress(ProcessLookupError):
        signal.pidfd_send_signal(child.pidfd, SIGNAL_NUMBERS[name])
        return True
    return False
