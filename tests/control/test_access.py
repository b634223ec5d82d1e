"""Who may do what: peers of the unix socket by the kernel's word, and the narrow TCP listener."""

import asyncio
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

from supervisor.control.peers import NOBODY, Gatekeeper, Peer, peer_of
from supervisor.control.routes import TABLE, Access
from tests.control.plant import Plant, plant, problem

STRANGER = 54321
STRANGERS_GROUP = 54322

CLIENT = """
import json, os, socket, sys
path, uid, gid, groups, method, target = sys.argv[1:]
os.setgroups(json.loads(groups)); os.setgid(int(gid)); os.setuid(int(uid))
with socket.socket(socket.AF_UNIX) as one:
    one.connect(path)
    one.sendall(f"{method} {target} HTTP/1.1\\r\\nHost: x\\r\\nConnection: close\\r\\n\\r\\n".encode())
    data = b""
    while piece := one.recv(65536):
        data += piece
print(data.decode())
"""

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


async def ask_as(
    one: Plant, target: str, uid: int, gid: int, groups: list[int], method: str = "GET"
) -> tuple[int, str]:
    """The status and the text of an answer to another user; status 0 if the socket refuses to connect."""
    command = [
        sys.executable, "-c", CLIENT, str(one.path), str(uid), str(gid), str(groups), method, target,
    ]  # fmt: skip
    done = await asyncio.to_thread(
        subprocess.run, command, capture_output=True, text=True, timeout=120, check=False
    )
    if done.returncode:
        assert "PermissionError" in done.stderr, done.stderr
        return 0, ""
    return int(done.stdout.split()[1]), done.stdout


@needs_root
async def test_the_socket_is_closed_to_strangers() -> None:
    """0660: another user without the group does not even connect."""
    async with plant() as one:
        one.path.parent.chmod(0o755)
        assert await ask_as(one, "/livez", STRANGER, STRANGER, []) == (0, "")


@needs_root
async def test_a_stranger_who_gets_in_may_do_nothing() -> None:
    """Wider modes do not widen rights: whoever is not root, the daemon or in the group is refused."""
    async with plant() as one:
        one.path.parent.chmod(0o755)
        one.path.chmod(0o666)
        assert (await ask_as(one, "/livez", STRANGER, STRANGER, []))[0] == 200
        for row in TABLE:
            if row.access is Access.OPEN:
                continue
            path = row.path.replace("{pool}", "emails").replace("{index}", "0").replace("{operation}", "x")
            status, text = await ask_as(one, path, STRANGER, STRANGER, [], row.method)
            assert status == 403, row
            assert '"kind": "not-permitted"' in text
            if row.path == "/v1/drain":
                break
        assert (await ask_as(one, "/v1/nothing", STRANGER, STRANGER, []))[0] == 403
        assert one.engine.wishes == []


@needs_root
@pytest.mark.parametrize(
    ("gid", "groups"),
    [(STRANGERS_GROUP, []), (STRANGER, [7, STRANGERS_GROUP])],
    ids=["primary", "supplementary"],
)
async def test_members_of_the_sockets_group_operate(gid: int, groups: list[int]) -> None:
    """A chgrp of the socket file at run time is all it takes; the wish carries the member's uid."""
    async with plant() as one:
        one.path.parent.chmod(0o755)
        os.chown(one.path, 0, STRANGERS_GROUP)
        status, text = await ask_as(one, "/v1/drain", STRANGER, gid, groups, "POST")
        assert status == 202, text
        assert one.engine.wishes[-1].wish.principal.startswith(f"uid={STRANGER} pid=")


async def test_our_own_user_operates_and_is_named() -> None:
    """The daemon's uid is one of its operators, by name and pid."""
    async with plant() as one:
        answer = await one.client.post("/v1/drain")
        principal = answer.json()["principal"]
        assert principal.startswith(f"uid={os.geteuid()}(")
        assert principal.endswith(f" pid={os.getpid()}")


def test_credentials_come_from_the_kernel() -> None:
    """A socketpair is a connection with ourselves; TCP has no peer."""
    left, right = socket.socketpair(socket.AF_UNIX)
    with left, right:
        peer = peer_of(left)
        assert (peer.local, peer.pid, peer.uid, peer.gid) == (True, os.getpid(), os.geteuid(), os.getegid())
        assert peer.groups >= set(os.getgroups())
    with socket.socket() as tcp:
        assert peer_of(tcp) is NOBODY


