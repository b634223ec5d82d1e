"""Which exits are followed by a new start, how fast, and what is shown meanwhile."""

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import FAST_BACKOFF, PYTHON, pool, script, worker
from tests.e2e.daemon import Daemon
from tests.waiting import eventually

Make = Callable[..., Daemon]

SLOW_BACKOFF = {"initial": "1h", "max": "1h", "jitter": "none"}
WELL = "import signal\nsignal.pause()\n"


def program(path: Path, record: Path) -> list[str]:
    """A worker whose text can be replaced between two starts; it notes when it begins and when it ends."""
    return script(
        "import os, time\n"
        "def note(word):\n"
        f"    descriptor = os.open({str(record)!r}, os.O_WRONLY | os.O_APPEND | os.O_CREAT)\n"
        "    os.write(descriptor, f'{word} {time.monotonic()}\\n'.encode())\n"
        "    os.close(descriptor)\n"
        "note('begin')\n"
        "try:\n"
        f"    exec(open({str(path)!r}).read())\n"
        "finally:\n"
        "    note('end')\n"
    )


def pauses(record: Path) -> list[float]:
    """How long nobody ran between an end and the next begin, by the workers' own record."""
    lines = [line.split() for line in record.read_text().splitlines()]
    moments = [(word, float(at)) for word, at in lines]
    return [
        begun - ended
        for (first, ended), (second, begun) in itertools.pairwise(moments)
        if (first, second) == ("end", "begin")
    ]


def waits(one: Daemon, instance: str) -> list[float]:
    """The waits that the daemon said it put before the next start, seconds."""
    return [
        record["deadline_seconds"]
        for record in one.log_records()
        if record.get("event") == "moved" and record["instance"] == instance and record["to"] == "backoff"
    ]


def sample(one: Daemon, name: str) -> float:
    """The value of a series of /metrics; 0 where it is not shown."""
    for line in one.get("/metrics").text.splitlines():
        if line.startswith(name + " "):
            return float(line.rpartition(" ")[2])
    return 0.0


def well_in_between(one: Daemon) -> set[str]:
    """What its status was called over three more failures, without the words for trouble."""
    until, seen = one.instance("web/0")["generation"] + 3, set()

    def three_failures_later() -> bool:
        shown = one.pool("web")
        seen.add(shown["status"])
        return bool(shown["instances"][0]["generation"] >= until)

    eventually(three_failures_later, 60)
    return seen - {"degraded", "unhealthy"}


@pytest.mark.parametrize("lives", [0.0, 1.1], ids=["at-once", "after-1.1s"])
def test_a_crash_loop_backs_off_is_loud_and_recovers_by_itself(
    daemon: Make, tmp_path: Path, lives: float
) -> None:
    """The waits grow to the cap, health and counters say so, and a mended program is taken up unasked.

    A worker that lives for 1.1 s was ready for most of that: late deaths count like early ones.
    """
    path, record = tmp_path / "program.py", tmp_path / "record"
    path.write_text(f"import threading\nthreading.Event().wait({lives})\nraise SystemExit(7)\n")
    rules = {
        "backoff": {"initial": "200ms", "factor": 2, "max": "800ms", "jitter": "none", "reset_after": "1h"}
    }
    one = daemon({"pools": {"web": pool(program(path, record), restart=rules)}})
    eventually(lambda: len(waits(one, "web/0")) >= 5, 60)
    assert waits(one, "web/0")[:5] == pytest.approx([0.2, 0.4, 0.8, 0.8, 0.8], abs=0.002)
    eventually(lambda: len(pauses(record)) >= 4)
    for seen, wanted in zip(pauses(record), (0.2, 0.4, 0.8, 0.8), strict=False):
        assert seen >= wanted - 0.01, "nobody started before the wait was over"

    def backing_off() -> dict[str, Any]:
        shown = one.pool("web")
        return shown if shown["instances"][0]["phase"] == "backoff" else {}

    shown = eventually(backing_off)
    instance = shown["instances"][0]
    assert shown["status"] == "unhealthy"
    assert "web/0 is backoff" in shown["reasons"][0]
    assert "exit 7" in shown["reasons"][0]
    assert instance["last_exit"]["class"] == "failure"
    assert instance["failures"] >= 5
    assert instance["waiting_for"]
    assert instance["deadline_seconds"] <= 0.8

    def health_says_no() -> bool:
        answer = one.get("/health")
        return answer.status_code == 503 and "exit 7" in answer.text

    eventually(health_says_no)
    assert well_in_between(one) == set(), "a crash loop is not well while it happens to be up"
    path.write_text(WELL)
    eventually(lambda: (one.instance("web/0")["uptime_seconds"] or 0.0) > lives + 1.0)
    eventually(lambda: one.get("/readyz").status_code == 200)
    instance = one.instance("web/0")
    assert instance["restarts"] == instance["generation"] - 1
    assert sample(one, 'pitboss_restarts_total{pool="web"}') == instance["restarts"]
    assert sample(one, 'pitboss_exits_total{pool="web",class="failure"}') == instance["restarts"]


