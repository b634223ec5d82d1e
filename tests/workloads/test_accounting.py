"""The verdict on the tasks is right: a lost or repeated one is named, and only SIGKILL excuses."""

from collections.abc import Mapping

import pytest

from tests.workloads.accounting import Account, Generation, Row, account, in_hand

FIRST: Generation = ("jobs/0", 1)
SECOND: Generation = ("jobs/0", 2)
OTHER: Generation = ("jobs/1", 1)


def told(*marks: tuple[int, str, Generation]) -> list[Row]:
    """Rows a tenth of a second apart, from 0.1 on."""
    return [Row(task, what, by, number / 10) for number, (task, what, by) in enumerate(marks, 1)]


def done(task: int, by: Generation) -> list[tuple[int, str, Generation]]:
    """A task from its beginning to its end."""
    return [(task, "begin", by), (task, "end", by)]


def judged(*marks: tuple[int, str, Generation], killed: Mapping[Generation, float] = {}) -> Account:
    """The verdict on tasks 1 and 2."""
    return account(told(*marks), {1, 2}, killed)


def test_each_done_once_is_no_complaint() -> None:
    """Two tasks, two beginnings, two ends."""
    verdict = judged(*done(1, FIRST), *done(2, OTHER))
    assert (verdict.complaints, verdict.done_once) == ([], [1, 2])
    assert verdict.by_generation == {FIRST: 1, OTHER: 1}


@pytest.mark.parametrize("killed", [{}, {FIRST: 0.3}], ids=["unasked", "killed"])
@pytest.mark.parametrize("marks", [[], [(2, "begin", FIRST)]], ids=["never-begun", "begun"])
def test_a_task_that_nobody_did_is_lost(
    marks: list[tuple[int, str, Generation]], killed: dict[Generation, float]
) -> None:
    """Nothing excuses a loss, SIGKILL neither."""
    verdict = judged(*done(1, FIRST), *marks, killed=killed)
    assert list(verdict.lost) == [2]
    assert "task 2 is lost" in verdict.complaints[0]


@pytest.mark.parametrize(
    "marks",
    [
        [*done(2, FIRST), *done(2, OTHER)],
        [(2, "begin", FIRST), *done(2, OTHER)],
        [(2, "begin", FIRST), *done(2, FIRST)],
        [(2, "begin", FIRST), (2, "begin", OTHER), (2, "end", OTHER), (2, "end", FIRST)],
    ],
    ids=["done-twice", "cut-short-and-done", "by-the-same", "at-the-same-time"],
)
def test_a_task_that_was_begun_twice_is_repeated(marks: list[tuple[int, str, Generation]]) -> None:
    """However it came to that: where nobody was killed it must not be."""
    verdict = judged(*done(1, FIRST), *marks)
    assert list(verdict.repeated) == [2]
    assert "task 2 was repeated" in verdict.complaints[0]


@pytest.mark.parametrize(
    "marks",
    [[(2, "begin", FIRST), *done(2, OTHER)], [*done(2, FIRST), *done(2, SECOND)]],
    ids=["cut-short", "done-and-not-acknowledged"],
)
def test_what_a_killed_one_held_may_be_done_again(marks: list[tuple[int, str, Generation]]) -> None:
    """It was in its hands when it was killed, or so shortly before that nobody had been told."""
    verdict = judged(*done(1, OTHER), *marks, killed={FIRST: 0.5})
    assert (verdict.complaints, list(verdict.excused)) == ([], [2])


@pytest.mark.parametrize(
    ("marks", "at"),
    [
        ([*done(2, FIRST), *done(2, OTHER)], 9.0),
        ([(2, "begin", FIRST), *done(2, OTHER), *done(2, SECOND)], 0.4),
        ([(2, "begin", OTHER), *done(2, SECOND)], 0.4),
        ([(2, "begin", FIRST), (2, "begin", FIRST), *done(2, OTHER)], 0.5),
    ],
    ids=["long-acknowledged", "twice-by-others", "held-by-another", "twice-before-the-kill"],
)
def test_a_kill_excuses_nothing_else(marks: list[tuple[int, str, Generation]], at: float) -> None:
    """Each of these has a second reason, and that one is a complaint."""
    verdict = judged(*done(1, OTHER), *marks, killed={FIRST: at})
    assert list(verdict.repeated) == [2]


def test_what_is_in_hand() -> None:
    """Begun and not ended by the same generation."""
    rows = told((1, "begin", FIRST), *done(2, FIRST), (1, "begin", SECOND), *done(3, OTHER))
    assert {by: [row.task for row in held] for by, held in in_hand(rows).items()} == {FIRST: [1], SECOND: [1]}


def test_the_table_counts() -> None:
    """What a story prints at its end."""
    table = judged(*done(1, FIRST), killed={}).table()
    assert "done once        1" in table
    assert "lost             1  2" in table
    assert "jobs/0         generation 1       1" in table
