"""Perform the checks that the core asks for: probes, a drain's action, and a drain's end.

Decides how a check is carried out and when it has taken too long. When to check, and what an answer
changes, is the core's business.

Each check is answered exactly once, within its own deadline, unless its generation is forgotten
first: then it is ended silently. There is never more than one check of the same instance, generation
and kind: a request that comes while one runs is answered by the answer of that one. A command that
was killed and has not gone yet (it waits for a device) counts as running for the machine but not for
the core: the next request is answered at once, by a failure that says so, and the number of
processes and descriptors stays bounded.

Two things are not a worker's failure. A question that cannot be put, because descriptors, memory or
processes have run out here, changes nothing: nobody is found dead by it, and who was ready stays so.
And where the loop itself came too late to a deadline, what has arrived meanwhile is still heard.
"""

import asyncio
import logging
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

from supervisor.core.effects import Check, Forget
from supervisor.core.events import CheckFailed, CheckKind, CheckPassed, Event
from supervisor.core.identity import InstanceId
from supervisor.core.launch import CheckTarget, ExecCheck, HttpCheck, Launch, TcpCheck
from supervisor.runtime.exec_check import CommandRun
from supervisor.runtime.http_check import CannotAskError, CheckError, ask_http, ask_tcp, shown_url
from supervisor.runtime.starter import Starter

log = logging.getLogger(__name__)

MAX_REASON_CHARACTERS = 400

LATE_SECONDS = 0.1
"""A loop that is this late to a deadline stood still, and may not have read answers that came in time."""

HEARING_SECONDS = 0.2
"""How long it then goes on reading before it calls the answer missing."""

SECONDS_BETWEEN_COMPLAINTS = 60.0
"""One line in this time about questions that could not be put: a lack concerns a thousand at once."""

CLOSE_SECONDS = 5.0
"""How long `close` waits for killed commands. What takes longer is stuck in the kernel."""

_Key = tuple[InstanceId, int, CheckKind]


