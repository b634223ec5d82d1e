"""What is wrong with a manifest, where, and how it is said.

Decides the shape of a problem and how many are kept. Knows nothing about YAML or about any key.
"""

import difflib
import os
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import NamedTuple

PROBLEMS_KEPT = 1000
"""Problems kept of one load; the rest are counted. A file of junk must not become a gigabyte of text."""

SUGGESTIONS = 100
"""Near names looked for in one load: each costs a comparison with every name that exists."""

_LONGEST_SUGGESTED = 64
_SHOWN = 60


class Place(NamedTuple):
    """Where something was written; lines and columns count from 1."""

    file: str
    line: int = 1
    column: int = 1

    def __str__(self) -> str:
        return f"{printable(self.file, 4096)}:{self.line}:{self.column}"


@dataclass(frozen=True, slots=True, order=True)
class Problem:
    """One thing that is wrong: where, at which key (may be empty), and what was expected and found."""

    place: Place
    path: str
    message: str

    def __str__(self) -> str:
        return f"{self.place}: {self.path}: {self.message}" if self.path else f"{self.place}: {self.message}"


class ManifestError(Exception):
    """A manifest that cannot be used. `problems` holds every reason, sorted by file and line."""

    def __init__(self, file: str | os.PathLike[str], problems: Iterable[Problem], found: int = 0) -> None:
        self.file = os.fspath(file)
        self.problems: tuple[Problem, ...] = tuple(sorted(problems))
        self.found = max(found, len(self.problems))
        super().__init__(self.file)

    def __str__(self) -> str:
        lines = [str(problem) for problem in self.problems]
        if self.found > len(lines):
            lines.append(f"... and {self.found - len(lines)} more, not shown")
        count = "1 problem" if self.found == 1 else f"{self.found} problems"
        file = printable(self.file, 4096)
        lines.append(f'{count}; nothing was started. Run "pitbossd check {file}" to try again.')
        return "\n".join(lines)


@dataclass(slots=True)
class Problems:
    """Collects the problems of one load, and bounds how many are kept and how many names are compared."""

    file: str
    kept: set[Problem] = field(default_factory=set)
    warnings: set[Problem] = field(default_factory=set)
    overflow: int = 0
    _said: set[tuple[Place, str]] = field(default_factory=set)
    _suggestions: int = 0

    def add(self, place: Place, path: str, message: str) -> None:
        """Keep a problem, unless the same was said of the same place under another path.

        A value from `defaults` reaches every pool; it is wrong once.
        """
        if (place, message) in self._said:
            return
        if self.full:
            self.overflow += 1
            return
        self._said.add((place, message))
        self.kept.add(Problem(place, path, message))

    def warn(self, place: Place, path: str, message: str) -> None:
        """Keep a warning: something odd that does not keep the manifest from being used."""
        if len(self.warnings) < PROBLEMS_KEPT and (place, message) not in self._said:
            self._said.add((place, message))
            self.warnings.add(Problem(place, path, message))

    @property
    def full(self) -> bool:
        """Whether further problems are only counted."""
        return len(self.kept) >= PROBLEMS_KEPT

    def suggest(self, word: str, names: Iterable[str]) -> str:
        """`; did you mean "x"?`, or nothing where no name is near."""
        if self._suggestions >= SUGGESTIONS or len(word) > _LONGEST_SUGGESTED:
            return ""
        self._suggestions += 1
        near = nearest(word, names)
        return "" if near is None else f'; did you mean "{near}"?'

    def raise_if_any(self) -> None:
        """Raise `ManifestError` with everything that was kept."""
        if self.kept:
            raise ManifestError(self.file, self.kept, len(self.kept) + self.overflow)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """The name that was probably meant, or None."""
    by_folded = {name.casefold(): name for name in names if len(name) <= _LONGEST_SUGGESTED}
    folded = word.casefold()
    if folded in by_folded:
        return by_folded[folded]
    near = difflib.get_close_matches(folded, by_folded, n=1, cutoff=0.65)
    return by_folded[near[0]] if near else None


def printable(text: str, longest: int = _SHOWN) -> str:
    """Text that is safe on a terminal: control characters escaped, and not longer than asked."""
    shown = text if len(text) <= longest else text[: longest - 1] + "…"
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in shown)


def quoted(text: str, longest: int = _SHOWN) -> str:
    """Text as it is shown in a message: printable, short, in double quotes."""
    return f'"{printable(text, longest)}"'


def quoted_path(path: str) -> str:
    """A path as it is shown in a message: whole, because its end is what tells it from others."""
    return quoted(path, 4096)


def dotted(keys: Iterable[str | int]) -> str:
    """A path as a reader writes it: `pools.api.stop.stages[0].grace`."""
    path = ""
    for key in keys:
        if isinstance(key, int):
            path += f"[{key}]"
        else:
            path += f".{printable(key)}" if path else printable(key)
    return path


def found(value: object) -> str:
    """What was found, in the words of the manifest; values are shortened, collections are only named."""
    match value:
        case None:
            return "found nothing"
        case bool():
            return f"found {str(value).lower()}"
        case str():
            return f"found {quoted(value)}" if value else "found an empty text"
        case int() | float():
            return f"found {printable(str(getattr(value, 'text', value)))}"
        case list():
            return "found a list" if value else "found an empty list"
        case dict():
            return "found a mapping" if value else "found an empty mapping"
    return f"found {type(value).__name__}"
