"""Log files of captured output: append, rotate at line ends, survive a full disk and a renamed file.

Decides when a file is changed for another and what happens while none can be written. Knows nothing
about where the bytes come from. Writing never raises and never waits for a target to recover: what
cannot be written is dropped and counted, because a worker must not stop for want of a log.
"""

import logging
import os
import stat
import time
from collections import OrderedDict
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from errno import EINVAL
from typing import Final

from supervisor.runtime.disposal import Disposal
from supervisor.runtime.log_lines import LONGEST_LINE

log = logging.getLogger(__name__)

OPEN_FILES = 128
"""Log files held open at a time; the one written least recently, within `CHECK_SECONDS`, is closed first."""

CHECK_SECONDS = 1.0
"""How often, while written to, a file is compared with what its path names now, and counts as used."""

RETRY_SECONDS = 5.0
"""How long a target that failed is left alone."""

WARN_SECONDS = 60.0
"""One warning per target in this time."""

WARNINGS_PER_MINUTE = 20
"""Warnings about all targets together: a full disk fails a thousand targets at once."""

# O_NONBLOCK: opening a FIFO that somebody put there must not wait for its reader.
_FLAGS: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NOCTTY | os.O_NONBLOCK
)
_FILE_MODE: Final = 0o640
_DIRECTORY_MODE: Final = 0o750


