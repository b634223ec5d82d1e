"""The endpoints that wish: each makes one event, asks the engine, and answers with an operation.

A wish is answered 202 when it is taken, not when it is fulfilled; the operation says how it goes.
What a wish means, and whether it can be, is the core's business.
"""

import json
import logging
import re
from collections.abc import Callable, Mapping

from starlette.responses import Response

from supervisor.control import bodies, documents
from supervisor.control.bodies import Field
from supervisor.control.identifiers import new_operation_id
from supervisor.control.plane import Call, json_response
from supervisor.control.problems import Problem
from supervisor.control.reads import live_operation, unknown_operation
from supervisor.control.replays import Key
from supervisor.core.effects import Accepted, Effect, Refused
from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
    OperationWish,
    OperatorWish,
    PauseRequested,
    RestartRequested,
    ResumeRequested,
    Scope,
    ShutdownRequested,
    SignalRequested,
    StartRequested,
    StopRequested,
    UnpauseRequested,
    Urgency,
    Wish,
)
from supervisor.core.plan import Target

log = logging.getLogger(__name__)

KEY = re.compile(r"[\x21-\x7e]{1,128}", re.ASCII)

Body = Mapping[str, object]


BODIES: Mapping[str, Mapping[str, Field]] = {
    "drain": {"deadline_seconds": bodies.seconds},
    "restart": {"only_failed": bodies.boolean},
    "stop": {"urgency": bodies.urgency},
    "signal": {"signal": bodies.signal, "target": bodies.target},
    "shutdown": {"urgency": bodies.urgency, "deadline_seconds": bodies.seconds},
}
"""The fields that the body of each verb may have; none for the others."""

REQUIRED: Mapping[str, str] = {"signal": "signal"}
"""The field without which a verb means nothing."""


async def drain(call: Call) -> Response:
    """Finish what you hold, take nothing new, and stay away until resumed."""
    return await _wish(call, "drain", lambda wish, body: DrainRequested(wish, _deadline(body)))


async def resume(call: Call) -> Response:
    """Up again after a drain or a stop."""
    return await _wish(call, "resume", lambda wish, _: ResumeRequested(wish))


async def start(call: Call) -> Response:
    """Up again after a stop, or at once instead of after a backoff."""
    return await _wish(call, "start", lambda wish, _: StartRequested(wish))


async def restart(call: Call) -> Response:
    """Replace the generations, as many at a time as the rollout rules allow."""
    return await _wish(
        call,
        "restart",
        lambda wish, body: RestartRequested(wish, only_failed=bool(body.get("only_failed", False))),
    )


async def stop(call: Call) -> Response:
    """Down, and stay down."""
    return await _wish(call, "stop", lambda wish, body: StopRequested(wish, _urgency(body)))


async def signal(call: Call) -> Response:
    """Send one signal now."""
    return await _wish(
        call,
        "signal",
        lambda wish, body: SignalRequested(wish, str(body["signal"]), body.get("target") is Target.ALL),
    )


async def shutdown(call: Call) -> Response:
    """Stop everything and end the daemon."""
    return await _wish(call, "shutdown", _shutdown_event)


async def abort(call: Call) -> Response:
    """Leave a rollout where it is."""
    return await _steer(call, "abort", AbortRequested)


async def pause(call: Call) -> Response:
    """Begin no new turn of a rollout."""
    return await _steer(call, "pause", PauseRequested)


async def unpause(call: Call) -> Response:
    """Go on with a paused rollout."""
    return await _steer(call, "resume", UnpauseRequested)


def _urgency(body: Body) -> Urgency:
    urgency = body.get("urgency", Urgency.NORMAL)
    return urgency if isinstance(urgency, Urgency) else Urgency.NORMAL


def _shutdown_event(wish: Wish, body: Body) -> ShutdownRequested:
    return ShutdownRequested(wish, _urgency(body), _deadline(body))


def _deadline(body: Body) -> float | None:
    deadline = body.get("deadline_seconds")
    return deadline if isinstance(deadline, float) else None


