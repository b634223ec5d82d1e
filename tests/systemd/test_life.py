"""The unit in a real systemd: start, operate, stop, freeze, crash; and what is left behind: nothing."""

import json
from functools import partial
from typing import Any

import pytest

from tests.systemd.guest import IN_FULL, MANIFEST, UNIT, WORKERS, Guest

PYTHON = ["/usr/bin/python3", "-I"]
RECORD = "/var/lib/test/record"
CGROUP = f"/sys/fs/cgroup/system.slice/{UNIT}.service"

QUICK = [{"signal": "SIGTERM", "target": "main", "grace": "1s"}]

ALONE = """
import fcntl, os, signal, sys
record = os.open(sys.argv[1], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o666)
lock = os.open(sys.argv[1] + ".lock", os.O_RDWR | os.O_CREAT, 0o666)
try:
    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    os.write(record, b"alone %d\\n" % os.getpid())
except OSError:
    os.write(record, b"double %d\\n" % os.getpid())
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
    signal.signal(number, signal.SIG_IGN)
while True:
    signal.pause()
"""
"""Says whether it is the only one of its kind, and then listens to nobody."""


def tasker(seconds: float) -> list[str]:
    """A worker that does one task after another, and finishes the one at hand when it is told to end."""
    return [*PYTHON, f"{WORKERS}/tasker.py", RECORD, str(seconds)]


def pool(command: list[str], **more: Any) -> dict[str, Any]:
    """A pool of an application with a user of its own."""
    return {"command": command, "user": "shop", "working_directory": "/", **more}


def words(guest: Guest, word: str) -> list[str]:
    """What the workers have noted in their record behind one word."""
    lines = [line.partition(" ") for line in guest.read(RECORD).splitlines()]
    return [rest for first, _, rest in lines if first == word]


def test_a_pool_is_operated_through_the_unit(guest: Guest) -> None:
    """The start returns when the daemon serves; status, drain, resume, restart and stop do what they say."""
    jobs = pool(tasker(0.2), instances=2, readiness={"notify": True})
    guest.configure({"jobs": jobs, "idle": pool(["sleep", "infinity"])})
    guest.start()
    assert guest.ctl("wait", "--for", "ready", "--timeout", "30s").code == 0
    guest.eventually(
        lambda: guest.show("StatusText") == "2/2 pools healthy", "the status is that of the host"
    )
    assert len(guest.processes("shop")) == 3
    assert guest.ctl("drain", "jobs").code == 0
    assert len(guest.processes("shop")) == 1
    guest.eventually(lambda: "jobs is drained" in guest.show("StatusText"), "the status follows")
    guest.run("systemctl", "restart", UNIT, seconds=90)
    guest.eventually(lambda: guest.instance("idle/0")["ready"])
    assert guest.instance("jobs/0")["phase"] == "stopped", "drained stays drained"
    assert guest.ctl("resume", "jobs").code == 0
    before = guest.instance("jobs/0")["generation"]
    assert guest.ctl("restart", "jobs").code == 0
    assert guest.instance("jobs/0")["generation"] == before + 1
    assert guest.ctl("stop", "jobs").code == 0
    assert len(guest.processes("shop")) == 1
    assert sorted(words(guest, "begun")) == sorted(words(guest, "done")), "a task was cut short"


def test_each_worker_has_a_control_group_beside_that_of_the_daemon(guest: Guest) -> None:
    """The daemon and its starter sit in a leaf of the delegated group, workers in siblings, nobody above."""
    guest.configure({"idle": pool(["sleep", "infinity"])})
    guest.start()
    guest.eventually(lambda: guest.instance("idle/0")["pid"])
    main, worker = guest.show("MainPID"), guest.instance("idle/0")["pid"]
    assert guest.read(f"{CGROUP}/cgroup.procs") == ""
    first, *others = guest.read(f"{CGROUP}/supervisor/cgroup.procs").split()
    assert first == main
    assert [guest.read(f"/proc/{pid}/comm").strip() for pid in others] == ["pitboss-starter"]
    where = guest.read(f"/proc/{worker}/cgroup").strip().partition("::")[2]
    assert where.startswith(f"/system.slice/{UNIT}.service/pitboss-") and where.endswith("/idle.0.1")
    controllers = guest.read(f"{CGROUP}/cgroup.subtree_control").split()
    assert ("memory" in controllers) == guest.has_memory