def check_directory(path: str | os.PathLike[str]) -> str | None:
    """Make a log directory if it is missing, and try to write in it; the problem as a sentence, or None."""
    probe = os.path.join(path, f".pitboss-{os.getpid()}")
    try:
        os.makedirs(path, _DIRECTORY_MODE, exist_ok=True)
        descriptor = os.open(probe, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        os.close(descriptor)
        os.unlink(probe)
    except OSError as error:
        return (
            f"cannot write logs in {path}: {error.strerror}; "
            f"make it a directory that uid {os.geteuid()} may write, or name another in logs.directory"
        )
    return None


def size_text(count: int) -> str:
    """A number of bytes for people: `12 KiB`."""
    if count < 1024:
        return f"{count} bytes"
    size, unit = count / 1024, "KiB"
    for larger in ("MiB", "GiB", "TiB"):
        if size < 1024:
            break
        size, unit = size / 1024, larger
    return f"{size:.0f} {unit}" if size >= 10 else f"{size:.1f} {unit}"


class OpenFiles:
    """The log files that hold a descriptor, where the oldest go, and the budget of warnings about all.

    Without a disposal the kernel frees at once what loses its name.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic, disposal: Disposal | None = None) -> None:
        self.clock = clock
        self._disposal = disposal
        self._open: OrderedDict[LogFile, None] = OrderedDict()
        self._warned_from = clock()
        self._warnings = 0

    def __len__(self) -> int:
        return len(self._open)

    def used(self, file: "LogFile") -> None:
        """Make it the last one to be closed; close the first if there are too many."""
        self._open[file] = None
        self._open.move_to_end(file)
        if len(self._open) > OPEN_FILES:
            self._open.popitem(last=False)[0].close()

    def closed(self, file: "LogFile") -> None:
        """It holds no descriptor any more."""
        self._open.pop(file, None)

    def let_go(self, descriptor: int) -> None:
        """Close the descriptor of a file that somebody else may have deleted."""
        (os.close if self._disposal is None else self._disposal.let_go)(descriptor)

    def replacing(self, path: str) -> AbstractContextManager[None]:
        """In the body a file of this path loses its name, if there is one."""
        return nullcontext() if self._disposal is None else self._disposal.holding(path)

    def may_warn(self, now: float) -> bool:
        """Take one warning from this minute's budget, if one is left."""
        if now - self._warned_from >= WARN_SECONDS:
            self._warned_from, self._warnings = now, 0
        self._warnings += 1
        return self._warnings <= WARNINGS_PER_MINUTE


class LogFile:
    """One rotating file with one writer.

    It grows to `max_bytes` and is then renamed to `PATH.1`, which becomes `PATH.2`, up to `PATH.keep`.
    A line stays in one file unless it is longer than `LONGEST_LINE`; to finish one, a file may exceed
    `max_bytes` by that much. `mark` puts a line about dropped bytes into the form of the file.
    """

    __slots__ = (
        "_checked_at",
        "_descriptor",
        "_files",
        "_identity",
        "_keep",
        "_line_bytes",
        "_lost",
        "_lost_inside",
        "_mark",
        "_max_bytes",
        "_reason",
        "_renew",
        "_retry_at",
        "_size",
        "_warned_at",
        "path",
    )

    def __init__(
        self, path: str, max_bytes: int, keep: int, files: OpenFiles, mark: Callable[[str], bytes]
    ) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._files = files
        self._mark = mark
        self._descriptor = -1
        self._identity = (0, 0)
        self._size = 0
        self._line_bytes = 0
        self._checked_at = 0.0
        self._renew = False
        self._retry_at: float | None = None
        self._warned_at: float | None = None
        self._reason = ""
        self._lost = 0
        self._lost_inside = False

    def write(self, data: bytes) -> int:
        """Append a block and return how many bytes of it were dropped. Never raises OSError."""
        if not data:
            return 0
        now = self._files.clock()
        if self._retry_at is not None and now < self._retry_at:
            return self._lose(data, 0)
        position = skipped = 0
        try:
            if self._lost:
                skipped = self._recover(data, now)
                if skipped < 0:
                    return self._lose(data, 0)
                position = skipped
            while position < len(data):
                position += self._append(data, position, now)
        except OSError as error:
            return skipped + self._fail(error, data, position, now)
        return skipped

    def _append(self, data: bytes, position: int, now: float) -> int:
        """One write, or one change of file; how many bytes were written."""
        if self._descriptor < 0:
            self._open(now)
        elif now - self._checked_at >= CHECK_SECONDS:
            self._compare(now)
        end = len(data)
        if self._renew or self._size + end - position > self._max_bytes:
            end = self._cut(data, position)
            if end == position:
                self._next_file(now)
                return 0
        part = data if end - position == len(data) else data[position:end]
        written = os.write(self._descriptor, part)
        self._size += written
        newline = part.rfind(b"\n", 0, written)
        self._line_bytes = self._line_bytes + written if newline < 0 else written - newline - 1
        return written

    def _cut(self, data: bytes, position: int) -> int:
        """Where the part of the rest that still belongs into the present file ends."""
        room = 0 if self._renew else max(0, self._max_bytes - self._size)
        cut = data.rfind(b"\n", position, position + room) + 1
        if cut:
            return cut
        if self._line_bytes == 0 and (self._renew or self._size):
            return position
        line_end = data.find(b"\n", position) + 1 or len(data)
        return max(position, min(line_end, position + LONGEST_LINE - self._line_bytes))

    def _open(self, now: float) -> None:
        try:
            descriptor = os.open(self.path, _FLAGS, _FILE_MODE)
        except FileNotFoundError:
            os.makedirs(os.path.dirname(self.path), _DIRECTORY_MODE, exist_ok=True)
            descriptor = os.open(self.path, _FLAGS, _FILE_MODE)
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            os.close(descriptor)
            raise OSError(EINVAL, "it is not a regular file")
        identity = (status.st_dev, status.st_ino)
        if identity != self._identity or status.st_size == 0:
            self._line_bytes = 0
        self._descriptor, self._identity, self._size = descriptor, identity, status.st_size
        self._checked_at = now
        self._renew = False
        self._files.used(self)

    def _compare(self, now: float) -> None:
        """Notice that the file was renamed, deleted or truncated by somebody else."""
        self._checked_at = now
        self._files.used(self)
        try:
            status = os.stat(self.path, follow_symlinks=False)
        except FileNotFoundError:
            self._renew = True
            return
        if (status.st_dev, status.st_ino) != self._identity:
            self._renew = True
        else:
            self._size = status.st_size

    def _next_file(self, now: float) -> None:
        rotate = not self._renew
        self._part_from(os.close if rotate else self._files.let_go)
        if rotate:
            with self._files.replacing(self._oldest):
                self._rotate()
        self._open(now)
        self._line_bytes = 0

    @property
    def _oldest(self) -> str:
        """The file that is deleted when one more comes."""
        return f"{self.path}.{self._keep}" if self._keep > 0 else self.path

    def _rotate(self) -> None:
        # Only up to the first free number: with `keep` in the hundreds, and few files yet, a failing
        # rename for each of the others costs more than the writing.
        free = 1
        while free < self._keep and os.path.lexists(f"{self.path}.{free}"):
            free += 1
        if free >= self._keep:
            # Not by a rename over it: ext4 would write the file that is renamed to the disk (auto_da_alloc).
            with suppress(FileNotFoundError):
                os.unlink(self._oldest)
        if self._keep <= 0:
            return
        for number in range(free - 1, 0, -1):
            with suppress(FileNotFoundError):
                os.rename(f"{self.path}.{number}", f"{self.path}.{number + 1}")
        with suppress(FileNotFoundError):
            os.rename(self.path, f"{self.path}.1")

    def _lose(self, data: bytes, position: int) -> int:
        count = len(data) - position
        self._lost += count
        if count:
            self._lost_inside = data[-1] != 10
        return count

    def _fail(self, error: OSError, data: bytes, position: int, now: float) -> int:
        count = self._lose(data, position)
        self.close()
        self._retry_at = now + RETRY_SECONDS
        self._reason = error.strerror or str(error)
        due = self._warned_at is None or now - self._warned_at >= WARN_SECONDS
        if due and self._files.may_warn(now):
            self._warned_at = now
            log.warning(
                "cannot write %s: %s; %s dropped so far, the worker goes on, trying again in %g s",
                self.path,
                self._reason,
                size_text(self._lost),
                RETRY_SECONDS,
            )
        return count

    def _recover(self, data: bytes, now: float) -> int:
        """Note what was lost and return where in the block the next whole line begins, or -1 for nowhere."""
        start = data.find(b"\n") + 1 if self._lost_inside else 0
        if self._lost_inside and not start:
            return -1
        if self._descriptor < 0:
            self._open(now)
        lost, self._lost = self._lost + start, 0
        note = (b"\n" if self._line_bytes else b"") + self._mark(
            f"[pitboss: {lost} bytes dropped: {self._reason}]"
        )
        try:
            position = 0
            while position < len(note):
                position += self._append(note, position, now)
        except OSError:
            self._lost = lost - start
            raise
        self._retry_at = None
        log.info("writes %s again; %s were dropped", self.path, size_text(lost))
        return start

    def reopen(self) -> None:
        """Open the path anew for the next line; a line on its way is finished in the old file."""
        if self._line_bytes:
            self._renew = True
        else:
            self.close()

    def close(self) -> None:
        """Hold no descriptor; the next write opens the path again."""
        self._part_from(os.close)

    def _part_from(self, close: Callable[[int], None]) -> None:
        if self._descriptor >= 0:
            close(self._descriptor)
            self._descriptor = -1
            self._files.closed(self)
