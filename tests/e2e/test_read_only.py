"""A file system turns read-only under a running daemon: it is told, nobody stops, and it is got over."""

import os
import re
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.e2e.commands import pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.disk import Device, Disk
from tests.e2e.neighbours import victim
from tests.e2e.scrape import metric
from tests.waiting import eventually

Make = Callable[..., Daemon]

TELLS = (
    "import sys, threading\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    print('line', n, flush=True)\n"
    "    open(sys.argv[1], 'w').write(str(n))\n"
    "    threading.Event().wait(0.01)\n"
)


def newest(log: Path) -> int:
    """The number of the newest line of a log, or 0."""
    found = re.findall(r"^line (\d+)$", log.read_text() if log.exists() else "", re.MULTILINE)
    return int(found[-1]) if found else 0


def is_back(one: Daemon) -> None:
    """A killed worker is followed by another."""
    shown = one.instance("victim/0")
    os.kill(shown["pid"], signal.SIGKILL)
    eventually(lambda: one.instance("victim/0")["generation"] > shown["generation"], 60)
    one.wait_ready("victim")


def goes_on(one: Daemon, beat: Path) -> int:
    """The worker writes and the daemon supervises; how far the worker has come."""
    count = int(beat.read_text() or 0)
    eventually(lambda: int(beat.read_text() or 0) > count + 50, what="the worker goes on writing")
    shown = one.instance("web/0")
    assert (shown["generation"], shown["ready"]) == (1, True)
    is_back(one)
    return count


@pytest.fixture
def elsewhere() -> Iterator[Path]:
    """A directory on another file system than those that fail. Asked for before `daemon`, it outlives it."""
    path = Path(tempfile.mkdtemp(prefix="pb-else-", dir="/tmp"))
    yield path
    shutil.rmtree(path)


def test_logs_on_a_device_that_breaks_down(device: Device, daemon: Make, tmp_path: Path) -> None:
    """Drops are counted and told; it can be unmounted, and mounted again it is written again."""
    beat, logs = tmp_path / "beat", device.path / "logs"
    tells = pool([*script(TELLS), str(beat)], logs={"directory": str(logs)})
    one = daemon({"pools": {"web": tells, "victim": victim()}})
    one.wait_ready()
    log = logs / "web-0.log"
    eventually(lambda: newest(log) > 10)
    device.break_down()
    eventually(lambda: metric(one, 'pitboss_log_dropped_total{pool="web"}') > 0)
    assert f"cannot write {log}: Read-only file system" in one.log()
    goes_on(one, beat)
    eventually(device.unmount, what="the daemon holds no file open on it")
    device.check()
    assert device.mount() == ""
    count = goes_on(one, beat)
    eventually(lambda: newest(log) > count, 60, "lines arrive in the log again")
    assert "bytes dropped: Read-only file system]" in log.read_text()
    assert f"writes {log} again" in one.log()
    assert metric(one, "pitboss_core_faults_total") == 0
    assert "Traceback" not in one.log()


def test_a_journal_on_a_device_that_breaks_down(device: Device, elsewhere: Path, daemon: Make) -> None:
    """Wishes are carried out with a warning, and the daemon ends as ever; what was durable still is."""
    pools = {name: pool(worker("obedient")) for name in ("web", "jobs")}
    one = daemon(
        {
            "state_directory": str(device.path),
            "defaults": {"logs": {"directory": str(elsewhere)}},
            "pools": pools | {"victim": victim()},
        }
    )
    one.wait_ready()
    assert one.ctl("drain", "web").returncode == 0
    device.break_down()
    done = one.ctl("drain", "jobs")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "cannot write the intent to the journal yet: " in done.stderr
    assert one.pool("jobs")["status"] == "drained"
    assert metric(one, "pitboss_journal_failures_total") > 0
    assert "cannot write the journal: " in one.log()
    is_back(one)
    assert one.get("/v1/operations").status_code == 200
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    assert "they are lost" in one.log()
    assert "Traceback" not in one.log()
    assert device.unmount()
    device.check()
    assert device.mount() == ""
    one.start()
    goals = {shown["name"]: shown["goal"] for shown in one.status()["pools"]}
    assert goals == {"web": "drained", "jobs": "up", "victim": "up"}


def test_what_was_wished_meanwhile_is_durable_after(disk: Disk, elsewhere: Path, daemon: Make) -> None:
    """Full, then read-only, then neither: logs and journal work again, and nobody has to ask for it."""
    # The lock of the daemon stays open, and would keep the kernel from making its file system read-only.
    lock, outside = disk.path / "pitbossd.lock", elsewhere / "lock"
    for path in (lock, outside):
        path.touch()
    subprocess.run(["mount", "--bind", str(outside), str(lock)], check=True)
    beat, log = elsewhere / "beat", disk.path / "logs" / "web-0.log"
    try:
        pools = {name: pool(worker("obedient")) for name in ("jobs", "mail")}
        tells = pool([*script(TELLS), str(beat)], logs={"directory": str(log.parent)})
        # Few lines find room in the last block of their file, which would stay open.
        manifest = {
            "state_directory": str(disk.path),
            "defaults": {"logs": {"directory": str(elsewhere)}},
            "pools": {"web": tells, "victim": victim()} | pools,
        }
        one = daemon(manifest)
        one.wait_ready()
        disk.fill()
        eventually(lambda: metric(one, 'pitboss_log_dropped_total{pool="web"}') > 0)
        assert "disk is full" in one.post("/v1/pools/mail/drain").json()["warning"]
        eventually(lambda: disk.remount("ro"), 60, "the daemon holds no file open for writing")
        warning = one.post("/v1/pools/jobs/drain").json()["warning"]
        assert "readonly" in warning or "unable to open" in warning, warning
        goes_on(one, beat)
        dropped = metric(one, 'pitboss_log_dropped_total{pool="web"}')
        eventually(lambda: metric(one, 'pitboss_log_dropped_total{pool="web"}') > dropped)
        assert disk.remount("rw")
        disk.free()
        eventually(lambda: "the journal is written again" in one.log(), 60)
        count = goes_on(one, beat)
        eventually(lambda: newest(log) > count, 60, "lines arrive in the log again")
        assert metric(one, "pitboss_core_faults_total") == 0
        left = [shown["pid"] for pool in one.status()["pools"] for shown in pool["instances"] if shown["pid"]]
        one.signal(signal.SIGKILL)
        one.wait_end()
        for pid in left:
            # Nobody else would end them.
            os.kill(pid, signal.SIGKILL)
        one.start()
        goals = {shown["name"]: shown["goal"] for shown in one.status()["pools"]}
        assert goals == {"web": "up", "victim": "up", "jobs": "drained", "mail": "drained"}
        one.close()
    finally:
        subprocess.run(["umount", "--lazy", str(lock)], check=True)
