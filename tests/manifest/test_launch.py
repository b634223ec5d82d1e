"""What one generation of an instance looks like."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

import dataclasses
import os
import pwd
from pathlib import Path

import pytest

from supervisor.core.identity import InstanceId
from supervisor.core.launch import ExecCheck, HttpCheck, Identity, Launch, LogFormat, LogPolicy, TcpCheck
from supervisor.manifest.load import Manifest
from supervisor.manifest.machine import Machine
from tests.manifest.conftest import Loader

ONE = InstanceId("a", 1)


def test_everything_arrives(manifest: Loader, tmp_path: Path) -> None:
    """Each key of a pool that a process needs reaches its launch, with all templates filled in."""
    launch = manifest(
        """
        state_directory: state
        pools:
          a:
            command: "run --port {{ 8000 + index }} '{{ pool }} x' {{ instance }}"
            instances: 2
            user: nobody
            group: daemon
            groups: [daemon, 0]
            working_directory: work/{{ index }}
            umask: 0027
            nice: 5
            oom_score_adjust: -10
            watchdog: 30s
            limits: {nofile: 100:200, core: 0, stack: 8MiB, as: unlimited, nproc: "7"}
            readiness: {http: {url: "http://127.0.0.1:{{ 8000 + index }}/", headers: {X-Id: 7}, unix_socket: "run/{{ pool }}.sock"}}
            liveness: {tcp: "localhost:{{ 9000 + index }}"}
            drain: {http: "http://127.0.0.1:{{ 8000 + index }}/drain", until: {exec: [check, "{{ generation }}"]}}
            logs: {directory: "logs-{{ pool }}", max_bytes: 1MiB, keep: 0, format: json, rate_limit: 1MiB/s}
        """
    ).launch(ONE, 3)
    nobody, daemon = pwd.getpwnam("nobody"), pwd.getpwnam("daemon")
    assert launch == Launch(
        argv=("run", "--port", "8001", "a x", "a/1"),
        environment=launch.environment,
        working_directory=f"{tmp_path}/work/1",
        logs=LogPolicy(f"{tmp_path}/logs-a", 2**20, 0, LogFormat.JSON, 2**20),
        identity=Identity("nobody", nobody.pw_uid, daemon.pw_gid, (daemon.pw_gid, 0)),
        umask=0o027,
        nice=5,
        oom_score_adjust=-10,
        limits={
            "NOFILE": (100, 200),
            "CORE": (0, 0),
            "STACK": (2**23, 2**23),
            "AS": (-1, -1),
            "NPROC": (7, 7),
        },
        watchdog_seconds=30.0,
        readiness=HttpCheck("http://127.0.0.1:8001/", "GET", {"X-Id": "7"}, f"{tmp_path}/run/a.sock"),
        liveness=TcpCheck("localhost", 9001),
        drain=HttpCheck("http://127.0.0.1:8001/drain", "POST"),
        until=ExecCheck(("check", "3")),
    )


def test_the_defaults(manifest: Loader, tmp_path: Path) -> None:
    """A pool of one line runs as the daemon, in the directory of the manifest."""
    launch = manifest("pools: {a: {command: x}}").launch(InstanceId("a", 0), 1)
    assert launch == Launch(("x",), launch.environment, str(tmp_path), LogPolicy("/var/lib/pitboss/logs"))


def test_a_directory_that_looks_like_a_template(tmp_path: Path, machine: Machine) -> None:
    """The place of the manifest is never read as a template."""
    from supervisor.manifest.load import load

    folder = tmp_path / "{{ oh }}"
    folder.mkdir()
    (folder / "m.yaml").write_text("state_directory: s\npools: {a: {command: x}}")
    launch = load(folder / "m.yaml", machine=machine).launch(InstanceId("a", 0), 1)
    assert launch.working_directory == str(folder)
    assert launch.logs.directory == f"{folder}/s/logs"


def environment_of(loaded: Manifest, generation: int = 1) -> dict[str, str]:
    """The variables of `a/1`."""
    return dict(loaded.launch(ONE, generation).environment)


def test_the_environment_is_clean_and_ordered(manifest: Loader) -> None:
    """The base, then files, then the manifest, then what pitbossd says; later ones win."""
    daemon = {
        "PATH": "/daemon/bin",
        "LANG": "de_DE.UTF-8",
        "LC_ALL": "C",
        "TZ": "UTC",
        "HOME": "/daemon",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
        "LISTEN_FDS": "3",
        "PITBOSS_POOL": "outer",
        "EDITOR": "ed",
    }
    loaded = manifest(
        """
        pools:
          a:
            command: x
            instances: 2
            environment_files: [one.env, two.env, -none.env]
            environment: {B: manifest, LANG: C, VERSION: 1.10, HEX: 0x10, WORD: yes, PORT: "{{ 8000 + index }}"}
            drain: {signal: USR1, settle: 9s, window: 1500ms}
            stop: {stages: [{signal: TERM, grace: 2s}, {signal: QUIT, grace: 1s}]}
        """,
        on=Machine(0, 0, "h", daemon),
        one__env="A=one\nB=one\nTZ=Europe/Berlin\n",
        two__env="A=two\n",
    )
    root = pwd.getpwuid(0)
    assert environment_of(loaded, 7) == {
        "PATH": "/daemon/bin",
        "LANG": "C",
        "LC_ALL": "C",
        "TZ": "Europe/Berlin",
        "HOME": "/daemon",
        "USER": root.pw_name,
        "LOGNAME": root.pw_name,
        "SHELL": root.pw_shell,
        "A": "two",
        "B": "manifest",
        "VERSION": "1.10",
        "HEX": "0x10",
        "WORD": "yes",
        "PORT": "8001",
        "PITBOSS_POOL": "a",
        "PITBOSS_INSTANCE": "a/1",
        "PITBOSS_INDEX": "1",
        "PITBOSS_GENERATION": "7",
        "PITBOSS_REVISION": loaded.plan.pools["a"].revision,
        "PITBOSS_STOP_BUDGET_USEC": "4500000",
    }


def test_the_environment_of_another_user(manifest: Loader) -> None:
    """Home, name and shell follow the user, whatever the daemon's are."""
    loaded = manifest(
        "pools: {a: {command: x, instances: 2, user: nobody}}",
        on=Machine(0, 0, "h", {"HOME": "/daemon", "USER": "d"}),
    )
    nobody = pwd.getpwnam("nobody")
    found = environment_of(loaded)
    assert (found["HOME"], found["USER"], found["LOGNAME"], found["SHELL"]) == (
        nobody.pw_dir, nobody.pw_name, nobody.pw_name, nobody.pw_shell or "/bin/sh",
    )  # fmt: skip
    assert found["PATH"].endswith("/sbin:/bin")


