"""Several files and the defaults to one tree, every value with its own place.

Decides what overrides what: a later file overrides an earlier one by key, a pool overrides the
defaults; mappings are merged, everything else is replaced. It reads files and knows only the keys
that exclude each other.
"""

import fnmatch
import os
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.manifest.nodes import Mapping, Node, Scalar, Sequence, is_null
from supervisor.manifest.problems import Place, Problems, quoted, quoted_path
from supervisor.manifest.text import UNFOLDED_COST, UnreadableError, parse, read_text

MOST_FILES = 256
"""Files of one manifest."""

MERGED_COST = 2 * UNFOLDED_COST
"""What all pools together may be once the defaults are in each of them, in the unit of `Scalar.cost`."""

_QUESTIONS = frozenset({"http", "tcp", "exec", "notify"})
EXCLUSIVE = {
    "readiness": _QUESTIONS,
    "liveness": _QUESTIONS,
    "until": _QUESTIONS,
    "drain": frozenset({"signal", "http", "exec", "notify"}),
    "stop": frozenset({"stages", "preset"}),
}
"""Keys of a block of which only one can hold: writing one of them replaces the others."""


def layer(base: Mapping, over: Mapping, name: str = "") -> Mapping:
    """`over` on top of `base`; neither is changed. `name` is the key that holds them."""
    merged = Mapping(over.place, dict(base.values), dict(base.key_places))
    rivals = EXCLUSIVE.get(name, frozenset())
    if any(key in rivals and not is_null(value) for key, value in over.values.items()):
        for key in rivals & base.values.keys() - over.values.keys():
            del merged.values[key], merged.key_places[key]
    for key, value in over.values.items():
        below = base.values.get(key)
        merged.put(key, over.key_places[key], _over(below, value, key))
    merged.measure()
    return merged


def _over(below: Node | None, value: Node, name: str) -> Node:
    if isinstance(below, Mapping) and isinstance(value, Mapping):
        return layer(below, value, name)
    return value


def gather(path: Path, problems: Problems) -> tuple[Mapping | None, bool]:
    """The whole document of a manifest with all that it includes, and whether every file could be read."""
    gathering = _Gathering(problems)
    gathering.take(path, Place(str(path)), "", ())
    return gathering.root, gathering.complete


@dataclass(slots=True)
class _Gathering:
    problems: Problems
    root: Mapping | None = None
    complete: bool = True
    seen: set[str] = field(default_factory=set)
    cost: int = 0

    def take(self, path: Path, asked: Place, key: str, chain: tuple[str, ...]) -> None:
        """Read one file, lay it over what there is, then take what it includes."""
        real = _real(path)
        if real in chain:
            names = " -> ".join(os.path.basename(one) for one in (*chain[chain.index(real) :], real))
            return self._fail(asked, key, f"expected files that do not include each other, found {names}")
        if real in self.seen:
            return None
        self.seen.add(real)
        if len(self.seen) > MOST_FILES:
            return self._fail(asked, key, f"expected at most {MOST_FILES} files, found more")
        try:
            text = read_text(path)
        except UnreadableError as error:
            what = "the manifest" if not key else quoted_path(str(path))
            return self._fail(asked, key, f"cannot read {what}: {error}")
        node = parse(text, str(path), self.problems)
        if isinstance(node, Mapping):
            return self._lay(node, path, (*chain, real))
        if node is not None or not self._said_about(path):
            empty = node is None or (isinstance(node, Scalar) and is_null(node))
            found = "an empty file" if empty else "a list" if isinstance(node, Sequence) else "a text"
            self.problems.add(Place(str(path)), "", f"expected a mapping with pools, found {found}")
        self.complete = False
        return None

    def _lay(self, node: Mapping, path: Path, chain: tuple[str, ...]) -> None:
        self.cost += node.cost
        if self.cost > MERGED_COST:
            return self._fail(
                node.place, "", "expected a manifest, found files that unfold to more than 8 MiB"
            )
        include = node.values.pop("include", None)
        place = node.key_places.pop("include", node.place)
        self.root = node if self.root is None else layer(self.root, node)
        if include is None or is_null(include):
            return None
        if not isinstance(include, Sequence):
            return self._fail(place, "include", "expected a list of files, found something else")
        for number, item in enumerate(include.items):
            key = f"include[{number}]"
            if not isinstance(item, Scalar) or not isinstance(item.value, str) or not item.text:
                self._fail(item.place, key, "expected a file or a pattern, found something else")
                continue
            for found in self._matching(path.parent, item, key):
                self.take(found, item.place, key, chain)
        return None

    def _matching(self, directory: Path, item: Scalar, key: str) -> list[Path]:
        """The files that one line of `include` means, sorted by name."""
        folder, pattern = os.path.split(os.path.join(directory, item.text))
        if not any(char in item.text for char in "*?["):
            return [Path(folder, pattern)]
        written = os.path.dirname(item.text)
        if any(char in written for char in "*?["):
            self._fail(
                item.place, key, f"expected a pattern in the last part only, found {quoted(item.text)}"
            )
            return []
        try:
            names = os.listdir(folder)
        except FileNotFoundError:
            return []
        except (OSError, ValueError) as error:
            reason = getattr(error, "strerror", None) or "not a path"
            self._fail(item.place, key, f"cannot read {quoted_path(folder)}: {reason.lower()}")
            return []
        hidden = pattern.startswith(".")
        matching = sorted(
            name
            for name in names
            if fnmatch.fnmatchcase(name, pattern) and (hidden or not name.startswith("."))
        )
        return [Path(folder, name) for name in matching[: MOST_FILES + 1]]

    def _fail(self, place: Place, key: str, message: str) -> None:
        self.problems.add(place, key, message)
        self.complete = False

    def _said_about(self, path: Path) -> bool:
        return any(problem.place.file == str(path) for problem in self.problems.kept)


def as_mapping(node: Node | None, place: Place) -> Mapping | None:
    """A block that may be left empty as a mapping; None where it is something else."""
    if node is None or is_null(node):
        return Mapping(place)
    return node if isinstance(node, Mapping) else None


def _real(path: Path) -> str:
    try:
        return os.path.realpath(path)
    except (OSError, ValueError):
        # Whatever is wrong with it is said when it is read.
        return str(path)
