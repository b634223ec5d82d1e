"""Become the worker: take its identity and its limits, check each step, then exec it.

Runs in the child, because posix_spawn(3) takes no identity, no limit and no priority: in a copy of a process
that holds it already (see `make_recruits`), or as a script of its own, `python -I -S become_worker.py PLAN
REPORT`. PLAN and REPORT are numbers of inherited descriptors then: the plan is a marshalled dictionary in a
memory file, so that nothing of it shows in `ps`; the report is a pipe on which a failure is written as
"step NUL errno". A program is never run unless every step before it worked, and was seen to have worked.

It imports only what an interpreter has loaded anyway or loads in microseconds (`_signal` instead of
`signal`, `marshal` instead of `json`): it runs before each worker that needs it.
"""

import _signal  # type: ignore[import-not-found]  # it has no stub
import marshal
import os
import resource
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    # Half as large again as all the rest, for nothing: it runs before each worker, or is copied for each.
    from typing import Any

EXECUTING = b"exec"
"""Written just before exec. A report without it means that this script was ended by somebody."""


FIRST_SOCKET = 3
"""SD_LISTEN_FDS_START of sd_listen_fds(3)."""

LOCKS = 10
"""RLIMIT_LOCKS, which carries the mark of the tree; the `resource` module has no name for it."""


class NoEffectError(OSError):
    """A step reported success and had no effect."""


def main() -> None:
    """Take plan and report from the command line and carry the plan out; returns never."""
    plan_descriptor, report = int(sys.argv[1]), int(sys.argv[2])
    os.set_inheritable(report, False)
    with open(plan_descriptor, "rb") as file:
        plan: dict[str, Any] = marshal.load(file)  # noqa: S302 - the daemon wrote it, into memory
    reset_signals()
    carry_out(plan, report)


def carry_out(plan: "dict[str, Any]", report: int) -> None:
    """Become the worker, or tell `report`, which closes on exec, which step failed; returns never."""
    step = ["sockets"]
    try:
        if plan["sockets"]:
            report = hand_over(plan["sockets"], report, plan["environment"])
        become(plan, step)
        step[0] = "exec"
        os.write(report, EXECUTING)
        execute(plan["argv"], plan["environment"])
    except OSError as error:
        os.write(report, f"{step[0]}\0{error.errno or 0}".encode())
    except (ValueError, OverflowError):
        os.write(report, f"{step[0]}\0{22}".encode())
    os._exit(127)


def become(plan: "dict[str, Any]", step: list[str]) -> None:
    """Apply the plan; `step[0]` names the step that is being taken.

    What needs privilege comes before the identity is given up. The directory comes after it, since
    only then is it known that the worker may enter it.
    """
    step[0] = "signals"
    _signal.pthread_sigmask(_signal.SIG_SETMASK, ())
    if plan["new_session"]:
        step[0] = "session"
        os.setsid()
    if plan["tag"] is not None:
        step[0] = "tag"
        resource.setrlimit(LOCKS, plan["tag"])
    if plan["oom_score_adjust"] is not None:
        step[0] = "oom_score_adjust"
        with open("/proc/self/oom_score_adj", "w") as file:
            file.write(str(plan["oom_score_adjust"]))
    if plan["nice"] is not None:
        step[0] = "nice"
        os.setpriority(os.PRIO_PROCESS, 0, plan["nice"])
        require(os.getpriority(os.PRIO_PROCESS, 0) == plan["nice"])
    for name, (soft, hard) in plan["limits"].items():
        step[0] = f"limit {name}"
        resource.setrlimit(getattr(resource, f"RLIMIT_{name}"), (soft, hard))
    if plan["identity"] is not None:
        uid, gid, groups = plan["identity"]
        take_identity(uid, gid, groups, step)
    if plan["umask"] is not None:
        step[0] = "umask"
        os.umask(plan["umask"])
    step[0] = "working_directory"
    os.chdir(plan["working_directory"])
    if plan["watchdog"]:
        plan["environment"]["WATCHDOG_PID"] = str(os.getpid())


def hand_over(sockets: list[int], report: int, environment: dict[bytes, bytes]) -> int:
    """Put the sockets where sd_listen_fds(3) looks for them, and say whom they are for.

    Nothing but they is inherited by the program. Returns the descriptor of the report, which may have
    been in the way.
    """
    end = FIRST_SOCKET + len(sockets)
    report = above(end, report)
    for number, source in enumerate([above(end, one) for one in sockets]):
        os.dup2(source, FIRST_SOCKET + number)
        os.set_inheritable(source, False)
    environment[b"LISTEN_PID"] = b"%d" % os.getpid()
    return report


def above(lowest: int, descriptor: int) -> int:
    """A copy that is not below `lowest`. What is left below is replaced by the sockets."""
    while descriptor < lowest:
        descriptor = os.dup(descriptor)
    return descriptor


def execute(argv: list[bytes], environment: dict[bytes, bytes]) -> None:
    """Run the program, looked up as execvp(3) does; returns never. Raises OSError if none can be run.

    `os.execvpe` imports a module on its way. By now the worker's user may be unable to read it, or
    its limits too low to open it.
    """
    program, path = argv[0], environment.get(b"PATH", os.defpath.encode())
    directories = [b""] if b"/" in program else path.split(b":")
    error: OSError = FileNotFoundError(2, "not found")
    for directory in directories:
        place = directory + b"/" + program if directory else program
        try:
            os.execve(place, argv, environment)  # noqa: S606 - no shell is wanted
        except (FileNotFoundError, NotADirectoryError):
            continue
        except OSError as found:
            # What was found and may not be run says more than what was not found.
            error = found if isinstance(error, FileNotFoundError) else error
    raise error


def reset_signals() -> None:
    """The interpreter ignores two signals, and whoever started the daemon may have ignored more."""
    unchangeable = (_signal.SIGKILL, _signal.SIGSTOP)
    for number in _signal.valid_signals():
        # To ask costs a thirtieth of what it costs to set.
        if number not in unchangeable and _signal.getsignal(number) != _signal.SIG_DFL:
            _signal.signal(number, _signal.SIG_DFL)


def take_identity(uid: int, gid: int, groups: tuple[int, ...], step: list[str]) -> None:
    """Become another user for good: real, effective and saved, and with no way back."""
    step[0] = "setgroups"
    wanted = set(groups)
    if set(os.getgroups()) != wanted:
        os.setgroups(groups)
    require(set(os.getgroups()) == wanted)
    step[0] = "setgid"
    os.setresgid(gid, gid, gid)
    require(os.getresgid() == (gid, gid, gid))
    step[0] = "setuid"
    os.setresuid(uid, uid, uid)
    require(os.getresuid() == (uid, uid, uid))
    if uid != 0:
        step[0] = "giving up root"
        try:
            os.setresuid(0, 0, 0)
        except PermissionError:
            return
        require(False)


def require(holds: bool) -> None:
    """Raise where a step had no effect although the kernel did not object."""
    if not holds:
        raise NoEffectError(1, "the step had no effect")


if __name__ == "__main__":
    main()
