"""The OpenAPI 3.1 document of the API, derived from what serves it.

Paths and access come from the route table, answers from `documents`, bodies from `wishes.BODIES`,
failures from `problems.KINDS`. This module adds only which endpoint gives which document; a test asks
a real daemon whether all of it is true.
"""

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import NoneType
from typing import Annotated, Any, Literal, NotRequired, get_args, get_origin, get_type_hints, is_typeddict

from supervisor.control import documents, reads, scraping, wishes
from supervisor.control.bodies import QUERY_SCHEMAS, SCHEMAS
from supervisor.control.documents import Age, Json
from supervisor.control.identifiers import REQUEST_ID
from supervisor.control.plane import Endpoint
from supervisor.control.problems import KINDS, MEDIA_TYPE
from supervisor.control.routes import TABLE, Access, Row

TEXTS = ("text/plain", "application/openmetrics-text")
"""What a scrape may choose between."""


@dataclass(frozen=True, slots=True)
class _Answer:
    """What an endpoint gives when it serves: a document, or text where there is none."""

    document: type | None
    statuses: tuple[int, ...] = (200,)
    query: tuple[str, ...] = ()


_WELL = (200, 503)
_LONG_POLL = ("after", "wait")

ANSWERS: Mapping[Endpoint, _Answer] = {
    reads.livez: _Answer(documents.Livez, _WELL),
    reads.readyz: _Answer(documents.Readyz, _WELL),
    reads.health: _Answer(documents.Health, _WELL),
    scraping.metrics: _Answer(None),
    reads.openapi: _Answer(dict),
    reads.status: _Answer(documents.Host, query=_LONG_POLL),
    reads.pools: _Answer(documents.Pools, query=_LONG_POLL),
    reads.pool: _Answer(documents.PoolAlone, query=_LONG_POLL),
    reads.instance: _Answer(documents.InstanceAlone, query=_LONG_POLL),
    reads.operations: _Answer(documents.Operations),
    reads.operation: _Answer(documents.Operation, query=("wait",)),
}
"""The answer of each endpoint that looks; all others accept a wish."""

_ACCEPTED = _Answer(documents.Accepted, (202,))

_EVERYWHERE = ("bad-request", "timeout", "too-large", "host-not-allowed", "headers-too-large", "internal")
_WISHES = (
    "unsupported-media-type", "invalid-body", "key-reused", "not-permitted",
    "drained", "stopped", "shutting-down", "rollout-running",
)  # fmt: skip
_STEERING = ("unsupported-media-type", "invalid-body", "not-permitted", "operation-ended", "not-a-rollout")

_PATH_SCHEMAS: Mapping[str, Json] = {
    "pool": {"type": "string", "minLength": 1},
    "index": {"type": "integer", "minimum": 0, "maximum": 10**9 - 1},
    "operation": {"type": "string", "minLength": 1},
}


def document(version: str, table: Sequence[Row] = TABLE) -> Json:
    """The whole description of the routes in `table`."""
    shapes = _Schemas()
    paths: dict[str, Json] = {}
    for row in table:
        paths.setdefault(row.path, {})[row.method.lower()] = _operation(row, shapes)
    shapes.add(documents.Failure)
    shapes.known["Failure"]["properties"] |= {"kind": {"type": "string", "enum": [*KINDS]}}
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "pitboss",
            "version": version,
            "summary": "The control plane of one host.",
            "description": "HEAD goes where GET goes. `x-access` says who may: `open` is served on every"
            " listener, `read` and `operate` on the unix socket to those whom the kernel says may.",
            "license": {"name": "MIT", "identifier": "MIT"},
        },
        "paths": paths,
        "components": {
            "schemas": shapes.known,
            # 405 answers methods that are not described.
            "responses": {str(status): _failure(status) for status in _statuses(KINDS) if status != 405},
            "parameters": {"request-id": _REQUEST_ID, "idempotency-key": _IDEMPOTENCY_KEY},
        },
    }


def render(version: str) -> bytes:
    """The document as it is served."""
    return json.dumps(document(version), separators=(",", ":")).encode()


# ── operations ───────────────────────────────────────────────────────────────────────────────────

_REQUEST_ID: Json = {
    "name": "X-Request-ID",
    "in": "header",
    "description": f"Goes into the answer, the operation and the log if it matches {REQUEST_ID.pattern}; if"
    " not, one is made.",
    "schema": {"type": "string"},
}
_IDEMPOTENCY_KEY: Json = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key again is the same wish again, also after its end.",
    "schema": {"type": "string", "pattern": f"^{wishes.KEY.pattern}$"},
}


def _operation(row: Row, shapes: "_Schemas") -> Json:
    answer = ANSWERS.get(row.endpoint, _ACCEPTED)
    wish = row.endpoint not in ANSWERS
    verb = row.path.rpartition("/")[2]
    responses: Json = {str(status): _success(answer, status, shapes) for status in answer.statuses}
    for status in sorted(set(_statuses(_kinds(row, wish, verb))) - set(answer.statuses)):
        responses[str(status)] = {"$ref": f"#/components/responses/{status}"}
    found: Json = {
        "operationId": _identifier(row),
        "summary": row.summary,
        "x-access": str(row.access),
        "parameters": [*_parameters(row, answer, wish)],
        "responses": responses,
    }
    if wish:
        found["requestBody"] = _body(verb if row.path.count("{operation}") == 0 else "")
    return found


