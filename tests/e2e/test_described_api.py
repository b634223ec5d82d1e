"""Everything that `/openapi.json` says is asked of a real daemon, and everything it does not say is refused.

Requests are made up from the description: such as should be served, and such as should not. The same
ones each time in a short run; `make fuzz` makes more of them, by chance.
"""

import os
import re
import signal
from collections.abc import Callable, Iterator
from itertools import count
from typing import Any

import httpx
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase, Verbosity, given, settings
from hypothesis import strategies as st
from schemathesis import Case, GenerationMode
from schemathesis.checks import not_a_server_error

from supervisor.control import openapi
from tests.e2e.commands import FAST_BACKOFF, pool, script, worker
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric

REQUESTS = int(os.environ.get("FUZZ_REQUESTS", "0"))
"""How many requests for each route; 0: few, and always the same."""

MANY = settings(
    max_examples=REQUESTS or 8,
    derandomize=not REQUESTS,
    database=None,
    deadline=None,
    phases=[Phase.explicit, Phase.generate],
    verbosity=Verbosity.quiet,
    suppress_health_check=list(HealthCheck),
)
ROUTES = [
    (method.upper(), path)
    for path, methods in openapi.document("0")["paths"].items()  # type: ignore[attr-defined]
    for method in methods
]
POLLED = {"/v1/status", "/v1/pools"}
CASES = [
    pytest.param(method, path, mode, id=f"{method} {path} {mode.value}")
    for method, path in ROUTES
    for mode in (GenerationMode.POSITIVE, GenerationMode.NEGATIVE)
    if path != "/v1/shutdown"
    # A GET without a name in its path or a word in its query has nothing that can be wrong.
    if mode is GenerationMode.POSITIVE
    or method == "POST"
    or "{" in path
    or path in {"/v1/status", "/v1/pools"}
]
UNWELL = {"/livez", "/readyz", "/health"}
"""Where 503 is an answer and not an accident."""

REAL: dict[str, list[Any]] = {"pool": ["web", "jobs", "sick"], "index": [0, 1]}
TALKS = script(
    "import os, signal, socket\n"
    "s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)\n"
    "said = b'READY=1\\nSTATUS=\\xc3\\xa9 \"%s\" 100%\\nX_PITBOSS_INFLIGHT=1'\n"
    "s.sendto(said, os.environ['NOTIFY_SOCKET'])\n"
    "print('caf\\xe9 \"%d\" \\\\', flush=True)\n"
    "while True: signal.pause()\n"
)

KEYS = count()


@pytest.fixture(scope="module")
def living() -> Iterator[Daemon]:
    """A daemon in its second life, with pools in different phases, for all requests of this module."""
    ladder: dict[str, Any] = {"stages": [{"signal": "SIGTERM", "target": "all", "grace": "200ms"}]}
    rules: dict[str, Any] = {"stop": ladder, "rollout": {"min_ready": "0s"}}
    sick = pool(worker("crasher", "code", "3"), restart={"backoff": FAST_BACKOFF}, critical=False, **rules)
    one = Daemon(
        {
            "control": {"http": "127.0.0.1:0"},
            "pools": {
                "web": pool(worker("obedient"), instances=2, **rules),
                "jobs": pool(TALKS, readiness={"notify": True}, depends_on=["web"], **rules),
                "sick": sick,
            },
        }
    )
    try:
        one.start()
        one.wait_ready("web", "jobs")
        one.operation(one.post("/v1/pools/web/restart").json()["id"])
        one.signal(signal.SIGTERM)
        one.wait_end()
        one.start()
        one.wait_ready("web", "jobs")
        yield one
        assert one.get("/livez").status_code == 200
        assert metric(one, "pitboss_core_faults_total") == 0
        assert "Traceback" not in one.log()
        assert [record for record in one.log_records() if record.get("level") == "error"] == []
    finally:
        one.close()


