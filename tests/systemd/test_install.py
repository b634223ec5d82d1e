"""From nothing to a running service."""

import json

from tests.systemd.guest import UNIT, Guest


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
