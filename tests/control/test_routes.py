"""The route table and what can really be reached are the same."""

import itertools
import json
from pathlib import Path

import pytest

from supervisor.control.problems import KINDS, Problem, nearest, shown
from supervisor.control.routes import TABLE, Access, Row
from tests.control.plant import SECRET, plant, problem

BODIES = {"signal": {"signal": "SIGUSR1"}}


def address(row: Row, operation: str) -> str:
    """A path of the table with names that exist."""
    return row.path.replace("{pool}", "emails").replace("{index}", "1").replace("{operation}", operation)


def expected(row: Row) -> set[int]:
    """The status codes that are right for it."""
    if row.path == "/v1/shutdown" or row.method == "GET":
        return {202} if row.method == "POST" else {200}
    # A restart of web is under way, and one of the whole host would meet it.
    return {202, 409} if row.path == "/v1/restart" else {202}


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
async def test_every_row_of_the_table_is_served(row: Row) -> None:
    """Each route answers as its kind does, and every answer has a request id and a date."""
    async with plant() as one:
        await one.engine.all_running()
        operation = (await one.client.post("/v1/pools/web/restart")).json()["id"]
        body = BODIES.get(row.path.rsplit("/", 1)[-1]) if row.method == "POST" else None
        answer = await one.client.request(row.method, address(row, operation), json=body)
        assert answer.status_code in expected(row), answer.text
        assert answer.headers["x-request-id"]
        assert answer.headers["date"]
        assert answer.headers["cache-control"] == "no-store"


