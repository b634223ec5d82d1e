"""From nothing to a running service."""

import json

import pytest

from tests.systemd.container import OFFLINE
from tests.systemd.guest import IN_FULL, MANIFEST, UNIT, Guest


def test_after_the_installation_everything_is_in_its_place(guest: Guest) -> None:
    """Both commands answer, the manifest is valid, the group and the directory of the socket are there."""
    assert guest.run("pitbossd", "--version").startswith("pitbossd, version ")
    assert guest.run("pitbossctl", "--version").startswith("pitbossctl ")
    assert "is valid: 1 pools, 2 instances" in guest.run("pitbossd", "check")
    assert guest.run("stat", "--format", "%A %U %G", "/run/pitboss").split() == [
        "drwxr-sr-x",
        "root",
        "pitboss",
    ]
    assert guest.show("LoadState") == "loaded"


def test_the_unit_is_well_formed_and_not_exposed(guest: Guest) -> None:
    """`systemd-analyze verify` has nothing to say, and `security` at most 4.0 of 10."""
    answer = guest.ask("systemd-analyze", "verify", "/usr/local/lib/systemd/system/pitbossd.service")
    assert (answer.code, answer.out, answer.err) == (0, "", "")
    rated = guest.run("systemd-analyze", "security", "--no-pager", UNIT).splitlines()[-1]
    assert float(rated.split(": ")[1].split()[0]) <= 4.0, rated


@pytest.mark.skipif(not IN_FULL, reason="it takes as long as all others together: `make systemd` does")
def test_it_is_removed_and_installed_again_in_a_running_system(guest: Guest) -> None:
    """`make uninstall` stops it and leaves manifest and journal; `make install` builds it, and keeps both."""
    guest.configure({"idle": {"command": ["sleep", "infinity"], "user": "shop", "working_directory": "/"}})
    mine = guest.read(MANIFEST)
    guest.run("systemctl", "enable", UNIT)
    guest.start()
    guest.eventually(lambda: guest.processes("shop"))
    guest.run("make", "-C", "/src", "uninstall", seconds=120)
    assert guest.processes("shop") == []
    gone = ["/opt/pitboss", "/usr/local/bin/pitbossd", "/usr/local/lib/systemd/system/pitbossd.service"]
    assert [path for path in gone if guest.ask("test", "-e", path).code == 0] == []
    guest.run("make", "-C", "/src", "uninstall")
    assert guest.read(MANIFEST) == mine
    assert guest.ask("test", "-s", "/var/lib/pitboss/journal.db").code == 0
    guest.run("make", "-C", "/src", "install", seconds=300, environment=OFFLINE)
    assert guest.read(MANIFEST) == mine
    guest.run("systemctl", "enable", "--now", UNIT, seconds=90)
    assert guest.ctl("wait", "--for", "ready", "--timeout", "30s").code == 0
    guest.run("systemctl", "disable", UNIT)


def test_the_doctor_sees_what_the_unit_gives(guest: Guest) -> None:
    """In a unit with `Delegate=` control groups are delegated; in one without they are not ours."""
    inside = ["systemd-run", "--quiet", "--pipe", "--wait"]
    answer = guest.ask(*inside, "--property=Delegate=yes", "/usr/local/bin/pitbossd", "doctor", "--json")
    found = {one["topic"]: one for one in json.loads(answer.out)}
    assert found["control groups"]["verdict"] == "ok", found
    assert found["control groups"]["fact"].endswith("is delegated (trusted.delegate)")
    assert (found["memory"]["verdict"] == "ok") == guest.has_memory
    assert found["systemd"]["fact"].startswith(f"{guest.systemd} ") or found["systemd"]["verdict"] == "ok"
    answer = guest.ask(*inside, "/usr/local/bin/pitbossd", "doctor")
    assert "is not delegated to this process" in answer.out