def test_one_generation_cannot_change_the_next(manifest: Loader) -> None:
    """Each launch has its own environment."""
    loaded = manifest("pools: {a: {command: x, instances: 2}}")
    first = loaded.launch(ONE, 1).environment
    assert isinstance(first, dict)
    first["LEAK"] = "x"
    assert "LEAK" not in loaded.launch(ONE, 2).environment


def test_accounts(manifest: Loader) -> None:
    """Names and numbers mean the same, and supplementary groups are complete."""
    nobody = pwd.getpwnam("nobody")
    by_name = manifest("pools: {a: {command: x, user: nobody}}").launch(ONE, 1).identity
    by_number = manifest(f"pools: {{a: {{command: x, user: {nobody.pw_uid}}}}}").launch(ONE, 1).identity
    groups = tuple(os.getgrouplist("nobody", nobody.pw_gid))
    assert by_name == by_number == Identity("nobody", nobody.pw_uid, nobody.pw_gid, groups)
    stranger = manifest("pools: {a: {command: x, user: 54321, group: 54322}}").launch(ONE, 1).identity
    assert stranger == Identity("54321", 54321, 54322, (54322,))
    group_only = manifest("pools: {a: {command: x, group: daemon, groups: []}}").launch(ONE, 1).identity
    assert group_only is not None
    assert (group_only.uid, group_only.groups) == (0, ())


