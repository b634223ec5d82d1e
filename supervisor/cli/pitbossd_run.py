"""The composition root: what a running daemon is made of, and in which order it comes up and goes.

The only place that sees every part. It wires them and decides nothing about workers. Everything that
can fail is tried before the first worker starts, so that a daemon that cannot run leaves no trace.
"""

import asyncio
import faulthandler
import fcntl
import logging
import os
import signal
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

from supervisor import __version__
from supervisor.cli import pitbossd_collector
from supervisor.control.identifiers import new_operation_id, new_request_id
from supervisor.control.server import ControlError, ControlServer
from supervisor.core.effects import Check, Effect, Forget, Halt, Kill, Release, ReleaseBarrier, Signal, Spawn
from supervisor.core.events import (
    Booted,
    Event,
    OperationWish,
    OperatorWish,
    Scope,
    ShutdownRequested,
    Urgency,
    Wish,
)
from supervisor.core.identity import InstanceId
from supervisor.core.launch import Launch, ListenSocket
from supervisor.core.state import Host, create
from supervisor.manifest.loaded import Manifest
from supervisor.runtime import sight
from supervisor.runtime.checks import Checks
from supervisor.runtime.children import needs_helper
from supervisor.runtime.containment import choose_containment
from supervisor.runtime.engine import Engine
from supervisor.runtime.execution import prepare_to_spawn
from supervisor.runtime.log_files import check_directory
from supervisor.runtime.nofile import raise_nofile, shortage
from supervisor.runtime.notify import NotifySocketError, NotifySockets
from supervisor.runtime.output import Output
from supervisor.runtime.processes import Processes
from supervisor.runtime.sockets import ListenSockets, SocketsError
from supervisor.runtime.starter import Starter
from supervisor.runtime.systemd import Systemd
from supervisor.store.journal import Journal, JournalError
from supervisor.telemetry import unraisable
from supervisor.telemetry.logs import LogLines, configure
from supervisor.telemetry.metrics import Metrics
from supervisor.telemetry.move_log import MoveLog
from supervisor.telemetry.status_line import status_line

log = logging.getLogger("pitboss")

URGENCIES = {signal.SIGTERM: Urgency.NORMAL, signal.SIGINT: Urgency.NOW, signal.SIGQUIT: Urgency.KILL}

SETTLE_SECONDS = 1.0
"""How long the first workers wait for the process that starts them; it takes 20 ms."""


class CannotStartError(Exception):
    """The daemon cannot run here; `reasons` are whole lines. No worker was started."""

    def __init__(self, *reasons: str) -> None:
        super().__init__("; ".join(reasons))
        self.reasons = reasons


def run_daemon(manifest: Manifest, log_format: str, log_level: str) -> int:
    """Run until the host is shut down; the exit code. Raises `CannotStartError`."""
    lines = configure(level=log_level, form=log_format)
    # The watchdog of systemd ends a daemon that hangs with SIGABRT: where it hung goes to the log.
    faulthandler.enable()
    sys.unraisablehook = unraisable.tell
    raise_nofile()
    sight.hold()
    _prepare_directories(manifest)
    locks = [_lock(directory / "pitbossd.lock") for directory in _own_directories(manifest)]
    sockets = ListenSockets()
    try:
        sockets.open(_listen_sockets(manifest))
        journal = Journal.open(manifest.state_directory / "journal.db")
        pitbossd_collector.tame()
        return asyncio.run(Daemon(manifest, journal, sockets, lines).run())
    except SocketsError as error:
        raise CannotStartError(*error.reasons) from error
    except JournalError as error:
        raise CannotStartError(str(error)) from error
    finally:
        sockets.close()
        for lock in locks:
            os.close(lock)


def _launches(manifest: Manifest) -> Iterator[Launch]:
    """What the first generations are started from, those of a surge included."""
    for name, pool in manifest.plan.pools.items():
        for index in range(pool.instances + pool.rollout.max_surge):
            yield manifest.launch(InstanceId(name, index), 1)


def _begun_starter(manifest: Manifest) -> Starter:
    """What starts the workers that need more than a command; it gets ready while the rest is made."""
    starter = Starter(asyncio.get_running_loop())
    firsts = (manifest.launch(InstanceId(name, 0), 1) for name in manifest.plan.pools)
    if any(launch.sockets or needs_helper(launch) for launch in firsts):
        prepare_to_spawn()
        starter.begin()
    return starter


def _listen_sockets(manifest: Manifest) -> Iterator[ListenSocket]:
    for name, pool in manifest.plan.pools.items():
        for index in range(pool.instances) if pool.sockets else ():
            yield from manifest.launch(InstanceId(name, index), 1).sockets


