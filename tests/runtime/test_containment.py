"""The evidence by itself: tags, markers, control groups, and what is read from /proc."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.runtime.cgroups import Cgroups
from supervisor.runtime.containment import MARKER, Containment
from supervisor.runtime.procfs import ancestors_of, children_of, read_stat, read_variable
from supervisor.runtime.tags import family_of, make_tag, new_family, read_tag, tagged
from tests.runtime.process_harness import ME, PYTHON
from tests.waiting import eventually


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    """A process to look at."""
    process = subprocess.Popen(["sleep", "1000"], env={"FIRST": "x", "EMPTY": "", MARKER: "some=thing"})
    yield process
    process.kill()
    process.wait()


def test_tags_are_told_apart() -> None:
    """A tag names its family, differs by serial, and no ordinary limit looks like one."""
    family = new_family()
    tags = {make_tag(family, serial) for serial in range(1000)}
    assert len(tags) == 1000
    assert {family_of(tag) for tag in tags} == {family}
    assert max(tags) < 2**63
    for number in (0, 1024, 2**31, 2**60, 2**63 - 1, 2**64 - 1):
        assert family_of(number) is None


def test_a_tag_survives_everything_but_the_wish_to_shed_it() -> None:
    """Fork, exec, an empty environment and a new session keep it; this process does not carry it."""
    tag = make_tag(new_family(), 7)
    script = (
        "import os\n"
        "if os.fork() == 0:\n"
        "    os.setsid()\n"
        "    os.execve('/bin/cat', ['cat', '/proc/self/limits'], {})\n"
        "os.wait()\n"
    )
    with tagged(tag):
        output = subprocess.run([PYTHON, "-I", "-S", "-c", script], capture_output=True, check=True).stdout
    assert str(tag).encode() in output
    assert read_tag(os.getpid()) != tag


def test_a_hard_limit_forbids_tags() -> None:
    """Where the hard limit is no longer unlimited nothing is tagged, and nothing fails."""
    script = (
        "import resource; from supervisor.runtime.tags import *; import os\n"
        "resource.setrlimit(10, (5, 5))\n"
        "with tagged(make_tag(1, 1)): assert read_tag(os.getpid()) == 5\n"
    )
    environment = {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
    subprocess.run([sys.executable, "-c", script], env=environment, check=True)


def test_reading_about_a_process(sleeper: subprocess.Popen[bytes]) -> None:
    """Parent, group, session, start, variables and ancestors are what they are; for nobody they are None."""
    stat = read_stat(sleeper.pid)
    assert stat is not None
    assert (stat.parent, stat.group, stat.session) == (os.getpid(), os.getpgid(0), os.getsid(0))
    assert stat.is_alive
    assert stat.started > 0
    assert sleeper.pid in children_of(os.getpid())
    assert list(ancestors_of(sleeper.pid))[:2] == [sleeper.pid, os.getpid()]
    eventually(lambda: read_variable(sleeper.pid, "FIRST") == "x")
    assert read_variable(sleeper.pid, MARKER) == "some=thing"
    assert read_variable(sleeper.pid, "EMPTY") == ""
    assert read_variable(sleeper.pid, "RST") is None
    nobody = 2**22 + 1
    assert read_stat(nobody) is None
    assert children_of(nobody) == []
    assert read_variable(nobody, "X") is None
    assert read_tag(nobody) is None


def test_children_without_the_kernels_list(
    monkeypatch: pytest.MonkeyPatch, sleeper: subprocess.Popen[bytes]
) -> None:
    """On a kernel without the list of children the whole of /proc is read instead."""
    from supervisor.runtime import procfs

    real = open

    def without(path: str, *rest: object, **options: object) -> object:
        if str(path).endswith("/children"):
            raise FileNotFoundError(path)
        return real(path, *rest, **options)  # type: ignore[call-overload]

    monkeypatch.setattr(procfs, "open", without, raising=False)
    monkeypatch.setattr(procfs, "_lists_children", lambda: False)
    assert sleeper.pid in procfs.children_of(os.getpid())


def test_a_name_with_a_parenthesis_does_not_confuse(tmp_path: Path) -> None:
    """The name of a program may contain anything, also what ends it in /proc/PID/stat."""
    program = tmp_path / ") R 1 1"
    program.symlink_to("/bin/sleep")
    process = subprocess.Popen([program, "1000"])
    try:
        stat = read_stat(process.pid)
        assert stat is not None
        assert stat.parent == os.getpid()
    finally:
        process.kill()
        process.wait()


def test_each_trace_alone_leads_to_the_tree(sleeper: subprocess.Popen[bytes]) -> None:
    """Marker, group and having been seen before each are enough; without any a process belongs to nobody."""
    containment = Containment(None)
    tree = containment.admit(ME, 1)
    stat = read_stat(sleeper.pid)
    assert stat is not None
    assert containment.tree_of_orphan(stat) is None
    tree.known[sleeper.pid] = stat.started
    assert containment.tree_of_orphan(stat) is tree
    tree.known[sleeper.pid] = stat.started + 1
    assert containment.tree_of_orphan(stat) is None
    containment._by_marker["some=thing"] = tree
    eventually(lambda: containment.tree_of_orphan(stat) is tree)
    containment._by_marker.clear()
    containment.begin(tree, stat.group)
    assert containment.tree_of_orphan(stat) is tree
    containment.dismiss(tree)
    assert containment.tree_of_orphan(stat) is None


def test_a_stranger_cannot_fake_descent(sleeper: subprocess.Popen[bytes]) -> None:
    """A tag that somebody else put on does not make a process one of the tree for messages."""
    containment = Containment(None)
    tree = containment.admit(ME, 1)
    tree.leader = sleeper.pid
    with tagged(tree.tag):
        stranger = subprocess.Popen(["sleep", "1000"])
    try:
        assert not containment.descends_from(stranger.pid, tree)
        assert containment.descends_from(sleeper.pid, tree)
    finally:
        stranger.kill()
        stranger.wait()


def test_a_reused_pid_is_not_a_member(sleeper: subprocess.Popen[bytes]) -> None:
    """A pid that was seen in a tree with another start time is somebody else now."""
    containment = Containment(None)
    tree = containment.admit(ME, 1)
    stat = read_stat(sleeper.pid)
    assert stat is not None
    tree.known[sleeper.pid] = stat.started - 1
    assert containment.members(tree) == {}
    tree.known[sleeper.pid] = stat.started
    assert containment.members(tree) == {sleeper.pid: stat.started}


@pytest.mark.parametrize(("controllers", "kills"), [(("memory",), 2), ((), 0)])
def test_kills_for_want_of_memory(tmp_path: Path, controllers: tuple[str, ...], kills: int) -> None:
    """The kernel's count is read where it keeps one, and the file is not even looked for elsewhere."""
    groups = Cgroups(str(tmp_path), "/here", controllers=controllers)
    (tmp_path / "pool.0.1").mkdir()
    (tmp_path / "pool.0.1" / "memory.events").write_text("low 0\noom 3\noom_kill 2\noom_group_kill 0\n")
    try:
        assert groups.group("pool.0.1").out_of_memory_kills() == kills
    finally:
        groups.close()


