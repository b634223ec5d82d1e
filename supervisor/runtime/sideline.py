"""One thread beside the loop, for what the kernel may keep waiting for.

Decides when such work is done: in the order in which it was asked for, what comes within some
milliseconds together, and its answers in the loop, a few in each turn of it. A thread that woke for each
piece of work would take the interpreter away from the loop at each of its system calls. What the work is,
is not known here.
"""

import asyncio
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import SimpleQueue
from typing import Any, NamedTuple

log = logging.getLogger(__name__)

GATHER_SECONDS = 0.005
"""How long the first piece waits for others: half of what the kernel may take for it alone."""

SLICE_SECONDS = 0.0005
"""How long answers are told in one turn of the loop."""

Answer = Callable[[Any], None]


class _Piece(NamedTuple):
    work: Callable[[], Any]
    answer: Answer | None = None


class Sideline:
    """A thread that sleeps until it is asked for something. Raises RuntimeError if there can be none."""

    def __init__(self, name: str) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._then: Callable[[], None] = lambda: None
        self._queue: SimpleQueue[_Piece | None] = SimpleQueue()
        self._hurry = threading.Event()
        self._thread = threading.Thread(target=self._serve, name=name, daemon=True)
        self._thread.start()

    def ask(self, work: Callable[[], Any], answer: Answer | None = None) -> None:
        """Do this in its turn; `answer` is then called in the running loop with what came of it.

        What raises is logged, and has no answer.
        """
        if answer is not None:
            self._loop = asyncio.get_running_loop()
        self._queue.put(_Piece(work, answer))

    def when_told(self, then: Callable[[], None]) -> None:
        """Call this after the answers of each turn of the loop, for what they have in common."""
        self._then = then

    def settle(self) -> None:
        """Wait until everything that was asked for is done; answers are on their way then."""
        done = threading.Event()
        self._queue.put(_Piece(done.set))
        self._hurry.set()
        done.wait()

    def close(self) -> None:
        """Do what was asked for, and end."""
        self._queue.put(None)
        self._hurry.set()
        self._thread.join()

    def _serve(self) -> None:
        while True:
            batch = [self._queue.get()]
            self._hurry.wait(GATHER_SECONDS)
            self._hurry.clear()
            while not self._queue.empty():
                batch.append(self._queue.get())
            answers: deque[tuple[Answer, Any]] = deque()
            for piece in batch:
                if piece is None:
                    return
                self._carry_out(piece, answers)
            if answers and self._loop is not None:
                with suppress(RuntimeError):  # the loop is closed: nobody waits any more
                    self._loop.call_soon_threadsafe(self._tell, answers)

    @staticmethod
    def _carry_out(piece: _Piece, answers: deque[tuple[Answer, Any]]) -> None:
        try:
            outcome = piece.work()
        except Exception:
            log.exception("cannot do what was asked of a thread: the next is done")
            return
        if piece.answer is not None:
            answers.append((piece.answer, outcome))

    def _tell(self, answers: deque[tuple[Answer, Any]]) -> None:
        until = time.monotonic() + SLICE_SECONDS
        try:
            while answers:
                answer, outcome = answers.popleft()
                answer(outcome)
                if time.monotonic() > until:
                    break
        finally:
            if answers:
                asyncio.get_running_loop().call_soon(self._tell, answers)
            self._then()
