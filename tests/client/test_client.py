"""The client: where it looks for the daemon, what it sends, and which exception says what."""

import gc
import os
import socket
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.client.address import locate
from supervisor.client.client import Client
from supervisor.client.errors import ClientError, NotPermitted, Problem, Unreachable
from supervisor.client.token import read_token
from tests.cli.stub_daemon import Stub


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A daemon that answers."""
    with Stub() as running:
        yield running


def test_a_named_socket_is_the_only_place(stub: Stub) -> None:
    """The argument wins over the environment; a wrong one is not replaced by another daemon."""
    assert locate(stub.socket, environ={"PITBOSS_SOCKET": "/nowhere"}).socket == stub.socket
    assert locate(environ={"PITBOSS_SOCKET": stub.socket, "PITBOSS_URL": "http://x"}).socket == stub.socket
    with pytest.raises(Unreachable) as failure:
        locate("/nowhere", environ={"PITBOSS_SOCKET": stub.socket})
    assert failure.value.attempts == (("/nowhere", "there is no such socket"),)
    assert failure.value.exit_code == 69


def test_the_usual_places_are_tried_in_order(stub: Stub) -> None:
    """The runtime directory of the user comes first."""
    os.mkdir(Path(stub.folder.name) / "pitboss")
    os.link(stub.socket, Path(stub.folder.name) / "pitboss" / "control.sock")
    found = locate(environ={"XDG_RUNTIME_DIR": stub.folder.name})
    assert found.socket == f"{stub.folder.name}/pitboss/control.sock"


def test_a_socket_in_tmp_that_is_not_ours_is_not_trusted(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """Anyone may make a socket there and wait for wishes."""
    stranger = os.getuid() + 4242
    folder = Path(f"/tmp/pitboss-{stranger}")
    os.mkdir(folder)
    try:
        os.link(stub.socket, folder / "control.sock")
        if os.getuid() != 0:
            pytest.skip("only root can make a socket that belongs to somebody else")
        os.chown(folder / "control.sock", 65534, 65534)
        monkeypatch.setattr(os, "getuid", lambda: stranger)
        with pytest.raises(Unreachable) as failure:
            locate(environ={})
    finally:
        (folder / "control.sock").unlink()
        folder.rmdir()
    assert (
        f"{folder}/control.sock",
        "it belongs to another user, so it is not trusted",
    ) in failure.value.attempts


def test_what_is_not_a_socket_is_said_so(tmp_path: Path) -> None:
    """A file in its place."""
    (tmp_path / "file").touch()
    with pytest.raises(Unreachable, match="it is not a socket"):
        locate(str(tmp_path / "file"), environ={})


@pytest.mark.parametrize("url", ["localhost:9911", "ftp://x", "http://"])
def test_a_url_must_be_one(url: str) -> None:
    """Before anything is sent."""
    with pytest.raises(Unreachable, match="expected http"):
        locate(url=url, environ={})


def test_every_route_has_a_method(stub: Stub) -> None:
    """Reads answer what the daemon sent; wishes go to their routes."""
    with Client.connect(stub.socket) as client:
        assert client.status()["name"] == "shop"
        assert client.pools()["revision"] == 41
        assert client.pool("emails")["name"] == "emails"
        assert client.instance("emails/1")["name"] == "emails/1"
        assert client.livez() == {"status": "ok"}
        assert client.readyz()["ready"] is True
        assert client.health()["ready"] is True
        assert client.metrics() == "pitboss_up 1\n"
        operation = client.drain("emails")
        assert client.operation(operation["id"])["kind"] == "drain"
        assert client.operations()["operations"][0]["id"] == operation["id"]
        client.pause_operation(operation["id"])
        client.resume_operation(operation["id"])
        assert client.abort_operation(operation["id"])["state"] == "aborted"
        assert client.wait_for_operation(operation["id"], timeout_seconds=30)["state"] == "aborted"


def test_not_ready_is_an_answer(stub: Stub) -> None:
    """503 of /readyz and /health is no exception."""
    with Client.connect(stub.socket) as client:
        stub.status.update(ready=False, reasons=["emails/0 is failed"])
        assert client.readyz() == {"ready": False, "reasons": ["emails/0 is failed"], "pools": []}
        assert client.health()["ready"] is False


def test_a_wait_for_an_operation_is_bounded(stub: Stub) -> None:
    """It returns the operation as it stands when the time is over."""
    with Client.connect(stub.socket) as client:
        stub.on["drain emails"] = []
        operation = client.drain("emails")
        assert client.wait_for_operation(operation["id"], timeout_seconds=0.05)["state"] == "running"


def test_names_cannot_reach_another_route(stub: Stub) -> None:
    """They are quoted; ".." as a pool would be the host, and is refused before anything is sent."""
    with Client.connect(stub.socket) as client:
        for name in ("a?b", "a b#c", "%2e"):
            with pytest.raises(Problem):
                client.drain(name)
        sent = [path for method, path, _ in stub.asked if method == "POST"]
        for name in ("..", ".", "", "../shutdown", "emails/..", "emails/", "emails/²"):
            with pytest.raises(Problem, match="there is no"):
                client.drain(name)
        for identity in ("..", "."):
            with pytest.raises(Problem, match="there is no operation"):
                client.resume_operation(identity)
        assert len([path for method, path, _ in stub.asked if method == "POST"]) == len(sent)
    assert sent == ["/v1/pools/a%3Fb/drain", "/v1/pools/a%20b%23c/drain", "/v1/pools/%252e/drain"]


def test_a_problem_carries_everything(stub: Stub) -> None:
    """Kind, detail, hint, status, request id; wrong names are exit 2, the rest exit 1."""
    problem = {"kind": "drained", "detail": "it is drained", "hint": "resume it", "request_id": "r-1"}
    with Client.connect(stub.socket) as client:
        stub.refusals["POST /v1/pools/emails/start"] = (409, problem)
        with pytest.raises(Problem) as refused:
            client.start("emails")
        with pytest.raises(Problem) as unknown:
            client.start("emial")
    failure = refused.value
    assert (failure.kind, failure.detail, failure.hint) == ("drained", "it is drained", "resume it")
    assert (failure.status, failure.request_id, failure.exit_code) == (409, "r-1", 1)
    assert (unknown.value.kind, unknown.value.exit_code) == ("unknown-pool", 2)


@pytest.mark.parametrize("status", [401, 403])
def test_a_refused_role_is_not_permitted(stub: Stub, status: int) -> None:
    """Exit 77."""
    with Client.connect(stub.socket) as client:
        stub.refusals["POST /v1/pools/emails/stop"] = (status, {"detail": "no", "hint": "ask"})
        with pytest.raises(NotPermitted) as failure:
            client.stop("emails")
    assert (str(failure.value), failure.value.hint, failure.value.exit_code) == ("no", "ask", 77)


@pytest.mark.parametrize("body", ["<html>", [1], None])
def test_what_is_no_json_object_is_an_error(stub: Stub, body: object) -> None:
    """Another server listens there."""
    with Client.connect(stub.socket) as client:
        stub.refusals["GET /v1/status"] = (200, body)  # type: ignore[assignment]
        with pytest.raises(ClientError, match="not the JSON of a pitbossd"):
            client.status()


def test_an_answer_without_an_end_is_cut(stub: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    """No daemon makes the client eat all memory."""
    monkeypatch.setattr("supervisor.client.client.LARGEST_ANSWER_BYTES", 100)
    with Client.connect(stub.socket) as client, pytest.raises(ClientError, match="larger"):
        client.status()


def test_a_daemon_that_hangs_is_unreachable(stub: Stub) -> None:
    """The time-out is the client's, and says how long it was."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(f"{stub.folder.name}/mute.sock")
        listener.listen(8)
        mute = Client.connect(f"{stub.folder.name}/mute.sock", timeout_seconds=0.2)
        with mute as client, pytest.raises(Unreachable, match=r"no answer within 0\.2 s"):
            client.status()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # httpcore's, of a refused connect
