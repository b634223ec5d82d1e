"""Keep SIGTERM from Celery until its worker holds nothing.

Copy this file beside your application, and say there:

    app.steps["consumer"].add(FinishFirst)

The warm shutdown of Celery forgets a task that was handed to a process of the pool and that the process has
not yet said to have begun: it is done, nobody acknowledges it, and so it is done again. Where nothing is in
hand, nothing can be forgotten. It needs no supervisor; one that listens is told how much is in hand.
"""

import signal
from types import FrameType
from typing import Any

from celery import bootsteps
from celery.worker import state

from supervisor.worker import notify

# An acknowledgement is sent in the turn of the event loop after the one that brought the result; in
# the second turn without a task all of them have been.
TURNS_WITHOUT_A_TASK = 2


class FinishFirst(bootsteps.StartStopStep):
    """On SIGTERM take nothing new; when every task is done and acknowledged, let Celery have the signal."""

    requires = ("celery.worker.consumer.tasks:Tasks",)

    def __init__(self, consumer: Any, **options: Any) -> None:
        super().__init__(consumer, **options)
        self.of_celery: Any = None
        self.asked = self.cancelled = self.passed_on = self.connected = False
        self.in_hand: int | None = None
        self.turns = 0

    def include_if(self, consumer: Any) -> bool:
        """Only where there is an event loop: not with gevent and eventlet."""
        return consumer.hub is not None

    def start(self, consumer: Any) -> None:
        """The worker is connected: after its start, and again whenever the connection was lost."""
        if self.of_celery is None:
            self.of_celery = signal.signal(signal.SIGTERM, self.on_sigterm)
        self.consumer, self.connected = consumer, True
        consumer.hub.on_tick.add(self.turn)

    def stop(self, consumer: Any) -> None:
        """The connection is lost, or the worker ends; without one nothing can be acknowledged."""
        self.connected = False
        consumer.hub.on_tick.discard(self.turn)
        if self.asked:
            self.pass_on()

    def on_sigterm(self, signum: int, frame: FrameType | None) -> None:
        """The first one waits for the tasks, a second one does not."""
        if self.asked or not self.connected:
            self.pass_on()
        self.asked = True

    def turn(self) -> None:
        """Once in each turn of the event loop, where nothing is half done."""
        if not self.asked or self.passed_on:
            return
        if not self.cancelled:
            # What Redis gives from here on goes back to the head of the queue.
            self.consumer.task_consumer.cancel()
            self.cancelled = True
        if self.in_hand != len(state.reserved_requests):
            self.in_hand = len(state.reserved_requests)
            notify.in_flight(self.in_hand)
        self.turns = 0 if self.in_hand else self.turns + 1
        if self.turns == TURNS_WITHOUT_A_TASK:
            self.pass_on()
            state.maybe_shutdown()

    def pass_on(self) -> None:
        """Give the signal to Celery, once."""
        if not self.passed_on:
            self.passed_on = True
            self.of_celery(signal.SIGTERM, None)
