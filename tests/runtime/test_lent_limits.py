"""Limits that the daemon takes on for the instant of a spawn: the worker keeps them, the daemon does not."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

COMMON = """
import os, resource, select, sys
from supervisor.core.launch import Launch, LogPolicy
from supervisor.runtime.children import needs_helper, reap, spawn_failure, start_child
from supervisor.runtime.nofile import _limit, raise_nofile

NAMES = ("NOFILE", "CORE", "FSIZE", "AS", "STACK")

def limits():
    return [resource.getrlimit(getattr(resource, "RLIMIT_" + name)) for name in NAMES]

def launch(words, **wanted):
    return Launch(words, {"PATH": "/bin:/usr/bin"}, "/", LogPolicy(None), limits=wanted)

def told(*words, **wanted):
    "What the worker says of its limits, and whether a helper set them."
    reading, writing = os.pipe2(os.O_CLOEXEC)
    before = limits()
    child = start_child(launch(words, **wanted), output=writing)
    assert limits() == before, "the daemon has its own again"
    os.close(writing)
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.poll()
    failure = spawn_failure(child, launch(words, **wanted))
    helped, said = child.report is not None, os.read(reading, 200).decode().split()
    os.close(reading)
    reap(child)
    return helped, said, failure

SAY = ("sh", "-c", "ulimit -Sn; ulimit -Hn; ulimit -Sc; ulimit -Hc; ls /proc/self/fd | wc -w")
hard, core = resource.getrlimit(resource.RLIMIT_NOFILE)[1], resource.getrlimit(resource.RLIMIT_CORE)[1]
shown = lambda limit: "unlimited" if limit == -1 else str(limit)
"""

LENT = """
assert needs_helper(launch(SAY, NOFILE=(500, hard))), "nothing is held in reserve yet"
raise_nofile()
held = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(2000)]
own = shown(resource.getrlimit(resource.RLIMIT_CORE)[0])
for _ in range(20):
    assert told(*SAY, NOFILE=(500, hard)) == (False, ["500", shown(hard), own, shown(core), "4"], None)
    assert told(*SAY, NOFILE=(hard, hard))[:2] == (False, [shown(hard)] * 2 + [own, shown(core), "4"])
    assert max(_limit.reserve) < 100, _limit.reserve
if core == -1:
    helped, said, failure = told(*SAY, NOFILE=(500, hard), CORE=(1 << 20, core))
    assert (helped, said[0], said[3], failure) == (False, "500", "unlimited", None)
    assert said[2] in ("1024", "2048"), "in blocks, as the shell counts them"
too_few, together = {"NOFILE": (100, hard)}, {"NOFILE": (500, hard), "AS": (1 << 30, -1)}
for others in (too_few, together, {"FSIZE": (1 << 20, -1)}):
    assert told(*SAY, **others)[0], others
held.append(os.open("/dev/null", os.O_RDONLY))
print("good")
"""

HARD = """
raise_nofile()
assert told(*SAY, NOFILE=(400, 400))[:2] == (True, ["400", "400", *map(shown, limits()[1]), "4"])
helped, said, failure = told(*SAY, NOFILE=(5000, hard))
assert (helped, said) == (True, [])
assert str(failure).startswith("cannot run sh: limit NOFILE: "), failure
print("good")
"""


def _run(program: str, soft: int = 1024) -> None:
    hard = f"resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, 4096))"
    result = subprocess.run(
        [sys.executable, "-c", f"import resource\n{hard}\n{COMMON}\n{program}"],
        env={"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.stdout == "good\n", result.stderr


@pytest.mark.parametrize("soft", [1024, 4096], ids=["raised", "high enough"])
def test_a_worker_has_limits_without_a_helper(soft: int) -> None:
    """Of descriptors and core files. The daemon has its own again, and its reserve."""
    _run(LENT, soft)


def test_what_would_not_come_back_is_left_to_a_helper() -> None:
    """A hard limit is lowered in the child. What the kernel refuses it refuses there, and that is told."""
    _run(HARD)
