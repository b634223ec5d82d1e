"""Perform `Spawn`, `Signal`, `Kill` and `Forget`, and report how each generation ends.

A generation is over when its main process and everything else of its tree is gone. The main process
ends first: its exit is read without reaping it, so that its pid and process group stay reserved
while the rest is looked for and signalled; it is reaped last. Which processes are the rest is the
business of `containment`, and reaping orphans that of `descendants`. What is done about any of it is
decided in the core.
"""

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace

from supervisor.core.effects import Forget, Kill, Signal, Spawn
from supervisor.core.events import Event, Exited, Spawned, SpawnFailed, TreeGone
from supervisor.core.identity import InstanceId
from supervisor.core.launch import Launch
from supervisor.core.plan import Target
from supervisor.runtime.children import (
    Child,
    SpawnError,
    hold_child,
    needs_helper,
    reap_or_release,
    spawn_failure,
    start_child,
    wait_status,
)
from supervisor.runtime.containment import MARKER, Containment, Tree
from supervisor.runtime.descendants import Descendants
from supervisor.runtime.enclosing import Enclosing
from supervisor.runtime.ends import Ends
from supervisor.runtime.execution import prepare_to_spawn
from supervisor.runtime.ports import OutputPort, SocketsPort
from supervisor.runtime.procfs import read_stat
from supervisor.runtime.sight import BlindError
from supervisor.runtime.spawn_errors import unprepared
from supervisor.runtime.starter import Starter
from supervisor.runtime.tree_signals import TreeSignals

log = logging.getLogger(__name__)

TAIL_LINES = 20
"""Lines of output that go with the record of an exit."""

HELD_SECONDS = 0.1
"""How soon to look again at a dead process whose tracer has not let go of it (ptrace(2))."""

RESCAN_SECONDS = 0.05
"""The first pause before a tree that should be gone is looked at again. Ends are reported by the kernel;
this is for what hides, and for what was forked while SIGKILL was on its way."""

RESCAN_MAX_SECONDS = 1.0
"""The pause doubles up to this: a process in uninterruptible sleep may stay for hours."""


@dataclass(slots=True, eq=False)
class _Life:
    """One generation from its spawn to the end of its tree.

    `main` is `leader` unless the worker named another process. `exited` means that the end of the
    main process was reported. `launch` is kept where an exec helper may still fail with it; it is large.
    """

    instance: InstanceId
    generation: int
    launch: Launch | None
    tree: Tree
    leader: Child
    main: Child
    exited: bool = False
    killing: bool = False
    pause_seconds: float = RESCAN_SECONDS
    rescan: asyncio.TimerHandle | None = None


