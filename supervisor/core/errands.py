"""What concerns many instances at once, carried out a few at a time.

A wish for a pool writes all goals in its own step and answers; telling a thousand workers in that step
would hold up everybody else. So each step acts on `Host.most_at_once` instances at most, and the rest
waits in an `Errand` whose moment has come: the deadlines of others are handled between. Whoever meets
its own event before the errand reaches it acts on its new goal. What an instance then becomes is
decided in `lifecycle` and `ladder`, who is meant in `goals`.
"""

from dataclasses import replace

from supervisor.core import ladder, lifecycle
from supervisor.core.effects import Cause, Signal
from supervisor.core.identity import InstanceId
from supervisor.core.instance import Instance, RungKind
from supervisor.core.phases import ON_THE_WAY_OUT, Goal, Phase
from supervisor.core.scene import Scene
from supervisor.core.state import ComeBack, Deliver, Errand, Host, Leave, Look
from supervisor.core.turn import Turn


def begin(turn: Turn, purpose: Leave | ComeBack | Deliver, ids: list[InstanceId]) -> None:
    """Carry it out in this step if it concerns few; else it begins with the next."""
    _begin(turn, f"errand:{turn.host.heap_order + 1}", Errand(purpose, tuple(ids)))


def look(turn: Turn, pool: str) -> None:
    """What instances of this pool wait for may have come."""
    name, known = f"look:{pool}", turn.host.errands.get(f"look:{pool}")
    ids = (*turn.host.declared[pool], *turn.host.pools[pool].surge)
    if known is not None:
        # All are looked at anew, after those that wait already: else a gate that flaps would starve them.
        ids = tuple(dict.fromkeys((*known.ids[known.seen :], *ids)))
    _begin(turn, name, Errand(Look(), ids))


def look_at_all(turn: Turn) -> None:
    """The daemon is up: each instance moves towards its goal, none of them in this step."""
    turn.put_errand("look:", Errand(Look(), tuple(turn.host.instances)), turn.now)


def _begin(turn: Turn, name: str, errand: Errand) -> None:
    if len(errand.ids) <= turn.spare and name not in turn.host.errands:
        turn.spare -= len(errand.ids)
        for key in errand.ids:
            _tell(turn, errand, key)
    else:
        turn.put_errand(name, errand, turn.now)


def carry_on(turn: Turn, name: str, most: int) -> int:
    """Go on with an errand for at most so many instances; how many it were."""
    errand = turn.host.errands[name]
    following = errand.ids[errand.seen : errand.seen + most]
    for key in following:
        _tell(turn, errand, key)
    turn.put_errand(name, errand._replace(seen=errand.seen + len(following)), turn.now)
    return len(following)


def next_due(host: Host, now: float) -> str | None:
    """The first errand whose moment has come."""
    return next((name for name in host.errands if host.moments[name][0] <= now), None)


def set_aside(turn: Turn, name: str, moment: float, later: float) -> None:
    """Leave the next instance of an errand for later: a decision about it raised, and the others go on."""
    errand = turn.host.errands[name]
    alone = (errand.ids[errand.seen],)
    turn.put_errand(f"errand:{turn.host.heap_order + 1}", Errand(errand.purpose, alone), later)
    turn.put_errand(name, errand._replace(seen=errand.seen + 1), moment)


def _tell(turn: Turn, errand: Errand, key: InstanceId) -> None:
    instance = turn.host.instances.get(key)
    if instance is None:
        # A surge instance that has gone meanwhile.
        return
    scene = turn.scene(key.pool)
    match errand.purpose:
        case Leave() as leaving if instance.goal is not Goal.UP:
            turn.put(_leave(scene, instance, leaving))
        case ComeBack() as coming if instance.goal is Goal.UP:
            turn.put(_come_back(scene, instance, coming))
        case Deliver() as delivery if instance.has_process:
            turn.put(_deliver(scene, instance, delivery))
        case Look() if _is_released(turn, instance):
            turn.put(lifecycle.released(scene, instance))
        case _:
            pass
    # What else follows, and what it means for its operations, is looked at when the step settles.
    turn.changed[key] = None


def _leave(scene: Scene, instance: Instance, leaving: Leave) -> Instance:
    fit = leaving.fit
    if fit is not None:
        by = fit.stop_by[instance.id.pool]
        stop_by = by if scene.stop_by is None else min(scene.stop_by, by)
        scene = replace(scene, scale=min(scene.scale, fit.scale), stop_by=stop_by)
    if leaving.refits and instance.phase in ON_THE_WAY_OUT:
        instance = ladder.refit(scene, instance)
    instance = lifecycle.leave(scene, instance, leaving.cause, leaving.urgency)
    return lifecycle.advance(scene, instance, "")


def _come_back(scene: Scene, instance: Instance, coming: ComeBack) -> Instance:
    if coming.pardons and instance.phase in {Phase.BACKOFF, Phase.FAILED}:
        pardoned = lifecycle.forgive(scene, instance, Cause.START)
        return pardoned._replace(request_id=coming.request_id)
    return lifecycle.come_back(scene, instance)


def _deliver(scene: Scene, instance: Instance, delivery: Deliver) -> Instance:
    if instance.generation != delivery.generations.get(instance.id):
        # The process that was meant is gone; the signal is not for the one after it.
        return instance
    scene.emit(Signal(instance.id, instance.generation, delivery.signal, delivery.target))
    return instance._replace(signals_sent=instance.signals_sent | {delivery.signal})


def _is_released(turn: Turn, instance: Instance) -> bool:
    rung = instance.rung
    return rung is not None and rung.kind is RungKind.HOLD and not turn.held(instance.id.pool)