def test_the_gatekeeper_trusts_nobody_when_the_socket_is_gone() -> None:
    """Without a socket file there is no group to be a member of."""
    directory = Path(tempfile.mkdtemp(dir="/tmp", prefix="pb"))
    gatekeeper = Gatekeeper(directory / "none")
    directory.rmdir()
    assert not gatekeeper.may_operate(Peer(True, 1, STRANGER, 1, frozenset({1})))
    assert gatekeeper.may_operate(Peer(True, 1, 0, 0))
    assert not gatekeeper.may_operate(NOBODY)
    assert gatekeeper.principal(Peer(True, 5, STRANGER)) == f"uid={STRANGER} pid=5"
    assert gatekeeper.principal(Peer(True, 5, 0)) == "uid=0(root) pid=5"
    assert gatekeeper.group() == "that owns the socket"


async def test_tcp_serves_the_open_routes_only() -> None:
    """Reads and wishes are refused with a hint, known or not; nothing tells which paths exist."""
    async with plant() as one, one.tcp() as client:
        for row in TABLE:
            path = row.path.replace("{pool}", "emails").replace("{index}", "0").replace("{operation}", "x")
            answer = await client.request(row.method, path)
            if row.access is Access.OPEN:
                assert answer.status_code in {200, 503}
            else:
                assert problem(answer)["kind"] == "not-permitted"
                assert "unix socket" in problem(answer)["hint"]
        for path in ("/", "/v1/nothing", "/v1/pools/none", "/x%0Ay"):
            assert problem(await client.get(path))["kind"] == "not-permitted"
        assert problem(await client.post("/livez"))["kind"] == "method-not-allowed"
        assert one.engine.wishes == []


@pytest.mark.parametrize(
    ("host", "allowed"),
    [
        ("localhost", True),
        ("LOCALHOST:9911", True),
        ("127.0.0.1:1", True),
        ("[::1]:9911", True),
        (socket.gethostname(), True),
        ("evil.example", False),
        ("localhost.evil.example", False),
        ("127.0.0.1.evil.example:9911", False),
        ("10.1.2.3", False),
        ("", False),
    ],
)
async def test_the_host_header_must_name_the_listener(host: str, allowed: bool) -> None:
    """DNS rebinding: a page of evil.example that resolves to us is not served."""
    async with plant() as one, one.tcp() as client:
        answer = await client.get("/livez", headers={"Host": host})
        if allowed:
            assert answer.status_code == 200
        else:
            assert problem(answer)["kind"] == "host-not-allowed"


async def test_host_headers_that_are_missing_or_doubled() -> None:
    """HTTP/1.1 needs exactly one; HTTP/1.0, which old load balancers speak, may have none."""
    async with plant() as one:
        assert (await one.raw(b"GET /livez HTTP/1.0\r\n\r\n", tcp=True)).startswith(b"HTTP/1.1 200")
        assert (await one.raw(b"GET /livez HTTP/1.1\r\n\r\n", tcp=True)).startswith(b"HTTP/1.1 400")
        doubled = b"GET /livez HTTP/1.1\r\nHost: localhost\r\nHost: evil.example\r\n\r\n"
        assert (await one.raw(doubled, tcp=True)).startswith(b"HTTP/1.1 400")
        assert (await one.raw(b"GET /livez HTTP/1.1\r\n\r\n")).startswith(b"HTTP/1.1 200")


async def test_no_web_page_may_wish() -> None:
    """An Origin header on a mutation is refused, whoever the peer is; on a read it does not matter."""
    async with plant() as one:
        for origin in ("http://evil.example", "null", "http://localhost"):
            answer = await one.client.post("/v1/drain", headers={"Origin": origin})
            assert problem(answer)["kind"] == "not-permitted"
        assert one.engine.wishes == []
        assert (await one.client.get("/v1/status", headers={"Origin": "http://x"})).status_code == 200
        assert "access-control-allow-origin" not in (await one.client.get("/livez")).headers
