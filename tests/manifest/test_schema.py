"""The JSON Schema, the reference page and the annotated example say what the model says."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

import importlib.util
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from pydantic import BaseModel

from supervisor.manifest.complaints import block_at, keys_of
from supervisor.manifest.load import load
from supervisor.manifest.machine import Machine
from supervisor.manifest.model import Document, Pool
from supervisor.manifest.nodes import to_data
from supervisor.manifest.problems import Problems
from supervisor.manifest.schema import schema
from supervisor.manifest.text import parse

ROOT = Path(__file__).resolve().parents[2]
EXAMPLE = ROOT / "configs" / "example.yaml"
CONFIGS = sorted((ROOT / "configs").glob("*.yaml"))


def data_of(path: Path) -> Any:
    """The plain data of a YAML file, read as the manifest is."""
    node = parse(path.read_text(encoding="utf-8"), str(path), Problems(str(path)))
    assert node is not None
    return to_data(node)


TYPES: dict[str, type | tuple[type, ...]] = {
    "object": dict,
    "array": list,
    "string": str,
    "integer": int,
    "number": (int, float),
    "boolean": bool,
    "null": type(None),
}


def violations(value: Any, rule: dict[str, Any], root: dict[str, Any], at: str = "") -> Iterator[str]:
    """What a value breaks of the part of JSON Schema that our schema uses."""
    if "$ref" in rule:
        yield from violations(value, root["$defs"][rule["$ref"].rpartition("/")[2]], root, at)
    if "anyOf" in rule and all(any(violations(value, one, root, at)) for one in rule["anyOf"]):
        yield f"{at}: none of the alternatives"
    if "enum" in rule and value not in rule["enum"]:
        yield f"{at}: {value!r} not in {rule['enum']}"
    if "const" in rule and value != rule["const"]:
        yield f"{at}: {value!r} is not {rule['const']!r}"
    names = rule.get("type", [])
    names = [names] if isinstance(names, str) else names
    if names and not any(
        isinstance(value, TYPES[name]) and (not isinstance(value, bool) or name == "boolean")
        for name in names
    ):
        yield f"{at}: {value!r} is not {names}"
    if isinstance(value, str) and "pattern" in rule and not re.search(rule["pattern"], value):
        yield f"{at}: {value!r} does not match {rule['pattern']}"
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if is_number and not rule.get("minimum", value) <= value <= rule.get("maximum", value):
        yield f"{at}: {value} is out of range"
    if isinstance(value, list):
        if not rule.get("minItems", 0) <= len(value) <= rule.get("maxItems", len(value)):
            yield f"{at}: {len(value)} items"
        for number, item in enumerate(value):
            yield from violations(item, rule.get("items", {}), root, f"{at}[{number}]")
    if isinstance(value, dict):
        yield from _object_violations(value, rule, root, at)


def _object_violations(
    value: dict[str, Any], rule: dict[str, Any], root: dict[str, Any], at: str
) -> Iterator[str]:
    for key in rule.get("required", ()):
        if key not in value:
            yield f"{at}: {key} is missing"
    for key, item in value.items():
        below = rule.get("properties", {}).get(key)
        if below is None:
            patterns = rule.get("patternProperties", {})
            below = next((one for pattern, one in patterns.items() if re.search(pattern, key)), None)
        if below is None:
            below = rule.get("additionalProperties", {})
        if below is False:
            yield f"{at}.{key}: unknown key"
        else:
            yield from violations(item, {} if below is True else below, root, f"{at}.{key}")


def paths_of(block: type[BaseModel], above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every key of the model as a path; those of a pool once."""
    for key in keys_of(block):
        path = (*above, key)
        yield path
        below = Pool if path in {("pools",), ("defaults",)} else block_at(block, (key,))
        if path == ("defaults",):
            continue
        if below is not None:
            yield from paths_of(below, path)