async def test_nothing_but_the_table_is_reachable() -> None:
    """Of all methods on all known and many invented paths, only those of the table are served."""
    methods = ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"]
    invented = [
        "/", "/v1", "/v1/", "/v1/status/", "/V1/status", "/v1/pools/", "/v1/pools//drain", "/v1/host",
        "/v1/pools/emails/__class__", "/v1/pools/emails.drain", "/v1/pools/emails/instances/1/goal",
        "/__init__", "/v1/pools/emails/../../shutdown", "/static/x", "/docs", "/v1/pools/emails/scale",
    ]  # fmt: skip
    table = {(row.method, address(row, "none")) for row in TABLE}
    async with plant() as one:
        await one.engine.all_running()
        for method, path in itertools.product(methods, {path for _, path in table} | set(invented)):
            if (method, path) in table:
                continue
            raw = await one.raw(f"{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            status = int(raw.split(b" ", 2)[1])
            known = path in {path for _, path in table}
            # An invented path may be the name of a pool that does not exist: then POST is not for it.
            assert status in ({405} if known else {404, 405}), f"{method} {path}: {raw[:60]!r}"
        assert one.engine.wishes == []


async def test_the_405_names_the_methods() -> None:
    """RFC 9110: a 405 has an Allow header with what the path takes."""
    async with plant() as one:
        answer = await one.client.post("/v1/status")
        assert problem(answer)["kind"] == "method-not-allowed"
        assert answer.headers["allow"] == "GET, HEAD"
        assert (await one.client.options("/v1/pools/emails/drain")).headers["allow"] == "POST"


async def test_head_has_the_headers_of_get_and_no_body() -> None:
    """HEAD is GET without the body; a wish has no HEAD."""
    async with plant() as one:
        answer = await one.client.head("/v1/status")
        assert answer.status_code == 200
        assert answer.content == b""
        assert int(answer.headers["content-length"]) > 100
        assert answer.headers["x-pitboss-revision"] == "0"
        assert (await one.client.head("/v1/drain")).status_code == 405


async def test_all_levels_of_access_are_used_and_mutations_need_operate() -> None:
    """A mutation that only needs read would be a hole in the table."""
    assert {row.access for row in TABLE} == set(Access)
    for row in TABLE:
        assert (row.access is Access.OPERATE) == (row.method == "POST"), row.path
        assert row.summary.endswith(".")


ODD_NAMES = [
    "emails%22", "%27%20OR%201%3D1", "emails%0A", "emails%0d%0aX-Evil%3a%201", "%C3%A9mails", "%F0%9F%90%99",
    "%FF%FE", "..", "...", "%2e%2e", "..%2f..%2fetc%2fpasswd", "%00", "emails%00", "%E2%80%AE", "a" * 3000,
    "<script>", "%3Cscript%3E", "{pool}", "emails;x", "emails%252F", "*",
]  # fmt: skip


@pytest.mark.parametrize("name", ODD_NAMES)
async def test_odd_names_are_unknown_and_harmless(name: str) -> None:
    """Whatever stands for a pool, an instance or an operation: 404 with a bounded, printable detail."""
    async with plant() as one:
        for path in (f"/v1/pools/{name}", f"/v1/pools/emails/instances/{name}", f"/v1/operations/{name}"):
            raw = await one.raw(f"GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
            head, _, body = raw.partition(b"\r\n\r\n")
            assert head.startswith(b"HTTP/1.1 404 "), (path, raw[:200])
            assert b"X-Evil" not in head
            document = json.loads(body)
            assert document["detail"].isprintable()
            assert len(document["detail"]) < 200
        wish = await one.raw(
            f"POST /v1/pools/{name}/drain HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode()
        )
        assert wish.startswith(b"HTTP/1.1 404 ")
        assert one.engine.wishes == []


@pytest.mark.parametrize("index", ["2", "-1", "00", "+1", "1.0", "1e0", "٣", "99999999999999999999", "0x0"])
async def test_an_instance_has_one_name(index: str) -> None:
    """Only the plain decimal index of a declared instance is one."""
    async with plant() as one:
        answer = await one.client.get(f"/v1/pools/emails/instances/{index}")
        assert problem(answer)["kind"] == "unknown-instance"


async def test_a_wrong_name_suggests_the_nearest() -> None:
    """A slip of the finger gets its answer in the hint."""
    async with plant() as one:
        document = problem(await one.client.post("/v1/pools/emials/drain"))
        assert document["kind"] == "unknown-pool"
        assert document["hint"] == 'did you mean "emails"?'


def test_the_search_for_near_names_is_bounded() -> None:
    """A long name, or many pools, must not hold the loop: similarity is slow."""
    assert nearest("a" * 65, ["a" * 65]) == ""
    assert nearest("pool-7", (f"pool-{number}" for number in range(10**9))) != ""


def test_what_a_client_said_is_shown_bounded_and_printable() -> None:
    """No control character and no novel is repeated."""
    assert shown("a\nb") == "a\\nb"
    assert len(shown("x" * 1000)) == 65


def test_every_kind_has_a_status_that_fits() -> None:
    """Only our own bug is a 5xx; a kind that the core invents later is a conflict."""
    for name, kind in KINDS.items():
        assert 400 <= kind.status < 500 or name == "internal"
    assert Problem("of-tomorrow", "x").status == 409
    assert json.loads(Problem("of-tomorrow", "x").body("id"))["title"] == "Of tomorrow"


async def test_a_bug_is_a_500_without_internals(caplog: pytest.LogCaptureFixture) -> None:
    """The client learns that there is a bug and under which request id the log has it, nothing more."""
    async with plant() as one:
        one.engine.failure = RuntimeError(SECRET)
        answer = await one.client.post("/v1/drain", headers={"X-Request-ID": "story-1"})
        document = problem(answer)
        assert (document["kind"], document["status"], document["request_id"]) == ("internal", 500, "story-1")
        assert SECRET not in answer.text
        assert "RuntimeError" not in answer.text
        assert any(getattr(record, "request_id", "") == "story-1" for record in caplog.records)
        one.engine.failure = None
        assert (await one.client.post("/v1/drain")).status_code == 202


async def test_a_planted_secret_never_appears() -> None:
    """A value from the environment is in no body and in no header of any route."""
    async with plant() as one:
        await one.engine.all_running()
        operation = (await one.client.post("/v1/pools/web/restart")).json()["id"]
        for row in TABLE:
            answer = await one.client.request(row.method, address(row, operation))
            assert SECRET not in answer.text + str(answer.headers)


def test_the_reference_is_current() -> None:
    """The page is generated; a change of the table changes it."""
    from docs.generate.http import OUTPUTS

    for place, render in OUTPUTS.items():
        page = Path(__file__).resolve().parents[2] / place
        assert page.read_text(encoding="utf-8") == render().strip() + "\n", "run python -m docs.generate"
