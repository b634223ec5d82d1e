"""YAML values that remember where they were written.

Decides what a plain word means: the core schema of YAML 1.2, so that `NO`, `on` and `22:22` are text,
and a number with a leading zero is text too (`umask: 0022` means what it says). Knows no key of the
manifest.
"""

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

from supervisor.manifest.problems import Place

Data = bool | int | float | str | list["Data"] | dict[str, "Data"] | None

_INTEGER = re.compile(r"[-+]?(?:0|[1-9][0-9]{0,17})\Z")
_HEXADECIMAL = re.compile(r"0x[0-9a-fA-F]{1,15}\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]{0,17})(?:\.[0-9]{0,18})?)(?:[eE][-+]?[0-9]{1,2})?\Z")
_NULLS = frozenset({"", "~", "null", "Null", "NULL"})
_BOOLEANS = {
    "true": True,
    "True": True,
    "TRUE": True,
    "false": False,
    "False": False,
    "FALSE": False,
}
_NODE_COST = 16


class WrittenInt(int):
    """An integer that knows how it was spelt: a worker's `VERSION: 0x10` must arrive as written."""

    text: str


class WrittenFloat(float):
    """A float that knows how it was spelt: `VERSION: 1.10` is not 1.1."""

    text: str


@dataclass(slots=True)
class Scalar:
    """A single value. `plain` is False where it was quoted, and so is text whatever it looks like."""

    place: Place
    text: str
    plain: bool = True

    @property
    def cost(self) -> int:
        """How much memory and time it takes, roughly in bytes."""
        return _NODE_COST + len(self.text)

    @property
    def depth(self) -> int:
        """Levels below."""
        return 0

    @property
    def value(self) -> bool | int | float | str | None:
        """What it means."""
        text = self.text
        if not self.plain:
            return text
        if text in _NULLS:
            return None
        if text in _BOOLEANS:
            return _BOOLEANS[text]
        if _INTEGER.match(text) or _HEXADECIMAL.match(text):
            number = WrittenInt(text, 0 if "x" in text else 10)
            number.text = text
            return number
        if _FLOAT.match(text):
            real = WrittenFloat(text)
            real.text = text
            return real
        return text


@dataclass(slots=True)
class Sequence:
    """A list. `cost` and `depth` count aliases as often as they are used."""

    place: Place
    items: list["Node"] = field(default_factory=list)
    cost: int = _NODE_COST
    depth: int = 0


@dataclass(slots=True)
class Mapping:
    """A mapping with text keys; `key_places` says where each key was written."""

    place: Place
    values: dict[str, "Node"] = field(default_factory=dict)
    key_places: dict[str, Place] = field(default_factory=dict)
    cost: int = _NODE_COST
    depth: int = 0

    def put(self, key: str, place: Place, value: "Node") -> None:
        """Set one key."""
        self.values[key] = value
        self.key_places[key] = place

    def measure(self) -> None:
        """Count again after the values were set."""
        self.cost = _NODE_COST + sum(_NODE_COST + len(key) + node.cost for key, node in self.values.items())
        self.depth = 1 + max((node.depth for node in self.values.values()), default=0)


Node = Scalar | Sequence | Mapping


def is_null(node: Node) -> bool:
    """Whether a value says nothing, which the manifest reads as: not set."""
    return isinstance(node, Scalar) and node.value is None


def to_data(node: Node) -> Data:
    """The plain value, without places."""
    match node:
        case Scalar():
            return node.value
        case Sequence():
            return [to_data(item) for item in node.items]
        case Mapping():
            return {key: to_data(value) for key, value in node.values.items()}


def place_of(root: Node, path: tuple[str | int, ...]) -> Place:
    """Where the value at a path was written; its key where the value is not a single word.

    Where the path leads to what was not written, the nearest thing above it answers. A name that is
    looked for in a list of names is found there: `depends_on: [db, cache]`.
    """
    place, node = root.place, root
    for step in path:
        match node:
            case Mapping() if step in node.values:
                place, node = node.key_places[str(step)], node.values[str(step)]
                if isinstance(node, Scalar) and node.text:
                    place = node.place
            case Sequence() if isinstance(step, int) and step < len(node.items):
                node = node.items[step]
                place = node.place
            case Sequence():
                return next((item.place for item in _texts(node) if item.text == step), place)
            case _:
                return place
    return place


def key_place_of(root: Node, path: tuple[str | int, ...]) -> Place:
    """Where the key at the end of a path was written."""
    above: Node | None = root
    for step in path[:-1]:
        above = _child(above, step)
    if isinstance(above, Mapping) and path[-1] in above.key_places:
        return above.key_places[str(path[-1])]
    return place_of(root, path)


def _child(node: Node | None, step: str | int) -> Node | None:
    match node:
        case Mapping():
            return node.values.get(str(step))
        case Sequence() if isinstance(step, int) and step < len(node.items):
            return node.items[step]
    return None


def _texts(node: Sequence) -> Iterator[Scalar]:
    return (item for item in node.items if isinstance(item, Scalar))
