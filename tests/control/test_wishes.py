"""What becomes of a wish: the event it makes, its answer, its log line, and its repetition."""

import json
import logging
import sys
from typing import Any

import pytest

from supervisor.control.identifiers import new_operation_id, new_request_id
from supervisor.control.problems import Problem
from supervisor.control.replays import Replays
from supervisor.core.events import (
    AbortRequested,
    DrainRequested,
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
)
from tests.control.plant import Plant, plant, problem

WISHES: list[tuple[str, dict[str, Any] | None, type, dict[str, Any]]] = [
    ("drain", None, DrainRequested, {"deadline_seconds": None}),
    ("drain", {"deadline_seconds": 10}, DrainRequested, {"deadline_seconds": 10.0}),
    ("resume", {}, ResumeRequested, {}),
    ("start", None, StartRequested, {}),
    ("restart", None, RestartRequested, {"only_failed": False}),
    ("restart", {"only_failed": True}, RestartRequested, {"only_failed": True}),
    ("stop", None, StopRequested, {"urgency": Urgency.NORMAL}),
    ("stop", {"urgency": "kill"}, StopRequested, {"urgency": Urgency.KILL}),
]
SIGNALS: list[tuple[str, dict[str, Any] | None, type, dict[str, Any]]] = [
    ("signal", {"signal": "SIGUSR1"}, SignalRequested, {"signal": "SIGUSR1", "everyone": False}),
    ("signal", {"signal": "hup", "target": "all"}, SignalRequested, {"signal": "SIGHUP", "everyone": True}),
]
SHUTDOWNS: list[tuple[str, dict[str, Any] | None, type, dict[str, Any]]] = [
    ("shutdown", None, ShutdownRequested, {"urgency": Urgency.NORMAL, "deadline_seconds": None}),
    (
        "shutdown",
        {"urgency": "now", "deadline_seconds": 1.5},
        ShutdownRequested,
        {"urgency": Urgency.NOW, "deadline_seconds": 1.5},
    ),
]
SCOPED = [
    *[("/v1/pools/emails", Scope("emails"), wish) for wish in WISHES + SIGNALS],
    *[("/v1/pools/emails/instances/1", Scope("emails", 1), wish) for wish in WISHES + SIGNALS],
    *[("/v1", Scope(), wish) for wish in WISHES + SHUTDOWNS],
]


@pytest.mark.parametrize(("base", "scope", "wish"), SCOPED, ids=lambda value: str(value)[:60])
async def test_a_wish_becomes_the_event_it_names(
    base: str, scope: Scope, wish: tuple[str, dict[str, Any] | None, type, dict[str, Any]]
) -> None:
    """Verb, scope and fields arrive in the core unchanged, with who asked; the answer is the operation."""
    verb, body, event, fields = wish
    async with plant() as one:
        await one.engine.all_running()
        answer = await one.client.post(f"{base}/{verb}", json=body, headers={"X-Request-ID": "why.not_1-2"})
        assert answer.status_code == 202, answer.text
        made = one.engine.wishes[-1]
        assert type(made) is event
        assert made.wish.scope == scope
        assert made.wish.request_id == "why.not_1-2"
        assert made.wish.principal.startswith("uid=")
        assert " pid=" in made.wish.principal
        assert {name: getattr(made, name) for name in fields} == fields
        operation = answer.json()
        assert answer.headers["location"] == f"/v1/operations/{operation['id']}"
        assert answer.headers["x-request-id"] == operation["request_id"] == "why.not_1-2"
        assert operation["target"] == str(scope)
        assert operation["kind"] == verb
        assert "warning" not in operation


async def test_rollouts_can_be_steered() -> None:
    """Pause, resume and abort of an operation name it, and its state follows."""
    async with plant() as one:
        await one.engine.all_running()
        operation = (await one.client.post("/v1/pools/emails/restart")).json()["id"]
        states = []
        for verb, event in (
            ("pause", PauseRequested),
            ("resume", UnpauseRequested),
            ("abort", AbortRequested),
        ):
            answer = await one.client.post(f"/v1/operations/{operation}/{verb}")
            states.append(answer.json()["state"])
            assert type(one.engine.wishes[-1]) is event
        assert states == ["paused", "running", "aborted"]
        again = problem(await one.client.post(f"/v1/operations/{operation}/pause"))
        assert again["kind"] == "operation-ended"
        drain = (await one.client.post("/v1/pools/web/drain")).json()["id"]
        assert problem(await one.client.post(f"/v1/operations/{drain}/abort"))["kind"] == "not-a-rollout"
        assert problem(await one.client.post("/v1/operations/x/abort"))["kind"] == "unknown-operation"


