"""Where notify sockets are: short paths in our directory, kept in an upgrade, replaced after a death."""

import os
import socket
from pathlib import Path

import pytest

from supervisor.core.events import Told
from supervisor.core.identity import InstanceId
from supervisor.runtime.notify import NotifySocketError
from tests.runtime.ears import EMAILS, REPORTS, Ear, exists, send
from tests.waiting import async_eventually


async def test_the_next_image_goes_on_with_the_same_sockets(ear: Ear, directory: Path) -> None:
    """What was sent while nobody read is still there, and the path stays where the worker knows it."""
    path = ear.sockets.path(EMAILS, None)
    send(path, b"READY=1")
    inherited = {who: os.dup(number) for who, number in ear.sockets.descriptors().items()}
    following = Ear(directory)
    for instance, number in inherited.items():
        following.sockets.adopt(instance, number, None)
    following.sockets.poll()
    assert following.sockets.path(EMAILS, None) == path
    assert following.told() == [Told(EMAILS, 3, ready=True)]
    assert not any(os.get_inheritable(number) for number in inherited.values())
    following.sockets.close()
    reader, writer = os.pipe()
    with pytest.raises(NotifySocketError, match="cannot adopt descriptor"):
        ear.sockets.adopt(REPORTS, reader, None)
    os.close(reader)
    os.close(writer)


async def test_a_socket_left_by_a_daemon_that_died_is_replaced(ear: Ear, directory: Path) -> None:
    """The path is the same in the next life, so the worker that kept it is heard again."""
    path = str(directory / "emails-0")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as dead:
        dead.bind(path)
    assert ear.sockets.path(EMAILS, None) == path
    send(path, b"READY=1")
    await async_eventually(ear.told)


async def test_long_and_odd_names_get_a_short_path(ear: Ear) -> None:
    """A name that does not fit or could leave the directory is replaced by a digest that stays the same."""
    for pool in ("x" * 200, "../etc", "ä", "~a"):
        instance = InstanceId(pool, 0)
        path = ear.sockets.path(instance, None)
        assert len(path) <= 107
        assert path.rpartition("/")[2].startswith("~")
        ear.sockets.remove(instance)
        assert not exists(path)
        assert ear.sockets.path(instance, None) == path


async def test_a_directory_that_is_too_deep_is_refused(tmp_path: Path) -> None:
    """The message gives both lengths and the setting to change."""
    deep = Ear(tmp_path / ("d" * 100))
    with pytest.raises(NotifySocketError, match=r"at most 107; choose a shorter runtime_directory"):
        deep.sockets.path(EMAILS, None)
    deep.sockets.close()


async def test_a_directory_that_is_not_ours_is_refused(tmp_path: Path) -> None:
    """A link or a file where the directory should be is never followed or replaced."""
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "file").touch()
    for name in ("link", "file"):
        with pytest.raises(NotifySocketError, match="cannot keep notify sockets in"):
            Ear(tmp_path / name)


async def test_closing_twice_is_closing_once(ear: Ear) -> None:
    """Nothing is left, and nothing is closed that meanwhile belongs to somebody else."""
    path = ear.sockets.path(EMAILS, None)
    ear.sockets.close()
    ear.sockets.close()
    assert not exists(path)
