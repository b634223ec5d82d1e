"""Sockets of a pool on a real daemon: there before any worker, kept over every restart, gone at the end."""

import json
import os
import signal
import socket
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.commands import worker
from tests.e2e.daemon import Daemon
from tests.ports import free_port
from tests.proc import is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]


def ask(address: tuple[str, int] | str) -> int:
    """Connect; the pid of the worker that answers."""
    with socket.socket(socket.AF_UNIX if isinstance(address, str) else socket.AF_INET) as client:
        client.settimeout(60)
        client.connect(address)
        return int(client.recv(100))


def reports(daemon: Daemon, name: str) -> list[dict[str, Any]]:
    """What each generation of an instance said that it found."""
    return [json.loads(line) for line in daemon.output(name).splitlines() if line.startswith("{")]


def listener(**more: Any) -> dict[str, Any]:
    """A pool of workers that answer with their pid."""
    return {
        "command": worker("listener"),
        "startup": {"min_uptime": 0.1},
        "stop": {"stages": [{"signal": "TERM", "grace": 20}]},
        **more,
    }


def test_what_workers_get(daemon: Make) -> None:
    """All instances share a socket, each has its own with `index`, and a pool without sockets has none."""
    port = free_port()
    shared = {"name": "http", "listen": f"127.0.0.1:{port}"}
    own = {"name": "own", "listen": "unix:own-{{ index }}.sock", "mode": "0600"}
    one = daemon({
        "pools": {
            "web": listener(instances=2, sockets=[shared, own]),
            "plain": listener(command=worker("listener", "/dev/stdout")),
        }
    }, env={"LISTEN_FDS": "1", "LISTEN_PID": "1", "LISTEN_FDNAMES": "stolen"})  # fmt: skip
    one.wait_ready("web")
    found = [eventually(partial(reports, one, f"web/{n}"), 60, "a report")[0] for n in (0, 1)]
    for number, report in enumerate(found):
        pid = one.instance(f"web/{number}")["pid"]
        assert report["environment"] == {
            "LISTEN_FDS": "2", "LISTEN_PID": str(pid), "LISTEN_FDNAMES": "http:own",
        }  # fmt: skip
        assert report["descriptors"] == [0, 1, 2, 3, 4, 5]
        assert ask(str(one.directory / f"own-{number}.sock")) == pid
    assert found[0]["inodes"][0] == found[1]["inodes"][0]
    assert found[0]["inodes"][1] != found[1]["inodes"][1]
    assert ask(("127.0.0.1", port)) in {report["pid"] for report in found}
    plain = eventually(lambda: reports(one, "plain/0"), 60, "a report")[0]
    assert plain["environment"] == {} and plain["descriptors"] == [0, 1, 2, 3]
    assert one.pool("web")["sockets"] == {"http": f"127.0.0.1:{port}", "own": "unix:own-{{ index }}.sock"}
    assert one.pool("plain")["sockets"] == {}
    assert f"127.0.0.1:{port} (http)" in one.ctl("explain", "web").stdout


def test_no_connection_is_refused_while_workers_come_and_go(daemon: Make) -> None:
    """Kill and restart the only worker again and again: whoever connects waits, and is answered."""
    port = free_port()
    sockets = [{"name": "http", "listen": port}, {"name": "app", "listen": "unix:app.sock"}]
    backoff = {"initial": 0.05, "max": 0.05}
    one = daemon({"pools": {"web": listener(sockets=sockets, restart={"backoff": backoff})}})
    one.wait_ready()
    stop, answers, errors = threading.Event(), [], []

    def loop(address: tuple[str, int] | str) -> None:
        while not stop.is_set():
            try:
                answers.append(ask(address))
            except (OSError, ValueError) as error:
                errors.append(error)

    threads = [
        threading.Thread(target=loop, args=(address,))
        for address in (("127.0.0.1", port), str(one.directory / "app.sock"))
    ]
    for thread in threads:
        thread.start()
    try:
        for turn in range(3):
            before = one.instance("web/0")["generation"]
            if turn == 1:
                assert one.ctl("restart", "web").returncode == 0
            else:
                # Whoever is being answered at this moment is cut off: stop first what asks.
                assert one.ctl("stop", "web").returncode == 0
                assert one.ctl("start", "web").returncode == 0
            assert one.instance("web/0")["generation"] > before
    finally:
        stop.set()
        for thread in threads:
            thread.join(60)
    assert errors == []
    assert len(set(answers)) >= 3
    inodes = {tuple(report["inodes"]) for report in reports(one, "web/0")}
    assert len(inodes) == 1, "every generation was handed the same sockets"