class Checks:
    """The checks that run now. `launch` gives the targets of a generation; it may raise KeyError."""

    def __init__(
        self,
        *,
        post: Callable[[Event], None],
        launch: Callable[[InstanceId, int], Launch],
        starter: Starter | None = None,
    ) -> None:
        self._post = post
        self._launch = launch
        self._starter = starter
        self._tasks: dict[_Key, asyncio.Task[None]] = {}
        self._commands: dict[_Key, CommandRun] = {}
        self._passed: set[_Key] = set()
        self._quiet_until = 0.0
        self._closed = False
        self.unasked = 0
        """How many questions could not be put since the daemon started."""

    def check(self, act: Check) -> None:
        """Perform a check. The answer is posted later, never from within this call."""
        key = (act.instance, act.generation, act.check)
        if self._closed or key in self._tasks:
            return
        task = asyncio.get_running_loop().create_task(self._run(key, act.timeout_seconds))
        self._tasks[key] = task

    def forget(self, act: Forget) -> None:
        """End the checks of a generation that is over, and answer none of them."""
        for kind in CheckKind:
            key = (act.instance, act.generation, kind)
            self._passed.discard(key)
            task = self._tasks.pop(key, None)
            if task is not None:
                task.cancel()

    async def close(self) -> None:
        """End all checks, answer none, and wait until their processes are gone (at most `CLOSE_SECONDS`)."""
        self._closed = True
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        ends = [command.ended for command in self._commands.values()]
        if ends:
            _, left = await asyncio.wait(ends, timeout=CLOSE_SECONDS)
            if left:
                log.warning(
                    "cannot end %d check commands: they outlive SIGKILL and are left alone", len(left)
                )

    async def _run(self, key: _Key, timeout_seconds: float) -> None:
        try:
            reason = await self._reason(key, timeout_seconds)
        except CannotAskError as error:
            reason = self._not_asked(key, str(error))
        except Exception as error:
            log.exception("cannot perform the %s check of %s; it counts as failed", key[2], key[0])
            reason = f"cannot perform the check: {error!r}"
        if self._tasks.get(key) is not asyncio.current_task():
            return
        # The answer may lead to the next request of the same kind, so this one is over first.
        del self._tasks[key]
        instance, generation, kind = key
        if reason is None:
            self._passed.add(key)
            self._post(CheckPassed(instance, generation, kind))
        else:
            self._passed.discard(key)
            line = " ".join(reason.split())[:MAX_REASON_CHARACTERS]
            self._post(CheckFailed(instance, generation, kind, line))

    def _not_asked(self, key: _Key, lack: str) -> str | None:
        """The answer in the place of one that could not be asked for: None to go on as before."""
        self.unasked += 1
        now = asyncio.get_running_loop().time()
        if now >= self._quiet_until:
            self._quiet_until = now + SECONDS_BETWEEN_COMPLAINTS
            log.error(
                "cannot ask for the %s check of %s: %s; what was known of it holds until it can be asked"
                " (%d so far, of all instances)",
                key[2],
                key[0],
                lack,
                self.unasked,
            )
        return None if key[2] is CheckKind.LIVENESS or key in self._passed else lack

    async def _reason(self, key: _Key, timeout_seconds: float) -> str | None:
        """None if the check passes, else why not."""
        instance, generation, kind = key
        try:
            launch = self._launch(instance, generation)
        except KeyError:
            return f"cannot check generation {generation} of {instance}: it is not known any more"
        target = _target(launch, kind)
        if target is None:
            return f"cannot check {instance}: it has no {kind} check"
        deadline = asyncio.get_running_loop().time() + timeout_seconds
        try:
            async with _until(deadline):
                if isinstance(target, HttpCheck):
                    await ask_http(target, deadline)
                elif isinstance(target, TcpCheck):
                    await ask_tcp(target)
                else:
                    return await self._command(key, launch, target)
        except CannotAskError:
            raise
        except CheckError as error:
            return str(error)
        except TimeoutError:
            return self._too_late(key, target, timeout_seconds)
        return None

    async def _command(self, key: _Key, launch: Launch, target: ExecCheck) -> str | None:
        previous = self._commands.get(key)
        if previous is not None:
            return f"cannot run {previous.name}: the one before was killed and is still there"
        command = CommandRun(launch, target.argv, key[2].value, self._starter)
        self._commands[key] = command
        command.ended.add_done_callback(lambda _: self._commands.pop(key, None))
        try:
            answer = await asyncio.shield(command.ended)
            if isinstance(answer, CannotAskError):
                raise answer
            return answer
        finally:
            command.kill()

    def _too_late(self, key: _Key, target: CheckTarget, timeout_seconds: float) -> str:
        if isinstance(target, HttpCheck):
            name, line = shown_url(target.url), ""
        elif isinstance(target, TcpCheck):
            name, line = f"{target.host}:{target.port}", ""
        else:
            command = self._commands.get(key)
            name, line = (target.argv[0], "") if command is None else (command.name, command.last_line())
        reason = f"{name} gave no answer within {timeout_seconds:.1f} s"
        return f"{reason}: {line}" if line else reason


@asynccontextmanager
async def _until(deadline: float) -> AsyncIterator[None]:
    """As `asyncio.timeout_at`, but a loop that comes late to the deadline reads what has arrived first."""
    loop = asyncio.get_running_loop()
    alarms: list[asyncio.TimerHandle] = []
    async with asyncio.timeout(None) as limit:

        def ring() -> None:
            first = len(alarms) == 1
            if first and loop.time() - deadline > LATE_SECONDS:
                alarms.append(loop.call_later(HEARING_SECONDS, ring))
            else:
                limit.reschedule(loop.time())

        alarms.append(loop.call_at(deadline, ring))
        try:
            yield
        finally:
            for alarm in alarms:
                alarm.cancel()


def _target(launch: Launch, kind: CheckKind) -> CheckTarget | None:
    targets = {
        CheckKind.READINESS: launch.readiness,
        CheckKind.LIVENESS: launch.liveness,
        CheckKind.DRAIN: launch.drain,
        CheckKind.UNTIL: launch.until,
    }
    return targets[kind]
