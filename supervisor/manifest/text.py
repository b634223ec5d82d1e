"""YAML text to nodes with places, within bounds, or the problems of the text.

Decides how much of a file is read and how much it may unfold to. It works on parser events, not on
recursion, so neither nesting nor aliases cost more than they are allowed to. It knows no key.
"""

import os
import stat
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

import yaml

from supervisor.manifest.nodes import Mapping, Node, Scalar, Sequence
from supervisor.manifest.problems import Place, Problems, printable, quoted

FILE_BYTES = 1024 * 1024
"""The longest file that is read, bytes."""

DEPTH = 32
"""Levels of nesting; the manifest itself needs eight."""

_TOO_DEEP = f"expected at most {DEPTH} levels of nesting, found more"

UNFOLDED_COST = 4 * 1024 * 1024
"""What one file may become once its aliases are followed, in the unit of `Scalar.cost`.

Aliases of aliases double with each line ("billion laughs"); counting stops them before memory does.
"""

_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_STR_TAGS = frozenset({None, "!", "tag:yaml.org,2002:str"})


class UnreadableError(Exception):
    """A file that cannot be used at all; `args[0]` says why."""


def read_text(path: Path, limit: int = FILE_BYTES) -> str:
    """The text of a regular file.

    Raises:
        UnreadableError: It is missing, not a regular file, longer than `limit` bytes, or not UTF-8.
    """
    try:
        # A FIFO without a writer would block the open for ever.
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except (OSError, ValueError) as error:
        raise UnreadableError(_reason(error)) from error
    try:
        mode = os.fstat(descriptor).st_mode
        if stat.S_ISDIR(mode):
            raise UnreadableError("it is a directory")
        if not stat.S_ISREG(mode):
            raise UnreadableError("it is not a regular file")
        with open(descriptor, "rb", closefd=False) as file:
            raw = file.read(limit + 1)
    except OSError as error:
        raise UnreadableError(_reason(error)) from error
    finally:
        os.close(descriptor)
    if len(raw) > limit:
        raise UnreadableError(f"it is longer than {limit} bytes")
    if b"\0" in raw:
        raise UnreadableError("it is a binary file")
    try:
        return raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = raw.count(b"\n", 0, error.start) + 1
        raise UnreadableError(f"it is not UTF-8 text (byte {error.start}, line {line})") from error


def _reason(error: OSError | ValueError) -> str:
    return (error.strerror or str(error)).lower() if isinstance(error, OSError) else str(error)


def parse(text: str, file: str, problems: Problems) -> Node | None:
    """The one document of a YAML text, or None after its problems were added."""
    builder = _Builder(file, problems)
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            builder.take(event)
    except _RejectedError:
        return None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = Place(file, mark.line + 1, mark.column + 1) if mark else Place(file)
        what = printable(str(error.problem or error.context or "syntax error"), 200)
        if "nesting" in what:
            # PyYAML from 6.0.4 on has a limit of its own, and looks ahead so far before we see anything.
            problems.add(place, "", _TOO_DEEP)
        else:
            problems.add(place, "", f"expected YAML, found a syntax error: {what}")
        return None
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        place = Place(file, before.count("\n") + 1, len(before) - before.rfind("\n"))
        problems.add(place, "", f"expected YAML, found a character that it does not allow: {error.reason}")
        return None
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        problems.add(Place(file), "", f"expected YAML, found a syntax error: {printable(str(error), 200)}")
        return None
    return builder.root


class _RejectedError(Exception):
    """The problem has been added and the rest of the file is not worth reading."""


@dataclass(slots=True)
class _Open:
    """A collection whose end has not been seen yet."""

    node: Sequence | Mapping
    anchor: str | None
    key: Scalar | None = None
    merged: list[Node] = field(default_factory=list)


