"""Say why a program could not be run, naming what is missing, in one line that tells what to do.

Looks at the machine only after a failure, to tell apart the causes that share an errno: ENOENT alone may
mean the directory, the program, or the interpreter that its first line names.
"""

import errno
import os
import stat
from collections.abc import Mapping

from supervisor.core.launch import Launch

INTERPRETER_BYTES = 256
"""The kernel reads no more than this of a `#!` line (BINPRM_BUF_SIZE)."""

_ADVICE = {
    errno.EAGAIN: "the limit of processes is reached (ulimit -u, or pids.max of the control group)",
    errno.ENOMEM: "there is not enough memory for another process",
    errno.EMFILE: "the daemon has no descriptor left (ulimit -n)",
    errno.ENFILE: "the machine has no file descriptor left (fs.file-max)",
    errno.E2BIG: "the command and the environment together are too long",
}


class SpawnError(Exception):
    """There is no such process. Reads "cannot run X: reason; what to do"; `code` is the errno, or 0."""

    def __init__(self, message: str, code: int = 0) -> None:
        super().__init__(message)
        self.code = code


def unprepared(instance: str, error: OSError) -> str:
    """The sentence for what failed before there was a program to run."""
    advice = _ADVICE.get(error.errno or 0)
    if advice is None or error.errno == errno.E2BIG:
        return f"cannot prepare {instance}: {error}"
    return f"cannot prepare {instance}: {os.strerror(error.errno or 0)}: {advice}; raise it or run less"


def describe(
    launch: Launch, argv: tuple[str, ...], environment: Mapping[str, str], step: str, code: int
) -> str:
    """The sentence for a failure of `step` with errno `code`; a step of the exec helper, or "fork"."""
    what = f"cannot run {argv[0]}"
    if launch.identity is not None:
        what += f" as {launch.identity.user}"
    text = os.strerror(code) if code else "unknown reason"
    if code in _ADVICE and step in {"fork", "exec", "setuid"}:
        return f"{what}: {text}: {_ADVICE[code]}; raise it or run less"
    if step == "working_directory":
        return f"{what}: {_about_directory(launch.working_directory, code)}"
    if step == "exec":
        return f"{what}: {_about_program(launch.working_directory, argv[0], environment, code)}"
    if step == "giving up root":
        return f"{what}: it could become root again; run pitbossd without CAP_SETUID, or as root"
    if step.startswith("limit "):
        return f"{what}: {step}: {text}; lower it, or run pitbossd with a higher one"
    return f"{what}: {step}: {text}; run pitbossd with the privilege for it, or leave it out of the manifest"


def _about_directory(directory: str, code: int) -> str:
    if code == errno.ENOENT:
        return f"working directory {directory} does not exist; create it or correct working_directory"
    if code == errno.ENOTDIR:
        return f"working directory {directory} is not a directory; correct working_directory"
    if code == errno.EACCES:
        return (
            f"working directory {directory} may not be entered: permission denied; correct its mode or owner"
        )
    return f"working directory {directory} cannot be entered: {os.strerror(code)}; correct working_directory"


def _about_program(directory: str, program: str, environment: Mapping[str, str], code: int) -> str:
    found = _find(directory, program, environment)
    if code in {errno.ENOENT, errno.ENOTDIR} and found is None:
        if "/" in program:
            return f"no such file (working directory {directory}); correct the command or install it"
        return f"not found in PATH ({_path(environment)}); correct the command, PATH, or install it"
    if code == errno.ENOENT and found is not None:
        interpreter = _interpreter(found)
        missing = f"interpreter {interpreter}" if interpreter else "its dynamic loader"
        return f"{missing} of {found} does not exist; install it or correct the first line of the file"
    if code == errno.EACCES:
        return f"permission denied: {found or program} {_why_denied(found)}"
    if code == errno.ENOEXEC:
        return f"{found or program} is no program for this machine and has no #! line; correct it"
    if code == errno.ETXTBSY:
        return f"{found or program} is open for writing; replace programs by renaming"
    text = os.strerror(code) if code else "unknown reason"
    return f"{text} ({found or program}); correct the command"


def _why_denied(found: str | None) -> str:
    try:
        if found is not None and os.path.isdir(found):
            return "is a directory; correct the command"
        if found is not None and not os.stat(found).st_mode & 0o111:
            return "is not executable; make it so (chmod +x) or name its interpreter"
    except OSError:
        pass
    return "may not be executed by this user; correct its mode, or the mount it is on"


def _path(environment: Mapping[str, str]) -> str:
    return environment.get("PATH", os.defpath)


def _find(directory: str, program: str, environment: Mapping[str, str]) -> str | None:
    places = [""] if "/" in program else _path(environment).split(os.pathsep)
    for place in places:
        candidate = os.path.join(directory, place, program)
        if os.path.lexists(candidate):
            return candidate
    return None


def _interpreter(found: str) -> str | None:
    try:
        descriptor = os.open(found, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            return None
        head = os.read(descriptor, INTERPRETER_BYTES)
    except OSError:
        return None
    finally:
        os.close(descriptor)
    words = head[2:].split(b"\n")[0].split() if head.startswith(b"#!") else []
    return os.fsdecode(words[0]) if words else None
