"""Who can reach a daemon, and what of its surroundings it believes: as little as can be, without asking."""

import grp
import json
import os
import pwd
import re
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest

from supervisor.cli.pitbossd_commands import DEFAULT_MANIFEST
from tests.e2e.commands import pool, script, worker
from tests.e2e.daemon import BIN, Daemon, public_python
from tests.ports import free_port
from tests.proc import descriptor_targets
from tests.waiting import eventually

Make = Callable[..., Daemon]

STRANGER = 54321
PROTOCOLS = ("tcp", "tcp6", "udp", "udp6", "udplite", "raw", "raw6", "packet")
LOOPBACK = {"0100007F", "00000000000000000000000001000000"}
needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")


def network_sockets(pid: int) -> dict[str, str]:
    """The sockets of a process that a network can reach: inode and local address, as the kernel writes it."""
    held: set[str] = set()
    for target in descriptor_targets(pid).values():
        held.update(re.findall(r"^socket:\[(\d+)\]$", target))
    found = {}
    for protocol in PROTOCOLS:
        table = Path(f"/proc/{pid}/net/{protocol}")
        for line in table.read_text().splitlines()[1:] if table.exists() else []:
            words = line.split()
            inode, address = (words[8], "packet") if protocol == "packet" else (words[9], words[1])
            if inode in held:
                found[inode] = address
    return found


