"""What must hold between the values of one pool, each of which is good by itself.

Decides what makes no sense together. Every check is skipped where one of the keys it looks at is
already known to be wrong, so that one mistake is not reported as two.
"""

import re
from collections.abc import Callable, Iterator

from supervisor.manifest import model
from supervisor.manifest.draft import PoolDraft
from supervisor.manifest.fields import VARIABLE_NAME, is_reserved
from supervisor.manifest.machine import Machine
from supervisor.manifest.nodes import Mapping, Node, key_place_of, to_data
from supervisor.manifest.presets import PRESETS
from supervisor.manifest.problems import Problems, dotted, quoted
from supervisor.manifest.translate import has_drain_action, probe_timeout_seconds, restart_policy
from supervisor.manifest.units import said

_VARIABLE = re.compile(VARIABLE_NAME)
_UNSET = (None, False)
_QUESTIONS = ("http", "tcp", "exec")
_ALTERNATIVES: tuple[tuple[tuple[str, ...], tuple[str, ...], int], ...] = (
    (("readiness",), ("notify", *_QUESTIONS), 1),
    (("liveness",), _QUESTIONS, 1),
    (("drain",), ("signal", "http", "exec", "notify"), 0),
    (("drain", "until"), _QUESTIONS, 1),
    (("stop",), ("stages", "preset"), 0),
)

Finding = tuple[tuple[str | int, ...], str]
"""Path within the pool, message."""


def check_pool(pool: PoolDraft, machine: Machine, problems: Problems) -> None:
    """Add what makes no sense within one pool."""
    findings = [*_alternatives(pool), *_variables(pool)]
    for keys, check in _CHECKS:
        if not pool.broken.intersection(keys):
            findings.extend(check(pool.settings))
    if not machine.is_root:
        findings.extend(_needs_root(pool.settings, machine))
    for path, message in findings:
        at_key = path[0] == "environment"
        place = key_place_of(pool.node, path) if at_key else pool.place_of(*path)
        problems.add(place, dotted(("pools", pool.name, *path)), message)


def _alternatives(pool: PoolDraft) -> Iterator[Finding]:
    """Keys of which only one can hold. Looks at what was written, whether or not it is good."""
    for path, kinds, least in _ALTERNATIVES:
        block = _block_at(pool.node, path)
        if block is None:
            continue
        chosen = [
            kind for kind in kinds if kind in block.values and to_data(block.values[kind]) not in _UNSET
        ]
        names = f"{', '.join(kinds[:-1])} or {kinds[-1]}"
        if len(chosen) > 1:
            amount = "exactly" if least else "at most"
            yield path, f"expected {amount} one of {names}, found {' and '.join(chosen)}"
        elif len(chosen) < least:
            yield path, f"expected one of {names}, found none of them"


def _block_at(node: Mapping, path: tuple[str, ...]) -> Mapping | None:
    here: Node | None = node
    for step in path:
        here = here.values.get(step) if isinstance(here, Mapping) else None
    return here if isinstance(here, Mapping) else None


def _probes(pool: model.Pool) -> Iterator[Finding]:
    for key, probe in (("readiness", pool.readiness), ("liveness", pool.liveness)):
        if probe is None:
            continue
        timeout = probe_timeout_seconds(probe)
        if timeout > probe.period:
            message = f"expected at most the period of {said(probe.period)}, found {said(timeout)}"
            yield (key, "timeout"), message


def _drain(pool: model.Pool) -> Iterator[Finding]:
    block = pool.drain
    preset = PRESETS[pool.stop.preset] if pool.stop.preset else None
    if block is None or has_drain_action(block) or block.until is not None:
        return
    if preset is not None and preset.drain_signal is not None:
        return
    if block.window:
        what = "signal, http, exec, notify or until beside a window"
        yield ("drain", "window"), f"expected {what}, found nothing to wait for"
    elif not block.settle:
        yield ("drain",), "expected signal, http, exec, notify, until or settle, found none of them"


def _startup(pool: model.Pool) -> Iterator[Finding]:
    startup = pool.startup
    if startup.min_uptime >= startup.timeout:
        shorter = f"expected less than startup.timeout ({said(startup.timeout)})"
        yield ("startup", "min_uptime"), f"{shorter}, found {said(startup.min_uptime)}"
    probe = pool.readiness
    if probe is not None and not probe.notify:
        # The first answer may come at once; each further one that is asked for comes a period later.
        soonest = probe.initial_delay + (probe.success_threshold - 1) * probe.period
        if soonest >= startup.timeout:
            found = f"found a readiness probe that passes after {said(soonest)} at the earliest"
            yield ("startup", "timeout"), f"expected more, {found}"


def _restart(pool: model.Pool) -> Iterator[Finding]:
    backoff = pool.restart.backoff
    if backoff.initial > backoff.max:
        most = f"expected at most restart.backoff.max ({said(backoff.max)})"
        yield ("restart", "backoff", "initial"), f"{most}, found {said(backoff.initial)}"
    if pool.kind == "task" and restart_policy(pool) == "always":
        yield ("restart", "policy"), "expected on-failure or never for a task, found always"


def _rollout(pool: model.Pool) -> Iterator[Finding]:
    rules = pool.rollout
    if pool.kind == "task" and rules.max_surge:
        message = (
            f"expected 0 for a task (it runs to completion, nobody can stand in), found {rules.max_surge}"
        )
        yield ("rollout", "max_surge"), message
    elif not rules.max_unavailable and not rules.max_surge:
        message = "expected at least 1 where max_surge is 0, found 0 (nobody could ever be replaced)"
        yield ("rollout", "max_unavailable"), message


_CHECKS: tuple[tuple[frozenset[str], Callable[[model.Pool], Iterator[Finding]]], ...] = (
    (frozenset({"readiness", "liveness"}), _probes),
    (frozenset({"drain", "stop"}), _drain),
    (frozenset({"startup", "readiness"}), _startup),
    (frozenset({"restart", "kind"}), _restart),
    (frozenset({"rollout", "kind"}), _rollout),
)


def _needs_root(pool: model.Pool, machine: Machine) -> Iterator[Finding]:
    named = {
        field.alias or name: getattr(pool.limits, name) for name, field in model.Limits.model_fields.items()
    }
    for key, value in named.items():
        ceiling = machine.hard_limits.get(key.upper(), -1)
        if value is not None and ceiling != -1 and (value[1] == -1 or value[1] > ceiling):
            what = f"expected at most {ceiling} (the daemon's own limit, it is not root)"
            yield ("limits", key), f"{what}, found {'unlimited' if value[1] == -1 else value[1]}"
    if pool.nice is not None and pool.nice < machine.niceness:
        what = f"expected at least {machine.niceness} (the daemon's own, it is not root)"
        yield ("nice",), f"{what}, found {pool.nice}"


def _variables(pool: PoolDraft) -> Iterator[Finding]:
    node = pool.node.values.get("environment")
    for name in node.values if isinstance(node, Mapping) else ():
        if not _VARIABLE.fullmatch(name):
            yield ("environment", name), f"expected a name of letters, digits and _, found {quoted(name)}"
        elif is_reserved(name):
            what = f"expected a variable of the worker, found {quoted(name)} (pitbossd sets it)"
            yield ("environment", name), what
