"""The endpoints that look: nothing here changes anything."""

from collections.abc import Mapping

from starlette.responses import Response

from supervisor.control import documents, shapes
from supervisor.control.bodies import MAX_WAIT_SECONDS, read_after, read_wait
from supervisor.control.documents import Json
from supervisor.control.plane import Call, Plane, document_response, json_response
from supervisor.control.problems import Problem, shown
from supervisor.core.state import Operation

LISTED_OPERATIONS = 200
"""What `GET /v1/operations` shows at most: some days of an operator's work, some 60 KB."""

LARGE_OPERATION_STEPS = 100

DEFAULT_WAIT_SECONDS = 30.0
"""How long `?after=` waits when `?wait=` does not say."""


async def livez(call: Call) -> Response:
    """The loop turns, or else there would be no answer."""
    if call.plane.live():
        return json_response({"status": "ok"})
    return json_response({"status": "failing"}, 503)


async def readyz(call: Call) -> Response:
    """Every critical pool is at its goal, and that is up."""
    return document_response(await call.plane.renderer.readiness())


async def health(call: Call) -> Response:
    """How each pool stands, and why."""
    return document_response(await call.plane.renderer.health())


async def openapi(call: Call) -> Response:
    """What there is, for programs."""
    async with call.plane.renderer.gate():
        body = call.plane.description()
    return Response(body, headers={"Content-Type": "application/json"})


async def status(call: Call) -> Response:
    """The whole host."""
    await _change(call)
    return document_response(await call.plane.renderer.status())


async def pools(call: Call) -> Response:
    """Every pool with its instances."""
    await _change(call)
    return document_response(await call.plane.renderer.pools())


async def pool(call: Call) -> Response:
    """One pool with its instances."""
    call.pool()
    await _change(call)
    return document_response(await call.plane.renderer.pool(call.pool()))


async def instance(call: Call) -> Response:
    """One instance."""
    call.instance()
    await _change(call)
    return document_response(call.plane.renderer.instance(call.instance()))


async def operations(call: Call) -> Response:
    """The latest operations, newest first, without their steps; also those of earlier lives of the daemon."""
    plane = call.plane
    past = [] if plane.history is None else await plane.history.recent_operations(LISTED_OPERATIONS)
    async with plane.renderer.gate():
        known = plane.engine.host.operations
        listed: list[Mapping[str, object]] = [
            shapes.operation_shape(operation, plane.clock) for operation in known.values()
        ]
        listed += [_without_steps(one) for one in past if one["id"] not in known]
        listed.sort(key=lambda one: (str(one["started_at"]), str(one["id"])), reverse=True)
        return json_response({"operations": listed[:LISTED_OPERATIONS]})


def _without_steps(operation: Mapping[str, object]) -> Json:
    return {name: value for name, value in operation.items() if name != "steps"}


async def operation(call: Call) -> Response:
    """One operation, as soon as it is final or after `?wait=` seconds."""
    plane, wanted = call.plane, call.request.path_params["operation"]
    wait = read_wait(call.request, 0.0)
    if wanted in plane.engine.host.operations:
        await plane.waiting.until(lambda: _is_over(plane, wanted), wait, call.ended)
    known = plane.engine.host.operations.get(wanted)
    if known is not None:
        return json_response(await live_operation(plane, known))
    past = None if plane.history is None else await plane.history.past_operation(wanted)
    if past is None:
        raise unknown_operation(wanted)
    return json_response(dict(past))


def unknown_operation(wanted: str) -> Problem:
    """The problem of an operation that nobody knows."""
    return Problem(
        "unknown-operation",
        f'there is no operation "{shown(wanted)}"',
        "GET /v1/operations lists the latest ones",
    )


async def live_operation(plane: Plane, operation: Operation) -> documents.Operation:
    """An operation of this life of the daemon, with its steps."""
    steps = plane.engine.host.steps.get(operation.id, {})
    if len(steps) <= LARGE_OPERATION_STEPS:
        return {**shapes.operation_shape(operation, plane.clock), "steps": shapes.steps_shape(steps)}
    async with plane.renderer.gate():
        current = plane.engine.host.operations.get(operation.id, operation)
        steps = plane.engine.host.steps.get(operation.id, {})
        return {**shapes.operation_shape(current, plane.clock), "steps": shapes.steps_shape(steps)}


def _is_over(plane: Plane, operation: str) -> bool:
    known = plane.engine.host.operations.get(operation)
    return known is None or known.state.is_final


async def _change(call: Call) -> None:
    """Wait until the host has changed since the revision that the client knows, if it asks for that."""
    after = read_after(call.request)
    wait = read_wait(call.request, DEFAULT_WAIT_SECONDS if after is not None else 0.0)
    engine = call.plane.engine
    # A revision from the future is from an earlier life of the daemon: everything has changed since.
    if after is None or after > engine.host.revision:
        return
    await call.plane.waiting.until(
        lambda: engine.host.revision > after, min(wait, MAX_WAIT_SECONDS), call.ended
    )