def test_without_being_told_nothing_listens_on_a_network(daemon: Make) -> None:
    """The least of all manifests: a unix socket for its own user and group, and nothing else."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    assert network_sockets(one.pid) == {}
    assert one.socket.stat().st_mode & 0o777 == 0o660


@pytest.mark.parametrize("form", ["127.0.0.1:{}", "localhost:{}", "[::1]:{}", "{}", ":{}"])
def test_a_short_way_to_write_an_address_never_means_all_of_them(daemon: Make, form: str) -> None:
    """Whatever is left out of `control.http`: it is refused, or it is this machine only."""
    written = form.format(free_port())
    where: str | int = int(written) if written.isdecimal() else written
    one = daemon({"control": {"http": where}, "pools": {"web": pool(worker("obedient"))}}, start=False)
    check = subprocess.run([str(BIN / "pitbossd"), "check", str(one.manifest_path)], check=False)
    if check.returncode == 0:
        one.start()
        addresses = {address.partition(":")[0] for address in network_sockets(one.pid).values()}
        assert addresses
        assert addresses <= LOOPBACK
    else:
        assert check.returncode == 78
        assert form in {"{}", ":{}"}


@needs_root
def test_another_user_gets_nowhere(daemon: Make) -> None:
    """Root's daemon with directories that anybody may enter: exit code 77, and nothing has changed."""
    one = daemon({"pools": {"web": pool(worker("obedient"))}})
    one.wait_ready()
    one.directory.chmod(0o755)
    pid = one.instance("web/0")["pid"]
    python, seen = public_python()
    identity = [f"--reuid={STRANGER}", f"--regid={STRANGER}", "--clear-groups"]
    for verb in (["status"], ["stop", "web"], ["shutdown"], ["signal", "KILL", "web"]):
        done = subprocess.run(
            [
                "setpriv",
                *identity,
                python,
                "-m",
                "supervisor.cli.pitbossctl",
                "--socket",
                str(one.socket),
                *verb,
            ],
            env={**os.environ, **seen},
            capture_output=True,
            text=True,
            check=False,
            cwd="/",
        )
        assert done.returncode == 77, (verb, done.stdout, done.stderr)
        assert "Traceback" not in done.stderr
    closed = subprocess.run(
        ["setpriv", *identity, "find", str(one.directory), "-writable", "-not", "-type", "l"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert closed.stdout == "", "nothing of it can be written by others"
    shown = one.instance("web/0")
    assert (shown["pid"], shown["goal"]) == (pid, "up")


TRAPS = ("pitboss.yaml", "pitboss.yml", "pitboss.json", ".env", ".pitboss", "etc/pitboss/pitboss.yaml")
MODULES = ("supervisor", "yaml", "click", "pydantic", "asyncio", "json", "sitecustomize", "usercustomize")


@pytest.mark.skipif(Path(DEFAULT_MANIFEST).exists(), reason="this machine has a manifest of its own")
def test_nothing_is_read_from_where_it_was_started(tmp_path: Path) -> None:
    """In a directory full of traps, without an argument: the one default place counts, and no code runs."""
    mark = tmp_path / "sprung"
    here = tmp_path / "here"
    for trap in TRAPS:
        (here / trap).parent.mkdir(parents=True, exist_ok=True)
        (here / trap).write_text(f"version: 1\npools: {{trap: {{command: [touch, {mark}]}}}}\n")
    for module in MODULES:
        (here / f"{module}.py").write_text(f"open({str(mark)!r}, 'w')\n")
    for command in (["pitbossd", "run"], ["pitbossd", "check"], ["pitbossctl", "status"]):
        done = subprocess.run(
            [str(BIN / command[0]), *command[1:]],
            cwd=here,
            env={"PATH": f"{here}:{os.defpath}", "HOME": str(here)},
            capture_output=True,
            text=True,
            check=False,
            timeout=120,
        )
        expected = 78 if command[0] == "pitbossd" else 69
        assert done.returncode == expected, (command, done.stdout, done.stderr)
        assert expected == 69 or str(DEFAULT_MANIFEST) in done.stderr
        assert str(here) not in done.stdout + done.stderr
    assert not mark.exists()


CANARY = """$(touch {0}) `touch {0}`; touch {0} | touch {0} && "'\\ % %s {1} \n é \u202e ../.. __class__"""


def test_a_worker_s_words_are_words(daemon: Make, tmp_path: Path) -> None:
    """What a shell would act upon reaches worker and probe as it was written."""
    mark, note = tmp_path / "sprung", tmp_path / "note"
    canary = CANARY.format(mark, "{}")
    tells = "import json, os, sys; print(json.dumps([sys.argv[1], os.environ['ODD']]), flush=True)\n"
    heard = f"import sys\nopen({str(note)!r}, 'w').write(sys.argv[1])\n"
    web = pool(
        [*script(tells + "import signal; signal.pause()"), canary],
        environment={"ODD": canary},
        readiness={"exec": [*script(heard), canary], "period": "20s", "timeout": "20s"},
    )
    one = daemon({"pools": {"web": web}})
    one.wait_ready()
    said = eventually(lambda: one.output("web/0"))
    assert json.loads(said) == [canary, canary]
    assert note.read_text() == canary
    assert not mark.exists()


@needs_root
def test_a_worker_is_who_the_manifest_says(daemon: Make) -> None:
    """User, groups and what a login would have set, whatever those of the daemon are."""
    tells = (
        "import json, os; print(json.dumps({'ids': [os.getresuid(), os.getresgid()],"
        " 'groups': sorted(os.getgroups()), 'environment': dict(os.environ)}), flush=True)\n"
        "import signal; signal.pause()"
    )
    one = daemon(
        {
            "pools": {
                "plain": pool(script(tells), user="games", working_directory="/"),
                "chosen": pool(
                    script(tells),
                    user="games",
                    group="mail",
                    groups=["daemon", "12345"],
                    working_directory="/",
                ),
                "number": pool(
                    script(tells), user=STRANGER, group=STRANGER, groups=[], working_directory="/"
                ),
            }
        },
        env={"HOME": "/root/secret", "USER": "root", "LOGNAME": "root", "SHELL": "/bin/own", "MAIL": "x"},
    )
    one.wait_ready()
    games, mail, extra = pwd.getpwnam("games"), grp.getgrnam("mail").gr_gid, grp.getgrnam("daemon").gr_gid
    expected = {
        "plain": (games.pw_uid, games.pw_gid, sorted(os.getgrouplist("games", games.pw_gid))),
        "chosen": (games.pw_uid, mail, sorted([extra, 12345])),
        "number": (STRANGER, STRANGER, []),
    }
    for name, (uid, gid, groups) in expected.items():
        found = json.loads(eventually(partial(one.output, f"{name}/0")))
        assert found["ids"] == [[uid] * 3, [gid] * 3], name
        assert found["groups"] == groups, name
        personal = [found["environment"].get(key) for key in ("HOME", "USER", "LOGNAME", "SHELL", "MAIL")]
        login = [games.pw_dir, "games", "games", games.pw_shell, None]
        nobody_known = ["/", str(STRANGER), str(STRANGER), "/bin/sh", None]
        assert personal == (nobody_known if name == "number" else login), name
