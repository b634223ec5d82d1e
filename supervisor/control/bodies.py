"""What a client may say in a query or a body, checked field by field.

A body is one flat JSON object; every field of a verb is named with the function that accepts its
value. Everything else is refused with the names of what was wrong. Sizes are bounded before this:
see `protocol`.
"""

import json
import math
from collections.abc import Callable, Mapping
from typing import TypeAlias

from starlette.requests import Request

from supervisor.control.problems import Problem, nearest, shown
from supervisor.core.events import Urgency
from supervisor.core.exits import SIGNAL_NUMBERS
from supervisor.core.plan import Target

Field: TypeAlias = Callable[[object], object]
"""Returns the accepted value; raises `ValueError` with what was expected, or a `Problem`."""

MAX_DEADLINE_SECONDS = 7 * 24 * 3600.0
MAX_WAIT_SECONDS = 60.0
"""How long one request may wait. Proxies and clients give up after a minute or so."""


def boolean(value: object) -> bool:
    """True or false."""
    if isinstance(value, bool):
        return value
    raise ValueError("expected true or false")


def seconds(value: object) -> float:
    """A duration from 0 to seven days."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        number = float(value) if abs(value) < 1e15 else math.inf
        if 0 <= number <= MAX_DEADLINE_SECONDS:
            return number
    raise ValueError(f"expected a number of seconds from 0 to {MAX_DEADLINE_SECONDS:g}")


def urgency(value: object) -> Urgency:
    """One of the words for how a stop is asked for."""
    if isinstance(value, str) and value in set(Urgency):
        return Urgency(value)
    raise ValueError("expected one of " + ", ".join(f'"{word}"' for word in Urgency))


def target(value: object) -> Target:
    """Whom a signal addresses."""
    if isinstance(value, str) and value in set(Target):
        return Target(value)
    raise ValueError("expected one of " + ", ".join(f'"{word}"' for word in Target))


def signal(value: object) -> str:
    """The name of a signal, with or without SIG, in either case."""
    if not isinstance(value, str):
        raise ValueError('expected the name of a signal, for example "SIGUSR1"')  # noqa: TRY004
    name = value.upper()
    name = name if name.startswith("SIG") else "SIG" + name
    if name not in SIGNAL_NUMBERS:
        hint = nearest(name, SIGNAL_NUMBERS) or "one of " + ", ".join(SIGNAL_NUMBERS)
        raise Problem(
            "unknown-signal", f'cannot send "{shown(value)}": it is not a signal that may be sent', hint
        )
    return name


def _signal_pattern() -> str:
    """What `signal` takes, in the regular expressions of JSON Schema, which have no flag for case."""

    def either_case(word: str) -> str:
        return "".join(f"[{one}{one.lower()}]" if one.isalpha() else one for one in word)

    names = "|".join(either_case(name.removeprefix("SIG")) for name in SIGNAL_NUMBERS)
    return f"^(?:{either_case('SIG')})?(?:{names})$"


SCHEMAS: Mapping[Field, Mapping[str, object]] = {
    boolean: {"type": "boolean"},
    seconds: {"type": "number", "minimum": 0, "maximum": MAX_DEADLINE_SECONDS},
    urgency: {"type": "string", "enum": [*Urgency]},
    target: {"type": "string", "enum": [*Target]},
    signal: {"type": "string", "anyOf": [{"enum": [*SIGNAL_NUMBERS]}, {"pattern": _signal_pattern()}]},
}
"""What each field takes, as JSON Schema."""

QUERY_SCHEMAS: Mapping[str, Mapping[str, object]] = {
    "after": {"type": "integer", "minimum": 0, "maximum": 10**18 - 1},
    "wait": {"type": "number", "minimum": 0},
}
"""What each word of a query takes; more than `MAX_WAIT_SECONDS` of `wait` is taken as that much."""


async def read_body(
    request: Request, fields: Mapping[str, Field], required: str | None = None
) -> dict[str, object]:
    """The accepted fields of a request's body; an absent body is an empty object.

    Raises `Problem` of kind unsupported-media-type, bad-request, invalid-body or unknown-signal.
    """
    raw = await request.body()
    document = _document(request, raw) if raw else {}
    unknown = [name for name in document if name not in fields]
    if unknown:
        names = ", ".join(f'"{shown(name)}"' for name in unknown[:5])
        allowed = ", ".join(fields) or "none"
        hint = nearest(unknown[0], fields) or f"fields of this route: {allowed}"
        raise Problem("invalid-body", f"cannot take the body: unknown field {names}", hint)
    if required is not None and required not in document:
        raise Problem("invalid-body", f'cannot take the body: field "{required}" is missing')
    accepted: dict[str, object] = {}
    for name, value in document.items():
        try:
            accepted[name] = fields[name](value)
        except ValueError as error:
            raise Problem("invalid-body", f'cannot take the body: field "{name}": {error}') from None
    return accepted


def _document(request: Request, raw: bytes) -> dict[str, object]:
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type != "application/json" or request.headers.get("content-encoding", "identity") != "identity":
        raise Problem(
            "unsupported-media-type",
            "cannot read the body: it is not plain application/json",
            "send the header Content-Type: application/json",
        )
    try:
        document = json.loads(raw.decode("utf-8"), object_pairs_hook=_pairs, parse_constant=_no_constant)
    except _TwiceError as error:
        raise Problem(
            "invalid-body", f'cannot take the body: field "{shown(str(error))}" is given twice'
        ) from None
    except (ValueError, RecursionError):
        raise Problem("bad-request", "cannot read the body: it is not valid JSON") from None
    if not isinstance(document, dict):
        raise Problem("invalid-body", "cannot take the body: expected a JSON object")
    return document


class _TwiceError(Exception):
    """A field that is given twice: the client and we might each believe another one."""


def _pairs(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _TwiceError(name)
        found[name] = value
    return found


def _no_constant(name: str) -> object:
    raise ValueError(name)


def read_after(request: Request) -> int | None:
    """The revision behind which a client wants to be told, or None; raises `Problem` (bad-request)."""
    text = request.query_params.get("after")
    if text is None:
        return None
    if not (text.isascii() and text.isdigit() and len(text) <= 18):
        raise Problem("bad-request", "cannot read ?after=: expected a revision, a whole number from 0")
    return int(text)


def read_wait(request: Request, default: float) -> float:
    """For how many seconds a client wants to wait, at most 60; raises `Problem` (bad-request)."""
    text = request.query_params.get("wait")
    if text is None:
        return default
    try:
        wait = float(text) if len(text) <= 32 else math.nan
    except ValueError:
        wait = math.nan
    if not wait >= 0:
        raise Problem("bad-request", "cannot read ?wait=: expected a number of seconds from 0 to 60")
    return min(wait, MAX_WAIT_SECONDS)