def _identifier(row: Row) -> str:
    """A name that is stable and tells the routes of a host, a pool and an instance apart."""
    words = [word for word in re.split(r"[/.]", row.path) if word and word not in {"v1", "json"}]
    return "-".join([row.method.lower(), *(word.strip("{}") for word in words)])


def _parameters(row: Row, answer: _Answer, wish: bool) -> Iterator[Json]:
    for name in re.findall(r"{(\w+)}", row.path):
        yield {"name": name, "in": "path", "required": True, "schema": _PATH_SCHEMAS[name]}
    for name in answer.query:
        yield {"name": name, "in": "query", "schema": QUERY_SCHEMAS[name]}
    yield {"$ref": "#/components/parameters/request-id"}
    if wish and "{operation}" not in row.path:
        yield {"$ref": "#/components/parameters/idempotency-key"}


def _body(verb: str) -> Json:
    fields = wishes.BODIES.get(verb, {})
    schema: Json = {
        "type": "object",
        "properties": {name: SCHEMAS[field] for name, field in fields.items()},
        "additionalProperties": False,
    }
    required = wishes.REQUIRED.get(verb)
    if required is not None:
        schema["required"] = [required]
    return {"required": required is not None, "content": {"application/json": {"schema": schema}}}


def _kinds(row: Row, wish: bool, verb: str) -> Iterator[str]:
    """The kinds of problems that a route can answer with."""
    yield from _EVERYWHERE
    if row.access is not Access.OPEN:
        yield "not-permitted"
    if "{pool}" in row.path or "{operation}" in row.path:
        yield "unknown-pool"
    if wish:
        yield from _STEERING if "{operation}" in row.path else _WISHES
    if verb == "signal":
        yield "unknown-signal"


def _statuses(kinds: Iterable[str]) -> list[int]:
    return sorted({KINDS[kind].status for kind in kinds})


def _success(answer: _Answer, status: int, shapes: "_Schemas") -> Json:
    words = {200: "What was asked for.", 202: "Taken; the operation says how it goes.", 503: "Not well."}
    found: Json = {"description": words[status]}
    if answer.document is None:
        found["content"] = {kind: {"schema": {"type": "string"}} for kind in TEXTS}
    else:
        found["content"] = {"application/json": {"schema": shapes.of(answer.document)}}
    if status == 202:
        where = {"description": "Where to ask how it goes.", "schema": {"type": "string"}}
        found["headers"] = {"Location": where | {"required": True}}
    return found


def _failure(status: int) -> Json:
    kinds = {name: kind.meaning for name, kind in KINDS.items() if kind.status == status}
    return {
        "description": " ".join(f"`{name}`: {meaning}" for name, meaning in kinds.items()),
        "content": {
            MEDIA_TYPE: {
                "schema": {
                    "allOf": [
                        {"$ref": "#/components/schemas/Failure"},
                        {"properties": {"kind": {"enum": [*kinds]}, "status": {"const": status}}},
                    ]
                }
            }
        },
    }


# ── types as schemas ─────────────────────────────────────────────────────────────────────────────

_PLAIN: Mapping[Any, Json] = {
    str: {"type": "string"},
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    float: {"type": "number"},
    NoneType: {"type": "null"},
    Age: {"type": "number", "minimum": 0},
    dict: {"type": "object"},
}


class _Schemas:
    """The schemas of the documents that were asked for, and of all that are in them."""

    def __init__(self) -> None:
        self.known: dict[str, Any] = {}

    def of(self, hint: Any) -> Json:
        """The schema of a type: of a document, a reference."""
        if hint in _PLAIN:
            return _PLAIN[hint]
        if is_typeddict(hint):
            return self.add(hint)
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            return {"type": "string", "enum": [str(word) for word in arguments[1]]}
        if origin is Literal:
            return {"type": "string", "enum": [*arguments]}
        if origin is NotRequired:
            return self.of(arguments[0])
        if origin is list:
            return {"type": "array", "items": self.of(arguments[0])}
        if origin is dict:
            return {"type": "object", "additionalProperties": self.of(arguments[1])}
        return {"anyOf": [self.of(one) for one in arguments]}

    def add(self, document: Any) -> Json:
        """Define a document; a reference to it."""
        name = document.__name__
        if name not in self.known:
            self.known[name] = {}
            hints = get_type_hints(document, include_extras=True)
            self.known[name] = {
                "type": "object",
                "description": document.__doc__ or "",
                "properties": {field: self.of(hint) for field, hint in hints.items()},
                "required": sorted(document.__required_keys__),
            }
        return {"$ref": f"#/components/schemas/{name}"}
