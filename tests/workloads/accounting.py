"""What became of each task, judged by the rows that the tasks themselves have written.

Decides what is lost, what is repeated, and which repetition a SIGKILL excuses. It knows nothing of
the queue programs nor of the daemon: it is given rows, and who was killed when.
"""

import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

Generation = tuple[str, int]
"""An instance, and the number of its generation."""

UNCONFIRMED_SECONDS = 1.0
"""A task that ended this shortly before its worker was killed may not have been acknowledged yet."""


@dataclass(frozen=True)
class Row:
    """One mark of one task: `what` is "begin" or "end"."""

    task: int
    what: str
    generation: Generation
    at: float


def read(ledger: Path, after: int = 0) -> list[Row]:
    """The rows so far, but for the first `after`, in the order in which they were written."""
    if not ledger.exists():
        return []
    with closing(sqlite3.connect(f"file:{ledger}?mode=ro", uri=True, timeout=30)) as opened:
        if not opened.execute("SELECT 1 FROM sqlite_master WHERE name = 'marks'").fetchone():
            return []
        found = opened.execute(
            "SELECT task, mark, instance, generation, at FROM marks ORDER BY id LIMIT -1 OFFSET ?",
            (after,),
        ).fetchall()
    return [Row(task, mark, (instance, generation), at) for task, mark, instance, generation, at in found]


def in_hand(rows: Iterable[Row]) -> dict[Generation, list[Row]]:
    """The tasks that have begun and not ended, by the generation that holds them."""
    open_rows: dict[tuple[int, Generation], Row] = {}
    for row in rows:
        if row.what == "begin":
            open_rows[row.task, row.generation] = row
        else:
            open_rows.pop((row.task, row.generation), None)
    held: dict[Generation, list[Row]] = defaultdict(list)
    for row in open_rows.values():
        held[row.generation].append(row)
    return dict(held)


def ended(rows: Iterable[Row]) -> set[int]:
    """The tasks that have been done, by whomever."""
    return {row.task for row in rows if row.what == "end"}


@dataclass(frozen=True)
class Account:
    """The verdict: each task is in one of these. A value says who has begun it, in turn."""

    done_once: list[int]
    lost: dict[int, list[Generation]]
    repeated: dict[int, list[Generation]]
    excused: dict[int, list[Generation]]
    by_generation: dict[Generation, int]

    @property
    def complaints(self) -> list[str]:
        """A sentence for each task that is not as it should be."""
        return [
            *(f"task {task} is lost: begun by {_names(by)}, never done" for task, by in self.lost.items()),
            *(f"task {task} was repeated: begun by {_names(by)}" for task, by in self.repeated.items()),
        ]

    def table(self) -> str:
        """The counts, for people."""
        lines = [
            f"done once   {len(self.done_once):6}",
            f"lost        {len(self.lost):6}  {_some(self.lost)}",
            f"repeated    {len(self.repeated):6}  {_some(self.repeated)}",
            f"excused     {len(self.excused):6}  in the hands of what was killed: {_some(self.excused)}",
            "done by",
            *(
                f"  {name:14} generation {number}  {count:6}"
                for (name, number), count in sorted(self.by_generation.items())
            ),
        ]
        return "\n".join(lines)


def _names(generations: Iterable[Generation]) -> str:
    return ", ".join(f"{name} generation {number}" for name, number in generations) or "nobody"


def _some(tasks: Iterable[int]) -> str:
    shown = [str(task) for task in sorted(tasks)]
    return " ".join(shown[:12]) + (" …" if len(shown) > 12 else "")


def account(rows: Iterable[Row], tasks: Iterable[int], killed: Mapping[Generation, float] = {}) -> Account:
    """Judge the rows of `tasks`; `killed` are the generations that got SIGKILL, and when.

    Whoever was killed may have begun a task that somebody else then did: once, and to its end. Nothing else
    excuses a task that was begun twice, or begun and not ended.
    """
    marks: dict[int, list[Row]] = defaultdict(list)
    for row in rows:
        marks[row.task].append(row)
    verdict = Account([], {}, {}, {}, defaultdict(int))
    for task in sorted(set(tasks) | set(marks)):
        found = marks[task]
        begins = [row.generation for row in found if row.what == "begin"]
        ends = [row.generation for row in found if row.what == "end"]
        for generation in ends:
            verdict.by_generation[generation] += 1
        if not ends:
            verdict.lost[task] = begins
        elif len(ends) == len(begins) == 1:
            verdict.done_once.append(task)
        elif _excused(found, killed):
            verdict.excused[task] = begins
        else:
            verdict.repeated[task] = begins
    return verdict


def _excused(found: list[Row], killed: Mapping[Generation, float]) -> bool:
    """Whether all but one of the beginnings were in the hands of a generation when it was killed."""
    by_others = [row for row in found if row.generation not in killed]
    if [row.what for row in by_others] not in (["begin", "end"], []):
        return False
    for generation, at in killed.items():
        mine = [row for row in found if row.generation == generation]
        begins = [row for row in mine if row.what == "begin"]
        ends = [row for row in mine if row.what == "end"]
        if len(begins) > 1 or any(row.at < at - UNCONFIRMED_SECONDS for row in ends):
            return False
    return True
