"""What the unit takes from its workers, what it leaves them, and that a drop-in gives all of it back."""

import json
from functools import partial
from typing import Any

from tests.systemd.guest import UNIT, Guest

UNCONFINED = "/src/systemd/drop-ins/unconfined.conf"
CAP_KILL, CAP_SYS_ADMIN = 5, 21


def look(guest: Guest, drop_in: str = "") -> tuple[dict[str, Any], dict[str, Any]]:
    """What a worker of an ordinary user finds, and what one of root does."""
    guest.run("install", "-m", "4755", "/usr/bin/id", "/var/lib/test/shop.suid")
    guest.run("install", "-m", "755", "/usr/bin/id", "/var/lib/test/root.suid")
    pools = {
        user: {
            "command": [
                "/usr/bin/python3",
                "-I",
                "/src/tests/systemd/workers/look.py",
                f"/var/lib/test/{user}",
            ],
            "user": user,
            "working_directory": "/",
        }
        for user in ("shop", "root")
    }
    guest.configure(pools, drop_in)
    guest.start()
    found = [
        guest.eventually(partial(guest.read, f"/var/lib/test/{user}"), f"{user} has looked")
        for user in ("shop", "root")
    ]
    return json.loads(found[0]), json.loads(found[1])


def test_workers_run_as_their_own_users_and_do_ordinary_things(guest: Guest) -> None:
    """Files, ports, compilers in memory and set-user-id programs work; the system is read-only."""
    shop, root = look(guest)
    assert shop["user"] != 0 and shop["capabilities"] == 0
    assert shop["borrowed"] == "0", "a set-user-id program runs as its owner"
    assert root["user"] == 0
    assert root["capabilities"] >> CAP_KILL & 1 and not root["capabilities"] >> CAP_SYS_ADMIN & 1
    for one in (shop, root):
        assert [one[name] for name in ("state", "temporary", "netlink", "memory")] == ["ok"] * 4
        assert (one["namespace"], one["packet"]) == ("EPERM", "EAFNOSUPPORT")
        assert one["oom_score_adj"] == 0
    assert (root["port"], root["system"], root["configuration"]) == ("ok", "EROFS", "EROFS")


def test_the_drop_in_gives_everything_back(guest: Guest) -> None:
    """With `systemd/drop-ins/unconfined.conf` a worker may do what it may without the unit."""
    body = guest.read(UNCONFINED).partition("[Service]\n")[2]
    _, root = look(guest, body)
    names = ("system", "configuration", "namespace", "packet")
    assert [root[name] for name in names] == ["ok"] * len(names)
    answer = guest.ask("systemd-analyze", "verify", f"{UNIT}.service")
    assert (answer.code, answer.err) == (0, "")
