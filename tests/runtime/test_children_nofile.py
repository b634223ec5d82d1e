"""The daemon may hold more descriptors than its workers may open."""

import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

PROGRAM = """
import os, resource, select, sys
from supervisor.core.launch import Launch, LogPolicy
from supervisor.runtime.children import start_child, reap
from supervisor.runtime.nofile import original_nofile, raise_nofile

def wait(child):
    poll = select.poll()
    poll.register(child, select.POLLIN)
    poll.poll()

resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
raise_nofile()
assert original_nofile() == 256
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (4096, 4096)
held = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(2000)]
assert max(held) > 1024
for fields in ({}, {"oom_score_adjust": 9}) * 20:
    reading, writing = os.pipe2(os.O_CLOEXEC)
    words = ("sh", "-c", "ulimit -Sn; ulimit -Hn; ls /proc/self/fd | wc -w")
    launch = Launch(words, {"PATH": "/bin:/usr/bin"}, "/", LogPolicy(None), **fields)
    child = start_child(launch, output=writing)
    os.close(writing)
    wait(child)
    said = os.read(reading, 100).split()
    os.close(reading)
    assert reap(child).code == 0
    assert said == [b"256", b"4096", b"4"], said
    assert resource.getrlimit(resource.RLIMIT_NOFILE) == (4096, 4096)
explicit = Launch(("sh", "-c", "test $(ulimit -Sn) = 777"), {"PATH": "/bin"}, "/", LogPolicy(None),
                  limits={"NOFILE": (777, 4096)})
child = start_child(explicit)
wait(child)
assert reap(child).code == 0
held.append(os.open("/dev/null", os.O_RDONLY))
print("good")
"""

HANDED_ON = """
import resource
from supervisor.runtime.nofile import original_nofile, raise_nofile
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
raise_nofile(256)
assert original_nofile() == 256
assert resource.getrlimit(resource.RLIMIT_NOFILE) == (4096, 4096)
print("good")
"""


def _run(program: str) -> None:
    environment = {"PYTHONPATH": str(ROOT), "PATH": os.environ["PATH"]}
    result = subprocess.run(
        [sys.executable, "-c", program],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert result.stdout == "good\n", result.stderr


def test_workers_see_the_original_limit() -> None:
    """With 2000 descriptors open, over the original soft limit, spawning works and workers see that limit."""
    _run(PROGRAM)


THREADED = """
import os, resource, threading
from supervisor.runtime.nofile import open_high, raise_nofile, workers_limit
resource.setrlimit(resource.RLIMIT_NOFILE, (256, 4096))
raise_nofile()
held = [os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC) for _ in range(1000)]
for hole in held[100:102]:
    os.close(hole)
opened = []
with workers_limit(held[-1]) as low:
    assert low < 256
    other = threading.Thread(target=lambda: opened.append(open_high("/dev/null", os.O_RDONLY | os.O_CLOEXEC)))
    other.start()
    other.join(0.2)
    assert not opened, "it would take one of the reserve"
other.join(60)
assert opened[0] >= 256
for _ in range(20):
    with workers_limit(held[-1]) as low:
        assert low < 256
print("good")
"""


def test_another_thread_takes_nothing_of_the_reserve() -> None:
    """What it opens while a worker is spawned waits for that, and lies above the limit of workers."""
    _run(THREADED)


def test_a_successor_is_told_the_original_limit() -> None:
    """A process that begins with the raised limit gives its workers the one it is told."""
    _run(HANDED_ON)
