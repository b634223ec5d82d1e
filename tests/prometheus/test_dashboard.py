"""The dashboard asks for what exists, in a shape that Grafana imports."""

import json
import re
from pathlib import Path
from typing import Any

import pytest

from tests.prometheus.expressions import asked, labels_of, wrong_with

ROOT = Path(__file__).resolve().parents[2]
DASHBOARD: dict[str, Any] = json.loads((ROOT / "configs" / "grafana" / "pitboss.json").read_text())
PANELS: list[dict[str, Any]] = [panel for panel in DASHBOARD["panels"] if panel["type"] != "row"]
VARIABLES: list[dict[str, Any]] = DASHBOARD["templating"]["list"]
BUILT_IN = {"__rate_interval", "__range"}


@pytest.mark.parametrize("panel", PANELS, ids=lambda panel: panel["title"])
def test_a_panel_asks_for_what_exists(panel: dict[str, Any]) -> None:
    """Metrics, labels and values are in the table, and its legends name labels that are left."""
    for target in panel["targets"]:
        assert list(wrong_with(target["expr"])) == [], target["expr"]
        known = frozenset[str]().union(*map(labels_of, asked(target["expr"]).metrics))
        left = asked(target["expr"]).groupings or known
        assert set(re.findall(r"\{\{(\w+)\}\}", target["legendFormat"])) <= left, target["legendFormat"]


def test_what_an_operator_asks_first_is_on_it() -> None:
    """Boot, restarts, stop stages, completed against cancelled, drain in flight, loop lag, memory, CPU."""
    asked_for = [asked(target["expr"]) for panel in PANELS for target in panel["targets"]]
    shown = {name for one in asked_for for name in one.metrics}
    assert shown >= {
        "pitboss_start_seconds_bucket",
        "pitboss_restarts_total",
        "pitboss_stop_stage_seconds_bucket",
        "pitboss_tasks_total",
        "pitboss_drain_inflight",
        "pitboss_daemon_loop_lag_seconds",
        "pitboss_instance_memory_bytes",
        "pitboss_instance_cpu_seconds_total",
    }


def test_the_variables_are_those_that_the_panels_use() -> None:
    """Each chooses by labels that exist, and every name with a dollar is one of them."""
    names = {variable["name"] for variable in VARIABLES}
    assert names == {"datasource", "job", "instance", "pool"}
    for variable in VARIABLES[1:]:
        inside = re.fullmatch(r"label_values\((.*), (\w+)\)", variable["query"]["query"])
        assert inside is not None
        assert list(wrong_with(inside[1])) == []
        (metric,) = asked(inside[1]).metrics
        assert inside[2] in labels_of(metric)
    text = json.dumps(DASHBOARD)
    assert set(re.findall(r"\$\{?(\w+)", text)) - {"__all"} == names | BUILT_IN


def test_grafana_can_lay_it_out() -> None:
    """Ids are unique, no two panels overlap, none is wider than the page, each row follows the one before."""
    boxes = [panel["gridPos"] for panel in DASHBOARD["panels"]]
    cells = [
        (x, y)
        for box in boxes
        for x in range(box["x"], box["x"] + box["w"])
        for y in range(box["y"], box["y"] + box["h"])
    ]
    assert len(cells) == len(set(cells)), "two panels overlap"
    assert max(x for x, _ in cells) < 24
    ids = [panel["id"] for panel in DASHBOARD["panels"]]
    assert len(ids) == len(set(ids))
    assert DASHBOARD["uid"] and DASHBOARD["schemaVersion"] >= 38
    for panel in PANELS:
        references = [target["refId"] for target in panel["targets"]]
        assert references and len(references) == len(set(references))
        assert panel["datasource"]["uid"] == "${datasource}"


@pytest.mark.parametrize(
    ("expression", "wrong"),
    [
        ("pitboss_pool_redy > 1", "no metric pitboss_pool_redy"),
        ('pitboss_pool_ready{phase="running"}', "no label phase"),
        ('pitboss_stops_total{outcome=~"escalated|murdered"}', "no outcome murdered"),
        ("sum by (stage) (rate(pitboss_stops_total[5m]))", "has the label stage"),
        ("rate(pitboss_start_seconds[5m])", "no metric pitboss_start_seconds"),
        ("rate(pitboss_stops_total_sum[5m])", "no metric"),
        ('pitboss_instance_up{instance="a"} + on (volume) pitboss_pool_ready', "has the label volume"),
        ("1 + 1", "no metric"),
    ],
)
def test_a_wrong_expression_is_found(expression: str, wrong: str) -> None:
    """A misspelt name, label or value is named."""
    assert any(wrong in sentence for sentence in wrong_with(expression)), list(wrong_with(expression))


def test_a_right_expression_is_let_pass() -> None:
    """Functions, ranges, groupings and strings are not taken for metrics."""
    right = (
        'histogram_quantile(0.9, sum by (le, pool) (rate(pitboss_start_seconds_bucket{pool=~"up|a b"}[5m])))'
        ' > 2 and on (pool) pitboss_pool_ready unless pitboss_pool_wanted{job="x"} offset 5m'
    )
    assert list(wrong_with(right)) == []
    assert asked(right).metrics == {
        "pitboss_start_seconds_bucket",
        "pitboss_pool_ready",
        "pitboss_pool_wanted",
    }
