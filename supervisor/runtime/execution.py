"""Execute a program as a child, by posix_spawn(3): the quick way, and nothing of ours leaks through it.

It lends the child our memory instead of copying it, so it takes a tenth of a millisecond however much
memory and however many descriptors there are, and returns when the program runs or with the reason why not.
What else a worker asks for is the business of `children`.
"""

import errno
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from typing import Any

ALL_SIGNALS = tuple(signal.valid_signals())
"""What is ignored stays ignored over exec: Python ignores two, whoever started the daemon maybe more."""

STANDARD_ERROR = 2


def execute(
    argv: tuple[str, ...],
    output: int | None,
    directory: str,
    environment: Mapping[str, str],
    *,
    new_session: bool,
    inherit: Sequence[int] = (),
) -> int:
    """Run a program as a child in a process group (or session) of its own; its pid.

    `output` is for standard output and error, /dev/null if None; `inherit` are further descriptors that
    it keeps, by the same numbers. Raises OSError about the directory or the program, whose name it carries.
    """
    # posix_spawn(3) knows no working directory: this process goes there for the moment.
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDWR, 0)
    ]
    source = 0 if output is None else output
    actions += [(os.POSIX_SPAWN_DUP2, source, 1), (os.POSIX_SPAWN_DUP2, source, 2)]
    # Onto itself: that takes its close-on-exec away in the child.
    actions += [(os.POSIX_SPAWN_DUP2, one, one) for one in inherit]
    place: dict[str, Any] = {"setsid": True} if new_session else {"setpgroup": 0}
    with _inside(directory):
        return _first_that_runs(
            argv, environment, file_actions=actions, setsigmask=(), setsigdef=ALL_SIGNALS, **place
        )


def _first_that_runs(argv: tuple[str, ...], environment: Mapping[str, str], **options: Any) -> int:
    """Run the program, looked up in the PATH of `environment` as execvp(3) does; its pid. Raises OSError."""
    if "/" in argv[0]:
        return os.posix_spawn(argv[0], argv, environment, **options)
    failure: OSError | None = None
    for directory in environment.get("PATH", os.defpath).split(os.pathsep):
        place = os.path.join(directory, argv[0])
        if not os.path.lexists(place):
            continue
        try:
            return os.posix_spawn(place, argv, environment, **options)
        except OSError as error:
            # What was found and may not be run says more than what was not found.
            if failure is None or failure.errno in {errno.ENOENT, errno.ENOTDIR}:
                failure = error
    raise failure or FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), argv[0])


@contextmanager
def _inside(directory: str) -> Iterator[None]:
    """The body runs in a directory. Raises OSError about it if it cannot be entered."""
    home = os.open(".", os.O_PATH | os.O_CLOEXEC)
    try:
        os.chdir(directory)
        try:
            yield
        finally:
            os.fchdir(home)
    finally:
        os.close(home)


@contextmanager
def umasked(umask: int | None) -> Iterator[None]:
    """The body runs with a file mode creation mask; with that of this process if None."""
    if umask is None:
        yield
        return
    former = os.umask(umask)
    try:
        yield
    finally:
        os.umask(former)


def prepare_to_spawn() -> None:
    """Make sure that nobody inherits a descriptor or a blocked signal by accident; call it once, early.

    What Python opens closes on exec; what whoever started the daemon left open does so from now on.
    """
    signal.pthread_sigmask(signal.SIG_SETMASK, ())
    for name in os.listdir("/proc/self/fd"):
        # The listing itself was one of them, and is closed by now.
        with suppress(OSError):
            if int(name) > STANDARD_ERROR:
                os.set_inheritable(int(name), False)
    # A descriptor of ours in the place of a missing standard one would be overwritten in the child.
    while (descriptor := os.open(os.devnull, os.O_RDWR)) <= STANDARD_ERROR:
        os.set_inheritable(descriptor, True)
    os.close(descriptor)
