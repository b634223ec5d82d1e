"""Makes this process the parent of every orphan among its descendants: prctl(2), PR_SET_CHILD_SUBREAPER.

Children do not inherit it, but a program that this process executes does. So the program that reads
the manifest asks for it: the daemon then has no use for ctypes, which would stay in its memory for one
system call. What is done with the orphans is decided in `descendants`.
"""

import ctypes
import os

PR_SET_CHILD_SUBREAPER = 36


def become_subreaper(*, on: bool = True) -> None:
    """From now on, until it is turned off, orphans come to this process. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0) != 0:
        code = ctypes.get_errno()
        raise OSError(code, os.strerror(code))
