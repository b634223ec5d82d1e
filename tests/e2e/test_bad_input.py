"""What keeps a daemon from starting: bad manifests, taken addresses. Nothing of it leaves a trace."""

import os
import re
import signal
import socket
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import FAST_BACKOFF, pool, worker
from tests.e2e.daemon import BIN, Daemon, public_python
from tests.waiting import eventually

Make = Callable[..., Daemon]
NOBODY = 65534

HEAD = "version: 1\nstate_directory: {0}/state\nruntime_directory: {0}/run\n"
POOL = "pools:\n  web:\n    command: [touch, {0}/started]\n"

BROKEN = {
    "syntax": (POOL + "    command: [unclosed\n", r":\d+:\d+: "),
    "unknown-key": (POOL + "    instnces: 2\n", r":7:5: .*instances"),
    "wrong-type": (POOL + "    instances: many\n", r":7:16: pools\.web\.instances"),
    "cycle": (
        POOL + "    depends_on: {{b: ready}}\n  b: {{command: [a], depends_on: {{web: ready}}}}\n",
        r":\d+:\d+: .*web.*b",
    ),
    "anchor-in-itself": ("pools: &a\n  web: *a\n", r":\d+:\d+: "),
    "missing-user": (POOL + "    user: nobody-of-this-name\n", r":7:11: .*nobody-of-this-name"),
    "control-characters": (POOL + "    user: \x07\n", r":7:11: "),
    "empty": ("", r"pitboss\.yaml"),
}


def attempt(
    one: Daemon, verb: str = "run", path: Path | None = None, user: int | None = None
) -> subprocess.CompletedProcess[str]:
    """Run `pitbossd VERB` on a manifest that it should refuse."""
    command, environment = [str(BIN / "pitbossd")], dict(os.environ)
    if user is not None:
        python, seen = public_python()
        environment |= seen
        command = ["setpriv", f"--reuid={user}", f"--regid={user}", "--clear-groups", python]
        command += ["-m", "supervisor.cli.pitbossd"]
    return subprocess.run(
        [*command, verb, str(path or one.manifest_path)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env=environment,
        cwd=one.directory,
    )


def untouched(one: Daemon) -> bool:
    """Whether a refused manifest has left nothing: no directory, no worker."""
    return {path.name for path in one.directory.iterdir()} <= {"pitboss.yaml", "place"}


@pytest.mark.parametrize("verb", ["run", "check"])
@pytest.mark.parametrize("case", sorted(BROKEN))
def test_a_broken_manifest_is_refused_with_its_place(daemon: Make, case: str, verb: str) -> None:
    """Exit code 78, the file with line and column, and no trace on the disk."""
    text, expected = BROKEN[case]
    one = daemon({}, start=False)
    head = "" if case == "empty" else HEAD
    one.manifest_path.write_text((head + text).format(one.directory))
    done = attempt(one, verb)
    assert done.returncode == 78, done.stdout + done.stderr
    assert re.search(re.escape(str(one.manifest_path)) if case == "empty" else expected, done.stderr)
    assert str(one.manifest_path) in done.stderr
    assert "Traceback" not in done.stderr
    assert "\x07" not in done.stderr
    assert untouched(one)


@pytest.mark.parametrize("verb", ["run", "check"])
@pytest.mark.parametrize("case", ["binary", "huge", "directory", "missing", "unreadable", "fifo", "laughs"])
def test_what_is_no_manifest_is_refused(daemon: Make, case: str, verb: str) -> None:
    """Whatever lies at the path: exit code 78 with the path and a reason, soon, and nothing made."""
    one = daemon({}, start=False)
    one.directory.chmod(0o755)
    place, user = one.directory / "place", None
    if case == "binary":
        place.write_bytes(bytes(range(256)) * 16)
    elif case == "huge":
        place.write_text("# much\n" * 2_000_000)
    elif case == "directory":
        place.mkdir()
    elif case == "unreadable":
        place.write_text("version: 1\n")
        place.chmod(0)
        user = NOBODY if os.geteuid() == 0 else None
    elif case == "fifo":
        os.mkfifo(place)
    elif case == "laughs":
        levels = [f"l{n}: &l{n} [{', '.join([f'*l{n - 1}'] * 9)}]" for n in range(1, 12)]
        place.write_text("\n".join(["l0: &l0 ha", *levels]))
    done = attempt(one, verb, place, user)
    assert done.returncode == 78, done.stdout + done.stderr
    assert str(place) in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr) < 10_000
    assert untouched(one)


def test_a_missing_program_is_waited_for(daemon: Make) -> None:
    """The instance is in backoff, says which program is missing, and starts once it is there."""
    one = daemon({}, start=False)
    program = one.directory / "not-there-yet"
    one.write_manifest({"pools": {"web": pool([str(program)], restart={"backoff": FAST_BACKOFF})}})
    one.start()
    shown = eventually(lambda: (now := one.instance("web/0"))["last_exit"] and now)
    assert shown["last_exit"]["class"] == "spawn-error"
    assert str(program) in shown["last_exit"]["detail"]
    eventually(lambda: one.instance("web/0")["phase"] == "backoff")
    explained = one.ctl("explain", "web/0")
    assert str(program) in re.sub(r"\s*\n\s*", "", explained.stdout), explained.stdout
    assert one.get("/readyz").status_code == 503
    program.write_text("#!/bin/sh\nexec sleep 1000\n")
    program.chmod(0o755)
    one.wait_ready()