def test_who_was_well_for_long_enough_begins_again_at_the_first_wait(daemon: Make, tmp_path: Path) -> None:
    """Two early deaths make the wait grow; one after reset_after sets it back."""
    path, record = tmp_path / "program.py", tmp_path / "record"
    path.write_text(
        f"import threading\nbegun = open({str(record)!r}).read().count('begin')\n"
        "threading.Event().wait(3.0 if begun == 4 else 0.0)\nraise SystemExit(7)\n"
    )
    rules = {
        "backoff": {"initial": "100ms", "factor": 2, "max": "10s", "jitter": "none", "reset_after": "2s"}
    }
    one = daemon({"pools": {"web": pool(program(path, record), restart=rules)}})
    eventually(lambda: len(waits(one, "web/0")) >= 5, 60)
    assert waits(one, "web/0")[:5] == pytest.approx([0.1, 0.2, 0.4, 0.1, 0.2], abs=0.002)


def test_giving_up_lasts_until_somebody_asks(daemon: Make, tmp_path: Path) -> None:
    """Three starts and no more; `start` tries again with a clean slate."""
    path, record = tmp_path / "program.py", tmp_path / "record"
    path.write_text("raise SystemExit(7)\n")
    rules = {"backoff": FAST_BACKOFF, "give_up": {"starts": 3, "within": "10m"}}
    one = daemon(
        {
            "pools": {
                "web": pool(program(path, record), restart=rules),
                "pace": pool(worker("obedient"), rollout={"min_ready": "1s"}),
            }
        }
    )
    shown = one.wait_phase("web/0", "failed")
    assert shown["generation"] == 3
    assert one.pool("web")["status"] == "unhealthy"
    one.wait_ready("pace")
    # A whole restart of a neighbour goes by, longer than every backoff of this pool.
    assert one.ctl("restart", "pace/0").returncode == 0
    assert one.instance("web/0")["phase"] == "failed"
    assert record.read_text().count("begin") == 3
    path.write_text(WELL)
    done = one.ctl("start", "web")
    assert done.returncode == 0, done.stdout + done.stderr
    assert one.instance("web/0")["ready"]
    assert one.instance("web/0")["generation"] == 4


def test_a_permanent_exit_code_is_not_tried_again(daemon: Make, tmp_path: Path) -> None:
    """78 says that the configuration is wrong: straight to failed. Other codes are tried again."""
    rules = {"backoff": FAST_BACKOFF, "permanent_exit_codes": [78]}
    path, record = tmp_path / "program.py", tmp_path / "record"
    path.write_text(
        f"begun = open({str(record)!r}).read().count('begin')\nraise SystemExit(78 if begun == 2 else 7)\n"
    )
    one = daemon({"pools": {"web": pool(program(path, record), restart=rules)}})
    shown = one.wait_phase("web/0", "failed")
    assert shown["generation"] == 2
    assert shown["last_exit"]["detail"] == "exit 78"
    assert one.get("/health").status_code == 503


@pytest.mark.parametrize(
    ("policy", "code", "phase"),
    [
        ("always", 0, "backoff"),
        ("always", 3, "backoff"),
        ("on-failure", 0, "stopped"),
        ("on-failure", 3, "backoff"),
        ("never", 0, "stopped"),
        ("never", 3, "failed"),
    ],
)
def test_the_policy_decides_which_exits_are_followed_by_a_start(
    daemon: Make, policy: str, code: int, phase: str
) -> None:
    """One start each; what is not started again and was clean counts as completed."""
    rules = {"policy": policy, "backoff": SLOW_BACKOFF}
    one = daemon({"pools": {"web": pool(worker("crasher", "code", str(code)), restart=rules)}})
    shown = one.wait_phase("web/0", phase)
    assert shown["generation"] == 1
    assert shown["last_exit"]["class"] == ("clean" if code == 0 else "failure")
    assert shown["last_exit"]["detail"] == f"exit {code}"
    assert shown["last_exit"]["rung"] is None
    assert one.pool("web")["status"] == ("completed" if phase == "stopped" else "unhealthy")
    assert one.get("/readyz").status_code == (200 if phase == "stopped" else 503)


