"""A real Prometheus scrapes a real daemon whose workers work, crash, drain and are killed."""

import json
import math
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import httpx
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from supervisor.telemetry.metric_table import TABLE, Kind
from tests.e2e.commands import FAST_BACKOFF, pool, script, worker
from tests.e2e.conftest import daemon
from tests.e2e.daemon import Daemon
from tests.ports import free_port
from tests.prometheus.programs import program
from tests.prometheus.servers import Monitoring, monitoring
from tests.waiting import eventually

__all__ = ["daemon"]

DASHBOARD = json.loads(
    (Path(__file__).resolve().parents[2] / "configs" / "grafana" / "pitboss.json").read_text()
)
VALUES = {"$__rate_interval": "1m", "$__range": "1h", "$job": "pitboss", "$instance": ".*", "$pool": ".*"}

BUSY = """
import os, signal, socket, threading
told = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
signal.signal(signal.SIGUSR1, lambda *_: None)
number = 0
while True:
    number += 1
    text = f"READY=1\\nX_PITBOSS_INFLIGHT=2\\nX_PITBOSS_QUEUE_DEPTH=5\\nX_PITBOSS_TASKS_COMPLETED=3"
    text += "\\nX_PITBOSS_TASKS_FAILED=1\\nX_PITBOSS_TASKS_CANCELLED=1\\nX_PITBOSS_TASK_SECONDS=0.2,0.4"
    told.sendto(text.encode(), os.environ["NOTIFY_SOCKET"])
    print("done", number, flush=True)
    threading.Event().wait(0.2)
"""
"""Never idle, whatever it is told: a drain of it lasts until its window closes."""


def manifest(port: int) -> dict[str, object]:
    """Pools that give every panel something to show."""
    crasher = {"readiness": {"notify": True}, "restart": {"backoff": FAST_BACKOFF}}
    return {
        "control": {"http": f"127.0.0.1:{port}"},
        "pools": {
            "migrate": {"command": script("pass"), "kind": "task", "restart": {"policy": "never"}},
            "jobs": pool(
                script(BUSY),
                instances=2,
                readiness={"notify": True},
                drain={"signal": "SIGUSR1", "window": "10m"},
            ),
            "web": pool(worker("obedient"), rollout={"min_ready": "50ms"}),
            "stubborn": pool(worker("stubborn"), stop={"stages": [{"signal": "SIGTERM", "grace": "100ms"}]}),
            "crasher": pool(script("raise SystemExit(3)"), **crasher),
        },
    }