def test_a_stop_lets_work_finish_for_longer_than_the_units_own_patience(guest: Guest) -> None:
    """The task takes far longer than TimeoutStopSec: it is finished, because the daemon asks for time."""
    stages = [{"signal": "SIGTERM", "target": "main", "grace": "60s"}]
    guest.configure({"jobs": pool(tasker(7), stop={"stages": stages})}, "TimeoutStopSec=2s")
    guest.start()
    guest.eventually(lambda: words(guest, "begun"), "a task is begun")
    assert words(guest, "done") == []
    took = guest.stop()
    assert took > 2, "the task was not in hand any more"
    assert words(guest, "done") == words(guest, "begun") and len(words(guest, "done")) == 1
    assert guest.show("Result") == "success"
    assert guest.show("ActiveState") == "inactive"


def test_nothing_of_any_worker_is_left_behind(guest: Guest) -> None:
    """Not a grandchild that ignores every signal, wherever it hides; nor the control group."""
    forms = ("same-group", "new-session", "daemon")
    command = [*PYTHON, f"{WORKERS}/forker.py"]
    pools = {
        form: pool([*command, form, f"/var/lib/test/{form}", "wait"], stop={"stages": QUICK})
        for form in forms
    }
    guest.configure(pools)
    guest.start()
    for form in forms:
        guest.eventually(partial(guest.read, f"/var/lib/test/{form}"), f"the grandchild of {form} is there")
    assert len(guest.processes("shop")) == 2 * len(forms)
    guest.stop()
    assert guest.processes("shop") == []
    assert guest.ask("test", "-e", CGROUP).code == 1
    assert guest.show("Result") == "success"


def test_a_frozen_daemon_is_restarted_by_the_watchdog(guest: Guest) -> None:
    """It stops saying that it is alive: it is ended with its workers, says where it hung, and starts anew."""
    guest.configure({"one": pool([*PYTHON, "-c", ALONE, RECORD])}, "WatchdogSec=2s\nRestartSec=100ms")
    guest.start()
    guest.eventually(lambda: words(guest, "alone"), "the worker runs")
    frozen = guest.show("MainPID")
    # Two intervals of an untouched daemon: it is not restarted for nothing.
    began = float(guest.read("/proc/uptime").split()[0])
    guest.eventually(lambda: float(guest.read("/proc/uptime").split()[0]) > began + 4)
    assert guest.show("NRestarts") == "0"
    guest.run("kill", "-STOP", frozen)
    guest.eventually(lambda: len(words(guest, "alone")) == 2, "another worker runs under another daemon")
    assert words(guest, "double") == []
    assert guest.show("NRestarts") == "1" and guest.show("MainPID") != frozen
    journal = guest.journal()
    assert "Watchdog timeout" in journal and "Fatal Python error: Aborted" in journal
    assert len(guest.processes("shop")) == 1


def test_after_a_crash_no_worker_is_doubled(guest: Guest) -> None:
    """SIGKILL to the daemon: its workers are gone before the next one starts theirs."""
    guest.configure({"one": pool([*PYTHON, "-c", ALONE, RECORD])}, "RestartSec=100ms")
    guest.start()
    guest.eventually(lambda: words(guest, "alone"), "the worker runs")

    def runs(number: int) -> bool:
        return len(words(guest, "alone")) == number

    for number in (2, 3):
        guest.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT)
        guest.eventually(partial(runs, number), "another one runs")
    assert words(guest, "double") == []
    assert guest.show("NRestarts") == "2"
    guest.eventually(lambda: guest.ctl("wait", "--for", "ready", "--timeout", "30s").code == 0)
    assert len(guest.processes("shop")) == 1
    groups = guest.run("sh", "-c", f"ls -d {CGROUP}/*/").split()
    assert len(groups) == 2, "only the daemon's leaf and the groups of its own workers"