@pytest.mark.parametrize("case", ["file-in-its-place", "read-only"])
def test_an_unwritable_log_directory_starts_nothing(daemon: Make, case: str) -> None:
    """Exit code 1, the directory is named, and no worker has run."""
    user = NOBODY if case == "read-only" and os.geteuid() == 0 else None
    one = daemon({}, start=False, user=user)
    logs, started = one.directory / "logs", one.directory / "started"
    if case == "read-only":
        logs.mkdir(mode=0o555)
        one.directory.chmod(0o755)
    else:
        logs.write_text("")
    web = pool(["touch", str(started)], logs={"directory": str(logs)})
    one.write_manifest({"pools": {"web": web}})
    done = attempt(one, user=user)
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(logs) in done.stderr
    assert "nothing was started" in done.stderr
    assert not started.exists()


def test_a_control_socket_of_another_is_left_alone(daemon: Make) -> None:
    """Somebody listens there: exit code 1, nothing started, and the listener still gets its clients."""
    one = daemon({}, start=False)
    started, place = one.directory / "started", one.directory / "other.sock"
    one.write_manifest(
        {"control": {"unix": str(place)}, "pools": {"web": pool(["touch", str(started)])}},
    )
    with socket.socket(socket.AF_UNIX) as other, socket.socket(socket.AF_UNIX) as client:
        other.bind(str(place))
        other.listen(8)
        done = attempt(one)
        client.connect(str(place))
    assert done.returncode == 1, done.stdout + done.stderr
    assert str(place) in done.stderr
    assert "Traceback" not in done.stderr
    assert not started.exists()


def test_a_stale_control_socket_is_replaced(daemon: Make) -> None:
    """A socket that nobody listens on was left behind; the daemon takes its place."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}}, start=False)
    one.socket.parent.mkdir()
    with socket.socket(socket.AF_UNIX) as stale:
        stale.bind(str(one.socket))
    one.start()
    one.wait_ready()


def test_a_control_socket_that_was_removed_comes_back(daemon: Make) -> None:
    """At SIGUSR1, which the ctl names; no worker notices, and who was connected is served as before."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    before = one.instance("web/0")["pid"]
    with one.client() as connected:
        assert connected.get("/livez").status_code == 200
        one.socket.unlink()
        lost = one.ctl("status")
        assert (lost.returncode, "SIGUSR1" in lost.stderr) == (69, True)
        assert one.process is not None
        one.process.send_signal(signal.SIGUSR1)
        eventually(one.socket.exists, 60, "the socket is there again")
        assert connected.get("/livez").status_code == 200
        assert one.ctl("status").returncode == 0
    assert one.instance("web/0")["pid"] == before
    assert "was gone, and is there again" in one.log()


def test_a_taken_port_starts_nothing(daemon: Make) -> None:
    """Exit code 1, the address is named, and no worker has run."""
    one = daemon({}, start=False)
    started = one.directory / "started"
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen(1)
        where = f"127.0.0.1:{other.getsockname()[1]}"
        one.write_manifest({"control": {"http": where}, "pools": {"web": pool(["touch", str(started)])}})
        done = attempt(one)
    assert done.returncode == 1, done.stdout + done.stderr
    assert where in done.stderr
    assert "nothing was started" in done.stderr
    assert "Traceback" not in done.stderr
    assert not started.exists()


def test_a_second_daemon_on_the_same_directory_goes_away(daemon: Make) -> None:
    """It names the pid of the first, which goes on, keeps its workers, and can still be operated."""
    one = daemon({"pools": {"web": pool(worker("obedient"), rollout={"min_ready": "0s"})}})
    one.wait_ready()
    before = one.instance("web/0")["pid"]
    done = attempt(one)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"pid {one.pid}" in done.stderr
    shown = one.instance("web/0")
    assert (shown["pid"], shown["generation"], shown["ready"]) == (before, 1, True)
    restarted = one.ctl("restart", "web")
    assert restarted.returncode == 0, restarted.stdout + restarted.stderr
    assert one.instance("web/0")["generation"] == 2


def test_two_daemons_never_share_a_journal(daemon: Make) -> None:
    """Another runtime directory and the same state: refused with the pid of the first, which goes on."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    other = daemon({}, start=False)
    started = other.directory / "started"
    web = pool(["touch", str(started)])
    other.write_manifest({"state_directory": str(one.directory / "state"), "pools": {"web": web}})
    done = attempt(other)
    assert done.returncode == 1, done.stdout + done.stderr
    assert f"pid {one.pid}" in done.stderr
    assert str(one.directory / "state") in done.stderr
    assert not started.exists()
    assert one.instance("web/0")["ready"]


def test_one_directory_for_everything_will_do(daemon: Make) -> None:
    """Runtime and state in one place, one of them through a link: the daemon is not in its own way."""
    one = daemon({}, start=False)
    (one.directory / "run").mkdir()
    (one.directory / "state").symlink_to(one.directory / "run")
    one.write_manifest({"pools": {"web": pool(worker("obedient"))}})
    one.start()
    one.wait_ready()


def test_a_limit_of_descriptors_that_is_too_low_is_told_at_the_start(daemon: Make) -> None:
    """Exit code 1, both numbers and what to do; no worker has run. With fewer instances it runs."""
    one = daemon({}, start=False)
    started = one.directory / "started"
    one.write_manifest({"pools": {"web": pool(["touch", str(started)], instances=50)}})
    limited = ["sh", "-c", 'ulimit -n 128 && exec "$@"', "sh", str(BIN / "pitbossd"), "run"]
    done = subprocess.run(
        [*limited, str(one.manifest_path)], capture_output=True, text=True, timeout=120, check=False
    )
    assert done.returncode == 1, done.stdout + done.stderr
    assert "50 instances" in done.stderr
    assert "128" in done.stderr
    assert "LimitNOFILE" in done.stderr
    assert "nothing was started" in done.stderr
    assert not started.exists()