def test_a_scrape_over_tcp_is_what_both_formats_promise(daemon: Callable[..., Daemon]) -> None:
    """The types are exact, HEAD has no body, both official parsers read it, and promtool finds nothing."""
    port = free_port()
    one = daemon(manifest(port))
    one.wait_ready("jobs", "web")
    url = f"http://127.0.0.1:{port}/metrics"
    names = {m.name.removesuffix("_total") if m.kind is Kind.COUNTER else m.name: m for m in TABLE}
    for accept, kind, parse in (
        ("*/*", "text/plain; version=0.0.4; charset=utf-8", parse_text),
        (
            "application/openmetrics-text;version=1.0.0,text/plain;version=0.0.4;q=0.5",
            "application/openmetrics-text; version=1.0.0; charset=utf-8",
            parse_openmetrics,
        ),
    ):
        answer = httpx.get(url, headers={"Accept": accept}, timeout=60)
        assert answer.headers["content-type"] == kind
        head = httpx.head(url, headers={"Accept": accept}, timeout=60)
        assert (head.status_code, head.content, head.headers["content-type"]) == (200, b"", kind)
        families = {family.name: family for family in parse(answer.text)}
        assert set(families) == set(names)
        for name, family in families.items():
            assert (family.type, family.documentation) == (names[name].kind, names[name].help)
        assert answer.text.endswith("# EOF\n") == ("openmetrics" in kind)
    done = subprocess.run(
        [program("promtool"), "check", "metrics"],
        input=httpx.get(url, timeout=60).content,
        capture_output=True,
        check=False,
        timeout=60,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")


def stir(one: Daemon) -> None:
    """Have something to show: stops that are clean and stops that are not."""
    for name in ("web", "stubborn"):
        if one.pool(name)["rollout"] is None:
            assert one.post(f"/v1/pools/{name}/restart").status_code == 202


def expressions() -> dict[str, str]:
    """Every expression of the dashboard as Grafana would ask it, by its panel and letter."""
    found = {}
    for panel in DASHBOARD["panels"]:
        for target in panel.get("targets", ()):
            expression = target["expr"]
            for name, value in VALUES.items():
                expression = expression.replace(name, value)
            assert "$" not in expression
            found[f"{panel['title']} {target['refId']}"] = expression
    return found


def every_panel_shows_something(one: Daemon, seen: Monitoring) -> None:
    """Each expression of the dashboard has a number sooner or later."""
    empty = expressions()

    def all_shown() -> bool:
        stir(one)
        for name, expression in list(empty.items()):
            if any(math.isfinite(value) for _, value in seen.query(expression)):
                del empty[name]
        return not empty

    try:
        eventually(all_shown, 60)
    except AssertionError:
        raise AssertionError(f"panels that show nothing: {empty}") from None


def the_numbers_are_those_of_the_daemon(one: Daemon, seen: Monitoring) -> None:
    """What Prometheus has stored is what happened."""
    assert {value for _, value in seen.query('up{job="pitboss"}')} == {1.0}
    # Only the parser of OpenMetrics names a counter's family without its suffix.
    assert seen.ask("metadata", metric="pitboss_starts") != {}
    assert seen.query('pitboss_pool_finished{pool="migrate"} == 1')
    assert seen.query('pitboss_pool_ready{pool="jobs"} == 1') and one.pool("jobs")["ready"] == 1
    assert seen.query('pitboss_drain_inflight{pool="jobs"} >= 2')
    tasks = {labels["outcome"]: value for labels, value in seen.query('pitboss_tasks_total{pool="jobs"}')}
    assert tasks["completed"] == 3 * tasks["failed"] == 3 * tasks["cancelled"] > 0
    assert seen.query('pitboss_stage_seconds{exported_instance="jobs/1", stage="drain"} > 0')
    (label,) = {labels["instance"] for labels, _ in seen.query("pitboss_instance_up")}
    assert re.fullmatch(r"127\.0\.0\.1:\d+", label)
    starts = one.instance("crasher/0")["restarts"]
    eventually(
        lambda: seen.query(f'pitboss_restarts_total{{pool="crasher"}} >= {starts}'), 60, "restarts are stored"
    )


def people_are_told(seen: Monitoring) -> None:
    """Alerts arrive with a page to read; one that is drained in part, or finished, raises none."""
    loop = seen.webhook.wait_for(alertname="PitbossCrashLoop", pool="crasher")
    assert loop["annotations"]["runbook_url"] == "docs/runbooks/crash-loop.md"
    assert loop["annotations"]["summary"].startswith("crasher on 127.0.0.1:")
    seen.webhook.wait_for(alertname="PitbossPoolUnhealthy", pool="crasher", severity="critical")
    seen.webhook.wait_for(alertname="PitbossStopsForced", pool="stubborn", outcome="killed")
    told = {alert["labels"].get("pool") for alert in seen.webhook.alerts()}
    assert not told & {"jobs", "migrate"}, seen.webhook.alerts()

    def held(name: str, state: str) -> bool:
        return any(
            alert["labels"]["alertname"] == name and alert["status"][state] for alert in seen.held_alerts()
        )

    eventually(lambda: held("PitbossPoolDegraded", "inhibitedBy"), 60, "one cause is told once")
    silence = [
        "silence",
        "add",
        "alertname=PitbossCrashLoop",
        "pool=crasher",
        "--duration=2h",
        "--comment=known",
    ]
    subprocess.run([program("amtool"), f"--alertmanager.url={seen.alertmanager}", *silence], check=True)
    eventually(lambda: held("PitbossCrashLoop", "silencedBy"), 60, "the runbook's silence works")


def test_prometheus_scrapes_and_people_are_alerted(daemon: Callable[..., Daemon]) -> None:
    """From a crash to a message: scrape, rule, Alertmanager, webhook; and the dashboard has its numbers."""
    for name in ("prometheus", "prometheus-alertmanager", "amtool"):
        program(name)
    port = free_port()
    one = daemon(manifest(port))
    one.wait_ready("jobs", "web", "stubborn")
    one.wait_phase("migrate/0", "stopped")
    with monitoring(f"127.0.0.1:{port}") as seen:
        eventually(lambda: seen.query('up{job="pitboss"} == 1'), 60, "the first scrape")
        assert one.post("/v1/pools/jobs/instances/1/drain").status_code == 202
        every_panel_shows_something(one, seen)
        the_numbers_are_those_of_the_daemon(one, seen)
        people_are_told(seen)
        one.close()
        seen.webhook.wait_for(alertname="PitbossDown", instance=f"127.0.0.1:{port}")