def test_an_extra_instance_of_a_rollout(daemon: Make) -> None:
    """It shares what is shared, and gets a socket of its own where each has one: opened when it is needed."""
    port = free_port()
    sockets = [{"name": "http", "listen": port}, {"name": "own", "listen": "unix:own-{{ index }}.sock"}]
    rollout = {"max_surge": 1, "min_ready": 0.1}
    one = daemon({"pools": {"web": listener(sockets=sockets, rollout=rollout)}})
    one.wait_ready()
    assert not (one.directory / "own-1.sock").exists()
    assert one.ctl("restart", "web").returncode == 0
    (extra,) = reports(one, "web/1")
    assert extra["environment"]["LISTEN_FDNAMES"] == "http:own"
    first, second = reports(one, "web/0")
    assert first["inodes"] == second["inodes"]
    assert extra["inodes"][0] == first["inodes"][0] and extra["inodes"][1] != first["inodes"][1]
    assert ask(("127.0.0.1", port)) == one.instance("web/0")["pid"]
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    assert not (one.directory / "own-1.sock").exists()


def test_all_that_cannot_be_had_is_named_and_nothing_starts(daemon: Make) -> None:
    """One message for each socket, exit code as for any start that fails, no worker, no file left."""
    with socket.create_server(("127.0.0.1", 0)) as other:
        taken = other.getsockname()[1]
        sockets = [
            {"name": "good", "listen": "unix:good.sock"},
            {"name": "a", "listen": taken},
            {"name": "b", "listen": "unix:file"},
        ]
        one = daemon({"pools": {"web": listener(sockets=sockets), "plain": listener()}}, start=False)
        (one.directory / "file").write_text("precious")
        one.start(wait=False)
        assert one.wait_end() != 0
    assert f"cannot listen on 127.0.0.1:{taken}: it is in use" in one.log()
    assert f"cannot listen on unix:{one.directory}/file: a file that is not a socket" in one.log()
    assert not (one.directory / "good.sock").exists()
    assert (one.directory / "file").read_text() == "precious"
    assert not (one.directory / "state" / "logs" / "web-0.log").exists()
    assert not (one.directory / "state" / "logs" / "plain-0.log").exists()


def test_the_end(daemon: Make) -> None:
    """A daemon that ends closes its ports and removes the files of its sockets, and no others."""
    port = free_port()
    sockets = [
        {"name": "http", "listen": port},
        {"name": "app", "listen": "unix:app.sock"},
        {"name": "lost", "listen": "unix:lost.sock"},
    ]
    one = daemon({"pools": {"web": listener(sockets=sockets)}})
    one.wait_ready()
    lost = one.directory / "lost.sock"
    lost.unlink()
    lost.write_text("somebody else's")
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    assert not (one.directory / "app.sock").exists()
    assert lost.read_text() == "somebody else's"
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", port))


def test_after_a_daemon_that_was_killed(daemon: Make) -> None:
    """Its files make room once its workers are gone; as long as one listens, the next daemon says so."""
    one = daemon({"pools": {"web": listener(sockets=[{"name": "app", "listen": "unix:app.sock"}])}})
    one.wait_ready()
    pid = one.instance("web/0")["pid"]
    one.signal(signal.SIGKILL)
    one.wait_end()
    try:
        if is_alive(pid):
            one.start(wait=False)
            assert one.wait_end() != 0
            assert "app.sock: somebody listens there already; stop that one first" in one.log()
    finally:
        if is_alive(pid):
            os.kill(pid, signal.SIGKILL)
    eventually(lambda: not is_alive(pid), 60, "the worker is gone")
    assert Path(one.directory / "app.sock").is_socket()
    one.start()
    one.wait_ready()
    assert ask(str(one.directory / "app.sock")) == one.instance("web/0")["pid"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give a socket away")
def test_the_pools_user_owns_its_socket(daemon: Make) -> None:
    """With a user, the socket is the user's unless the manifest says otherwise."""
    sockets = [
        {"name": "a", "listen": "unix:a.sock"},
        {"name": "b", "listen": "unix:b.sock", "owner": "root:daemon", "mode": "0666"},
    ]
    command = ["sleep", "1000"]
    pool = {"command": command, "user": "nobody", "working_directory": "/", "sockets": sockets}
    one = daemon({"pools": {"web": pool}})
    one.wait_ready()
    first, second = ((one.directory / name).stat() for name in ("a.sock", "b.sock"))
    assert (first.st_uid, first.st_mode & 0o777) == (65534, 0o660)
    assert (second.st_uid, second.st_gid, second.st_mode & 0o777) == (0, 1, 0o666)
    (state,) = [
        line
        for line in Path(f"/proc/{one.instance('web/0')['pid']}/status").read_text().splitlines()
        if line.startswith("Uid:")
    ]
    assert state.split()[1:] == ["65534"] * 4