@pytest.fixture(scope="module")
def described(living: Daemon) -> Any:
    """The description that the daemon itself serves."""
    return schemathesis.openapi.from_dict(living.get("/openapi.json").json())


def names(one: Daemon, path: str) -> st.SearchStrategy[dict[str, Any]]:
    """Values for the names in a path: mostly such as exist, so that requests get deep."""
    operations = one.get("/v1/operations").json()["operations"][:20]
    known: dict[str, list[Any]] = {**REAL, "operation": [each["id"] for each in operations]}
    wanted = {name: st.sampled_from(values) for name, values in known.items() if f"{{{name}}}" in path}
    return st.fixed_dictionaries(wanted)


def send(client: httpx.Client, case: Case[Any]) -> httpx.Response:
    """Send one made-up request; a wait is cut short."""
    if case.headers and "Idempotency-Key" in case.headers:
        # One that was used for something else is refused, rightly; these come again and again.
        case.headers["Idempotency-Key"] = f"{next(KEYS)}-{case.headers['Idempotency-Key']}"[:128]
    wait = (case.query or {}).get("wait")
    if isinstance(wait, int | float) and not isinstance(wait, bool) and wait > 0:
        case.query["wait"] = 0.01
    request = case.as_transport_kwargs(base_url=str(client.base_url))
    return client.request(
        request["method"],
        request["url"],
        params=request.get("params"),
        headers=dict(request["headers"]),
        json=request.get("json"),
        content=request.get("data") if isinstance(request.get("data"), str | bytes) else None,
    )


def judge(case: Case[Any], answer: httpx.Response) -> None:
    """It is as described: status, type, headers and body; and no 5xx but of a probe that is unwell."""
    assert answer.status_code < 500 or (answer.status_code == 503 and case.path in UNWELL), answer.text
    case.validate_response(answer, excluded_checks=[not_a_server_error])


@pytest.mark.parametrize(("method", "path", "mode"), CASES)
def test_every_route_is_as_described(
    living: Daemon, described: Any, method: str, path: str, mode: GenerationMode
) -> None:
    """Each route, with what it should take and with what it should refuse."""
    operation = described[path][method]
    with living.client() as client:

        @MANY
        @given(st.data())
        def asked(data: st.DataObject) -> None:
            where = data.draw(names(living, path)) if data.draw(st.integers(0, 3)) else None
            case = data.draw(operation.as_strategy(generation_mode=mode, path_parameters=where))
            judge(case, send(client, case))

        asked()


@pytest.mark.parametrize(("method", "path"), [one for one in ROUTES if one[1] != "/v1/shutdown"])
def test_tcp_serves_what_is_open_and_nothing_else(
    living: Daemon, described: Any, method: str, path: str
) -> None:
    """On the other listener: an open route as described, and every other one a described refusal."""
    heard = re.search(r"and on (127\.0\.0\.1:\d+)", living.log().rpartition("control plane listens")[2])
    assert heard is not None
    operation = described[path][method]
    with httpx.Client(base_url=f"http://{heard.group(1)}", timeout=60) as client:

        @settings(MANY, max_examples=REQUESTS or 2)
        @given(operation.as_strategy())
        def asked(case: Case[Any]) -> None:
            answer = send(client, case)
            judge(case, answer)
            is_open = operation.definition.raw["x-access"] == "open"
            assert is_open == (answer.status_code != 403), answer.text

        asked()


def test_a_shutdown_is_as_described(daemon: Callable[..., Daemon]) -> None:
    """The one route that nothing can be asked after."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    operation = schemathesis.openapi.from_dict(one.get("/openapi.json").json())["/v1/shutdown"]["POST"]
    with one.client() as client:
        case = operation.Case(body={"urgency": "now", "deadline_seconds": 30}, media_type="application/json")
        answer = send(client, case)
        judge(case, answer)
        assert answer.status_code == 202
    assert one.wait_end() == 0