def test_a_daemon_that_goes_away_is_unreachable(stub: Stub) -> None:
    """Between two requests."""
    with Client.connect(stub.socket) as client:
        client.status()
        stub.close()
        with pytest.raises(Unreachable, match="cannot reach pitbossd at"):
            client.status()
    # So that the socket is none of the next test's.
    gc.collect()


def test_a_long_poll_returns_at_the_change(stub: Stub) -> None:
    """With the new revision."""
    with Client.connect(stub.socket) as client:
        waiter = threading.Thread(target=stub.touch)
        waiter.start()
        assert client.status(after=41, wait_seconds=30)["revision"] == 42
        waiter.join()


def test_a_token_goes_only_to_a_url(stub: Stub, tmp_path: Path) -> None:
    """Over TCP as a bearer token; on the unix socket the kernel says who we are."""
    token = tmp_path / "token"
    token.write_text("s3cret\n")
    with Client.connect(stub.socket, token_file=str(token)) as client:
        client.status()
        assert "Authorization" not in stub.headers[-1]
    assert read_token(str(token)) == "s3cret"


@pytest.mark.parametrize("content", ["", "two words", "x" * 5000, "line\nline"])
def test_a_token_file_holds_one_token(tmp_path: Path, content: str) -> None:
    """And its value is in no message."""
    token = tmp_path / "token"
    token.write_text(content)
    with pytest.raises(NotPermitted) as failure:
        read_token(str(token))
    assert not content or content not in str(failure.value)


def test_a_token_file_that_is_missing_is_named(tmp_path: Path) -> None:
    """With the reason of the kernel."""
    with pytest.raises(NotPermitted, match=r"cannot read the token file .*No such file"):
        read_token(str(tmp_path / "none"))
