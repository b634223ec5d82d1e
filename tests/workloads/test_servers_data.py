"""The real PostgreSQL and Redis: stopped by their presets they lose nothing and have nothing to recover."""

import os
import pwd
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import redis as redis_client

from tests.e2e.daemon import ROOT, Daemon
from tests.ports import free_port
from tests.waiting import eventually
from tests.workloads.server_harness import PATIENCE_SECONDS, need

Make = Callable[..., Daemon]


class Postgres:
    """A new cluster, and a daemon that runs `postgresql` of `configs/databases.yaml` on it."""

    def __init__(self, **pool: Any) -> None:
        if os.geteuid() != 0:
            pytest.skip("PostgreSQL runs as a user of its own, so its daemon runs as root")
        programs = sorted(Path("/usr/lib/postgresql").glob("*/bin/postgres"))
        self.programs = programs[-1].parent if programs else Path(need("postgres", "postgresql")).parent
        self.daemon = Daemon({"include": ["databases.yaml", "overrides.yaml"]})
        self.sessions: list[subprocess.Popen[bytes]] = []
        directory = self.daemon.directory
        directory.chmod(0o711)
        self.data = directory / "pg"
        self.data.mkdir(mode=0o700)
        owner = pwd.getpwnam("postgres")
        os.chown(self.data, owner.pw_uid, owner.pw_gid)
        self._run("initdb", "-D", str(self.data), "-A", "trust", "--no-sync", "-E", "UTF8", "--locale=C")
        settings = {"unix_socket_directories": str(self.data), "listen_addresses": "", "fsync": "off"}
        command = [str(self.programs / "postgres"), "-D", str(self.data)]
        for name, value in settings.items():
            command += ["-c", f"{name}={value}"]
        # To lower it is more than root may do in some containers.
        pool = {"command": command, "oom_score_adjust": None, **pool}
        write(self.daemon, {"postgresql": pool, "redis": {"instances": 0, "user": None}})

    def _as_postgres(self, program: str, *arguments: str) -> list[str]:
        identity = ["setpriv", "--reuid=postgres", "--regid=postgres", "--init-groups"]
        return [*identity, str(self.programs / program), *arguments]

    def _run(self, program: str, *arguments: str) -> str:
        done = subprocess.run(
            self._as_postgres(program, *arguments), capture_output=True, text=True, check=False, cwd="/"
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    def sql(self, text: str) -> str:
        """What a statement answers."""
        return self._run("psql", "-h", str(self.data), "-d", "postgres", "-AtXqc", text).strip()

    def hold(self) -> None:
        """A client in the middle of a transaction: it has written a row, and waits for a long time."""
        text = "begin; insert into t values (2); select pg_sleep(600)"
        words = [word for part in text.split("; ") for word in ("-c", part)]
        command = self._as_postgres("psql", "-h", str(self.data), "-d", "postgres", "-AtXq", *words)
        self.sessions.append(
            subprocess.Popen(command, cwd="/", stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        )
        busy = "select count(*) from pg_stat_activity where query like 'select pg_sleep%'"
        eventually(lambda: self.sql(busy) == "1", 60, "the client waits")

    def stop_and_start(self) -> tuple[dict[str, Any], str]:
        """Stop it and start it again: the record of its end, and what it has written since."""
        before = len(self.daemon.output("postgresql/0"))
        stopped = self.daemon.ctl("stop", "postgresql", timeout=PATIENCE_SECONDS)
        assert stopped.returncode == 0, stopped.stderr
        last: dict[str, Any] = self.daemon.instance("postgresql/0")["last_exit"]
        assert self.daemon.ctl("start", "postgresql", timeout=PATIENCE_SECONDS).returncode == 0
        return last, self.daemon.output("postgresql/0")[before:]

    def close(self) -> None:
        """End everything."""
        for session in self.sessions:
            session.kill()
            session.wait(30)
        self.daemon.close()


def write(daemon: Daemon, pools: dict[str, Any]) -> None:
    """Put the example beside the manifest, and lay this over it."""
    import yaml

    shutil.copy(ROOT / "configs" / "databases.yaml", daemon.directory)
    (daemon.directory / "overrides.yaml").write_text(yaml.safe_dump({"version": 1, "pools": pools}))


@pytest.fixture
def postgres() -> Iterator[Callable[..., Postgres]]:
    """Start a PostgreSQL with one table and one row; it ends with its test."""
    made: list[Postgres] = []

    def make(**pool: Any) -> Postgres:
        one = Postgres(**pool)
        made.append(one)
        one.daemon.start()
        one.daemon.wait_ready(within=PATIENCE_SECONDS)
        # It said so itself: it is asked at once.
        one.sql("create table t (n int); insert into t values (1)")
        one.hold()
        return one

    yield make
    for one in made:
        one.close()


def test_postgresql_is_shut_down(postgres: Callable[..., Postgres]) -> None:
    """SIGINT with a client in a transaction: a clean end on the first rung, and no recovery afterwards."""
    one = postgres()
    last, output = one.stop_and_start()
    assert (last["class"], last["detail"], last["rung"]) == ("clean", "exit 0", "stage-1")
    assert "received fast shutdown request" in output
    assert "database system was shut down at" in output
    assert "recovery" not in output
    assert one.sql("select n from t") == "1"


def test_postgresql_after_sigterm_waits_for_its_clients(postgres: Callable[..., Postgres]) -> None:
    """Why the preset does not begin with SIGTERM: it waits for as long as a client stays."""
    stages = [{"signal": "SIGTERM", "grace": "1s"}, {"signal": "SIGINT", "grace": "60s"}]
    last, output = postgres(stop={"preset": None, "stages": stages}).stop_and_start()
    assert (last["class"], last["rung"]) == ("clean", "stage-2")
    assert "received smart shutdown request" in output


def test_postgresql_after_sigquit_must_recover(postgres: Callable[..., Postgres]) -> None:
    """Why SIGQUIT comes second: the next start has to recover."""
    stages = [{"signal": "SIGQUIT", "grace": "60s"}]
    one = postgres(stop={"preset": None, "stages": stages})
    _, output = one.stop_and_start()
    assert "automatic recovery in progress" in output
    assert one.sql("select n from t") == "1"


class Redis:
    """A daemon that runs `redis` of `configs/databases.yaml` with its data in a directory of its own."""

    def __init__(self) -> None:
        program = need("redis-server", "redis-server")
        self.port = free_port()
        self.daemon = Daemon({"include": ["databases.yaml", "overrides.yaml"]})
        options = {
            "port": str(self.port),
            "bind": "127.0.0.1",
            "dir": str(self.daemon.directory),
            "save": "3600 1",
            "daemonize": "no",
            "supervised": "systemd",
        }
        command = [program, *(word for name, value in options.items() for word in (f"--{name}", value))]
        pools = {
            "redis": {"command": command, "user": None},
            "postgresql": {"instances": 0, "user": None, "oom_score_adjust": None},
        }
        write(self.daemon, pools)
        self.daemon.start()
        self.daemon.wait_ready(within=PATIENCE_SECONDS)

    def command(self, *words: str) -> Any:
        """Ask the server something."""
        with redis_client.Redis(port=self.port, decode_responses=True) as client:
            return client.execute_command(*words)

    def stop_and_start(self, *options: str) -> dict[str, Any]:
        """Stop it and start it again; the record of its end."""
        assert self.daemon.ctl("stop", *options, "redis", timeout=PATIENCE_SECONDS).returncode == 0
        last: dict[str, Any] = self.daemon.instance("redis/0")["last_exit"]
        assert self.daemon.ctl("start", "redis", timeout=PATIENCE_SECONDS).returncode == 0
        return last


@pytest.fixture
def redis() -> Iterator[Redis]:
    """A running Redis; it ends with its test."""
    one = Redis()
    yield one
    one.daemon.close()


def test_redis_saves_what_it_has(redis: Redis) -> None:
    """SIGTERM: a clean end on the first rung, and the key is there again; after SIGKILL it is not."""
    redis.command("SET", "kept", "yes")
    last = redis.stop_and_start()
    assert (last["class"], last["detail"], last["rung"]) == ("clean", "exit 0", "stage-1")
    assert redis.command("GET", "kept") == "yes"
    redis.command("SET", "lost", "yes")
    redis.stop_and_start("--kill")
    assert redis.command("GET", "kept") == "yes"
    assert redis.command("GET", "lost") is None
