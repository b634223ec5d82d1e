"""How captured output is framed: its format on disk, the tail in memory, and the rate limit.

Everything here works on blocks of bytes as they came out of a pipe, which end anywhere. It knows
neither files nor descriptors, and trusts nothing about the bytes: they are a worker's.
"""

import re
import time
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Protocol

from supervisor.core.identity import InstanceId
from supervisor.core.launch import LogFormat

LONGEST_LINE = 64 * 1024
"""Bytes up to which a line is kept in one piece: in one file, and in one record of the JSON format."""

TAIL_BYTES = 64 * 1024
"""Ceiling of what is kept in memory of one instance's output."""

TAIL_LINES = 200
"""Lines of the tail that are ever shown."""

TAIL_LINE_BYTES = 8 * 1024
"""Where a line of the tail is cut."""

# Cutting to half of the ceiling makes the copying constant per byte, however small the blocks are.
_TAIL_KEPT = TAIL_BYTES // 2

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[ -/]*[0-~])")
# C0 but for the tab, DEL, C1, and the marks that turn the reading direction of what follows.
_UNSEEN = dict.fromkeys(
    {*range(32), *range(0x7F, 0xA0), 0x2028, 0x2029, *range(0x202A, 0x202F), *range(0x2066, 0x206A)} - {9}
)


def printable(text: str) -> str:
    """A worker's text without what a terminal would obey: escape sequences and control characters."""
    return _ESCAPES.sub("", text).translate(_UNSEEN)


class Stamps:
    """RFC 3339 times in UTC with milliseconds; the part up to the second is made once a second."""

    __slots__ = ("_prefix", "_second", "_wall")

    def __init__(self, wall: Callable[[], float] = time.time) -> None:
        self._wall = wall
        self._second = -1
        self._prefix = ""

    def __call__(self) -> str:
        """The time now, as `2026-03-01T12:30:45.123Z`."""
        now = self._wall()
        second = int(now)
        if second != self._second:
            self._second = second
            self._prefix = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
        return f"{self._prefix}.{int((now - second) * 1000):03d}Z"


class Framing(Protocol):
    """Turns blocks of output into what is written."""

    generation: int

    def take(self, data: bytes) -> bytes:
        """What is written for a block."""

    def end_line(self) -> bytes:
        """What ends a line that the worker left unfinished; empty between lines."""

    def line(self, text: str) -> bytes:
        """A whole line of our own in the same format."""


class RawFraming:
    """As it came: the worker's bytes and nothing else."""

    __slots__ = ("_inside", "generation")

    def __init__(self) -> None:
        self.generation = 0
        self._inside = False

    def take(self, data: bytes) -> bytes:
        """The block itself."""
        self._inside = data[-1] != 10
        return data

    def end_line(self) -> bytes:
        """A newline, if the last block ended inside a line."""
        ending, self._inside = (b"\n" if self._inside else b""), False
        return ending

    def line(self, text: str) -> bytes:
        """The text and a newline."""
        return text.encode() + b"\n"


class TimestampFraming:
    """Each line begins with the time at which its first byte was read."""

    __slots__ = ("_inside", "_stamps", "generation")

    def __init__(self, stamps: Stamps) -> None:
        self.generation = 0
        self._stamps = stamps
        self._inside = False

    def take(self, data: bytes) -> bytes:
        """The block with a time after each newline that something follows."""
        stamp = self._stamps().encode() + b" "
        ends = data[-1] == 10
        # One replace for the whole block: twice as fast as splitting it.
        body = (data[:-1] if ends else data).replace(b"\n", b"\n" + stamp)
        parts = (b"" if self._inside else stamp, body, b"\n" if ends else b"")
        self._inside = not ends
        return b"".join(parts)

    def end_line(self) -> bytes:
        """A newline, if the last block ended inside a line."""
        ending, self._inside = (b"\n" if self._inside else b""), False
        return ending

    def line(self, text: str) -> bytes:
        """The time, the text and a newline."""
        return f"{self._stamps()} {text}\n".encode()