async def test_refusals_of_the_core_are_conflicts() -> None:
    """drained, stopped and shutting-down come through as 409 with their hint."""
    async with plant() as one:
        await one.engine.all_running()
        await one.client.post("/v1/pools/emails/drain")
        drained = problem(await one.client.post("/v1/pools/emails/start"))
        assert (drained["kind"], drained["status"]) == ("drained", 409)
        assert "resume" in drained["hint"]
        await one.client.post("/v1/pools/web/stop")
        assert problem(await one.client.post("/v1/pools/web/restart"))["kind"] == "stopped"
        await one.client.post("/v1/shutdown")
        assert problem(await one.client.post("/v1/drain"))["kind"] == "shutting-down"


BAD_BODIES: list[tuple[bytes, str]] = [
    (b'{"urgncy": "now"}', "invalid-body"),
    (b'{"urgency": "NOW"}', "invalid-body"),
    (b'{"urgency": ["now"]}', "invalid-body"),
    (b'{"urgency": null}', "invalid-body"),
    (b'{"urgency": "now", "urgency": "kill"}', "invalid-body"),
    (b"[]", "invalid-body"),
    (b'"now"', "invalid-body"),
    (b"null", "invalid-body"),
    (b" \n", "bad-request"),
    (b"{", "bad-request"),
    (b"\xff\xfe", "bad-request"),
    (b'{"urgency": NaN}', "bad-request"),
    (b"[" * 60_000, "bad-request"),
    # Python 3.14 reads this much, which is then a field that we do not know.
    (
        b'{"a":' * 10_000 + b"1" + b"}" * 10_000,
        "invalid-body" if sys.version_info >= (3, 14) else "bad-request",
    ),
    (b"9" * 60_000, "bad-request"),
]


@pytest.mark.parametrize(("body", "kind"), BAD_BODIES, ids=lambda value: str(value)[:40])
async def test_a_wrong_body_is_refused_with_what_is_wrong(body: bytes, kind: str) -> None:
    """Nothing is guessed: unknown fields, wrong types, doubles, and what is not JSON."""
    async with plant() as one:
        answer = await one.client.post(
            "/v1/pools/emails/stop", content=body, headers={"Content-Type": "application/json"}
        )
        assert problem(answer)["kind"] == kind
        assert one.engine.wishes == []


BAD_FIELDS: list[tuple[str, dict[str, Any], str]] = [
    ("restart", {"only_failed": 1}, "invalid-body"),
    ("shutdown", {"deadline_seconds": -1}, "invalid-body"),
    ("shutdown", {"deadline_seconds": True}, "invalid-body"),
    ("shutdown", {"deadline_seconds": "30"}, "invalid-body"),
    ("shutdown", {"deadline_seconds": 1e300}, "invalid-body"),
    ("shutdown", {"deadline_seconds": 10**400}, "invalid-body"),
    ("pools/emails/signal", {}, "invalid-body"),
    ("pools/emails/signal", {"signal": 9}, "invalid-body"),
    ("pools/emails/signal", {"signal": "SIGFOO"}, "unknown-signal"),
    ("pools/emails/signal", {"signal": "SIG\n"}, "unknown-signal"),
    ("pools/emails/signal", {"signal": "SIGUSR1", "target": "some"}, "invalid-body"),
    ("drain", {"force": True}, "invalid-body"),
]


@pytest.mark.parametrize(("path", "body", "kind"), BAD_FIELDS, ids=lambda value: str(value)[:40])
async def test_a_wrong_value_is_refused(path: str, body: dict[str, Any], kind: str) -> None:
    """Each field takes what it is for and nothing else; the detail names the field."""
    async with plant() as one:
        document = problem(await one.client.post(f"/v1/{path}", json=body))
        assert document["kind"] == kind
        assert document["detail"].isprintable()
        assert one.engine.wishes == []


async def test_a_body_must_say_that_it_is_json() -> None:
    """What curl sends by default is no JSON; an empty body needs no type."""
    async with plant() as one:
        answer = await one.client.post(
            "/v1/drain", content=b"{}", headers={"Content-Type": "application/x-www-form-urlencoded"}
        )
        assert problem(answer)["kind"] == "unsupported-media-type"
        answer = await one.client.post(
            "/v1/drain",
            content=b"{}",
            headers={"Content-Type": "application/json", "Content-Encoding": "gzip"},
        )
        assert problem(answer)["kind"] == "unsupported-media-type"
        answer = await one.client.post(
            "/v1/drain", content=b"{}", headers={"Content-Type": "Application/JSON; charset=utf-8"}
        )
        assert answer.status_code == 202


async def test_an_intent_that_is_not_durable_is_a_warning() -> None:
    """The wish holds; the answer says that it would not survive a restart of the daemon."""
    async with plant() as one:
        one.engine.not_durable = "database or disk is full"
        answer = await one.client.post("/v1/pools/emails/drain")
        assert answer.status_code == 202
        assert "database or disk is full" in answer.json()["warning"]
        assert "warning" not in (await one.client.get(answer.headers["location"])).json()


