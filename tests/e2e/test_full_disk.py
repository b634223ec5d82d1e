"""A full disk stops neither a worker nor an operator's wish, and is got over when there is room again."""

import re
import shutil
import signal
import tempfile
from collections.abc import Callable
from pathlib import Path

from tests.e2e.commands import pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.disk import Disk
from tests.e2e.scrape import metric
from tests.waiting import eventually

Make = Callable[..., Daemon]


CHATTY = (
    "import sys, threading\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    print('line', n, flush=True)\n"
    "    open(sys.argv[1], 'w').write(str(n))\n"
    "    threading.Event().wait(0.01)\n"
)


def test_a_full_disk_for_logs_stops_no_worker(disk: Disk, daemon: Make, tmp_path: Path) -> None:
    """Drops are counted while it is full; the worker never waits; lines arrive again when there is room."""
    beat, logs = tmp_path / "beat", disk.path / "logs"
    chatty = pool([*script(CHATTY), str(beat)], logs={"directory": str(logs)})
    one = daemon({"pools": {"web": chatty}})
    one.wait_ready()
    log = logs / "web-0.log"
    eventually(lambda: log.exists() and log.stat().st_size > 0)
    disk.fill()
    eventually(lambda: metric(one, 'pitboss_log_dropped_total{pool="web"}') > 0)
    count = int(beat.read_text() or 0)
    eventually(lambda: int(beat.read_text() or 0) > count + 50, what="the worker goes on writing")
    shown = one.instance("web/0")
    assert (shown["generation"], shown["ready"]) == (1, True)
    assert str(log) in one.log()
    disk.free()
    count = int(beat.read_text() or 0)

    def arrived() -> bool:
        numbers = re.findall(r"^line (\d+)$", log.read_text(errors="replace"), re.MULTILINE)
        return bool(numbers) and int(numbers[-1]) > count

    eventually(arrived, 60, "lines arrive in the log again")
    assert one.ctl("stop", "web").returncode == 0
    assert metric(one, "pitboss_core_faults_total") == 0


def test_a_full_disk_for_the_journal_stops_no_drain(disk: Disk, daemon: Make) -> None:
    """Wishes are carried out and warn that they may not survive; with room again they do."""
    pools = {name: pool(worker("obedient")) for name in ("web", "jobs", "mail")}
    logs = Path(tempfile.mkdtemp(prefix="pb-logs-", dir="/tmp"))
    one = daemon(
        {"state_directory": str(disk.path), "defaults": {"logs": {"directory": str(logs)}}, "pools": pools}
    )
    try:
        one.wait_ready()
        disk.fill()
        answer = one.post("/v1/pools/web/drain")
        assert answer.status_code == 202, answer.text
        assert answer.json()["warning"]
        assert one.operation(answer.json()["id"])["state"] == "succeeded"
        assert one.pool("web")["status"] == "drained"
        done = one.ctl("drain", "jobs")
        assert done.returncode == 0, done.stdout + done.stderr
        assert "durable" in done.stderr or "journal" in done.stderr, done.stdout + done.stderr
        assert metric(one, "pitboss_journal_failures_total") > 0
        assert "cannot write the journal" in one.log()
        assert one.instance("mail/0")["ready"]
        disk.free()
        answer = one.post("/v1/pools/mail/drain")
        assert "warning" not in answer.json(), answer.text
        assert one.operation(answer.json()["id"])["state"] == "succeeded"
        one.signal(signal.SIGKILL)
        one.wait_end()
        one.start()
        assert [shown["goal"] for shown in one.status()["pools"]] == ["drained"] * 3
        assert metric(one, "pitboss_core_faults_total") == 0
    finally:
        shutil.rmtree(logs, ignore_errors=True)
