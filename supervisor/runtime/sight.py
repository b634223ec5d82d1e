"""Look at workers, and reach them, also when this process has no descriptor left.

Whoever takes "I cannot look" for "there is nothing" starts a second worker beside the first. So two
descriptors are kept back for looking, and a look that is not possible even so raises. What is looked at
is not known here.
"""

import errno
import os
from collections.abc import Callable
from typing import TypeVar

_T = TypeVar("_T")

SPARES = 2
"""A handle of a process, and the file by which it is told from its successor."""

READ_BYTES = 16384

_LACKING = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM})

_held: list[int] = []


class BlindError(Exception):
    """Nothing was seen, for want of descriptors or memory: it says nothing about what is there."""


def hold() -> None:
    """Keep the spare descriptors back; called early, for a limit that is lowered later spares low numbers."""
    while len(_held) < SPARES:
        try:
            _held.append(os.open("/", os.O_PATH | os.O_CLOEXEC))
        except OSError:
            return


def sighted(look: Callable[[], _T]) -> _T:
    """What `look` returns; tried again with the spare descriptors where there is no other.

    `look` must not keep a descriptor. Raises `BlindError` if it is not possible even so, and every other
    OSError as it is.
    """
    try:
        return look()
    except OSError as error:
        if error.errno not in _LACKING:
            raise
    while _held:
        os.close(_held.pop())
    try:
        return look()
    except OSError as error:
        if error.errno not in _LACKING:
            raise
        raise BlindError(os.strerror(error.errno)) from error
    finally:
        hold()


def glance(path: str) -> bytes:
    """The contents of a file of the kernel that comes in one piece. Raises `BlindError`, and OSError."""
    return sighted(lambda: _glance(path))


def _glance(path: str) -> bytes:
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        return os.read(descriptor, READ_BYTES)
    finally:
        os.close(descriptor)


def read(path: str, most: int = -1) -> bytes:
    """The contents of a small file of the kernel, or its beginning. Raises `BlindError`, and OSError."""
    return sighted(lambda: _read(path, most))


def _read(path: str, most: int) -> bytes:
    # Not a file object: that asks four times what it is before it reads.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        found = b""
        while most < 0 or len(found) < most:
            # A file of /proc may come in pieces of a page; only nothing is the end.
            piece = os.read(descriptor, READ_BYTES if most < 0 else most - len(found))
            if not piece:
                break
            found += piece
        return found
    finally:
        os.close(descriptor)
