"""Manifests made from the JSON Schema, whole or with something wrong in them: loaded, or refused with places.

What the schema says of a value is where the generator begins, so that most documents get past the first
look and reach what is checked between values.
"""

# A table of words is read line by line.
# ruff: noqa: E501

import json
import os
import re
import time
import tracemalloc
from pathlib import Path
from typing import Any

from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from supervisor.cli.pitbossd_commands import commands
from supervisor.core.identity import InstanceId
from supervisor.manifest.load import Manifest, ManifestError, load
from supervisor.manifest.machine import Machine
from supervisor.manifest.schema import schema

MACHINE = Machine(0, 0, "h", {"PATH": "/usr/bin:/bin"})
SCHEMA = schema()
LIKELY = settings(
    max_examples=int(os.environ.get("FUZZ_REQUESTS", "50")),
    deadline=None,
    suppress_health_check=[
        HealthCheck.function_scoped_fixture,
        HealthCheck.too_slow,
        HealthCheck.data_too_large,
    ],
)

POOLS = ["a", "b", "c-1", "D.d"]
TEXTS = [
    "x", "sleep 1", "a b 'c d'", "{{ index }}", "{{ 8000 + index }}", "{{ pool }}-{{ generation }}", "{{", "/tmp/x",
    "127.0.0.1:80", "127.0.0.1:{{ 8000 + index }}", "[::1]:9", "8080", "unix:/tmp/s", "http://127.0.0.1:1/x", "0", "30s",
    "5m", "500ms", "-1s", "1e999s", "50MiB", "1:2", "512:1024", "unlimited", "SIGTERM", "USR1", "0022", "root", "nobody",
    "full", "none", "a", "b", "c-1", "ready", "started", "completed", "\u2028", "é", "a\tb", "*.yaml", "",
]  # fmt: skip


def value_of(rule: dict[str, Any], depth: int = 0) -> st.SearchStrategy[Any]:
    """Values that a rule of the schema allows, as far as it says."""
    if "$ref" in rule:
        return value_of(SCHEMA["$defs"][rule["$ref"].rpartition("/")[2]], depth)
    if "anyOf" in rule:
        return st.one_of([value_of(one, depth) for one in rule["anyOf"]])
    if "enum" in rule:
        return st.sampled_from(rule["enum"])
    if "const" in rule:
        return st.just(rule["const"])
    names = rule.get("type", ["string"])
    names = [names] if isinstance(names, str) else names
    return st.one_of([_of_type(name, rule, depth) for name in names])


def _of_type(name: str, rule: dict[str, Any], depth: int) -> st.SearchStrategy[Any]:
    if name == "object":
        return _object(rule, depth)
    if name == "array":
        most = min(rule.get("maxItems", 3), 3)
        return st.lists(
            value_of(rule.get("items", {}), depth + 1), min_size=rule.get("minItems", 0), max_size=most
        )
    if name in {"integer", "number"}:
        low = rule.get("minimum", rule.get("exclusiveMinimum", 0))
        high = rule.get("maximum", low + 100)
        return st.integers(int(low), int(min(high, low + 100)))
    if name == "boolean":
        return st.booleans()
    return st.none() if name == "null" else _text(rule)


def _text(rule: dict[str, Any]) -> st.SearchStrategy[str]:
    fitting = [one for one in TEXTS if re.search(rule.get("pattern", ""), one)]
    return st.sampled_from(fitting or TEXTS)


def _object(rule: dict[str, Any], depth: int) -> st.SearchStrategy[dict[str, Any]]:
    known = rule.get("properties", {})
    if not known:
        inner = rule.get("additionalProperties")
        inner = inner if isinstance(inner, dict) else {}
        return st.dictionaries(st.sampled_from([*POOLS, "NAME"]), value_of(inner, depth + 1), max_size=2)
    needed = {name: value_of(known[name], depth + 1) for name in rule.get("required", [])}
    others = sorted(set(known) - set(needed))
    # A few of the optional keys: all of them at once contradict each other.
    return st.lists(st.sampled_from(others or ["x"]), max_size=3 if depth < 4 else 1, unique=True).flatmap(
        lambda chosen: st.fixed_dictionaries(
            needed | {name: value_of(known[name], depth + 1) for name in chosen if name in known}
        )
    )


POOL = value_of({"$ref": "#/$defs/Pool"}).map(lambda one: {"command": ["true"], **one})
DOCUMENT = st.fixed_dictionaries(
    {"pools": st.dictionaries(st.sampled_from(POOLS), POOL, min_size=1, max_size=4)},
    optional={
        "version": st.just(1),
        "name": st.sampled_from(["shop", "h", "-", ""]),
        "shutdown": value_of({"$ref": "#/$defs/Shutdown"}),
        "control": value_of({"$ref": "#/$defs/Control"}),
        "defaults": value_of({"$ref": "#/$defs/Defaults"}),
    },
)