@dataclass(slots=True)
class _Builder:
    """Builds nodes from parser events; `root` is the document once all were taken."""

    file: str
    problems: Problems
    root: Node | None = None
    stack: list[_Open] = field(default_factory=list)
    anchors: dict[str, Node | None] = field(default_factory=dict)
    cost: int = 0
    documents: int = 0

    def take(self, event: yaml.Event) -> None:
        mark = event.start_mark
        place = Place(self.file) if mark is None else Place(self.file, mark.line + 1, mark.column + 1)
        match event:
            case yaml.DocumentStartEvent():
                self.documents += 1
                if self.documents > 1:
                    self._reject(place, "expected one document, found a second one")
            case yaml.ScalarEvent():
                self._scalar(event, place)
            case yaml.AliasEvent():
                self._alias(str(event.anchor), place)
            case yaml.SequenceStartEvent():
                self._open(event, Sequence(place), "tag:yaml.org,2002:seq")
            case yaml.MappingStartEvent():
                self._open(event, Mapping(place), "tag:yaml.org,2002:map")
            case yaml.SequenceEndEvent() | yaml.MappingEndEvent():
                self._close()

    def _scalar(self, event: yaml.ScalarEvent, place: Place) -> None:
        if event.tag not in _STR_TAGS:
            self._reject(place, f"expected no tag, found {quoted(str(event.tag))}")
        node = Scalar(place, event.value, plain=event.tag is None and bool(event.implicit[0]))
        if event.anchor is not None:
            self.anchors[event.anchor] = node
        self._put(node)

    def _alias(self, anchor: str, place: Place) -> None:
        if anchor not in self.anchors:
            near = self.problems.suggest(anchor, self.anchors)
            self._reject(place, f"expected the name of an anchor, found {quoted('*' + anchor)}{near}")
        node = self.anchors[anchor]
        if node is None:
            self._reject(place, f"expected a value, found {quoted('*' + anchor)}, which holds itself")
        self._put(node)

    def _open(self, event: yaml.CollectionStartEvent, node: Sequence | Mapping, tag: str) -> None:
        if event.tag not in (None, tag):
            self._reject(node.place, f"expected no tag, found {quoted(str(event.tag))}")
        self._deep(node.place, 1)
        self._count(node)
        if event.anchor is not None:
            self.anchors[event.anchor] = None
        self.stack.append(_Open(node, event.anchor))

    def _close(self) -> None:
        done = self.stack.pop()
        node = done.node
        if isinstance(node, Mapping):
            for source in done.merged:
                self._merge(node, source)
            node.measure()
        else:
            node.cost = 16 + sum(item.cost for item in node.items)
            node.depth = 1 + max((item.depth for item in node.items), default=0)
        if done.anchor is not None:
            self.anchors[done.anchor] = node
        # What is inside was counted when it was put there.
        self._put(node, counted=True)

    def _put(self, node: Node, *, counted: bool = False) -> None:
        if not counted:
            self._count(node)
        if not self.stack:
            self.root = node
            return
        self._deep(node.place, node.depth)
        top = self.stack[-1]
        if isinstance(top.node, Sequence):
            top.node.items.append(node)
        elif top.key is None:
            top.key = self._key(node)
        else:
            key, top.key = top.key, None
            self._entry(top, top.node, key, node)

    def _key(self, node: Node) -> Scalar:
        if not isinstance(node, Scalar):
            self._reject(node.place, "expected a name as key, found a collection")
        if not node.text:
            self._reject(node.place, "expected a name as key, found nothing")
        return node

    def _entry(self, top: _Open, node: Mapping, key: Scalar, value: Node) -> None:
        if key.text == "<<" and key.plain:
            top.merged.extend(value.items if isinstance(value, Sequence) else [value])
        elif key.text in node.values:
            line = node.key_places[key.text].line
            found = f"found {quoted(key.text)} again (first in line {line})"
            self.problems.add(key.place, "", f"expected each key once, {found}")
        else:
            node.put(key.text, key.place, value)

    def _merge(self, node: Mapping, source: Node) -> None:
        if not isinstance(source, Mapping):
            self._reject(source.place, 'expected a mapping to merge with "<<", found something else')
        for key, value in source.values.items():
            if key not in node.values:
                node.put(key, source.key_places[key], value)

    def _count(self, node: Node) -> None:
        self.cost += node.cost
        if self.cost > UNFOLDED_COST:
            self._reject(node.place, "expected a manifest, found one that unfolds to more than 4 MiB")

    def _deep(self, place: Place, levels: int) -> None:
        if len(self.stack) + levels > DEPTH:
            self._reject(place, _TOO_DEEP)

    def _reject(self, place: Place, message: str) -> NoReturn:
        self.problems.add(place, "", message)
        raise _RejectedError
