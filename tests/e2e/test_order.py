"""Order between pools, judged by what the workers wrote down: who began, was told, and ended when."""

import json
import signal
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.record import Record
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]


def diamond(record: Record, **more: Any) -> dict[str, Any]:
    """`web` needs `api` and `cache`, and both need `db`."""
    return {
        "web": record.recorder(depends_on=["api", "cache"], **more),
        "api": record.recorder(depends_on=["db"], instances=2, **more),
        "cache": record.recorder(depends_on=["db"], **more),
        "db": record.recorder(**more),
    }


NEEDS = {"web": ("api", "cache"), "api": ("db",), "cache": ("db",)}


def assert_dependents_ended_first(record: Record, needs: Mapping[str, tuple[str, ...]] = NEEDS) -> None:
    """No pool was told to end before the last of those that need it was at its end."""
    for dependent, needed in needs.items():
        for name in needed:
            assert record.first("SIGTERM", name) >= record.last("end", dependent), (name, dependent)


def test_pools_start_when_what_they_need_holds(daemon: Make, tmp_path: Path) -> None:
    """started, ready and completed: nobody begins before, and what may begin in parallel does."""
    record = Record(tmp_path)
    db_gate, seed_gate = tmp_path / "db", tmp_path / "seed"
    one = daemon(
        {
            "pools": {
                "web": record.recorder(depends_on={"api": "ready", "cache": "ready", "seed": "completed"}),
                "api": record.recorder(depends_on={"db": "ready"}, instances=2),
                "cache": record.recorder(depends_on={"db": "started"}),
                "seed": {
                    **record.recorder(gate=seed_gate, environment={"TASK": "0"}, kind="task"),
                    "depends_on": {"cache": "ready"},
                },
                "db": record.recorder(gate=db_gate),
            }
        }
    )
    one.wait_ready("cache")
    shown = one.instance("api/0")
    assert shown["phase"] == "pending"
    assert "db" in shown["waiting_for"]
    assert record.moments("begin", "api") == []
    db_gate.touch()
    one.wait_ready("api", "db")
    shown = one.instance("web/0")
    assert shown["phase"] == "pending"
    assert "seed" in shown["waiting_for"]
    assert record.moments("begin", "web") == []
    seed_gate.touch()
    one.wait_ready("web")
    assert one.get("/readyz").status_code == 200
    # Both begin at once: which interpreter is up first says nothing about who was started first.
    starts = [json.loads(line) for line in one.log().splitlines() if '"to":"starting"' in line]
    order = [start["instance"] for start in starts]
    assert order.index("db/0") < order.index("cache/0")
    assert record.first("ready", "cache") < record.first("ready", "db"), "it needed only its start"
    assert record.first("begin", "api") >= record.last("ready", "db")
    assert record.first("begin", "seed") >= record.last("ready", "cache")
    assert record.first("begin", "web") >= record.last("end", "seed")
    assert record.first("begin", "web") >= max(record.last("ready", "api"), record.last("ready", "cache"))


def test_a_failure_in_the_middle_blocks_only_those_who_need_it(daemon: Make, tmp_path: Path) -> None:
    """The rest starts, and what is blocked says by whom; mended by a start of the task, all come up."""
    record = Record(tmp_path)
    program = tmp_path / "migrate.py"
    program.write_text("import sys\nprint('no such column')\nsys.exit(3)\n")
    task = pool(script(f"exec(open({str(program)!r}).read())"), kind="task", restart={"policy": "never"})
    one = daemon(
        {
            "pools": {
                "web": record.recorder(depends_on=["api"]),
                "api": record.recorder(depends_on={"db": "ready", "migrate": "completed"}),
                "migrate": {**task, "depends_on": ["db"]},
                "db": record.recorder(),
                "mail": record.recorder(),
            }
        }
    )
    failed = one.wait_phase("migrate/0", "failed")
    assert failed["last_exit"]["detail"] == "exit 3"
    assert failed["last_exit"]["last_lines"] == ["no such column"]
    one.wait_ready("mail", "db")
    for name, blocker in (("api", "migrate"), ("web", "api")):
        shown = one.instance(f"{name}/0")
        assert shown["phase"] == "pending"
        assert blocker in shown["waiting_for"]
        assert any(blocker in reason for reason in one.pool(name)["reasons"])
        assert record.moments("begin", name) == []
    assert one.get("/readyz").status_code == 503
    program.write_text("")
    done = one.ctl("start", "migrate")
    assert done.returncode == 0, done.stdout + done.stderr
    one.wait_ready("web", "api")
    assert one.pool("migrate")["status"] == "completed"
    eventually(lambda: one.get("/readyz").status_code == 200)


@pytest.mark.parametrize("verb", ["SIGTERM", "shutdown", "stop", "drain"])
def test_nobody_is_terminated_before_those_who_need_it_are_gone(
    daemon: Make, tmp_path: Path, verb: str
) -> None:
    """Whichever way the whole host goes down; and each is asked to drain before, once."""
    record = Record(tmp_path)
    drains = {"drain": {"signal": "SIGUSR1", "window": "60s"}, "environment": {"DRAINS": "1"}}
    one = daemon({"pools": diamond(record, **drains)})
    one.wait_ready()
    pids = [pid for word, _, _, pid in record.lines() if word == "begin"]
    assert len(pids) == 5
    if verb == "SIGTERM":
        one.signal(signal.SIGTERM)
    else:
        done = one.ctl(verb, *([] if verb == "shutdown" else ["--all"]))
        assert done.returncode == 0, done.stdout + done.stderr
    if verb in {"stop", "drain"}:
        assert {shown["goal"] for shown in one.status()["pools"]} == {"down" if verb == "stop" else "drained"}
        one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    assert_dependents_ended_first(record)
    assert len([word for word, *_ in record.lines() if word == "end"]) == 5
    assert len([word for word, *_ in record.lines() if word == "SIGUSR1"]) == 5
    assert not any(is_alive(pid) for pid in pids)