def _prepare_directories(manifest: Manifest) -> None:
    """Make what is missing, and find out about everything unusable at once."""
    reasons = []
    lacking = shortage(sum(pool.instances for pool in manifest.plan.pools.values()))
    if lacking is not None:
        reasons.append(lacking)
    for directory, mode in ((manifest.state_directory, 0o750), (manifest.runtime_directory, 0o755)):
        try:
            directory.mkdir(mode=mode, parents=True, exist_ok=True)
            if not os.access(directory, os.W_OK | os.X_OK):
                reasons.append(f"cannot write to {directory}: permission denied")
        except OSError as error:
            reasons.append(f"cannot make the directory {directory}: {error.strerror}")
    for directory in _log_directories(manifest):
        reason = check_directory(directory)
        if reason is not None:
            reasons.append(reason)
    if reasons:
        raise CannotStartError(*reasons)


def _log_directories(manifest: Manifest) -> list[Path]:
    directories = [launch.logs.directory for launch in _launches(manifest)]
    return [Path(directory) for directory in dict.fromkeys(directories) if directory is not None]


def _own_directories(manifest: Manifest) -> list[Path]:
    """What two daemons must not share: the directory of the sockets, and that of journal and logs."""
    found = {path.resolve(): path for path in (manifest.runtime_directory, manifest.state_directory)}
    return list(found.values())