def written(value: Any, above: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Every path of the data, with the names of pools left out."""
    if isinstance(value, list):
        for item in value:
            yield from written(item, above)
    if isinstance(value, dict):
        for key, item in value.items():
            named = above == ("pools",)
            path = above if named else (*above, key)
            yield path
            if named or path == ("defaults",):
                yield from _under_pool(item)
            else:
                yield from written(item, path)


def _under_pool(item: Any) -> Iterator[tuple[str, ...]]:
    for key, value in item.items():
        yield ("pools", key)
        yield from written(value, ("pools", key))


def test_the_example_has_every_key() -> None:
    """Whoever looks for a key finds it there, with what it means beside it."""
    # The checks of other probes have the same keys as the one that is shown in full.
    shown_elsewhere = {
        ("pools", "liveness"),
        ("pools", "drain", "until"),
        ("pools", "drain", "http"),
        ("pools", "readiness", "exec"),
        ("pools", "drain", "signal"),
        ("pools", "drain", "exec"),
    }
    found = set(written(data_of(EXAMPLE)))
    missing = {
        path
        for path in paths_of(Document)
        if path not in found and not any(path[: len(one)] == one for one in shown_elsewhere)
    }
    assert missing == set()
    for word in ("SIGUSR1", "http: {...}", "exec: [...]"):
        assert word in EXAMPLE.read_text(encoding="utf-8")


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.name)
def test_configs_fit_the_schema(path: Path) -> None:
    """An editor shows no error in a manifest that we ship."""
    assert list(violations(data_of(path), schema(), schema())) == []


def test_the_example_loads() -> None:
    """The reference manifest is accepted by a daemon that is root, with nothing to remark."""
    loaded = load(EXAMPLE, machine=Machine(0, 0, "h", {}))
    assert list(loaded.plan.pools) == ["api", "emails", "db-proxy", "migrate"]
    assert [one for one in loaded.warnings if "program" not in one.message] == []


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nonsense: 1", ".nonsense: unknown key"),
        ("pools: {a: {comand: x}}", ".pools.a.comand: unknown key"),
        ("pools: {a: {watchdog: 5 parsecs}}", ".pools.a.watchdog: none of the alternatives"),
        ("pools: {a: {instances: 1001}}", ".pools.a.instances: 1001 is out of range"),
        ("pools: {'b d': {command: x}}", ".pools.b d: unknown key"),
        ("pools: {a: {stop: {stages: [{signal: SIGKILL, grace: 1s}]}}}", ".pools.a.stop"),
        ("pools: {a: {limits: {memory: 1GiB}}}", ".pools.a.limits.memory: unknown key"),
        ("pools: {a: {logs: {format: xml}}}", ".pools.a.logs.format: 'xml' not in ['raw', 'timestamp', 'json']"),
        ("version: 2", ".version: 2 is not 1"),
    ],
)  # fmt: skip
def test_the_schema_bites(text: str, expected: str) -> None:
    """What the schema can know it refuses."""
    node = parse(text, "x", Problems("x"))
    assert node is not None
    found = list(violations(to_data(node), schema(), schema()))
    assert [line for line in found if line.startswith(expected)]


def test_the_schema_describes_every_key() -> None:
    """An editor can show what each key means."""
    blocks = {"": schema(), **schema()["$defs"]}
    silent = [
        f"{name}.{key}"
        for name, block in blocks.items()
        for key, rule in block.get("properties", {}).items()
        if not rule.get("description")
        and not blocks[rule.get("$ref", "/").rpartition("/")[2]].get("description")
    ]
    assert silent == []


def _generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_manifest", ROOT / "docs/generate/manifest.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_generated_files_are_the_same_every_time() -> None:
    """Nothing of this machine or this run is in them, and every key is."""
    first, second = _generator(), _generator()
    assert set(first.OUTPUTS) == {"docs/reference/manifest.md", "docs/reference/manifest.schema.json"}
    for path, render in first.OUTPUTS.items():
        assert render() == second.OUTPUTS[path]() == render()
    page = first.OUTPUTS["docs/reference/manifest.md"]()
    assert [path for path in paths_of(Document) if f"| `{path[-1]}` |" not in page] == []
