"""Memory, in a machine whose kernel has the controller: what the kernel kills for want of it is said so."""

from typing import Any

import pytest

from tests.systemd.guest import UNIT, Guest

CGROUP = f"/sys/fs/cgroup/system.slice/{UNIT}.service"


def pools() -> dict[str, Any]:
    """One that takes memory when it is told to, and one that has nothing to do with it."""
    eater = ["/usr/bin/python3", "-I", "/src/tests/systemd/workers/eater.py", "/var/lib/test/go"]
    rest = {"policy": "on-failure", "backoff": {"initial": "1h", "max": "1h", "jitter": "none"}}
    common = {"user": "shop", "working_directory": "/"}
    return {
        "eater": {"command": eater, "restart": rest, **common},
        "idle": {"command": ["sleep", "infinity"], **common},
    }


@pytest.mark.parametrize("limited", ["the worker", "the unit"])
def test_an_end_for_want_of_memory_is_called_so(machine_guest: Guest, limited: str) -> None:
    """Whoever's limit it is: the class is out-of-memory, the others live on, and the unit is not failed."""
    guest = machine_guest
    assert guest.has_memory, "this kernel has no memory controller, and nothing would be tested"
    guest.configure(pools())
    guest.start()
    guest.eventually(lambda: len(guest.processes("shop")) == 2, "both run")
    (neighbour,) = guest.run("pgrep", "--euid", "shop", "sleep").split()
    if limited == "the worker":
        (pid,) = guest.run("pgrep", "--euid", "shop", "--full", "eater.py").split()
        group = "/sys/fs/cgroup" + guest.read(f"/proc/{pid}/cgroup").strip().partition("::")[2]
        assert group.endswith("/eater.0.1")
        guest.write(f"{group}/memory.max", "30M")
    else:
        guest.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=180M")
    guest.write("/var/lib/test/go", "")
    ended = guest.eventually(lambda: guest.instance("eater/0")["last_exit"], "it is killed", within=60)
    assert ended["class"] == "out-of-memory", (ended, guest.journal())
    assert guest.run("pgrep", "--euid", "shop").split() == [neighbour]
    assert (guest.show("ActiveState"), guest.show("NRestarts")) == ("active", "0")
    guest.run("systemctl", "set-property", "--runtime", UNIT, "MemoryMax=infinity")


def test_after_a_crash_the_controllers_do_not_stand_in_the_way(machine_guest: Guest) -> None:
    """A group whose children have controllers takes no process; the next daemon is started all the same."""
    guest = machine_guest
    guest.configure(pools())
    guest.start()
    assert "memory" in guest.read(f"{CGROUP}/cgroup.subtree_control").split()
    crashed = guest.show("MainPID")
    guest.run("systemctl", "kill", "--kill-who=main", "--signal=KILL", UNIT)
    guest.eventually(lambda: guest.show("NRestarts") == "1" and guest.show("ActiveState") == "active")
    assert guest.show("MainPID") != crashed
    guest.eventually(lambda: len(guest.processes("shop")) == 2, "both run again")
    assert "memory" in guest.read(f"{CGROUP}/cgroup.subtree_control").split()
    guest.stop()
    assert guest.ask("test", "-e", CGROUP).code == 1
