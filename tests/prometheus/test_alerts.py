"""Alerts ask for what exists, fire when they should, and each has a page that says what to do."""

import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.prometheus.expressions import asked, labels_of, wrong_with
from tests.prometheus.programs import program

ROOT = Path(__file__).resolve().parents[2]
CONFIGS = ROOT / "configs" / "prometheus"
RUNBOOKS = ROOT / "docs" / "runbooks"
GENERAL = {"README.md"}
HEADINGS = ["What it means for the work", "Look first", "Mend", "Silence"]


def load(name: str) -> Any:
    """One of the files."""
    return yaml.safe_load((CONFIGS / name).read_text(encoding="utf-8"))


RULES: list[dict[str, Any]] = [rule for group in load("alerts.yaml")["groups"] for rule in group["rules"]]
NAMES = [rule["alert"] for rule in RULES]


def run(*command: str, cwd: Path = CONFIGS) -> subprocess.CompletedProcess[str]:
    """Run it where the files are: the names in them are relative."""
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize(
    "command",
    [
        ["promtool", "check", "rules", "--lint=all", "--lint-fatal", "alerts.yaml"],
        ["promtool", "check", "config", "prometheus.yml"],
        ["promtool", "test", "rules", "alerts_test.yaml"],
        ["amtool", "check-config", "alertmanager.yml"],
    ],
    ids=lambda command: " ".join(command[:3]),
)
def test_prometheus_agrees(command: list[str]) -> None:
    """Its own tools take the rules and configurations, and the rules do what their tests say."""
    done = run(program(command[0]), *command[1:])
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("instead", ["vector(1) > 1e12", "count by (pool) ({__name__=~'.+'}) > 0"])
def test_rules_that_never_fire_or_always_do_are_found(instead: str, tmp_path: Path) -> None:
    """The rule tests fail for each alert that is silent, and for each that fires for every host and pool."""
    rules = load("alerts.yaml")
    for rule in rules["groups"][0]["rules"]:
        rule["expr"] = instead
    (tmp_path / "alerts.yaml").write_text(yaml.safe_dump(rules))
    shutil.copy(CONFIGS / "alerts_test.yaml", tmp_path)
    done = run(program("promtool"), "test", "rules", "alerts_test.yaml", cwd=tmp_path)
    failed = set(re.findall(r"alertname: *\"?(\w+)", done.stdout + done.stderr))
    assert failed == set(NAMES), done.stdout + done.stderr


def test_every_alert_is_tested_both_ways() -> None:
    """In at least one moment it fires, in another it does not."""
    outcomes: dict[str, set[bool]] = {name: set() for name in NAMES}
    for test in load("alerts_test.yaml")["tests"]:
        for one in test["alert_rule_test"]:
            outcomes[one["alertname"]].add(bool(one["exp_alerts"]))
    assert {name for name, seen in outcomes.items() if seen != {False, True}} == set()


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_asks_for_what_exists(rule: dict[str, Any]) -> None:
    """Metrics, labels and values are in the table; so are the labels that its text shows."""
    assert list(wrong_with(rule["expr"])) == []
    known = frozenset[str]().union(*map(labels_of, asked(rule["expr"]).metrics))
    text = "".join(rule["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", text)) <= known


@pytest.mark.parametrize("rule", RULES, ids=NAMES)
def test_an_alert_has_all_that_whoever_gets_it_needs(rule: dict[str, Any]) -> None:
    """A severity, what happened, what that means, and a page that says what to do."""
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert set(rule["annotations"]) == {"summary", "description", "runbook_url"}
    assert "$labels.instance" in rule["annotations"]["summary"]
    page = ROOT / rule["annotations"]["runbook_url"]
    assert page.parent == RUNBOOKS
    text = page.read_text(encoding="utf-8")
    assert text.startswith(f"# {rule['alert']}\n")
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == HEADINGS
    assert re.search(r"^\$ pitbossctl ", text, re.MULTILINE), "it names the first command to type"


def test_every_runbook_has_its_alert() -> None:
    """A page nobody is sent to is found only by luck; the general ones are named here."""
    pages = {page.name for page in RUNBOOKS.glob("*.md")}
    assert pages == GENERAL | {Path(rule["annotations"]["runbook_url"]).name for rule in RULES}
    index = (RUNBOOKS / "README.md").read_text(encoding="utf-8")
    listed = re.findall(r"^\| \[(\w+)\]\(([\w-]+\.md)\) \| (\w+) ", index, re.MULTILINE)
    assert sorted(listed) == sorted(
        (rule["alert"], Path(rule["annotations"]["runbook_url"]).name, rule["labels"]["severity"])
        for rule in RULES
    )


def test_the_alert_names_that_pages_mention_exist() -> None:
    """A name in a runbook or in the configuration of Alertmanager is one of the rules."""
    texts = [page.read_text(encoding="utf-8") for page in (*RUNBOOKS.glob("*.md"), *CONFIGS.glob("*.yml"))]
    texts.append((ROOT / "docs" / "how-to" / "scrape-with-prometheus.md").read_text(encoding="utf-8"))
    assert {name for text in texts for name in re.findall(r"\bPitboss[A-Z]\w+", text)} <= set(NAMES)