async def test_repeating_a_wish_gives_the_same_operation() -> None:
    """Without a key, while the first one is under way."""
    async with plant() as one:
        await one.engine.all_running()
        first, second = [(await one.client.post("/v1/pools/emails/drain")).json()["id"] for _ in range(2)]
        assert first == second


async def restart(one: Plant, key: str, path: str = "/v1/pools/emails/restart", **body: object) -> Any:
    """Wish a restart with a key."""
    return await one.client.post(path, json=body, headers={"Idempotency-Key": key})


async def test_a_key_makes_a_wish_repeatable_after_its_end() -> None:
    """The same key returns the operation of the first time and asks the core nothing; another key does."""
    async with plant() as one:
        await one.engine.all_running()
        first = (await restart(one, "k1")).json()["id"]
        await one.client.post(f"/v1/operations/{first}/abort")
        asked = len(one.engine.wishes)
        again = await restart(one, "k1")
        assert (again.status_code, again.json()["id"], again.json()["state"]) == (202, first, "aborted")
        assert len(one.engine.wishes) == asked
        assert (await restart(one, "k2")).json()["id"] != first
        assert problem(await restart(one, "k1", only_failed=True))["kind"] == "key-reused"
        assert problem(await restart(one, "k1", "/v1/pools/web/restart"))["kind"] == "key-reused"
        assert problem(await restart(one, "x" * 129))["kind"] == "bad-request"


def test_keys_are_bounded_and_of_one_client() -> None:
    """The oldest key is forgotten; another user's key of the same name is another key."""
    replays = Replays(kept=2)
    for number in range(3):
        replays.remember((0, f"k{number}"), "f", f"op{number}")
    assert replays.operation((0, "k0"), "f") is None
    assert replays.operation((0, "k2"), "f") == "op2"
    assert replays.operation((1, "k2"), "other") is None
    with pytest.raises(Problem):
        replays.operation((0, "k2"), "other")


async def test_each_wish_is_one_log_line_with_its_outcome(caplog: pytest.LogCaptureFixture) -> None:
    """Accepted or refused: who, what, request id and outcome are fields of the record."""
    caplog.set_level(logging.INFO, "supervisor.control")
    async with plant() as one:
        await one.client.post("/v1/pools/emails/drain", headers={"X-Request-ID": "a"})
        await one.client.post("/v1/pools/emails/start", headers={"X-Request-ID": "b"})
        await one.client.post("/v1/pools/nope%0Ax/drain", headers={"X-Request-ID": "c"})
        await one.client.post("/v1/pools/nope/drain", headers={"X-Request-ID": "d"})
    records = {record["request_id"]: record for record in map(vars, caplog.records) if "outcome" in record}
    assert {name: record["outcome"] for name, record in records.items()} == {
        "a": "accepted",
        "b": "drained",
        "d": "unknown-pool",
    }
    assert records["a"]["principal"].startswith("uid=")
    assert records["a"]["target"] == "emails"
    assert all("\n" not in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "é", "a;b", '"'])
async def test_a_strange_request_id_is_replaced(given: str) -> None:
    """Only what can be in a log line and a file name is taken over."""
    async with plant() as one:
        answer = await one.client.get("/livez", headers=[(b"X-Request-ID", given.encode())])
        assert answer.headers["x-request-id"] != given
        assert len(answer.headers["x-request-id"]) == 16


async def test_two_request_ids_are_none() -> None:
    """A doubled header is nobody's word."""
    async with plant() as one:
        answer = await one.client.get("/livez", headers=[("X-Request-ID", "a"), ("X-Request-ID", "b")])
        assert answer.headers["x-request-id"] not in {"a", "b", "a, b"}


def test_operation_ids_sort_by_time_and_do_not_repeat() -> None:
    """Sixteen characters each, fit for a path, later ones not before earlier ones but for a millisecond."""
    ids = [new_operation_id() for _ in range(2000)]
    assert len(set(ids)) == 2000
    assert {len(one) for one in ids} == {16}
    assert [one[:9] for one in ids] == sorted(one[:9] for one in ids)
    assert all(one.isalnum() and one.islower() for one in ids)
    assert new_request_id() != new_request_id()


async def test_a_wish_body_may_come_in_pieces() -> None:
    """Chunked bodies are read to their end."""
    body = json.dumps({"urgency": "now"}).encode()
    chunks = b"".join(b"1\r\n" + bytes([byte]) + b"\r\n" for byte in body) + b"0\r\n\r\n"
    async with plant() as one:
        raw = await one.raw(
            b"POST /v1/stop HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\n"
            b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n" + chunks
        )
        assert raw.startswith(b"HTTP/1.1 202 "), raw
        made = one.engine.wishes[-1]
        assert isinstance(made, StopRequested)
        assert made.urgency is Urgency.NOW
