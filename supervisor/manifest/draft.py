"""From merged nodes to models, block by block, keeping whatever is good of a block that is not.

Decides nothing but which keys are unusable: those are taken out and the rest is validated again, so
that the checks of relations still see it and one load reports as much as can be known.
"""

import re
from dataclasses import dataclass, field
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError
from pydantic_core import ErrorDetails

from supervisor.manifest import model
from supervisor.manifest.complaints import Path, complain
from supervisor.manifest.fields import POOL_NAME
from supervisor.manifest.merge import MERGED_COST, as_mapping, layer
from supervisor.manifest.nodes import Mapping, Node, place_of, to_data
from supervisor.manifest.problems import Place, Problems, dotted, found

B = TypeVar("B", bound=BaseModel)

MOST_POOLS = 500
_ROUNDS = 4
_PLACEHOLDER = ["true"]


@dataclass(frozen=True, slots=True)
class PoolDraft:
    """A pool as far as it can be read. `broken` are its keys of which something had to be left out."""

    name: str
    settings: model.Pool
    node: Mapping
    place: Place
    broken: frozenset[str]

    def place_of(self, *path: str | int) -> Place:
        """Where the value at a path within the pool was written; its name where nothing was."""
        if path and path[0] in self.node.values:
            return place_of(self.node, path)
        return self.place


@dataclass(slots=True)
class Draft:
    """A manifest as far as it can be read. `whole` is False where a pool had to be left out."""

    head: model.Head
    root: Mapping
    pools: dict[str, PoolDraft] = field(default_factory=dict)
    named: set[str] = field(default_factory=set)
    whole: bool = True


def draft(root: Mapping, problems: Problems) -> Draft:
    """Validate every block; what is wrong is added to the problems."""
    own = Mapping(root.place)
    for key, value in root.values.items():
        if key not in {"defaults", "pools"}:
            own.put(key, root.key_places[key], value)
    head, _ = _validate(model.Head, model.Document, own, (), problems)
    result = Draft(head or model.Head(), root)
    defaults = _block(root, "defaults", problems)
    _validate(model.Defaults, model.Defaults, defaults, ("defaults",), problems)
    pools = _block(root, "pools", problems)
    if not pools.values and as_mapping(root.values.get("pools"), root.place) is not None:
        problems.add(place_of(root, ("pools",)), "pools", "expected at least one pool, found none")
    _draft_pools(result, pools, defaults, problems)
    return result


def _draft_pools(result: Draft, pools: Mapping, defaults: Mapping, problems: Problems) -> None:
    cost = 0
    for number, (name, node) in enumerate(pools.values.items()):
        place = pools.key_places[name]
        result.named.add(name)
        if number >= MOST_POOLS:
            result.whole = False
            problems.add(place, "pools", f"expected at most {MOST_POOLS} pools, found {len(pools.values)}")
            return
        if not re.fullmatch(POOL_NAME, name):
            rule = "a name of letters, digits, _ . and - (at most 63, the first a letter or a digit)"
            problems.add(place, dotted(("pools", name)), f"expected {rule}, {found(name)}")
        own = as_mapping(node, place)
        if own is None:
            result.whole = False
            where = place_of(pools, (name,))
            problems.add(where, dotted(("pools", name)), f"expected a mapping, {found(to_data(node))}")
            continue
        merged = layer(defaults, own)
        cost += merged.cost
        if cost > MERGED_COST:
            result.whole = False
            what = "pools that are more than 8 MiB once the defaults are in each of them"
            problems.add(place, "pools", f"expected a smaller manifest, found {what}")
            return
        settings, broken = _validate(
            model.Pool, model.Pool, merged, ("pools", name), problems, place, {"command": _PLACEHOLDER}
        )
        if settings is None:
            result.whole = False
        else:
            result.pools[name] = PoolDraft(name, settings, merged, place, broken)


def _block(root: Mapping, key: str, problems: Problems) -> Mapping:
    place = root.key_places.get(key, root.place)
    node = as_mapping(root.values.get(key), place)
    if node is None:
        problems.add(place_of(root, (key,)), key, f"expected a mapping, {found(to_data(root.values[key]))}")
        return Mapping(place)
    return node


def _validate(
    block: type[B],
    known: type[BaseModel],
    node: Mapping,
    above: Path,
    problems: Problems,
    place: Place | None = None,
    fallback: dict[str, Any] | None = None,
) -> tuple[B | None, frozenset[str]]:
    """The model of a block, and the keys that are not as they were written.

    `known` is the class whose keys are named in messages; `place` is where the block itself is written.
    """
    data: Any = to_data(node)
    broken: set[str] = set()
    root = _under(above, node, place or node.place)
    for turn in range(_ROUNDS):
        try:
            return block.model_validate(data), frozenset(broken)
        except ValidationError as error:
            errors = error.errors(include_url=False)
            if turn == 0:
                complain(errors, root, above, known, problems)
            broken.update(str(one["loc"][0]) for one in errors if one["loc"])
            for one in sorted(errors, key=_order, reverse=True):
                _prune(data, one["loc"], whole=turn > 1, missing=one["type"] == "missing")
            for key, value in (fallback or {}).items():
                data.setdefault(key, value)
    return None, frozenset(broken)


def _under(above: Path, node: Node, place: Place) -> Node:
    """A tree in which a block is found at its path."""
    for step in reversed(above):
        wrapper = Mapping(place)
        wrapper.put(str(step), place, node)
        node = wrapper
    return node


def _order(error: ErrorDetails) -> list[tuple[int, str]]:
    """A key that puts the later items of a list behind the earlier ones."""
    return [(step, "") if isinstance(step, int) else (-1, step) for step in error["loc"]]


def _prune(data: object, path: Path, *, whole: bool, missing: bool) -> None:
    """Take out the value at a path, or what holds it where it is not there or its parent needs it."""
    if not path:
        return
    if missing:
        path = path[:-1]
    if whole:
        path = path[:1]
    here: Any = data
    holder: Any = None
    last: str | int = ""
    for step in path:
        if isinstance(here, list):
            inside = isinstance(step, int) and step < len(here)
        else:
            inside = isinstance(here, dict) and step in here
        if not inside:
            break
        holder, last, here = here, step, here[step]
    if holder is not None:
        del holder[last]
