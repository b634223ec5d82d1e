"""What an expression of PromQL asks for: metrics, the labels it matches or groups by, their values.

Enough of the language for our own rules and panels; what Prometheus itself thinks of them is asked of
promtool and of a running server.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from supervisor.telemetry.metric_table import CLOSED, TABLE, Kind

TARGET = frozenset({"job", "instance"})
"""The labels that Prometheus gives to every series of a target."""

_BY_NAME = {metric.name: metric for metric in TABLE}
_STRING = re.compile(r'"(?:\\.|[^"\\])*"')
_SELECTOR = re.compile(r"([a-zA-Z_:][a-zA-Z0-9_:]*)\s*(\{[^}]*\})?(?!\s*\()")
_MATCHER = re.compile(r'([a-zA-Z_]\w*)\s*(=~|!~|!=|=)\s*"((?:\\.|[^"\\])*)"')
_GROUPING = re.compile(r"\b(by|without|on|ignoring|group_left|group_right)\s*\(([^)]*)\)")
_WORDS = frozenset({"and", "or", "unless", "bool", "offset", "inf", "nan", "by", "without", "on", "ignoring"})
_RANGE = re.compile(r"\[[^\]]*\]")


@dataclass(frozen=True)
class Asked:
    """What one expression asks for; `matchers` are (metric, label, operator, value)."""

    metrics: frozenset[str]
    matchers: tuple[tuple[str, str, str, str], ...]
    groupings: frozenset[str]


def asked(expression: str) -> Asked:
    """Read an expression."""
    text = _RANGE.sub("", expression)
    groupings = {
        label.strip() for _, labels in _GROUPING.findall(text) for label in labels.split(",") if label.strip()
    }
    text = _GROUPING.sub(" ", text)
    metrics, matchers = set[str](), list[tuple[str, str, str, str]]()
    for name, braces in _SELECTOR.findall(text.replace("}", "} ")):
        if name in _WORDS or re.search(rf"\b{name}\s*\(", text) or not _outside(text, name):
            continue
        metrics.add(name)
        matchers += [(name, label, operator, value) for label, operator, value in _MATCHER.findall(braces)]
    return Asked(frozenset(metrics), tuple(matchers), frozenset(groupings))


def _outside(text: str, name: str) -> bool:
    """Whether a word stands anywhere outside of braces and strings."""
    bare = re.sub(r"\{[^}]*\}", "", _STRING.sub("", text))
    return re.search(rf"\b{name}\b", bare) is not None


def labels_of(name: str) -> frozenset[str]:
    """The labels that a series of this name has in Prometheus; empty if we export none of that name."""
    if name == "up":
        return TARGET
    metric, more = _BY_NAME.get(name), set[str]()
    if metric is None:
        stem, _, part = name.rpartition("_")
        metric = _BY_NAME.get(stem)
        if metric is None or metric.kind is not Kind.HISTOGRAM or part not in {"bucket", "sum", "count"}:
            return frozenset()
        more = {"le"} if part == "bucket" else set()
    elif metric.kind is Kind.HISTOGRAM:
        return frozenset()
    # Ours by that name is renamed: the target's address has it already.
    own = {"exported_instance" if label == "instance" else label for label in metric.labels}
    return frozenset(own | more | TARGET)


def wrong_with(expression: str) -> Iterator[str]:
    """What an expression asks for that cannot be there."""
    found = asked(expression)
    if not found.metrics:
        yield "it asks for no metric"
    for name in sorted(found.metrics):
        if not labels_of(name):
            yield f"there is no metric {name}"
    known = frozenset[str]().union(*map(labels_of, found.metrics))
    for label in sorted(found.groupings - known):
        yield f"nothing in it has the label {label}"
    for name, label, operator, value in found.matchers:
        if label not in labels_of(name):
            yield f"{name} has no label {label}"
        closed = CLOSED.get((re.sub(r"_(bucket|sum|count)$", "", name), label))
        wanted = value.split("|") if operator in {"=~", "!~"} else [value]
        if closed is not None and "$" not in value:
            yield from (f"{name} has no {label} {one}" for one in wanted if one not in closed)
