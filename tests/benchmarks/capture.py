"""How fast output gets into rotated files, and whether it is whole: what a flood of numbered lines leaves.

Knows nothing of who supervises: it counts the lines in whatever files are below the directory.
"""

import os
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from tests.benchmarks.kin import use
from tests.benchmarks.life import Life, life, rest
from tests.benchmarks.subject import Subject

MIB = 1024 * 1024
LINE_BYTES = 100
LINE = re.compile(rb"^[0-9]{8} [0-9]{10} x{79}$", re.MULTILINE)
"""As flood.c writes it."""

FLOOD_WITHIN = 120.0
ARRIVE_WITHIN = 20.0
ROTATIONS = 5
KEEP = 2 * ROTATIONS
"""Rotated files: enough that none is deleted, so that every line can be counted."""


def _files(directory: Path) -> Iterator[Path]:
    for parent, _, names in os.walk(directory):
        # svlogd and s6-log keep a state or a lock beside what they wrote.
        yield from (Path(parent, name) for name in names if name not in ("config", "lock", "state"))


def _bytes(directory: Path) -> int:
    return sum(map(_size, _files(directory)))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        # A rotation renamed it since it was listed: the next look counts it.
        return 0


def _arrived(directory: Path, expected: int) -> float:
    """Wait until so many bytes are in the files, or until no more come; when the last of them was seen."""
    until = time.monotonic() + ARRIVE_WITHIN
    last, at = -1, time.monotonic()
    while (now := time.monotonic()) < until:
        found = _bytes(directory)
        if found != last:
            last, at = found, now
        if found >= expected or now - at > 3:
            break
        threading.Event().wait(0.005)
    return at


def _whole(directory: Path) -> int:
    """How many lines are whole."""
    return sum(sum(1 for _ in LINE.finditer(path.read_bytes())) for path in _files(directory))


def _flood(one: Life, total: int) -> dict[str, float]:
    """Let all write at once; what their output took, and what is wrong with it."""
    supervisors = one.supervisors()
    before = use(supervisors)
    began = time.monotonic()
    with one.gate.open("wb"):
        done = one.records.take(one.job.instances, FLOOD_WITHIN)
    assert {record.kind for record in done} == {"D"}
    assert one.job.logs is not None
    kept = one.job.logs.directory
    seconds = _arrived(kept, total) - began
    used = use(supervisors).cpu_seconds - before.cpu_seconds
    lines, bytes_kept, whole = total // LINE_BYTES, _bytes(kept), _whole(kept)
    lost = max(0, total - bytes_kept) / LINE_BYTES
    return {
        "captured": total / MIB / seconds,
        "CPU of capture": used / total * MIB * 1024,
        "lines lost": lost,
        "lines torn": max(0, lines - whole - lost),
    }


def capture(subject: Subject, instances: int, *, mib: int, at_a_time: int = 4096) -> dict[str, float]:
    """One life of a supervisor whose workers write `mib` MiB together, in writes of so many bytes.

    Its files are rotated about `ROTATIONS` times each.
    """
    block = at_a_time * LINE_BYTES
    each = -(-mib * MIB // instances // block) * block
    words = ("{directory}/gate", str(each), str(at_a_time))
    rotation = (max(each // ROTATIONS, 128 * 1024), KEEP)
    with life(subject, instances, program="flood", words=words, rotation=rotation) as one:
        # Until whatever belongs to it runs too: the loggers of s6 and runit are processes of their own.
        rest(one.settle_seconds)
        return _flood(one, each * instances)