async def _wish(
    call: Call,
    verb: str,
    make: Callable[[Wish, Body], OperatorWish],
) -> Response:
    key, history = _read_key(call), call.plane.history
    try:
        body = await bodies.read_body(call.request, BODIES.get(verb, {}), REQUIRED.get(verb))
        scope = call.scope()
    except Problem as problem:
        _record(call, verb, str(call.request.url.path), problem.kind)
        raise
    fingerprint = json.dumps([verb, str(scope), {name: str(value) for name, value in sorted(body.items())}])
    known = None if key is None else call.plane.replays.operation(key, fingerprint)
    if known is not None and known in call.plane.engine.host.operations:
        _record(call, verb, str(scope), "repeated", known)
        return await _accepted(call, known)
    past = None if known is None or history is None else await history.past_operation(known)
    if past is not None:
        return json_response(dict(past), 202, _location(str(known)))
    wish = Wish(
        scope, known or new_operation_id(), call.request_id, call.plane.gatekeeper.principal(call.peer)
    )
    if key is not None:
        call.plane.replays.remember(key, fingerprint, wish.operation)
    operation = await _ask(call, verb, str(scope), make(wish, body))
    if key is not None:
        call.plane.replays.remember(key, fingerprint, operation)
    return await _accepted(call, operation)


async def _steer(call: Call, verb: str, event: Callable[[str, Wish], OperationWish]) -> Response:
    wanted = call.request.path_params["operation"]
    await bodies.read_body(call.request, {})
    if wanted not in call.plane.engine.host.operations:
        history = call.plane.history
        if history is None or await history.past_operation(wanted) is None:
            raise unknown_operation(wanted)
        raise Problem("operation-ended", f"cannot {verb} operation {wanted}: it is over", "start a new one")
    wish = Wish(Scope(), new_operation_id(), call.request_id, call.plane.gatekeeper.principal(call.peer))
    return await _accepted(call, await _ask(call, verb, wanted, event(wanted, wish)))


async def _ask(call: Call, verb: str, target: str, event: OperatorWish | OperationWish) -> str:
    """The id of the operation that tracks the wish; raises `Problem` if the core refuses it."""
    effects = await call.plane.engine.ask(event)
    for effect in effects:
        if isinstance(effect, Refused):
            _record(call, verb, target, effect.kind)
            raise Problem(effect.kind, effect.message, effect.hint)
    operation = _accepted_operation(effects)
    _record(call, verb, target, "accepted", operation)
    return operation


def _accepted_operation(effects: tuple[Effect, ...]) -> str:
    for effect in effects:
        if isinstance(effect, Accepted):
            return effect.operation
    raise AssertionError("a wish was neither accepted nor refused")


async def _accepted(call: Call, operation: str) -> Response:
    before = call.plane.engine.host.operations[operation]
    warning = await call.plane.engine.durable()
    current = call.plane.engine.host.operations.get(operation, before)
    body = await live_operation(call.plane, current)
    if warning is None:
        return json_response(body, 202, _location(operation))
    told = f"cannot write the intent to the journal yet: {warning}; it is lost if the daemon restarts before"
    warned: documents.Accepted = {**body, "warning": told}
    return json_response(warned, 202, _location(operation))


def _location(operation: str) -> dict[str, str]:
    return {"Location": f"/v1/operations/{operation}"}


def _read_key(call: Call) -> Key | None:
    text = call.request.headers.get("idempotency-key")
    if text is None:
        return None
    if not KEY.fullmatch(text):
        raise Problem(
            "bad-request", "cannot read Idempotency-Key: expected 1 to 128 visible ASCII characters"
        )
    return call.peer.uid, text


def _record(call: Call, verb: str, target: str, outcome: str, operation: str = "") -> None:
    """One log line for each wish: who, from where, what, and what became of it."""
    principal = call.plane.gatekeeper.principal(call.peer)
    log.info(
        "%s %s by %s: %s",
        verb,
        ascii(target)[1:-1][:200],
        principal,
        outcome,
        extra={
            "verb": verb,
            "target": target[:200],
            "request_id": call.request_id,
            "principal": principal,
            "outcome": outcome,
            "operation": operation,
        },
    )