def test_a_daemon_that_is_not_root_may_name_itself(manifest: Loader) -> None:
    """The same user is no change at all."""
    nobody = pwd.getpwnam("nobody")
    somebody = Machine(nobody.pw_uid, nobody.pw_gid, "h", {"XDG_STATE_HOME": "/s", "XDG_RUNTIME_DIR": "/r"})
    loaded = manifest("pools: {a: {command: x, user: nobody}}", on=somebody)
    assert loaded.launch(ONE, 1).identity is None
    assert (loaded.state_directory, loaded.runtime_directory) == (Path("/s/pitboss"), Path("/r/pitboss"))
    bare = dataclasses.replace(somebody, environ={"HOME": "/home/n"})
    loaded = manifest("pools: {a: {command: x}}", on=bare)
    assert loaded.state_directory == Path("/home/n/.local/state/pitboss")
    assert loaded.runtime_directory == Path(f"/tmp/pitboss-{nobody.pw_uid}")
    assert loaded.control.unix == loaded.runtime_directory / "control.sock"


def test_places_of_the_host(manifest: Loader, tmp_path: Path) -> None:
    """Relative paths begin where the manifest is; the control plane listens where it says."""
    loaded = manifest(
        "state_directory: s\nruntime_directory: ./r\ncontrol: {http: 9911}\npools: {a: {command: x}}"
    )
    assert (loaded.state_directory, loaded.runtime_directory) == (tmp_path / "s", tmp_path / "r")
    assert (loaded.control.unix, loaded.control.http) == (tmp_path / "r/control.sock", ("127.0.0.1", 9911))
    loaded = manifest("control: {unix: c.sock, http: '[::1]:0'}\npools: {a: {command: x}}")
    assert (loaded.control.unix, loaded.control.http) == (tmp_path / "c.sock", ("::1", 0))
    assert loaded.runtime_directory == Path("/run/pitboss")
    assert loaded.path == tmp_path / "m.yaml"


@pytest.mark.parametrize(
    ("keys", "path"),
    [
        ("command: /no/such/program", "pools.a.command"),
        ("command: no-such-program-anywhere", "pools.a.command"),
        ("command: ./no-such-script", "pools.a.command"),
        ("command: sh, working_directory: /no/such/directory", "pools.a.working_directory"),
        ("command: sh, environment: {PATH: /nowhere}", "pools.a.command"),
    ],
)
def test_what_is_missing_is_a_warning(manifest: Loader, keys: str, path: str) -> None:
    """A deploy may bring it later."""
    warnings = manifest(f"pools: {{a: {{{keys}}}}}").warnings
    assert [one.path for one in warnings] == [path]
    assert warnings[0].message.endswith("(it must be there when the pool starts)")


def test_an_address_that_others_can_reach_is_a_warning(manifest: Loader) -> None:
    """Open to the network is allowed, but said."""
    for address, expected in (
        ("0.0.0.0:9911", 1),
        ("[::]:9911", 1),
        ("localhost:9911", 0),
        ("127.0.0.1:9911", 0),
    ):
        loaded = manifest(f"control: {{http: '{address}'}}\npools: {{a: {{command: sh}}}}")
        assert len(loaded.warnings) == expected


def test_nothing_odd_is_no_warning(manifest: Loader) -> None:
    """A program that is there is not talked about."""
    assert (
        manifest("pools: {a: {command: sh}, none: {command: no-such-program, instances: 0}}").warnings == ()
    )
