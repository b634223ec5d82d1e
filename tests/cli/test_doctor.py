"""`pitbossd doctor`: what this machine allows, what follows from it, and whether pitbossd can run."""

import json
import os
import subprocess
import sys
from collections import namedtuple

import pytest
from click.testing import CliRunner

from supervisor.cli.pitbossd_commands import commands
from supervisor.runtime import doctor
from supervisor.runtime.doctor import Finding, Verdict, examine
from tests.e2e.daemon import public_python

TOPICS = ["kernel", "pidfd", "list of children", "control groups", "users", "descriptors", "systemd"]

Uname = namedtuple("Uname", ["release"])  # noqa: PYI024  # as little of os.uname() as is read


def finding(topic: str) -> Finding:
    """What is found about one topic."""
    return next(one for one in examine() if one.topic == topic)


def test_this_machine_is_examined() -> None:
    """The tests run here, so pitbossd does; every absence says what follows from it."""
    result = CliRunner().invoke(commands, ["doctor"])
    assert result.exit_code == 0, result.output
    found = json.loads(CliRunner().invoke(commands, ["doctor", "--json"]).output)
    assert [one["topic"] for one in found if one["topic"] in TOPICS] == TOPICS
    for one in found:
        assert one["topic"] in result.output and one["fact"] in result.output
        assert (one["verdict"] == "ok") == (not one["consequence"])


def test_looking_changes_nothing() -> None:
    """The process stays where it is: only a daemon makes room in a delegated group."""
    with open("/proc/self/cgroup", encoding="ascii") as file:
        before = file.read()
        list(examine())
        file.seek(0)
        assert file.read() == before


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_without_root_the_users_are_what_is_missing() -> None:
    """It can run all the same."""
    python, seen = public_python()
    identity = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    done = subprocess.run(
        [*identity, python, "-m", "supervisor.cli.pitbossd", "doctor", "--json"],
        env={**os.environ, **seen},
        capture_output=True,
        check=False,
        cwd="/",
    )
    assert done.returncode == 0, done.stderr
    users = next(one for one in json.loads(done.stdout) if one["topic"] == "users")
    assert users["verdict"] == "without" and "65534" in users["fact"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root has capabilities to lose")
def test_root_without_capabilities_cannot_run_workers_of_others() -> None:
    """A unit whose bounding set is too narrow is told which capability it lacks, and the exit code is 1."""
    done = subprocess.run(
        [
            "setpriv",
            "--bounding-set=-setuid,-kill",
            sys.executable,
            "-m",
            "supervisor.cli.pitbossd",
            "doctor",
        ],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "without CAP_KILL, CAP_SETUID" in done.stdout


def test_what_is_too_old_or_missing_is_bad(monkeypatch: pytest.MonkeyPatch) -> None:
    """An old kernel, and one that has no pidfd, are what pitbossd cannot run on."""
    monkeypatch.setattr(os, "uname", lambda: Uname("5.4.0-generic"))
    assert finding("kernel") == Finding("kernel", Verdict.BAD, "5.4.0-generic", "pitboss needs Linux 5.10")

    def missing(_pid: int) -> int:
        raise OSError(38, "Function not implemented")

    monkeypatch.setattr(os, "pidfd_open", missing)
    assert finding("pidfd").verdict is Verdict.BAD
    assert CliRunner().invoke(commands, ["doctor"]).exit_code == 1


def test_where_no_group_may_be_made_the_reason_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is the same reason that a daemon would log, with what to do about it."""
    monkeypatch.setattr(doctor, "find_place", lambda: "/user.slice is not delegated to this process")
    found = finding("control groups")
    assert (found.verdict, found.fact) == (Verdict.WITHOUT, "/user.slice is not delegated to this process")
    assert "Delegate=yes" in found.consequence
