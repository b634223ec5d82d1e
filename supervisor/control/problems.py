"""The closed list of everything that can go wrong with a request, and how it is said (RFC 9457).

Every failure of the control plane is a `Problem` of one kind from `KINDS`; the status and the title
belong to the kind, the detail and the hint to the occasion. Nothing here knows when a kind applies.
"""

import difflib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

MEDIA_TYPE = "application/problem+json"


@dataclass(frozen=True, slots=True)
class Kind:
    """One kind of problem: its HTTP status, its title, and when it is used."""

    status: int
    title: str
    meaning: str


KINDS: Mapping[str, Kind] = {
    "bad-request": Kind(
        400, "Bad request", "The request is not valid HTTP, or a query or header value is wrong."
    ),
    "not-permitted": Kind(403, "Not permitted", "This peer or this listener may not do that."),
    "not-found": Kind(404, "Not found", "There is no such path."),
    "unknown-pool": Kind(404, "Unknown pool", "The manifest has no pool of that name."),
    "unknown-instance": Kind(404, "Unknown instance", "The pool has no instance of that index."),
    "unknown-operation": Kind(404, "Unknown operation", "No operation of that id is known (any more)."),
    "method-not-allowed": Kind(
        405, "Method not allowed", "The path exists, with other methods: see `Allow`."
    ),
    "timeout": Kind(408, "Timeout", "The request did not arrive in time; the connection is closed."),
    "drained": Kind(409, "Drained", "The target is drained and stays so until it is resumed."),
    "stopped": Kind(409, "Stopped", "The target is stopped and stays so until it is started or resumed."),
    "not-running": Kind(409, "Not running", "The target has no process that could be signalled."),
    "shutting-down": Kind(409, "Shutting down", "The host is on its way down and takes no such wish."),
    "operation-ended": Kind(409, "Operation ended", "The operation is over; nothing about it can change."),
    "not-a-rollout": Kind(409, "Not a rollout", "Only a rollout can be aborted, paused or resumed."),
    "rollout-running": Kind(409, "Rollout running", "Another restart of the pool is under way."),
    "surge-instance": Kind(
        409, "Surge instance", "An extra instance of a rollout cannot be wanted up: it goes away by itself."
    ),
    "too-large": Kind(413, "Too large", "The body is longer than 64 KiB; the connection is closed."),
    "unsupported-media-type": Kind(415, "Unsupported media type", "A body must be `application/json`."),
    "host-not-allowed": Kind(421, "Host not allowed", "The `Host` header does not name this listener."),
    "invalid-body": Kind(
        422, "Invalid body", "The body has an unknown field, a wrong type or a wrong value."
    ),
    "unknown-signal": Kind(422, "Unknown signal", "The signal is not one that may be sent."),
    "key-reused": Kind(422, "Key reused", "The `Idempotency-Key` was used for a different request."),
    "headers-too-large": Kind(431, "Headers too large", "Request line and headers are longer than 16 KiB."),
    "internal": Kind(
        500, "Internal error", "A bug of the daemon; its log has the details under the request id."
    ),
}


class Problem(Exception):  # noqa: N818  the word of RFC 9457
    """A request that cannot be served. `kind` is a key of `KINDS`; an unknown one is a conflict (409)."""

    def __init__(
        self, kind: str, detail: str, hint: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(detail)
        self.kind = kind
        self.detail = detail
        self.hint = hint
        self.headers = dict(headers or {})

    @property
    def status(self) -> int:
        """The HTTP status of its kind."""
        return KINDS[self.kind].status if self.kind in KINDS else 409

    def body(self, request_id: str) -> bytes:
        """The problem document."""
        title = KINDS[self.kind].title if self.kind in KINDS else self.kind.replace("-", " ").capitalize()
        document = {
            "type": "about:blank",
            "title": title,
            "status": self.status,
            "detail": self.detail,
            "kind": self.kind,
            "hint": self.hint,
            "request_id": request_id,
        }
        return json.dumps(document).encode()


def shown(text: str, most: int = 64) -> str:
    """A client's own word as it may be repeated to it: one line, no control characters, bounded."""
    cut = text if len(text) <= most else text[:most] + "…"
    return cut if cut.isprintable() else ascii(cut)[1:-1]


_CANDIDATES = 64


def nearest(name: str, names: Iterable[str]) -> str:
    """A did-you-mean sentence, or nothing. Looks at few names: similarity is slow and clients are many."""
    if len(name) > 64:
        return ""
    candidates: list[str] = []
    for candidate in names:
        if abs(len(candidate) - len(name)) <= 2:
            candidates.append(candidate)
            if len(candidates) == _CANDIDATES:
                break
    found = difflib.get_close_matches(name, candidates, n=1)
    return f'did you mean "{found[0]}"?' if found else ""
