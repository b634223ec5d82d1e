"""Reads the manifest in a child, so that the daemon never carries what only reading needs.

Decides how a manifest gets from there to here, and what is said when it does not arrive. What a
manifest may say is not its business. Measured with Python 3.11: YAML, pydantic and our model are 13 MiB
of a daemon that would not look at any of it again.
"""

import ctypes
import os
import pickle
import signal
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import NoReturn, Self

# Both sides of the fork use it: what is imported before is imported once.
from supervisor.manifest.loaded import Manifest

LONGEST_ANSWER_BYTES = 256 * 1024 * 1024
"""What a child may answer. A manifest of 500 pools is half a MiB; what it may include is bounded before."""

_PIECE_BYTES = 1024 * 1024
_PR_SET_PDEATHSIG = 1  # linux/prctl.h


class CannotReadError(Exception):
    """There is no manifest, and its problems are not the reason; the text is a whole line."""


class InvalidManifestError(Exception):
    """The manifest has problems; the child has said all of them."""


class Reading:
    """A manifest that is being read. Ask for it inside `with`: leaving that ends the child.

    Begin before anything large is imported and before there is a thread: the child is a fork. `complain`
    is called there with the lines of a `ManifestError`.

    Raises:
        CannotReadError: There is no room for a process or a pipe.
    """

    def __init__(self, path: Path, complain: Callable[..., None]) -> None:
        self._path = path
        parent = os.getpid()
        try:
            self._pipe, writing = os.pipe()
        except OSError as error:
            raise self._failed(f"no pipe to the process that reads it: {error.strerror}") from error
        # An interrupt must not be raised in the child, in the frames of the daemon.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            pid = os.fork()
            if pid == 0:
                _answer(path, complain, writing, parent)
            # Nobody else waits for children yet, so the number is still that of this child.
            self._child = os.pidfd_open(pid)
        except OSError as error:
            os.close(self._pipe)
            raise self._failed(f"no process to read it: {error.strerror}") from error
        finally:
            os.close(writing)
            signal.pthread_sigmask(signal.SIG_SETMASK, before)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._child >= 0:
            signal.pidfd_send_signal(self._child, signal.SIGKILL)
            self._reap()
        os.close(self._pipe)

    def manifest(self) -> Manifest:
        """Wait for the manifest. To be asked once.

        Raises:
            InvalidManifestError: It has problems, which have been said.
            CannotReadError: The child did not get to its end.
        """
        answer = bytearray()
        while piece := os.read(self._pipe, _PIECE_BYTES):
            answer += piece
            if len(answer) > LONGEST_ANSWER_BYTES:
                raise self._failed(f"it comes to more than {LONGEST_ANSWER_BYTES} bytes")
        ended, status = self._reap()
        if (ended, status) == (os.CLD_EXITED, os.EX_CONFIG):
            raise InvalidManifestError
        if ended != os.CLD_EXITED:
            raise self._failed(f"the process that reads it was ended by {signal.Signals(status).name}")
        if status != 0:
            raise self._failed(f"the process that reads it ended with exit code {status}")
        manifest: Manifest = pickle.loads(answer)  # noqa: S301 - by our own child, through our own pipe
        return manifest

    def _reap(self) -> tuple[int, int]:
        """How the child ended: `si_code` and `si_status` of waitid(2)."""
        try:
            result = os.waitid(os.P_PIDFD, self._child, os.WEXITED)
        finally:
            os.close(self._child)
            self._child = -1
        if result is None:
            raise AssertionError("waitid without WNOHANG has a result")
        return result.si_code, result.si_status

    def _failed(self, reason: str) -> CannotReadError:
        return CannotReadError(f"cannot read {self._path}: {reason}")


def _answer(path: Path, complain: Callable[..., None], writing: int, parent: int) -> NoReturn:
    """What the child does. It never returns into the code of the daemon, whatever happens."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
        _end_with(parent)
        from supervisor.manifest.load import load
        from supervisor.manifest.problems import ManifestError

        try:
            manifest = load(path)
        except ManifestError as error:
            complain(*str(error).splitlines())
            status = os.EX_CONFIG
        else:
            with open(writing, "wb") as pipe:
                pickle.dump(manifest, pipe, pickle.HIGHEST_PROTOCOL)
            status = 0
    except BaseException:  # noqa: BLE001 - the stack above belongs to the parent
        traceback.print_exc()
        sys.stderr.flush()
    finally:
        os._exit(status)


def _end_with(parent: int) -> None:
    """Have the kernel end this process when its parent does: a signal may leave that no time to do it."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)
