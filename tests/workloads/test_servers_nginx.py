"""The real nginx, as a balancer that follows who is ready, and as a worker itself.

Behind it are servers that end at once when they are told to: that no request is cut is the work of
settle, of the follower and of the preset. The clients POST, which nginx may not repeat by itself.
"""

import http.client
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.e2e.daemon import ROOT
from tests.ports import free_ports_in_a_row
from tests.waiting import eventually
from tests.workloads.http_load import Load
from tests.workloads.server_harness import Site, need

FILE = ("/files/hello.txt", (ROOT / "configs" / "nginx" / "public" / "hello.txt").read_bytes())


class Balanced(Site):
    """`configs/nginx.yaml` on free ports."""

    def __init__(self, overrides: dict[str, Any]) -> None:
        need("nginx", "nginx-light")
        self.port = free_ports_in_a_row(6)
        web, files = self.port + 1, self.port + 4
        pools: dict[str, dict[str, Any]] = {
            # Less than in the example, for a test that is over soon; still four of the longest requests.
            "web": {
                "instances": 2,
                "drain": {"settle": "2s"},
                "command": ["python3", "server.py", f"{{{{ {web} + index }}}}"],
                "readiness": {"http": f"http://127.0.0.1:{{{{ {web} + index }}}}/"},
            },
            "files": {
                "drain": {"settle": "1s"},
                "command": [
                    "python3", "-m", "http.server", "--bind", "127.0.0.1", "--directory", "public",
                    f"{{{{ {files} + index }}}}",
                ],
                "readiness": {"tcp": f"127.0.0.1:{{{{ {files} + index }}}}"},
            },
            "follow": {},
            "nginx": {
                "sockets": [{"name": "http", "listen": f"127.0.0.1:{self.port}"}],
                "readiness": {"http": f"http://127.0.0.1:{self.port}/balancer-is-up"},
            },
        }  # fmt: skip
        for name, more in overrides.items():
            pools[name] |= more
        super().__init__("nginx", "nginx", {"pools": pools})
        pools["follow"]["command"] = [
            "python3", "follow.py", f"web=127.0.0.1:{web}", f"files=127.0.0.1:{files}",
            "--socket", str(self.daemon.socket),
        ]  # fmt: skip
        self.override({"pools": pools})
        conf = self.daemon.directory / "nginx" / "nginx.conf"
        conf.write_text(conf.read_text().replace("127.0.0.1:8080", f"127.0.0.1:{self.port}"))

    def start(self) -> "Balanced":
        """Start it, and wait until nginx has been told of every server."""
        super().start()
        eventually(self._is_told, 60, "nginx knows its servers")
        return self

    def _is_told(self) -> bool:
        """Whether every process of nginx knows a server: until a reload is over, some are of before."""
        return all(self._status("/") == self._status(FILE[0]) == 200 for _ in range(50))

    def _status(self, path: str) -> int:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            connection.request("GET", path, headers={"Connection": "close"})
            answer = connection.getresponse()
            answer.read()
            return answer.status
        finally:
            connection.close()

    def clients(self) -> Load:
        """Clients on the balancer."""
        return self.load(self.port, method="POST", file=FILE)

    def upstreams(self) -> str:
        """What the follower has told nginx."""
        return (self.daemon.directory / "nginx" / "run" / "upstreams.conf").read_text()


@pytest.fixture
def balanced() -> Iterator[Callable[..., Balanced]]:
    """Start the example; it ends with its test."""
    made: list[Balanced] = []

    def make(**overrides: Any) -> Balanced:
        one = Balanced(overrides)
        made.append(one)
        one.start()
        return one

    yield make
    for one in made:
        one.close()


def test_no_request_is_cut(balanced: Callable[..., Balanced]) -> None:
    """Drain an instance, restart both pools and nginx itself: every request is answered in full."""
    one = balanced()
    load = one.clients()
    one.ctl(load, "drain", "web/1")
    assert f":{one.port + 2};" not in one.upstreams()
    one.wait_more(load)
    one.ctl(load, "resume", "web/1")
    eventually(lambda: f":{one.port + 2};" in one.upstreams(), 60, "web/1 is back")
    one.ctl(load, "restart", "web", "files")
    # Its port stays open meanwhile, and the next one takes it over from pitbossd.
    one.ctl(load, "restart", "nginx")
    one.wait_more(load)
    one.settle(load)
    assert load.failures == []
    assert min(load.done[kind] for kind in ("slow", "quick", "file")) > 30
    assert "still could not bind" not in one.daemon.output("nginx/0")


def test_without_settle_requests_are_cut(balanced: Callable[..., Balanced]) -> None:
    """The count sees what is cut: the same restart by a manifest that gives the balancer no time."""
    one = balanced(web={"drain": None})
    load = one.clients()
    # One restart cuts one to five requests, or none on a lucky day.
    for _ in range(5):
        one.ctl(load, "restart", "web")
        if load.failures:
            break
    one.settle(load)
    assert load.failures


def test_sigterm_cuts_what_nginx_holds(balanced: Callable[..., Balanced]) -> None:
    """Why the preset begins with SIGQUIT: SIGTERM is nginx's fast shutdown."""
    one = balanced(nginx={"stop": {"preset": None, "stages": [{"signal": "SIGTERM", "grace": "20s"}]}})
    load = one.clients()
    one.ctl(load, "restart", "nginx")
    one.wait_more(load)
    one.settle(load)
    assert "slow" in {failure.kind for failure in load.failures}
