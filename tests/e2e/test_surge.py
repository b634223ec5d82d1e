"""Restarts with an extra instance, witnessed by the workers: who was ready when the first signal came."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.e2e.commands import pool, script
from tests.e2e.daemon import Daemon
from tests.e2e.record import Record
from tests.proc import descriptor_count, is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

NOBODY_AWAY = {"max_unavailable": 0, "max_surge": 1, "min_ready": "200ms"}


def pids(one: Daemon, name: str = "jobs") -> dict[str, int]:
    """The main process of each instance."""
    return {shown["name"]: shown["pid"] for shown in one.pool(name)["instances"]}


def names(one: Daemon) -> list[str]:
    """The instances that are shown."""
    return [shown["name"] for shown in one.pool("jobs")["instances"]]


def counts(record: Record) -> tuple[list[int], list[int]]:
    """How many lived and how many were ready after each line, by the workers' own record."""
    living, ready = set[int](), set[int]()
    lives, readies = [], []
    for word, _, _, pid in sorted(record.lines(), key=lambda line: line[2]):
        if word == "begin":
            living.add(pid)
        elif word == "ready":
            ready.add(pid)
        else:
            # The first signal, or the end.
            ready.discard(pid)
            if word == "end":
                living.discard(pid)
        lives.append(len(living))
        readies.append(len(ready))
    return lives, readies


def test_a_replacement_is_ready_before_an_old_one_gets_its_first_signal(daemon: Make, tmp_path: Path) -> None:
    """When the n-th old worker is signalled n new ones are ready; at most 4 live, at least 3 are ready."""
    record = Record(tmp_path)
    one = daemon({"pools": {"jobs": record.recorder(instances=3, rollout=NOBODY_AWAY)}})
    one.wait_ready()
    before = pids(one)
    boot = len(record.lines())
    operation = one.post("/v1/pools/jobs/restart").json()["id"]
    seen, revision = list[tuple[int, int]](), 0
    while one.get(f"/v1/operations/{operation}").json()["state"] == "running":
        shown = one.get(f"/v1/pools/jobs?after={revision}&wait=5").json()
        revision = shown["revision"]
        seen.append((shown["ready"], shown["wanted"]))
        assert [inst["name"] for inst in shown["instances"] if inst["surge"]] in ([], ["jobs/3"])
    assert one.operation(operation)["state"] == "succeeded"
    # Looked at after many changes, not after each: the workers' own record below has them all.
    assert all(ready >= wanted == 3 for ready, wanted in seen)
    after = pids(one)
    assert list(after) == ["jobs/0", "jobs/1", "jobs/2"], "the extra slot is gone"
    assert not set(after.values()) & set(before.values())
    lines = sorted(record.lines(), key=lambda line: line[2])
    old = set(before.values())
    first = {pid: at for word, _, at, pid in reversed(lines) if word == "SIGTERM" and pid in old}
    new = [at for word, _, at, pid in lines if word == "ready" and pid not in old]
    for place, at in enumerate(sorted(first.values()), start=1):
        assert sum(moment < at for moment in new) >= place, "an old one was signalled before its replacement"
    assert len(first) == 3
    lives, readies = counts(record)
    assert max(lives) == 4
    assert (min(readies[boot:]), max(readies)) == (3, 4)
    steps = {step["instance"]: step for step in one.operation(operation)["steps"]}
    assert steps["jobs/3"] == {"instance": "jobs/3", "state": "done", "detail": "surge: gone again"}


def test_nothing_of_an_extra_instance_stays(daemon: Make, tmp_path: Path) -> None:
    """Not its notify socket, nor its series; its log file is kept, and the next one is another generation."""
    record = Record(tmp_path)
    one = daemon({"pools": {"jobs": record.recorder(rollout=NOBODY_AWAY)}})
    one.wait_ready()
    descriptors = descriptor_count(one.pid)
    for generation in (1, 2):
        operation = one.post("/v1/pools/jobs/restart").json()["id"]
        eventually(lambda: names(one) == ["jobs/0", "jobs/1"])
        assert one.instance("jobs/1")["generation"] == generation
        one.operation(operation)
        assert names(one) == ["jobs/0"]
        assert one.operation(operation)["state"] == "succeeded"
    assert [path for path in (one.directory / "run").rglob("*jobs*") if "1" in path.name] == []
    eventually(lambda: descriptor_count(one.pid) <= descriptors)
    text = one.get("/metrics").text
    assert 'pitboss_instance_up{pool="jobs",instance="jobs/0"} 1' in text
    assert 'instance="jobs/1"' not in text
    assert 'pitboss_starts_total{pool="jobs",reason="surge"} 2' in text


