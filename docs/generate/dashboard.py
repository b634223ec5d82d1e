"""The Grafana dashboard as the JSON that Grafana 10 imports.

Positions, ids and styles follow from the order of what is shown, which `dashboard_rows` decides.
"""

import json
from collections.abc import Callable, Iterator

from docs.generate.dashboard_rows import HOST, ROWS, Panel

SCHEMA_VERSION = 38
"""That of Grafana 10.0; later ones migrate it when they import it."""

COLUMNS = 24
HEIGHT = 8

_DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}


def _targets(panel: Panel) -> list[dict[str, object]]:
    return [
        {
            "datasource": _DATASOURCE,
            "editorMode": "code",
            "expr": expression,
            "instant": panel.kind == "stat",
            "legendFormat": legend,
            "range": panel.kind != "stat",
            "refId": chr(ord("A") + number),
        }
        for number, (expression, legend) in enumerate(panel.queries)
    ]


def _shape(panel: Panel, number: int, left: int, top: int) -> dict[str, object]:
    custom: dict[str, object] = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    return {
        "id": number,
        "type": panel.kind,
        "title": panel.title,
        "description": panel.description,
        "datasource": _DATASOURCE,
        "gridPos": {"h": HEIGHT, "w": panel.width, "x": left, "y": top},
        "fieldConfig": {
            "defaults": {"unit": panel.unit, "min": 0, "custom": custom if panel.kind != "stat" else {}},
            "overrides": [],
        },
        "options": {}
        if panel.kind == "stat"
        else {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}},
        "targets": _targets(panel),
    }


def _panels() -> Iterator[dict[str, object]]:
    number, top = 1, 0
    for title, panels in ROWS:
        yield {
            "id": number,
            "type": "row",
            "title": title,
            "collapsed": False,
            "gridPos": {"h": 1, "w": COLUMNS, "x": 0, "y": top},
            "panels": [],
        }
        number, top, left = number + 1, top + 1, 0
        for panel in panels:
            yield _shape(panel, number, left, top)
            number, left = number + 1, left + panel.width
        top += HEIGHT


def _variable(name: str, query: str) -> dict[str, object]:
    return {
        "name": name,
        "label": name,
        "type": "query",
        "datasource": _DATASOURCE,
        "definition": query,
        "query": {"query": query, "refId": name},
        "includeAll": True,
        "allValue": ".*",
        "multi": True,
        "current": {"selected": True, "text": ["All"], "value": ["$__all"]},
        "refresh": 2,
        "sort": 1,
    }


def dashboard() -> str:
    """The JSON that is imported."""
    variables = [
        {"name": "datasource", "label": "datasource", "type": "datasource", "query": "prometheus"},
        _variable("job", "label_values(pitboss_build_info, job)"),
        _variable("instance", 'label_values(pitboss_build_info{job=~"$job"}, instance)'),
        _variable("pool", f"label_values(pitboss_pool_wanted{{{HOST}}}, pool)"),
    ]
    document = {
        "uid": "pitboss",
        "title": "pitboss",
        "description": "Boot, restarts, stops and drains of the pools of pitbossd.",
        "tags": ["pitboss"],
        "schemaVersion": SCHEMA_VERSION,
        "version": 1,
        "editable": True,
        "refresh": "30s",
        "time": {"from": "now-3h", "to": "now"},
        "timezone": "browser",
        "graphTooltip": 1,
        "templating": {"list": variables},
        "annotations": {"list": []},
        "links": [],
        "panels": list(_panels()),
    }
    return json.dumps(document, indent=1, ensure_ascii=False)


OUTPUTS: dict[str, Callable[[], str]] = {"configs/grafana/pitboss.json": dashboard}