def test_an_invalid_manifest_is_not_tried_again(guest: Guest) -> None:
    """The start fails with 78 and the reason in the journal, and nobody tries again until it is corrected."""
    guest.configure({"jobs": pool(["sleep", "infinity"])}, "RestartSec=10ms")
    guest.write(MANIFEST, "version: 1\npools: {a: {comand: [x]}}\n")
    assert guest.ask("systemctl", "start", UNIT).code != 0
    assert guest.show("ExecMainStatus") == "78"
    guest.eventually(lambda: guest.show("ActiveState") == "failed")
    assert guest.show("NRestarts") == "0"
    assert "did you mean" in guest.journal("--priority", "err"), "who asks for errors is told why"
    guest.configure({"jobs": pool(["sleep", "infinity"])})
    guest.start()


def test_a_shutdown_by_pitbossctl_ends_the_unit(guest: Guest) -> None:
    """It was asked for: systemd does not bring the daemon back."""
    guest.configure({"idle": pool(["sleep", "infinity"])}, "RestartSec=10ms")
    guest.start()
    assert guest.ctl("shutdown").code == 0
    guest.eventually(lambda: guest.show("ActiveState") == "inactive")
    assert (guest.show("Result"), guest.show("NRestarts")) == ("success", "0")


def test_the_journal_knows_priorities(guest: Guest) -> None:
    """Whoever asks for warnings gets the crash of a worker, and no line of a healthy life."""
    guest.configure({"bad": pool(["false"]), "good": pool(["sleep", "infinity"])})
    guest.start()
    guest.eventually(lambda: "bad/0" in guest.journal("--priority", "warning"), "the crash is a warning")
    assert "good/0" not in guest.journal("--priority", "warning")
    assert "moved instance=good/0" in guest.journal("--priority", "info")
    entries = [json.loads(line) for line in guest.journal("--output", "json").splitlines()]
    assert {one["PRIORITY"] for one in entries if one["MESSAGE"].startswith("moved instance=good/0")} == {"6"}


def test_members_of_the_group_may_operate_and_others_may_not(guest: Guest) -> None:
    """The group pitboss is who may talk to the daemon."""
    guest.configure({"idle": pool(["sleep", "infinity"])})
    guest.start()
    assert guest.ctl("wait", "--for", "ready", "--timeout", "30s").code == 0
    stranger = ["setpriv", "--reuid=shop", "--regid=shop", "--clear-groups", "pitbossctl", "status"]
    member = ["setpriv", "--reuid=shop", "--regid=shop", "--groups=pitboss", "pitbossctl", "status"]
    assert guest.ask(*stranger).code in {69, 77}
    assert guest.ask(*member).code == 0


@pytest.mark.skipif(not IN_FULL, reason="it waits out a grant of 20 s: `make systemd` does")
def test_a_daemon_that_freezes_while_it_stops_is_ended(guest: Guest) -> None:
    """Nobody asks for more time any more: after what was granted last everything is killed."""
    guest.configure(
        {"one": pool([*PYTHON, "-c", ALONE, RECORD], stop={"stages": QUICK})}, "TimeoutStopSec=2s"
    )
    guest.start()
    guest.eventually(lambda: words(guest, "alone"))
    guest.run("systemctl", "stop", "--no-block", UNIT)
    guest.run("kill", "-STOP", guest.show("MainPID"))
    guest.eventually(lambda: guest.show("ActiveState") == "failed", "it is ended", within=60)
    assert guest.processes("shop") == []