class Processes:
    """The processes of all instances. Make it in the running loop, on the main thread."""

    def __init__(
        self,
        post: Callable[[Event], None],
        launch: Callable[[InstanceId, int], Launch],
        output: OutputPort,
        worker_environment: Callable[[InstanceId, int, Launch], Mapping[str, str]],
        containment: Containment,
        sockets: SocketsPort,
        starter: Starter | None = None,
        ends_wait: Callable[[], bool] = lambda: False,
    ) -> None:
        self._post = post
        self._launch = launch
        self._output = output
        self._worker_environment = worker_environment
        self._containment = containment
        self._sockets = sockets
        self._starter = starter
        self._loop = asyncio.get_running_loop()
        self._lives: dict[tuple[InstanceId, int], _Life] = {}
        self._by_tree: dict[Tree, _Life] = {}
        prepare_to_spawn()
        self._ends = Ends(ends_wait)
        self._signals = TreeSignals(containment)
        self._descendants = Descendants(containment, self._orphan_ended)
        self._enclosing = Enclosing(containment, self._descendants.sweep_again, self._tree_arrived)

    # ── performers ───────────────────────────────────────────────────────────────────────────────

    def spawn(self, act: Spawn) -> None:
        """Start a generation. Posts `Spawned` or `SpawnFailed` before it returns.

        Where an exec helper finds out later that the program cannot be run, `SpawnFailed` follows on
        `Spawned`, in the place of `Exited`.
        """
        instance, generation = act.instance, act.generation
        tree = self._containment.admit(instance, generation)
        try:
            launch = self._launch(instance, generation)
            child = self._start(launch, tree)
        except (SpawnError, OSError) as error:
            self._containment.dismiss(tree)
            reason = str(error) if isinstance(error, SpawnError) else unprepared(str(instance), error)
            self._post(SpawnFailed(instance, generation, reason))
            return
        except BaseException:
            self._containment.dismiss(tree)
            raise
        self._containment.begin(tree, child.pid)
        life = _Life(instance, generation, None if child.report is None else launch, tree, child, child)
        self._lives[instance, generation] = life
        self._by_tree[tree] = life
        self._enclosing.begin(tree)
        self._watch(life)
        self._post(Spawned(instance, generation, child.pid))

    def _start(self, launch: Launch, tree: Tree) -> Child:
        if self._starter is not None and (launch.sockets or needs_helper(launch)):
            # The recruit is made while what it is to be told is prepared.
            self._starter.ask()
        additions = dict(self._worker_environment(tree.instance, tree.generation, launch))
        # Only the helper knows the pid before the program runs; sd_watchdog_enabled(3) does without it.
        additions.pop("WATCHDOG_PID", None)
        environment = {MARKER: tree.marker, **launch.environment, **additions}
        sockets = self._sockets.descriptors(launch.sockets)
        owner = None if launch.identity is None else launch.identity.uid
        output = self._output.writer(tree.instance, launch.logs, tree.generation, owner=owner)
        try:
            return start_child(
                launch,
                output=output,
                environment=environment,
                tag=tree.tag,
                sockets=sockets,
                starter=self._starter,
            )
        finally:
            os.close(output)

    def signal(self, act: Signal) -> None:
        """Send a signal to the main process or to all that is left. Nothing happens if that is over."""
        life = self._lives.get((act.instance, act.generation))
        if life is None:
            return
        if act.target is Target.ALL:
            self._signals.signal_tree(life.tree, act.signal, self._descendants.sweep)
        elif not life.exited:
            # While its parent lives a process is easy to find: what is seen now is known later.
            if life.tree.cgroup is None:
                with suppress(BlindError):
                    self._containment.members(life.tree)
            self._signals.send(life.instance, life.main.pid, life.main.pidfd, act.signal)

    def kill(self, act: Kill) -> None:
        """SIGKILL the whole tree, and go on until nothing is left of it."""
        life = self._lives.get((act.instance, act.generation))
        if life is not None:
            life.killing = True
            # It has missed every deadline: no other waits for this end.
            self._ends.put_last(life.leader.pidfd, life.main.pidfd)
            life.pause_seconds = RESCAN_SECONDS
            self._signals.kill_tree(life.tree, self._descendants.sweep_again)
            self._rescan_later(life)

    def forget(self, act: Forget) -> None:
        """The core is done with a generation. What still lives of it is watched until it is gone."""
        life = self._lives.get((act.instance, act.generation))
        if life is not None and life.exited:
            self._look_again(life)

    # ── questions ────────────────────────────────────────────────────────────────────────────────

    def owns(self, instance: InstanceId, generation: int, pid: int) -> bool:
        """Whether a process belongs to the tree of this generation now; only what cannot be faked counts."""
        life = self._lives.get((instance, generation))
        if life is None or pid <= 0:
            return False
        if pid in {life.leader.pid, life.main.pid} or self._containment.descends_from(pid, life.tree):
            return True
        with suppress(BlindError):
            self._descendants.sweep()
        return self._containment.descends_from(pid, life.tree)

    def adopt_main(self, instance: InstanceId, generation: int, pid: int) -> bool:
        """Take another process of the tree as the main one: its end is the end from now on.

        False if it is not of this tree, has ended, or the main process has ended already. Its exit
        status can be read if it is a child of this process by then: once its parent has ended.
        """
        life = self._lives.get((instance, generation))
        if life is None or life.exited:
            return False
        if pid == life.main.pid:
            return True
        if pid == life.leader.pid:
            self._watch_main(life, life.leader)
            return True
        try:
            before = read_stat(pid)
            if before is None or not before.is_alive or not self.owns(instance, generation, pid):
                return False
            child = hold_child(pid)
        except (OSError, BlindError) as error:
            log.warning("cannot watch process %d of %s: %s; its main process stays", pid, instance, error)
            return False
        try:
            after = read_stat(pid)
        except BlindError:
            after = None
        if after is None or after.started != before.started:
            reap_or_release(child)
            return False
        self._descendants.release(pid)
        self._watch_main(life, child)
        return True

    def main_pids(self) -> Mapping[InstanceId, int]:
        """The main process of every instance that has one."""
        return {life.instance: life.main.pid for life in self._lives.values() if not life.exited}

    def is_behind(self) -> bool:
        """Whether somebody has ended in time and it is not posted yet: not of those who are being killed."""
        return self._ends.is_behind()

    def close(self) -> None:
        """Watch no more, and kill what belongs to no generation. Living generations are not touched."""
        self._enclosing.close()
        self._descendants.close()
        for life in self._lives.values():
            self._unwatch(life)
            for child in {id(one): one for one in (life.main, life.leader)}.values():
                reap_or_release(child)
            self._containment.dismiss(life.tree)
        self._ends.close()
        self._lives.clear()
        self._by_tree.clear()
        self._containment.close()

    # ── ends ─────────────────────────────────────────────────────────────────────────────────────

    def _watch(self, life: _Life) -> None:
        """Hear of its end. Not while it is moved: then it must not be reaped."""
        if not life.tree.moving:
            self._ends.watch(life.leader.pidfd, self._leader_ended, life)
            if life.main is not life.leader and not life.exited:
                self._ends.watch(life.main.pidfd, self._main_ended, life)
            if life.killing:
                self._ends.put_last(life.leader.pidfd, life.main.pidfd)

    def _tree_arrived(self, tree: Tree) -> None:
        life = self._by_tree.get(tree)
        if life is not None:
            self._watch(life)

    def _watch_main(self, life: _Life, child: Child) -> None:
        former, life.main = life.main, child
        if former is not life.leader:
            self._ends.forget(former.pidfd)
            reap_or_release(former)
            life.tree.orphans.discard(former.pid)
        if child is not life.leader:
            life.tree.orphans.add(child.pid)
            self._watch(life)

    def _leader_ended(self, life: _Life) -> None:
        if life.main is life.leader:
            self._main_ended(life)
            return
        # It stays a zombie: its pid names the process group of the others.
        self._ends.forget(life.leader.pidfd)
        if life.exited:
            self._look_again(life)

    def _main_ended(self, life: _Life) -> None:
        try:
            status = wait_status(life.main)
            left = self._left(life)
        except BlindError:
            # Whether something of it is left cannot be seen: until it can, it has not ended.
            status = None
        if status is None:
            # Else it is dead and held by a tracer: the handle stays readable until that lets go.
            self._ends.forget(life.main.pidfd)
            self._loop.call_later(HELD_SECONDS, self._watch_again, life)
            return
        self._ends.forget(life.main.pidfd)
        life.tree.orphans.discard(life.main.pid)
        failure = None if life.launch is None else spawn_failure(life.main, life.launch)
        self._output.drain(life.instance)
        if life.tree.cgroup is not None and life.tree.cgroup.out_of_memory_kills():
            status = replace(status, out_of_memory=True)
        life.exited = True
        if failure is not None:
            self._finish(life, SpawnFailed(life.instance, life.generation, str(failure)))
            return
        lines = self._output.tail(life.instance, TAIL_LINES)
        event = Exited(life.instance, life.generation, status, left, lines)
        if not left:
            self._finish(life, event)
            return
        if life.killing:
            self._kill_round(life)
        self._rescan_later(life)
        self._post(event)

    def _watch_again(self, life: _Life) -> None:
        if self._lives.get((life.instance, life.generation)) is life and not life.exited:
            self._watch(life)

    def _left(self, life: _Life) -> int:
        """How many processes of the tree are alive. Raises BlindError."""
        if self._containment.is_surely_empty(life.tree):
            return 0
        self._descendants.sweep()
        return len(self._containment.members(life.tree))

    def _orphan_ended(self, tree: Tree) -> None:
        life = self._by_tree.get(tree)
        if life is not None and life.exited:
            self._look_again(life)

    def _look_again(self, life: _Life) -> None:
        if (life.instance, life.generation) not in self._lives or not life.exited:
            return
        try:
            left = self._left(life)
        except BlindError:
            self._rescan_later(life)
            return
        if left:
            if life.killing:
                self._kill_round(life)
            return
        self._finish(life, TreeGone(life.instance, life.generation))

    def _finish(self, life: _Life, event: Event) -> None:
        """Nothing is left: say so, then give back the pids, the descriptors and the control group.

        In this order, because a replacement waits for the first and nobody for the rest.
        """
        del self._lives[life.instance, life.generation]
        del self._by_tree[life.tree]
        try:
            self._post(event)
        finally:
            self._unwatch(life)
            if life.main is not life.leader:
                reap_or_release(life.main)
            reap_or_release(life.leader)
            self._containment.dismiss(life.tree)

    def _unwatch(self, life: _Life) -> None:
        self._ends.forget(life.leader.pidfd)
        self._ends.forget(life.main.pidfd)
        if life.rescan is not None:
            life.rescan.cancel()
            life.rescan = None

    # ── signals ──────────────────────────────────────────────────────────────────────────────────

    def _rescan_later(self, life: _Life) -> None:
        if life.rescan is None:
            life.rescan = self._loop.call_later(life.pause_seconds, self._rescan, life)
            life.pause_seconds = min(life.pause_seconds * 2, RESCAN_MAX_SECONDS)

    def _rescan(self, life: _Life) -> None:
        life.rescan = None
        if life.exited:
            self._look_again(life)
        elif life.killing:
            self._kill_round(life)
        if (life.instance, life.generation) in self._lives:
            self._rescan_later(life)

    def _kill_round(self, life: _Life) -> None:
        self._signals.kill_tree(life.tree, self._descendants.sweep_again, again=True)
