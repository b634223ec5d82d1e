"""What Python makes of the bound does what the bound does, or nothing could be read off their difference."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.proc import children_of
from tests.waiting import eventually

BARE = Path(__file__).with_name("bare.py")
STUBBORN = ("/bin/sh", "-c", "trap '' TERM; while :; do sleep 1000; done")

Begin = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def bare() -> Iterator[Begin]:
    """One with these workers; what is left of it is killed afterwards."""
    begun: list[subprocess.Popen[bytes]] = []

    def begin(*words: str) -> subprocess.Popen[bytes]:
        begun.append(subprocess.Popen([sys.executable, "-I", "-S", str(BARE), *words]))
        return begun[-1]

    yield begin
    for one in begun:
        for pid in children_of(one.pid) if one.poll() is None else []:
            os.killpg(pid, signal.SIGKILL)
        one.kill()
        one.wait(60)


def grown(one: subprocess.Popen[bytes], count: int) -> list[int]:
    """Its children, as soon as there are so many that run their program."""

    def ready() -> list[int]:
        found = children_of(one.pid)
        programs = [Path(f"/proc/{pid}/cmdline").read_bytes() for pid in found]
        return found if len(found) == count and not any(b"bare.py" in one for one in programs) else []

    return list(eventually(ready, 60, f"{count} workers"))


def test_who_ends_is_replaced_and_all_end_with_it(bare: Begin) -> None:
    """Each time; SIGTERM reaches them all."""
    one = bare("3", "30000", "0", "0:0", "/bin/sleep", "1000")
    first = grown(one, 3)
    for pid in first:
        os.kill(pid, signal.SIGKILL)
    second = eventually(lambda: [pid for pid in grown(one, 3) if pid not in first][2:], 60, "replaced")
    assert second
    one.send_signal(signal.SIGTERM)
    assert one.wait(60) == 0


def test_who_does_not_end_is_killed(bare: Begin) -> None:
    """When the window is over."""
    one = bare("2", "200", "0", "0:0", *STUBBORN)
    workers = grown(one, 2)
    eventually(lambda: all(_ignores_sigterm(pid) for pid in workers), 60, "both are stubborn")
    one.send_signal(signal.SIGTERM)
    assert one.wait(60) == 0


def _ignores_sigterm(pid: int) -> bool:
    (line,) = (
        line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("SigIgn:")
    )
    return bool(int(line.split()[1], 16) & 1 << signal.SIGTERM - 1)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may start a process of another user")
def test_a_worker_gets_a_limit_and_a_user(bare: Begin) -> None:
    """As the bound gives them."""
    (pid,) = grown(bare("1", "1000", "99", "65534:65534", "/bin/sleep", "1000"), 1)
    limits = Path(f"/proc/{pid}/limits").read_text()
    assert re.search(r"^Max open files +99 +99 ", limits, re.MULTILINE), limits
    assert os.stat(f"/proc/{pid}").st_uid == 65534
