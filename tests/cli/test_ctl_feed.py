"""The feed and the picture: what arrives in which order, and what an older answer may not undo."""

import time

from supervisor.cli.ctl.feed import Feed, HostNews, LostNews, News, OperationNews
from supervisor.cli.ctl.follow import Picture, _take
from supervisor.cli.ctl.view import host_view
from supervisor.client.client import Client
from supervisor.client.errors import Unreachable
from tests.cli.stub_daemon import Stub, host, succeed


class Scripted(Feed):
    """A feed whose news are given."""

    def __init__(self, *news: News) -> None:
        self._given = list(news)

    def next(self, seconds: float | None) -> News | None:
        """The next of them."""
        return self._given.pop(0) if self._given else None


def revision(number: int) -> HostNews:
    """A host of that revision."""
    return HostNews(host_view(host(revision=number)))


def test_the_host_is_told_before_the_end_of_an_operation() -> None:
    """So that the last change of an instance is known when the wait is over."""
    with Stub() as stub, Client.connect(stub.socket) as client:
        stub.accept("drain", "emails", {})
        succeed("op-1")(stub)
        feed = Feed(lambda: client, operations=["op-1"])
        feed._follow_operations(client)
        first, second = feed.next(0), feed.next(0)
    assert isinstance(first, HostNews)
    assert isinstance(second, OperationNews)
    assert second.operation.final


def test_an_older_answer_undoes_nothing() -> None:
    """Two threads ask, so the older answer may come second."""
    picture = Picture(time.monotonic())
    feed = Scripted(revision(8), revision(7))
    for _ in range(2):
        _take(feed, picture, None)
    assert picture.host is not None
    assert picture.host.revision == 8


def test_a_new_daemon_counts_from_the_start_again() -> None:
    """After a loss any revision is news, and the loss is over."""
    picture = Picture(time.monotonic())
    feed = Scripted(revision(8), LostNews(Unreachable("gone")), revision(1))
    for _ in range(2):
        _take(feed, picture, None)
    assert picture.lost is not None
    _take(feed, picture, None)
    assert picture.host is not None
    assert picture.host.revision == 1
    assert picture.lost is None
