"""Hands a checked manifest over to the same process with nothing else in its memory.

Decides how the program that reads becomes the daemon: by execve(2), with the result in a memfd. It stays
the same process, but what reading needed is gone: YAML, pydantic, our model and the command line are
15 MiB that a daemon would never look at again. See docs/decisions/0021-becoming-the-daemon.md.
"""

import os
import signal
import sys
from dataclasses import dataclass
from typing import NoReturn

from supervisor.cli.pitbossd_complaints import complain
from supervisor.cli.pitbossd_serve import OPTION
from supervisor.manifest.loaded import Manifest


class CannotHandOverError(Exception):
    """There will be no daemon; the text is a whole line."""


@dataclass(frozen=True, slots=True)
class Handover:
    """What the daemon gets: the manifest, and how to write its log."""

    manifest: Manifest
    log_format: str
    log_level: str


def become_daemon(what: Handover) -> NoReturn:
    """Begin anew with the same command line and environment, and `what` in a memfd.

    SIGINT is blocked until the daemon lets it through: an interpreter that is coming up would die of it with
    a traceback.

    Raises:
        CannotHandOverError: The program that runs is this one still.
    """
    import pickle

    _take_in_orphans()
    command = [sys.executable, "-X", "", *sys.orig_argv[1:]]
    held = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        with open(os.memfd_create("pitbossd-manifest"), "w+b") as file:
            pickle.dump(what, file, pickle.HIGHEST_PROTOCOL)
            file.seek(0)
            os.set_inheritable(file.fileno(), True)
            command[2] = f"{OPTION}={file.fileno()}"
            os.execv(sys.executable, command)  # noqa: S606  # no shell is wanted
    except OSError as error:
        raise CannotHandOverError(
            f"cannot hand {what.manifest.path} over to the daemon: {error.strerror}"
        ) from error
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, held)


def _take_in_orphans() -> None:
    from supervisor.runtime.subreaper import become_subreaper

    try:
        become_subreaper()
    except OSError as error:
        complain(f"pitbossd: cannot become the parent of orphans: {error.strerror}; some may get away")


def receive(descriptor: int) -> Handover:
    """What was handed over. To be asked once: the descriptor is closed.

    Raises:
        CannotHandOverError: The descriptor holds nothing that this release can read.
    """
    import pickle

    try:
        with open(descriptor, "rb") as file:
            what: Handover = pickle.load(file)  # noqa: S301  # by this process, in a file without a name
    except Exception as error:
        raise CannotHandOverError(f"cannot take over descriptor {descriptor}: {error}") from error
    # Nobody asks for it again. What is imported next takes the place of its half in Python.
    del sys.modules["pickle"]
    return what