def _lock(path: Path) -> int:
    """One daemon per directory. A lock, not a pid file: it ends with its holder, whatever happens."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o644)
    except OSError as error:
        raise CannotStartError(f"cannot open {path}: {error.strerror}") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        holder = os.read(descriptor, 32).decode(errors="replace").strip()
        os.close(descriptor)
        who = f"pitbossd with pid {holder}" if holder.isdigit() else "another pitbossd"
        raise CannotStartError(f"cannot use {path.parent}: {who} runs on it") from error
    os.ftruncate(descriptor, 0)
    os.write(descriptor, f"{os.getpid()}\n".encode())
    return descriptor


class Daemon:
    """Every part of one running daemon, and what the control plane may see of it."""

    def __init__(self, manifest: Manifest, journal: Journal, sockets: ListenSockets, lines: LogLines) -> None:
        self._manifest = manifest
        self._journal = journal
        self._sockets = sockets
        self._lines = lines

    async def run(self) -> int:
        """Boot, serve until halted, and go; the exit code."""
        self._loop = asyncio.get_running_loop()
        self._halted: asyncio.Future[Halt] = self._loop.create_future()
        try:
            self._build()
        except (NotifySocketError, OSError) as error:
            raise CannotStartError(str(error)) from error
        try:
            await self._control.start()
        except ControlError as error:
            raise CannotStartError(str(error)) from error
        for number in URGENCIES:
            self._loop.add_signal_handler(number, self._asked_to_end, number)
        self._loop.add_signal_handler(signal.SIGUSR1, self._asked_to_open_again)
        self._loop.add_signal_handler(signal.SIGHUP, self._asked_to_reload)
        for warning in self._manifest.warnings:
            log.warning("%s", warning)
        log.info("pitbossd %s runs %s as pid %d", __version__, self._manifest.path, os.getpid())
        self._starter.settle(SETTLE_SECONDS)
        self.engine.post(Booted())
        self._systemd.ready(self.engine.host)
        halt = await self._halted
        await self._close()
        for stuck in halt.stuck:
            log.error("%s outlived SIGKILL and is left behind", stuck)
        log.info("pitbossd ends")
        return 1 if halt.stuck else 0

    def _build(self) -> None:
        manifest = self._manifest
        host = create(manifest.plan, self._journal.intents(), self._loop.time())
        self._output = Output()
        # Before there is any process of ours: in a delegated group, this one moves into a leaf of it, and one
        # that stayed behind would keep the kernel from giving the workers' groups their controllers.
        containment = choose_containment()
        self._starter = _begun_starter(manifest)
        self._notify = NotifySockets(
            post=self._post,
            directory=manifest.runtime_directory / "notify",
            generation_of=self._generation_of,
            owns=self._owns,
            adopt_main=self._adopt_main,
        )
        self._processes = Processes(
            post=self._post,
            launch=manifest.launch,
            output=self._output,
            worker_environment=self._worker_environment,
            containment=containment,
            sockets=self._sockets,
            starter=self._starter,
            ends_wait=lambda: self.engine.more_is_due,
        )
        self._checks = Checks(post=self._post, launch=manifest.launch, starter=self._starter)
        self._metrics = Metrics(
            version=__version__,
            main_pids=self._processes.main_pids,
            log_counters=self._output.pool_counters,
            notify_drops=self._notify.drops,
            faults=lambda: self.engine.faults,
            journal_failures=lambda: self._journal.failures,
            checks_not_asked=lambda: self._checks.unasked,
        )
        self._systemd = Systemd.above(describe=status_line, pulse=self._pulse)
        self.engine = self._made_engine(host)
        self._control = ControlServer(
            self,
            unix=manifest.control.unix,
            http=manifest.control.http,
            metrics=lambda openmetrics: self._metrics.scrape(openmetrics=openmetrics),
            history=self._journal,
        )

    def _made_engine(self, host: Host) -> Engine:
        """Who performs each act, and who is told."""
        return Engine(
            host,
            {
                Spawn: self._processes.spawn,
                Signal: self._processes.signal,
                Kill: self._processes.kill,
                Check: self._checks.check,
                Forget: self._forget,
                Release: self._release,
                ReleaseBarrier: self._notify.release_barrier,
                Halt: self._halt,
            },
            [MoveLog(self._lines), self._metrics, self._journal.observe, self._systemd.observe],
            before_tick=self._notify.poll,
            is_behind=self._processes.is_behind,
            note_lateness=self._metrics.lag.note,
            tidy=pitbossd_collector.tidy,
        )

    # ── what the control plane sees (control.port.EnginePort) ────────────────────────────────────

    @property
    def host(self) -> Host:
        """The state as of the last step."""
        return self.engine.host

    @property
    def faults(self) -> int:
        """How many steps broke an invariant."""
        return self.engine.faults

    def now(self) -> float:
        """Monotonic seconds."""
        return self.engine.now()

    async def ask(self, wish: OperatorWish | OperationWish) -> tuple[Effect, ...]:
        """Take a wish and return its effects."""
        return await self.engine.ask(wish)

    async def changed(self, after: int) -> None:
        """Return as soon as the host's revision is greater than `after`."""
        await self.engine.changed(after)

    async def durable(self) -> str | None:
        """Wait until the intents so far are on disk; the reason if they could not be written."""
        return await self._journal.durable()

    # ── wiring ───────────────────────────────────────────────────────────────────────────────────

    def _post(self, event: Event) -> None:
        self.engine.post(event)

    async def _pulse(self) -> None:
        await self.engine.pulse()

    def _generation_of(self, instance: InstanceId) -> int | None:
        known = self.engine.host.instances.get(instance)
        return known.generation if known is not None and known.has_process else None

    def _owns(self, instance: InstanceId, generation: int, pid: int) -> bool:
        # The sockets are made before the processes that they ask about.
        return self._processes.owns(instance, generation, pid)

    def _adopt_main(self, instance: InstanceId, generation: int, pid: int) -> bool:
        return self._processes.adopt_main(instance, generation, pid)

    def _worker_environment(
        self, instance: InstanceId, _generation: int, launch: Launch
    ) -> Mapping[str, str]:
        uid = None if launch.identity is None else launch.identity.uid
        environment = {"NOTIFY_SOCKET": self._notify.path(instance, uid)}
        if launch.watchdog_seconds is not None:
            environment["WATCHDOG_USEC"] = str(int(launch.watchdog_seconds * 1_000_000))
        request_id = self.engine.host.instances[instance].request_id
        if request_id:
            environment["PITBOSS_REQUEST_ID"] = request_id
        return environment

    def _forget(self, act: Forget) -> None:
        self._checks.forget(act)
        self._processes.forget(act)

    def _release(self, act: Release) -> None:
        self._output.release(act.instance)
        self._notify.remove(act.instance)

    def _halt(self, act: Halt) -> None:
        if not self._halted.done():
            self._halted.set_result(act)

    def _asked_to_end(self, number: signal.Signals) -> None:
        urgency = URGENCIES[number]
        if self.engine.host.shutdown is not None and urgency is Urgency.NORMAL:
            urgency = Urgency.NOW
        log.info("%s: the host is shutting down (%s)", number.name, urgency)
        wish = Wish(Scope(), new_operation_id(), new_request_id(), f"signal {number.name}")
        self.engine.post(ShutdownRequested(wish, urgency))

    def _asked_to_open_again(self) -> None:
        self._output.reopen()
        self._control.open_again()

    def _asked_to_reload(self) -> None:
        log.warning(
            "SIGHUP: a running daemon cannot read its manifest again yet; restart it to apply changes"
        )

    async def _close(self) -> None:
        await self._control.stop()
        reason = await self._journal.durable()
        if reason is not None:
            log.error("cannot write the journal: %s", reason)
        await self._journal.close()
        await self._systemd.close()
        self.engine.close()
        await self._checks.close()
        self._processes.close()
        self._starter.close()
        self._notify.close()
        self._output.close()
