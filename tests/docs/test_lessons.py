"""Every test that the page of lessons names is there, and every row names one."""

import ast
import re
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
TESTS = ROOT / "tests"
PAGE = ROOT / "docs" / "explanation" / "lessons.md"

NAME = re.compile(r"`([\w/]+\.py)::(\w+)`")


def rows(text: str) -> list[list[str]]:
    """The cells of each row of each table, without head and rule."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return [row for row in cells if not set(row[0]) <= {"-"} and not row[0].startswith("what goes wrong")]


@cache
def defined_in(path: Path) -> frozenset[str]:
    """The tests that a file defines."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    return frozenset(
        node.name for node in ast.walk(tree) if isinstance(node, kinds) and node.name.startswith("test_")
    )


def is_there(name: tuple[str, str]) -> bool:
    """Whether a test exists, by its file below `tests` and its name."""
    file, test = name
    return (TESTS / file).is_file() and test in defined_in(TESTS / file)


ROWS = rows(PAGE.read_text(encoding="utf-8"))


@pytest.mark.parametrize("row", ROWS, ids=[row[0][:40] for row in ROWS])
def test_each_lesson_is_held_by_a_test_that_exists(row: list[str]) -> None:
    """What goes wrong, what is done, and at least one test."""
    assert len(row) == 3, row
    assert row[0]
    assert row[1]
    names = NAME.findall(row[2])
    assert names, row[2]
    assert [name for name in names if not is_there(name)] == []


def test_no_lesson_is_told_twice() -> None:
    """The page is short because each thing is said once."""
    told = [row[0] for row in ROWS]
    assert len(told) == len(set(told))
    assert len(told) > 40


def test_a_test_that_does_not_exist_is_found() -> None:
    """A wrong file and a wrong name are both seen."""
    assert is_there(("docs/test_lessons.py", "test_no_lesson_is_told_twice"))
    assert not is_there(("docs/test_lessons.py", "test_of_nothing"))
    assert not is_there(("docs/test_nothing.py", "test_no_lesson_is_told_twice"))
