"""The page on the daemon's log names every event and field that there is, and no other."""

import ast
import re
from pathlib import Path

from supervisor.telemetry import move_log

ROOT = Path(__file__).resolve().parents[2]
ROWS = re.compile(r"^\| (`[a-z-]+`(?:, `[a-z-]+`)*) \|.*\| ([^|]*) \|$", re.MULTILINE)


def words(text: str) -> set[str]:
    """What stands in code quotes."""
    return set(re.findall(r"`([a-z_-]+)`", text))


def said() -> tuple[set[str], set[str]]:
    """The events and the fields in the source of the lines."""
    strings = set()
    fields = set()
    for node in ast.walk(ast.parse(Path(move_log.__file__).read_text())):
        if isinstance(node, ast.Call) and getattr(node.func, "attr", "") in {"_say", "_operation_line"}:
            strings |= {one.value for one in node.args if isinstance(one, ast.Constant)}
        if isinstance(node, ast.Dict):
            fields |= {str(key.value) for key in node.keys if isinstance(key, ast.Constant)}
    return {one for one in strings if isinstance(one, str)}, fields


def test_the_page_names_all_events_and_fields() -> None:
    """A new event or field is not forgotten, and one that is gone does not stay."""
    page = (ROOT / "docs/reference/log.md").read_text().partition("## Events")[2]
    rows = ROWS.findall(page)
    events, fields = said()
    assert len(events) >= 9
    assert {event for first, _ in rows for event in words(first)} - {"event"} == events
    named = {field for _, last in rows for field in words(last)} | {"instance", "generation"}
    levels = {"clean", "stuck", "window-closed"}
    assert named == fields - levels
