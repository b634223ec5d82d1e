"""The kernel refuses to change an identity, or only pretends to: the worker's program is never run.

strace makes the system calls of the exec helper fail, so everything else is real.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.runtime.process_harness import PYTHON

ROOT = Path(__file__).resolve().parents[2]

pytestmark = [
    pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else"),
    pytest.mark.skipif(
        not shutil.which("strace") and not os.environ.get("CI"), reason="needs the package strace"
    ),
]

PROGRAM = """
import os, select, sys
sys.executable, mark = sys.argv[1:]
from supervisor.core.launch import *
from supervisor.runtime.children import *
somebody = Identity("somebody", 54321, 54322, (54322, 54323))
launch = Launch(("touch", mark), {"PATH": "/usr/bin:/bin"}, "/", LogPolicy(None), somebody)
child = start_child(launch)
select.select([child], [], [])
# Its tracer is told of its end first, and only then its parent.
while wait_status(child) is None:
    os.sched_yield()
print(spawn_failure(child, launch), "|", reap(child))
"""

REFUSED, BUSY = "Operation not permitted", "Resource temporarily unavailable"


def run(tmp_path: Path, *faults: str) -> tuple[str, Path]:
    """What comes of a start as another user while strace injects these faults; and the program's mark."""
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent.name.startswith(("pytest", "popen")):
            parent.chmod(0o755)
    mark = tmp_path / "ran"
    injected = [f"--inject={fault}" for fault in faults]
    traced = [
        "strace",
        "-f",
        "--seccomp-bpf",
        "-qq",
        "-o",
        "/dev/null",
        "-e",
        "trace=setgroups,setresgid,setresuid",
        *injected,
    ]
    done = subprocess.run(
        [*traced, sys.executable, "-c", PROGRAM, PYTHON, str(mark)],
        env={"PYTHONPATH": str(ROOT), "PATH": os.defpath},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout, mark


def test_without_a_fault_the_program_runs(tmp_path: Path) -> None:
    """What the other tests show is not the doing of strace."""
    said, mark = run(tmp_path)
    assert said == "None | exit 0\n"
    assert (mark.stat().st_uid, mark.stat().st_gid) == (54321, 54322)


@pytest.mark.parametrize("call", ["setgroups", "setresgid", "setresuid"])
@pytest.mark.parametrize(
    ("fault", "why"),
    [
        ("error=EPERM", REFUSED),
        ("error=EAGAIN", BUSY),
        ("retval=0", REFUSED),
    ],
    ids=["EPERM", "EAGAIN", "no-effect"],
)
def test_a_program_never_runs_as_the_wrong_user(tmp_path: Path, call: str, fault: str, why: str) -> None:
    """The call fails, or says that it worked and did nothing: the step is named, and nothing was run."""
    said, mark = run(tmp_path, f"{call}:{fault}:when=1")
    step = call.replace("setres", "set")
    # The one reason for which setuid(2) says EAGAIN is the user's limit of processes; that is told instead.
    step = "" if (call, why) == ("setresuid", BUSY) else f"{step}: "
    assert said.startswith(f"cannot run touch as somebody: {step}{why}"), said
    assert said.endswith("| exit 127\n")
    assert not mark.exists()


def test_a_way_back_to_root_is_not_left_open(tmp_path: Path) -> None:
    """The kernel would let the worker become root again: it is not run."""
    said, mark = run(tmp_path, "setresuid:retval=0:when=2")
    assert "it could become root again" in said, said
    assert not mark.exists()
