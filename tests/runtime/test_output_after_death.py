"""What becomes of a worker and its pipe when the daemon that read it is killed."""

import os
import signal
import subprocess
import sys
from pathlib import Path

from tests.runtime.output_workers import text_of
from tests.waiting import eventually

DAEMON = """
import asyncio, os, subprocess, sys
from supervisor.core.identity import InstanceId
from supervisor.core.launch import LogPolicy
from supervisor.runtime.output import Output

async def main():
    output = Output()
    writer = output.writer(InstanceId("emails", 0), LogPolicy(sys.argv[1]), 1)
    child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[2]], stdout=writer, stderr=writer)
    os.close(writer)
    print(child.pid, flush=True)
    await asyncio.Event().wait()

asyncio.run(main())
"""


def test_the_death_of_the_daemon_does_not_kill_the_worker(tmp_path: Path) -> None:
    """A worker that writes after the daemon was killed gets no SIGPIPE; its pipe can be opened anew."""
    done = tmp_path / "done"
    worker = f"""
import os, time
os.write(1, b"before\\n")
while os.getppid() == {{parent}}:
    time.sleep(0.01)
for number in range(100):
    os.write(1, b"after %d\\n" % number)
open({str(done)!r}, "w").close()
time.sleep(300)
"""
    # The worker learns its parent from itself: the daemon's pid is not known before it is started.
    code = "import os; P = os.getppid()\n" + worker.replace("{parent}", "P")
    daemon = subprocess.Popen([sys.executable, "-c", DAEMON, str(tmp_path), code], stdout=subprocess.PIPE)
    assert daemon.stdout is not None
    pid = int(daemon.stdout.readline())
    pidfd = os.pidfd_open(pid)
    try:
        eventually(lambda: text_of(tmp_path, "emails-0.log") == b"before\n")
        daemon.kill()
        daemon.wait()
        eventually(done.exists)
        reader = os.open(f"/proc/{pid}/fd/1", os.O_RDONLY | os.O_NONBLOCK)
        left = os.read(reader, 65536)
        os.close(reader)
        assert left == b"".join(b"after %d\n" % number for number in range(100))
    finally:
        daemon.stdout.close()
        daemon.kill()
        daemon.wait()
        signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        os.close(pidfd)