@st.composite
def spoiled(draw: st.DrawFn) -> Any:
    """A document with up to three places changed: cut, renamed, doubled in depth, or of another kind."""
    document: Any = draw(DOCUMENT)
    for _ in range(draw(st.integers(1, 3))):
        at: Any = document
        while isinstance(at, dict | list) and at:
            key = draw(st.sampled_from(sorted(at) if isinstance(at, dict) else range(len(at))))
            inner = at[key]
            if not isinstance(inner, dict | list) or not inner or draw(st.integers(0, 3)) == 0:
                _spoil(draw, at, key)
                break
            at = inner
    return document


def _spoil(draw: st.DrawFn, at: Any, key: Any) -> None:
    kind = draw(st.sampled_from(["cut", "name", "wrap", "list", "other"]))
    if kind == "cut":
        del at[key]
    elif kind == "name" and isinstance(at, dict):
        at[draw(st.sampled_from([f"{key}x", str(key)[:-1] or "y", str(key).upper()]))] = at.pop(key)
    elif kind == "wrap":
        at[key] = {draw(st.sampled_from(["http", "x", str(key)])): at[key]}
    elif kind == "list":
        at[key] = [at[key]] * draw(st.sampled_from([1, 40]))
    else:
        at[key] = draw(
            st.sampled_from([None, True, -1, 0, 10**30, 1.5, float("inf"), "", "\0", [], {}, "z" * 3000])
        )


def judged(path: Path, document: Any) -> Manifest | None:
    """Load it within bounds; what is refused says where."""
    path.write_text(json.dumps(document), encoding="utf-8")
    began = time.process_time()
    tracemalloc.start()
    try:
        return load(path, machine=MACHINE)
    except ManifestError as caught:
        error = caught
    finally:
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        # Not a matter of speed: what takes this much for a page of text takes for ever for ten.
        assert time.process_time() - began < 30
        assert peak < 64 * 1024 * 1024
    assert error.problems
    assert all(problem.place.line >= 1 and "\n" not in str(problem) for problem in error.problems)
    return None


@LIKELY
@given(DOCUMENT)
def test_what_the_schema_allows_is_loaded_or_refused(tmp_path: Path, document: dict[str, Any]) -> None:
    """What loads has a plan with every pool, launches for its instances, and loads again as the same."""
    loaded = judged(tmp_path / "m.yaml", document)
    if loaded is None:
        return
    assert set(loaded.plan.pools) == set(document["pools"])
    for name, pool in loaded.plan.pools.items():
        for index in {0, max(0, pool.instances - 1)}:
            assert loaded.launch(InstanceId(name, index), 1).argv
    again = load(tmp_path / "m.yaml", machine=MACHINE)
    assert again.plan == loaded.plan
    assert again == loaded


@LIKELY
@given(spoiled())
def test_what_is_nearly_right_is_loaded_or_refused(tmp_path: Path, document: Any) -> None:
    """Never anything but a manifest or `ManifestError`."""
    judged(tmp_path / "m.yaml", document)


@LIKELY
@given(st.one_of(DOCUMENT, spoiled()))
def test_check_says_what_load_says(tmp_path: Path, document: Any) -> None:
    """`pitbossd check --json` is valid JSON with the same verdict, and says which by its exit code."""
    path = tmp_path / "m.yaml"
    path.write_text(json.dumps(document), encoding="utf-8")
    result = CliRunner().invoke(commands, ["check", "--json", str(path)])
    said = json.loads(result.stdout)
    problems, loaded = [], None
    try:
        loaded = load(path)
    except ManifestError as caught:
        problems = [str(problem) for problem in caught.problems]
    if loaded is None:
        assert (result.exit_code, said["valid"]) == (78, False)
        assert said["problems"] == problems
    else:
        assert (result.exit_code, said["valid"]) == (0, True)
        assert said["worst_case_shutdown_seconds"] == loaded.worst_case_shutdown_seconds
        assert said["warnings"] == [str(one) for one in loaded.warnings]


def test_the_generator_is_no_idle_talk(tmp_path: Path) -> None:
    """A good part of what it makes loads, and a good part does not."""
    verdicts = []

    @settings(LIKELY, max_examples=60, database=None, derandomize=True)
    @given(DOCUMENT)
    def collect(document: dict[str, Any]) -> None:
        verdicts.append(judged(tmp_path / "m.yaml", document) is not None)

    collect()
    assert 0.1 < sum(verdicts) / len(verdicts) < 0.95, verdicts
