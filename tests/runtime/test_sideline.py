"""The thread beside the loop: order, one awakening for many pieces, and answers that hold nothing up."""

import asyncio
import threading
import time
from collections.abc import Iterator
from functools import partial

import pytest

from supervisor.runtime import sideline as sideline_module
from supervisor.runtime.sideline import Sideline
from tests.waiting import async_eventually


@pytest.fixture
def sideline() -> Iterator[Sideline]:
    """A thread that is ended afterwards."""
    made = Sideline("test")
    yield made
    made.close()


async def test_work_is_done_elsewhere_and_answered_here(sideline: Sideline) -> None:
    """The work runs on the thread and in order; its answers come in the loop and in order."""
    places: list[threading.Thread] = []
    answers: list[int] = []

    def work() -> int:
        places.append(threading.current_thread())
        return len(places)

    for _ in range(20):
        sideline.ask(work, answers.append)
    await async_eventually(lambda: len(answers) == 20)
    assert answers == list(range(1, 21))
    assert threading.main_thread() not in places


async def test_what_comes_together_is_answered_together(
    sideline: Sideline, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A burst wakes the loop once, and not once for each piece."""
    loop, calls = asyncio.get_running_loop(), 0
    real = loop.call_soon_threadsafe

    def count(*arguments: object) -> asyncio.Handle:
        nonlocal calls
        calls += 1
        return real(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(sideline_module, "GATHER_SECONDS", 60)
    monkeypatch.setattr(loop, "call_soon_threadsafe", count)
    answers: list[int] = []
    for number in range(50):
        sideline.ask(partial(int, number), answers.append)
    sideline.settle()
    await async_eventually(lambda: len(answers) == 50)
    assert calls == 1


async def test_answers_let_the_loop_turn(sideline: Sideline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Answers that take long are told over several turns, and one that raises does not lose the others."""
    monkeypatch.setattr(sideline_module, "SLICE_SECONDS", 0)
    complaints: list[object] = []
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _loop, about: complaints.append(about["exception"]))
    told: list[int] = []
    turns: list[int] = []

    def answer(number: int) -> None:
        told.append(number)
        loop.call_soon(turns.append, number)
        if number == 1:
            raise ValueError

    for number in range(3):
        sideline.ask(partial(int, number), answer)
    sideline.settle()
    await async_eventually(lambda: turns == [0, 1, 2])
    assert told == [0, 1, 2]
    assert [type(one) for one in complaints] == [ValueError]


async def test_work_that_raises_is_logged(sideline: Sideline, caplog: pytest.LogCaptureFixture) -> None:
    """The next piece is done nevertheless."""
    answers: list[float] = []
    sideline.ask(lambda: 1 / 0, answers.append)
    sideline.ask(lambda: 2.0, answers.append)
    await async_eventually(lambda: answers == [2.0])
    assert "cannot do what was asked of a thread" in caplog.text


def test_settling_does_not_wait_for_others(sideline: Sideline, monkeypatch: pytest.MonkeyPatch) -> None:
    """Who waits for the thread is not kept waiting by what might still come."""
    monkeypatch.setattr(sideline_module, "GATHER_SECONDS", 60)
    done: list[float] = []
    sideline.ask(lambda: done.append(time.monotonic()))
    sideline.settle()
    assert len(done) == 1


async def test_an_answer_for_a_loop_that_is_closed() -> None:
    """Nobody waits any more: the thread goes on."""
    one, done = Sideline("test"), threading.Event()

    async def ask() -> None:
        one.ask(lambda: None, lambda _: None)

    await asyncio.to_thread(asyncio.run, ask())
    one.settle()
    one.ask(done.set)
    one.close()
    assert done.is_set()