def test_a_control_group_holds_and_kills(cgroups: Cgroups) -> None:
    """What is in a group is listed, killed whole, and can be removed afterwards, nested groups too."""
    group = cgroups.group("pool.0.1")
    cgroups.make(group)
    script = "read go; sleep 1000 & setsid sleep 1000 & wait"
    process = subprocess.Popen(["sh", "-c", script], stdin=subprocess.PIPE)
    assert process.stdin is not None
    try:
        Path(group.procs).write_text(str(process.pid))
        process.stdin.close()
        eventually(lambda: len(group.members()) == 3)
        os.mkdir(f"{group.directory}/below")
        assert group.is_populated()
        assert not group.remove()
        assert group.out_of_memory_kills() == 0
        if not group.kill():
            pytest.skip("this kernel cannot kill a control group")
    finally:
        process.kill()
        process.wait()
    eventually(lambda: not group.is_populated())
    assert group.members() == []
    cgroups.remove(group)
    cgroups.settle()
    assert not Path(group.directory).exists()


SETTLER = """
import json, os, sys
from supervisor.runtime import cgroups
place, cgroups.CONTROLLERS = sys.argv[1], tuple(sys.argv[2].split())
with open(place + "/cgroup.procs", "w") as file:
    file.write("0")
found = cgroups.find_cgroups("token")
again = cgroups.find_cgroups("again")
group = found.group("pool/0.1")
found.make(group)
print(json.dumps([found.directory, found.reason, list(found.controllers), again.directory,
                  cgroups.read_cgroup(os.getpid()), os.path.isdir(group.directory)]))
group.remove(), found.close()
"""


@pytest.mark.parametrize("controllers", ["", "memory-of-another-kind"])
def test_in_a_delegated_group_the_daemon_moves_into_a_leaf(cgroups: Cgroups, controllers: str) -> None:
    """Only then may the groups beside it have controllers; one that is not there is done without."""
    unit = cgroups.group("unit.service")
    cgroups.make(unit)
    place = Path(unit.directory)
    try:
        os.setxattr(place, "user.delegate", b"1")
    except OSError:
        pytest.skip("control groups have no user attributes here")
    try:
        output = subprocess.run(
            [sys.executable, "-c", SETTLER, str(place), controllers],
            env={"PYTHONPATH": str(Path(__file__).resolve().parents[2])},
            capture_output=True,
            check=True,
        ).stdout
        directory, reason, enabled, again, own, made = json.loads(output)
        assert directory == f"{place}/pitboss-token" and again == f"{place}/pitboss-again"
        assert reason == "delegated (user.delegate)" and enabled == []
        assert own.endswith("/unit.service/supervisor") and made
        assert sorted(path.name for path in place.iterdir() if path.is_dir()) == ["supervisor"]
    finally:
        eventually(lambda: "populated 0" in (place / "cgroup.events").read_text())
        (place / "supervisor").rmdir()
        place.rmdir()


def test_controllers_are_enabled_where_they_are_offered(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """What the kernel offers of what is wanted is asked for; a refusal is said and costs nothing else."""
    from supervisor.runtime.cgroups import _settle

    for name, text in (("cgroup.controllers", "cpu memory pids"), ("cgroup.subtree_control", "")):
        (tmp_path / name).write_text(text)
    assert _settle(str(tmp_path), is_own=False) == ("memory",)
    assert (tmp_path / "cgroup.subtree_control").read_text() == "+memory"
    (tmp_path / "cgroup.controllers").unlink()
    assert _settle(str(tmp_path), is_own=False) == ()
    assert "cannot enable controllers" in caplog.text