def test_an_extra_one_that_fails_leaves_the_pool_whole(daemon: Make, tmp_path: Path) -> None:
    """The restart halts with exit code 1 and says why; nobody else was signalled, and nobody is extra."""
    program = tmp_path / "program.py"
    good = (
        "import os, socket, signal\n"
        "socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b'READY=1', os.environ['NOTIFY_SOCKET'])\n"
        "signal.pause()\n"
    )
    program.write_text(good)
    web = pool(
        script(f"exec(open({str(program)!r}).read())"),
        instances=2,
        readiness={"notify": True},
        rollout=NOBODY_AWAY,
        restart={"backoff": {"initial": "30s", "jitter": "none"}},
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready()
    before = pids(one, "web")
    program.write_text("import sys\nsys.exit(9)\n")
    done = one.ctl("restart", "web", "--timeout", "60s")
    assert done.returncode == 1
    assert "web/2 did not stay ready: exit 9" in done.stdout + done.stderr
    assert "web/0 aborted: untouched" in done.stdout + done.stderr
    assert pids(one, "web") == before
    shown = one.pool("web")
    assert (shown["status"], shown["ready"], shown["wanted"]) == ("healthy", 2, 2)
    program.write_text(good)
    assert one.ctl("restart", "web", "--timeout", "60s").returncode == 0
    assert set(pids(one, "web")) == {"web/0", "web/1"}


def halted_start(daemon: Make, record: Record, gate: Path) -> tuple[Daemon, str]:
    """A restart whose extra instance is not ready as long as the gate is missing."""
    gate.touch()
    one = daemon({"pools": {"jobs": record.recorder(gate=gate, instances=2, rollout=NOBODY_AWAY)}})
    one.wait_ready()
    gate.unlink()
    operation = one.post("/v1/pools/jobs/restart").json()["id"]
    eventually(lambda: "jobs/2" in names(one) and one.instance("jobs/2")["pid"] is not None)
    return one, operation


def test_a_drain_takes_the_extra_one_along(daemon: Make, tmp_path: Path) -> None:
    """Drained is said when it is gone too, and it does not come back with the pool."""
    record, gate = Record(tmp_path), tmp_path / "gate"
    one, operation = halted_start(daemon, record, gate)
    extra = one.instance("jobs/2")["pid"]
    # A worker that waits for its gate hears a signal only behind it.
    drain = one.post("/v1/pools/jobs/drain").json()["id"]
    gate.touch()
    assert one.operation(drain)["state"] == "succeeded"
    assert not is_alive(extra)
    assert one.operation(operation)["state"] == "aborted"
    assert names(one) == ["jobs/0", "jobs/1"]
    assert one.pool("jobs")["status"] == "drained"
    assert one.ctl("resume", "jobs").returncode == 0
    assert names(one) == ["jobs/0", "jobs/1"]


def test_an_old_one_that_dies_and_an_abort_in_the_middle(daemon: Make, tmp_path: Path) -> None:
    """The dead one is started again; after the abort the extra one goes, and nobody was restarted."""
    record, gate = Record(tmp_path), tmp_path / "gate"
    one, operation = halted_start(daemon, record, gate)
    kept = one.instance("jobs/1")["pid"]
    table = one.ctl("status").stdout
    assert [line for line in table.splitlines() if "jobs/2" in line and "surge" in line], table
    refused = one.ctl("restart", "jobs/2")
    assert refused.returncode != 0
    assert "surge instance" in refused.stdout + refused.stderr
    os.kill(one.instance("jobs/0")["pid"], signal.SIGKILL)
    assert one.ctl("operations", "abort", operation).returncode == 0
    gate.touch()
    eventually(lambda: names(one) == ["jobs/0", "jobs/1"] and one.instance("jobs/0")["ready"])
    assert one.instance("jobs/1")["pid"] == kept
    assert one.operation(operation)["state"] == "aborted"


def test_the_end_of_the_daemon_takes_it_along(daemon: Make, tmp_path: Path) -> None:
    """A shutdown in the middle of a restart leaves no process."""
    record, gate = Record(tmp_path), tmp_path / "gate"
    one, _ = halted_start(daemon, record, gate)
    everybody = [*pids(one).values()]
    assert len(everybody) == 3
    one.signal(signal.SIGTERM)
    gate.touch()
    assert one.wait_end() == 0
    assert not [pid for pid in everybody if is_alive(pid)]
