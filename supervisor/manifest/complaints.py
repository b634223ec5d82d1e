"""From a failed validation to problems that an operator can act on.

Decides the words. The model says what is wrong and on which path; the nodes say where that was written.
"""

import typing
from collections.abc import Callable, Mapping
from typing import Any

from pydantic import BaseModel
from pydantic_core import ErrorDetails

from supervisor.core.exits import SIGNAL_NUMBERS
from supervisor.manifest.block import later_keys
from supervisor.manifest.nodes import Node, key_place_of, place_of
from supervisor.manifest.problems import Problems, dotted, found, quoted

Path = tuple[str | int, ...]

SYNONYMS = {
    "args": "command",
    "autorestart": "restart",
    "cmd": "command",
    "cwd": "working_directory",
    "chdir": "working_directory",
    "directory": "working_directory",
    "dir": "working_directory",
    "env": "environment",
    "envs": "environment",
    "env_file": "environment_files",
    "env_files": "environment_files",
    "healthcheck": "liveness",
    "needs": "depends_on",
    "after": "depends_on",
    "num_processes": "instances",
    "numprocesses": "instances",
    "numprocs": "instances",
    "oom_score_adj": "oom_score_adjust",
    "replicas": "instances",
    "scale": "instances",
    "rlimits": "limits",
    "script": "command",
    "stopsignal": "stop",
    "stopwaitsecs": "stop",
    "uid": "user",
    "gid": "group",
    "rate": "rate_limit",
    "retries": "failure_threshold",
    "interval": "period",
    "listeners": "sockets",
    "address": "listen",
    "bind": "listen",
    "path": "listen",
    "port": "listen",
}
"""What other supervisors call these keys; an operator who comes from one of them is told ours."""


def complain(errors: list[ErrorDetails], root: Node, above: Path, block: type, problems: Problems) -> None:
    """Add what a validation found. `above` is the path of the validated block within `root`."""
    for error in errors:
        if problems.full:
            problems.overflow += 1
            continue
        path = above + error["loc"]
        kind = error["type"]
        place = key_place_of(root, path) if kind == "extra_forbidden" else place_of(root, path)
        message = _message(error, block_at(block, path[len(above) : -1]), path, problems)
        problems.add(place, dotted(path), message)


def block_at(block: type, path: Path) -> type[BaseModel] | None:
    """The class of the block at a path below `block`, or None where the path leads out of the model."""
    here: type[BaseModel] | None = block
    for step in path:
        if here is None or isinstance(step, int):
            continue
        here = next(
            (
                _block_in(field.annotation)
                for name, field in here.model_fields.items()
                if (field.alias or name) == step
            ),
            None,
        )
    return here


def _block_in(annotation: object) -> type[BaseModel] | None:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    inner = (_block_in(argument) for argument in typing.get_args(annotation))
    return next((block for block in inner if block is not None), None)


def keys_of(block: type[BaseModel]) -> list[str]:
    """The keys of a block as they are written."""
    return [field.alias or name for name, field in block.model_fields.items()]


def _message(error: ErrorDetails, block: type[BaseModel] | None, path: Path, problems: Problems) -> str:
    kind, key, value = error["type"], str(path[-1]) if path else "", error["input"]
    if _is_later(block, key):
        return _later(key, value)
    context: Mapping[str, Any] = error.get("ctx", {})
    if kind == "extra_forbidden":
        return _unknown(key, block, problems)
    if kind == "missing":
        return f"expected {key} to be set, found nothing"
    if kind == "refused":
        return str(context["what"])
    if kind == "expected":
        hint = str(context["hint"])
        if hint == "signal" and isinstance(value, str):
            hint = problems.suggest(value, _signal_names(value))
        return f"{context['what']}, {found(value)}{hint}"
    if kind == "literal_error":
        return _literal(str(context["expected"]), value, problems)
    words = _WORDS.get(kind)
    return f"{words(context) if words else 'expected another kind of value'}, {found(value)}"


def _is_later(block: type[BaseModel] | None, key: str) -> bool:
    return block is not None and key in later_keys(block)


def _later(key: str, value: object) -> str:
    only = {"on_failure": "expected halt, "}.get(key)
    if only:
        return f"{only}{found(value)} (anything else is not supported yet; it will come in a later version)"
    return "not supported yet; it will come in a later version"


def _unknown(key: str, block: type[BaseModel] | None, problems: Problems) -> str:
    if block is None:
        return f"expected a known key, found {quoted(key)}"
    known = keys_of(block)
    if SYNONYMS.get(key) in known:
        hint = f'; did you mean "{SYNONYMS[key]}"?'
    else:
        hint = problems.suggest(key, known)
    name = block.__name__.removesuffix("Block").removesuffix("Rules").lower()
    what = {
        "httprequest": "an HTTP request",
        "document": "a manifest",
        "head": "a manifest",
        "giveup": "give_up",
        "socket": "a socket",
        "defaults": "a pool",
        "pool": "a pool",
        "stage": "a stage",
    }.get(name, name)
    listed = "" if hint else f" (the keys of {what} are {', '.join(known)})"
    return f"expected a key of {what}, found {quoted(key)}{hint}{listed}"


def _literal(choices: str, value: object, problems: Problems) -> str:
    names = choices.replace("'", "").replace(" or ", ", ").split(", ")
    several = f"{', '.join(names[:-1])} or {names[-1]}" if names[1:] else names[0]
    hint = problems.suggest(value, names) if isinstance(value, str) else ""
    return f"expected {several}, {found(value)}{hint}"


def _signal_names(value: str) -> list[str]:
    bare = not value.upper().startswith("SIG")
    return [name.removeprefix("SIG") if bare else name for name in SIGNAL_NUMBERS if name != "SIGKILL"]


def _items(context: Mapping[str, Any], word: str) -> str:
    number = context["min_length"] if word == "least" else context["max_length"]
    return f"expected at {word} {number} {'item' if number == 1 else 'items'}"


_WORDS: dict[str, Callable[[Mapping[str, Any]], str]] = {
    "bool_type": lambda _: "expected true or false",
    "int_type": lambda _: "expected a whole number",
    "float_type": lambda _: "expected a number",
    "string_type": lambda _: "expected a text",
    "list_type": lambda _: "expected a list",
    "dict_type": lambda _: "expected a mapping",
    "model_type": lambda _: "expected a mapping",
    "greater_than_equal": lambda context: f"expected a number of at least {context['ge']:g}",
    "less_than_equal": lambda context: f"expected a number of at most {context['le']:g}",
    "too_short": lambda context: _items(context, "least"),
    "too_long": lambda context: _items(context, "most"),
    "string_too_short": lambda _: "expected a text",
    "string_too_long": lambda context: f"expected a text of at most {context['max_length']} characters",
}