class JsonFraming:
    """One object per line: time, pool, instance, generation, message.

    A line longer than `LONGEST_LINE` becomes several objects, all but the last with `"partial":true`.
    """

    __slots__ = ("_names", "_partial", "_stamps", "generation")

    def __init__(self, instance: InstanceId, stamps: Stamps) -> None:
        self.generation = 0
        self._stamps = stamps
        self._names = (
            f'"pool":{encode_basestring(instance.pool)},"instance":{encode_basestring(str(instance))}'
        )
        self._partial = b""

    def _head(self) -> str:
        return f'{{"time":"{self._stamps()}",{self._names},"generation":{self.generation},"message":'

    def take(self, data: bytes) -> bytes:
        """The objects for the lines that this block completes."""
        ended, newline, rest = data.rpartition(b"\n")
        head = self._head()
        parts: list[str] = []
        if newline:
            text = self._pieces(head, self._partial + ended, parts).decode("utf-8", "replace")
            parts.extend(f"{head}{encode_basestring(line)}}}\n" for line in text.split("\n"))
            self._partial = self._pieces(head, rest, parts)
        else:
            self._partial = self._pieces(head, self._partial + rest, parts)
        return "".join(parts).encode()

    def _pieces(self, head: str, line: bytes, parts: list[str]) -> bytes:
        """Put whole pieces of an overlong first line into `parts`; return what is left of it."""
        first = line.find(b"\n")
        length, start = len(line) if first < 0 else first, 0
        while length - start > LONGEST_LINE:
            piece = line[start : start + LONGEST_LINE].decode("utf-8", "replace")
            parts.append(f'{head}{encode_basestring(piece)},"partial":true}}\n')
            start += LONGEST_LINE
        return line[start:]

    def end_line(self) -> bytes:
        """The object of a line that the worker left unfinished."""
        if not self._partial:
            return b""
        text, self._partial = self._partial.decode("utf-8", "replace"), b""
        return self.line(text)

    def line(self, text: str) -> bytes:
        """An object with this message."""
        return f"{self._head()}{encode_basestring(text)}}}\n".encode()


def framing(form: LogFormat, instance: InstanceId, stamps: Stamps) -> Framing:
    """The framing of a format."""
    if form is LogFormat.JSON:
        return JsonFraming(instance, stamps)
    return TimestampFraming(stamps) if form is LogFormat.TIMESTAMP else RawFraming()


class Tail:
    """The last lines of an instance, for its exit record and for whoever asks; nothing until it speaks."""

    __slots__ = ("_beheaded", "_text")

    def __init__(self) -> None:
        self._text: bytearray | None = None
        self._beheaded = False

    def add(self, data: bytes) -> None:
        """Take a block in."""
        if len(data) > _TAIL_KEPT:
            # One copy for each block of a flood; to assign a slice to the old bytes makes three.
            self._text = bytearray(memoryview(data)[-_TAIL_KEPT:])
            self._beheaded = True
            return
        if self._text is None:
            self._text = bytearray()
        self._text += data
        if len(self._text) > TAIL_BYTES:
            del self._text[:-_TAIL_KEPT]
            self._beheaded = True

    def lines(self, count: int) -> tuple[str, ...]:
        """The last `count` lines, at most `TAIL_LINES`, decoded and printable."""
        count = min(count, TAIL_LINES)
        if not self._text or count <= 0:
            return ()
        parts = bytes(self._text).split(b"\n")
        if not parts[-1]:
            parts.pop()
        if self._beheaded:
            headless = parts.pop(0)
            if not parts:
                parts.append(b"[...] " + headless)
        return tuple(_shown(line) for line in parts[-count:])


def _shown(line: bytes) -> str:
    text = printable(line[:TAIL_LINE_BYTES].decode("utf-8", "replace"))
    lost = len(line) - TAIL_LINE_BYTES
    return text if lost <= 0 else f"{text} [pitboss: {lost} bytes cut]"


class RateLimit:
    """A token bucket of bytes that keeps or drops whole lines.

    Filled with `rate` bytes a second up to a second's worth, but never less than one line of
    `LONGEST_LINE`, or long lines could never pass. A line of which the beginning was kept is cut
    where the bucket is empty, and the rest of it is dropped.
    """

    __slots__ = ("_burst", "_dropped", "_filled_at", "_inside", "_resume", "_tokens", "rate")

    def __init__(self, rate: int, now: float) -> None:
        self.rate = rate
        self._dropped = 0
        self._burst = float(max(rate, LONGEST_LINE))
        # A quarter of a second's worth, so that a flood leaves one note for each gap and not for each line.
        self._resume = rate / 4
        self._tokens = self._burst
        self._filled_at = now
        self._inside = False

    def admit(self, data: bytes, now: float) -> tuple[int, bytes]:
        """How many bytes were dropped since the last kept one, and the part of the block that is kept.

        The count is 0 unless something is kept after a gap; it is then time for a note about it.
        """
        self._tokens = min(self._burst, self._tokens + (now - self._filled_at) * self.rate)
        self._filled_at = now
        start, end = self._window(data)
        self._inside = data[-1] != 10
        if start == end:
            self._dropped += len(data)
            return 0, b""
        self._tokens -= end - start
        gap = self._dropped + start
        self._dropped = len(data) - end
        return gap, data[start:end]

    def _window(self, data: bytes) -> tuple[int, int]:
        start = 0
        if self._dropped:
            if self._tokens < self._resume:
                return 0, 0
            if self._inside:
                start = data.find(b"\n") + 1
                if not start:
                    return 0, 0
        if len(data) - start <= self._tokens:
            return start, len(data)
        limit = start + int(self._tokens)
        end = data.rfind(b"\n", start, limit) + 1
        if not end:
            end = limit if self._inside and not self._dropped else start
        return start, end