def test_a_stop_of_one_pool_leaves_its_dependents_alone(daemon: Make, tmp_path: Path) -> None:
    """It does not wait for them either: the operator asked for this pool and no other."""
    record = Record(tmp_path)
    one = daemon({"pools": diamond(record)})
    one.wait_ready()
    before = {name: [shown["pid"] for shown in one.pool(name)["instances"]] for name in NEEDS}
    done = one.ctl("stop", "db", "--timeout", "60s")
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(record.moments("end", "db")) == 1
    assert {name: [shown["pid"] for shown in one.pool(name)["instances"]] for name in NEEDS} == before
    assert all(one.pool(name)["status"] == "healthy" for name in NEEDS)
    assert not [
        line for line in record.lines() if line[0].startswith("SIG") and not line[1].startswith("db/")
    ]
    assert one.ctl("start", "db").returncode == 0
    one.wait_ready()
    assert len(record.moments("begin", "api")) == 2


@pytest.mark.parametrize("hurry", ["SIGINT", "SIGTERM"])
def test_a_second_signal_skips_the_drains(daemon: Make, tmp_path: Path, hurry: str) -> None:
    """All drain at once, for ten minutes if need be; the stages keep their order and their windows."""
    record = Record(tmp_path)
    one = daemon(
        {
            "shutdown": {"deadline": "1h"},
            "pools": diamond(record, drain={"signal": "SIGUSR1", "window": "10m"}),
        }
    )
    one.wait_ready()
    one.signal(signal.SIGTERM)
    eventually(lambda: len([word for word, *_ in record.lines() if word == "SIGUSR1"]) == 5)
    assert one.instance("web/0")["stage"] == "drain"
    assert one.get("/readyz").status_code == 503
    assert not record.moments("SIGTERM", "web")
    one.signal(signal.Signals[hurry])
    assert one.wait_end() == 0
    assert_dependents_ended_first(record)
    assert len([word for word, *_ in record.lines() if word == "end"]) == 5


def test_sigint_alone_asks_for_no_drain(daemon: Make, tmp_path: Path) -> None:
    """The first signal may already be the impatient one."""
    record = Record(tmp_path)
    one = daemon({"pools": diamond(record, drain={"signal": "SIGUSR1", "window": "10m"})})
    one.wait_ready()
    one.signal(signal.SIGINT)
    assert one.wait_end() == 0
    assert_dependents_ended_first(record)
    assert not [word for word, *_ in record.lines() if word == "SIGUSR1"]


def test_sigquit_kills_at_once(daemon: Make, tmp_path: Path) -> None:
    """No drain, no order, no time to end: everything is gone, and the daemon too."""
    record = Record(tmp_path)
    drain = {"signal": "SIGUSR1", "window": "10m"}
    one = daemon({"pools": {**diamond(record, drain=drain), "slow": pool(worker("stubborn"))}})
    one.wait_ready()
    pids = [shown["pid"] for each in one.status()["pools"] for shown in each["instances"]]
    assert len(pids) == 6
    one.signal(signal.SIGQUIT)
    assert one.wait_end() == 0
    assert not any(is_alive(pid) for pid in pids)
    words = {word for word, *_ in record.lines()}
    assert not words & {"SIGUSR1", "SIGTERM", "end"}


@pytest.mark.parametrize("how", ["manifest", "operator"])
def test_everything_is_over_by_the_deadline(daemon: Make, how: str) -> None:
    """Windows of minutes are scaled to fit, order kept, and the record says that the deadline forced it."""
    seconds = 14.0
    slow = pool(
        worker("stubborn"),
        drain={"notify": True, "window": "10m"},
        stop={"stages": [{"signal": "SIGTERM", "target": "main", "grace": "10m"}]},
    )
    one = daemon(
        {
            "shutdown": {"deadline": f"{seconds}s" if how == "manifest" else "1h"},
            "pools": {"web": {**slow, "depends_on": ["db"]}, "db": slow},
        }
    )
    one.wait_ready()
    pids = [shown["pid"] for each in one.status()["pools"] for shown in each["instances"]]
    began = time.monotonic()
    if how == "manifest":
        one.signal(signal.SIGTERM)
    else:
        done = one.ctl("shutdown", "--deadline", f"{seconds}s")
        assert done.returncode == 0, done.stdout + done.stderr
    assert one.wait_end() == 0
    assert time.monotonic() - began <= seconds + 1.0, "the daemon has the moments after its workers to itself"
    assert not any(is_alive(pid) for pid in pids)
    ended = {
        record["instance"]: record for record in one.log_records() if record.get("event") == "stop-ended"
    }
    assert {record["outcome"] for record in ended.values()} == {"killed"}
    details = {
        record["instance"]: record["detail"] for record in one.log_records() if record.get("event") == "ended"
    }
    assert all("cut short by deadline" in details[name] for name in ("web/0", "db/0")), details
