"""The second rungs of the presets, on the real gunicorn, uvicorn and nginx: a too long request ends there.

Signals and targets are those of the preset; only the windows are short.
"""

import http.client
import sys
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from supervisor.manifest.presets import PRESETS
from tests.ports import free_port
from tests.waiting import eventually
from tests.workloads.server_harness import PATIENCE_SECONDS, Site
from tests.workloads.test_servers_nginx import Balanced

TOO_LONG_SECONDS = 50


@pytest.fixture
def sites() -> Iterator[list[Site]]:
    """What is in it is ended with the test."""
    made: list[Site] = []
    yield made
    for one in made:
        one.close()


def short(preset: str) -> dict[str, Any]:
    """The ladder of a preset with a second for the first rung, and time for the others."""
    stages = [
        {"signal": stage.signal, "target": str(stage.target), "grace": "20s" if number else "1s"}
        for number, stage in enumerate(PRESETS[preset].stages)
    ]
    return {"preset": None, "stages": stages}


def ask_too_much(port: int) -> threading.Thread:
    """Somebody who has half of an answer; the other half would take too long."""
    begun = threading.Event()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE_SECONDS)
        try:
            connection.request("POST", f"/?seconds={TOO_LONG_SECONDS}", b"x", {"Connection": "close"})
            answer = connection.getresponse()
            if answer.status == 200:
                begun.set()
            answer.read()
        except (OSError, http.client.HTTPException):
            pass
        finally:
            connection.close()

    thread = threading.Thread(target=ask, daemon=True)
    thread.start()
    assert begun.wait(PATIENCE_SECONDS)
    return thread


def start(program: str, sites: list[Site], stop: dict[str, Any], **more: Any) -> tuple[Site, int]:
    """The example of a program with this ladder, and what else is to be different."""
    if program == "nginx":
        balanced = Balanced({"nginx": {"stop": stop}})
        sites.append(balanced)
        return balanced.start(), balanced.port
    port = free_port()
    pool = {"instances": 1, "sockets": [{"name": "http", "listen": port}], "stop": stop, **more}
    sites.append(Site(program, "web", {"pools": {program: pool}}))
    return sites[-1].start(), port


# https://github.com/python/cpython/issues/79033: asyncio waits for what is open, and uvicorn for asyncio.
up_to_3_11 = pytest.mark.skipif(sys.version_info >= (3, 12), reason="no signal forces it there")


@pytest.mark.parametrize("program", ["gunicorn", pytest.param("uvicorn", marks=up_to_3_11), "nginx"])
def test_the_second_rung_ends_it(program: str, sites: list[Site]) -> None:
    """The first waits for the request, the second does not: it ends there, and nobody is killed."""
    one, port = start(program, sites, short(program))
    asking = ask_too_much(port)
    done = one.daemon.ctl("stop", program, timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    last = one.daemon.instance(f"{program}/0")["last_exit"]
    assert (last["class"], last["rung"]) == ("clean", "stage-2")
    asking.join(PATIENCE_SECONDS)
    assert not asking.is_alive()


def test_uvicorn_ends_by_a_limit_of_its_own(sites: list[Site]) -> None:
    """As its example has one: the request is cut by uvicorn, in the window of SIGTERM; nobody is killed."""
    command = ["uvicorn", "app:asgi", "--fd=3", "--timeout-graceful-shutdown=1", "--log-level=warning"]
    one, port = start("uvicorn", sites, {"preset": "uvicorn"}, command=command)
    asking = ask_too_much(port)
    done = one.daemon.ctl("stop", "uvicorn", timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    last = one.daemon.instance("uvicorn/0")["last_exit"]
    assert (last["class"], last["rung"]) == ("clean", "stage-1")
    asking.join(PATIENCE_SECONDS)
    assert not asking.is_alive()


def test_a_second_sigterm_does_not_hurry_uvicorn(sites: list[Site]) -> None:
    """Why its preset has SIGINT there: SIGTERM again changes nothing."""
    again = {"signal": "SIGTERM", "grace": "1s"}
    one, port = start("uvicorn", sites, {"preset": None, "stages": [again, again]})
    asking = ask_too_much(port)
    done = one.daemon.ctl("stop", "uvicorn", timeout=PATIENCE_SECONDS)
    assert done.returncode == 0, done.stderr
    assert eventually(lambda: one.daemon.instance("uvicorn/0")["last_exit"])["rung"] == "kill"
    asking.join(PATIENCE_SECONDS)