def test_a_task_runs_once_and_those_who_wait_for_it_start(daemon: Make, tmp_path: Path) -> None:
    """A failed try is repeated with backoff; the successful one is the last."""
    path, record = tmp_path / "program.py", tmp_path / "record"
    path.write_text(
        f"begun = open({str(record)!r}).read().count('begin')\nraise SystemExit(0 if begun == 3 else 1)\n"
    )
    migrate = pool(program(path, record), kind="task", restart={"backoff": FAST_BACKOFF})
    one = daemon(
        {
            "pools": {
                "web": pool(
                    worker("obedient"), depends_on={"migrate": "completed"}, rollout={"min_ready": "0s"}
                ),
                "migrate": migrate,
            }
        }
    )
    one.wait_ready("web")
    shown = one.instance("migrate/0")
    assert (shown["phase"], shown["generation"], shown["failures"]) == ("stopped", 3, 0)
    assert one.pool("migrate")["status"] == "completed"
    assert one.get("/readyz").status_code == 200
    assert one.ctl("restart", "web").returncode == 0
    assert record.read_text().count("begin") == 3


def test_a_program_that_cannot_be_started_backs_off(daemon: Make, tmp_path: Path) -> None:
    """A spawn error counts as a failed start, names the file, and ends when the file is there."""
    missing = tmp_path / "later"
    rules = {"backoff": {"initial": "100ms", "factor": 2, "max": "400ms", "jitter": "none"}}
    one = daemon(
        {
            "pools": {
                "web": pool([str(missing)], restart=rules),
                "text": pool([str(Path(__file__))], restart={"backoff": SLOW_BACKOFF}),
                "mail": pool(worker("obedient")),
            }
        }
    )
    one.wait_ready("mail")
    eventually(lambda: len(waits(one, "web/0")) >= 4, 60)
    assert waits(one, "web/0")[:4] == pytest.approx([0.1, 0.2, 0.4, 0.4], abs=0.002)
    shown = one.instance("web/0")
    assert shown["last_exit"]["class"] == "spawn-error"
    assert str(missing) in shown["last_exit"]["detail"]
    assert one.wait_phase("text/0", "backoff")["last_exit"]["class"] == "spawn-error"
    assert sample(one, 'pitboss_exits_total{pool="web",class="spawn-error"}') >= 4
    written = tmp_path / "writing"
    written.write_text(f"#!{PYTHON[0]}\n{WELL}")
    written.chmod(0o755)
    written.rename(missing)
    one.wait_ready("web")


def test_each_class_of_exit_is_named_and_counted(daemon: Make) -> None:
    """In the API with the last lines of output, and in the metrics, once for each."""
    port_nobody_has = "127.0.0.1:1"
    rules = {"backoff": SLOW_BACKOFF}
    pauser = script("print('up', flush=True)\nimport signal\nsignal.pause()")
    one = daemon(
        {
            "pools": {
                "failure": pool(worker("crasher", "code", "3"), restart=rules),
                "signal": pool(worker("crasher", "signal", "SIGSEGV"), restart=rules),
                "spawn-error": pool(["/nonexistent"], restart=rules),
                "startup-timeout": pool(
                    pauser, restart=rules, readiness={"notify": True}, startup={"timeout": "2s"}
                ),
                "probe": pool(
                    pauser,
                    restart=rules,
                    liveness={"tcp": port_nobody_has, "period": "200ms", "failure_threshold": 2},
                ),
                "clean": pool(worker("crasher", "code", "0"), restart=rules),
            }
        }
    )
    details = {
        "failure": "exit 3",
        "signal": "SIGSEGV",
        "spawn-error": "/nonexistent",
        "startup-timeout": "startup-timeout, then SIGTERM",
        "probe": "probe, then SIGTERM",
        "clean": "exit 0",
    }
    for name, detail in details.items():
        last = one.wait_phase(f"{name}/0", "backoff")["last_exit"]
        assert last["class"] == name
        assert detail in last["detail"]
        words: list[str] = {"spawn-error": [], "startup-timeout": ["up"], "probe": ["up"]}.get(
            name, ["last words"]
        )
        assert last["last_lines"] == words
        assert sample(one, f'pitboss_exits_total{{pool="{name}",class="{name}"}}') == 1
    assert one.instance("probe/0")["last_exit"]["rung"] == "stage-1"
    long = one.get("/v1/pools/failure/instances/0").json()["last_exit"]
    assert long["uptime_seconds"] >= 0
    assert long["ago_seconds"] >= 0
