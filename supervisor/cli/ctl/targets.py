"""What a verb is about: parsing `emails`, `emails/2` and `--all`, and helping with names that are wrong."""

import difflib
import re
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click
from click.shell_completion import CompletionItem

from supervisor.cli.ctl.settings import Settings, WrongNameError, settings_of
from supervisor.cli.ctl.text import clean
from supervisor.cli.ctl.view import HostView, host_view
from supervisor.client.errors import ClientError, Problem

COMPLETION_SECONDS = 1.0
"""A shell that hangs on TAB is worse than one that completes nothing."""
NAMES_SHOWN = 20
_INSTANCE = re.compile(r"[^/]+/\d{1,6}")

F = TypeVar("F", bound=Callable[..., Any])


def is_instance(target: str) -> bool:
    """Whether the target names one instance."""
    return "/" in target


def pool_of(target: str) -> str:
    """The pool of a target."""
    return target.partition("/")[0]


def target_arguments(function: F) -> F:
    """Give a verb `TARGET…` and `--all`."""
    function = click.option("--all", "everything", is_flag=True, help="Every pool of the host.")(function)
    return click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_targets)(
        function
    )


def chosen(targets: Sequence[str], everything: bool, options: Settings) -> list[str | None]:
    """The targets of a verb that must have one; None stands for the whole host.

    Raises `click.UsageError` with the names there are, if the daemon can be asked.
    """
    if everything and targets:
        raise click.UsageError("name targets or give --all, not both")
    if everything:
        return [None]
    if not targets:
        names = _pools_there_are(options)
        there = f" There are: {_listed(names)}." if names else ""
        raise click.UsageError(f"name a pool (emails), an instance (emails/2), or give --all.{there}")
    check_form(targets)
    return list(dict.fromkeys(targets))


def check_form(targets: Iterable[str]) -> None:
    """Refuse what can be no target."""
    for target in targets:
        if not target or (is_instance(target) and not _INSTANCE.fullmatch(target)):
            raise click.UsageError(
                f'"{clean(target, 80)}" is no target: expected a pool (emails) or an instance (emails/2)'
            )


def check_names(targets: Iterable[str | None], host: HostView, verb: str) -> None:
    """Raise `WrongNameError` for the first target that the host does not have."""
    instances: dict[str, Any] | None = None
    for target in targets:
        if target is None:
            continue
        pool = host.pool(pool_of(target))
        if pool is None:
            raise wrong_pool(target, host, verb)
        if is_instance(target):
            instances = host.instances() if instances is None else instances
            if target not in instances:
                count = sum(not one.surge for one in pool.instances)
                there = f"{pool.name}/0 to {pool.name}/{count - 1}" if count > 1 else f"only {pool.name}/0"
                there = there if count else "no instances"
                raise WrongNameError(
                    f"cannot {verb} {clean(target, 80)}: {pool.name} has no such instance",
                    f"It has {there}. Nothing was done.",
                )


def wrong_pool(target: str, host: HostView, verb: str) -> WrongNameError:
    """The failure for a pool that does not exist, with the nearest names."""
    names = [pool.name for pool in host.pools]
    near = difflib.get_close_matches(pool_of(target), names, n=3, cutoff=0.5)
    hint = (
        f"Did you mean {' or '.join(near)}?"
        if near
        else f"There are: {_listed(names)}."
        if names
        else "There are no pools."
    )
    return WrongNameError(
        f'cannot {verb} {clean(target, 80)}: there is no pool "{clean(pool_of(target), 80)}"',
        f"{hint} Nothing was done.",
    )


def with_nearest(error: ClientError, target: str | None, verb: str, options: Settings) -> ClientError:
    """The same failure, with the nearest names if the daemon named none."""
    if not isinstance(error, Problem) or error.hint or error.kind != "unknown-pool" or target is None:
        return error
    try:
        with options.client() as client:
            return wrong_pool(target, host_view(client.status()), verb)
    except ClientError:
        return error


def _pools_there_are(options: Settings) -> list[str]:
    try:
        with options.client(COMPLETION_SECONDS) as client:
            return [pool.name for pool in host_view(client.status()).pools]
    except ClientError:
        return []


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(names[:NAMES_SHOWN])
    return f"{shown} and {len(names) - NAMES_SHOWN} more" if len(names) > NAMES_SHOWN else shown


def complete_targets(ctx: click.Context, _param: click.Parameter, incomplete: str) -> list[CompletionItem]:
    """Pools, and after a slash the instances of one, as the daemon knows them; nothing if it is silent."""
    try:
        with settings_of(ctx).client(COMPLETION_SECONDS) as client:
            host = host_view(client.status())
    except Exception:  # noqa: BLE001 - whatever is wrong, a TAB must not print it
        return []
    given = set(ctx.params.get("targets") or ())
    items: list[CompletionItem] = []
    for pool in host.pools:
        if pool.name.startswith(incomplete) and pool.name not in given:
            items.append(CompletionItem(pool.name, help=f"{pool.status}, {pool.ready}/{pool.wanted} ready"))
        if "/" in incomplete or pool.name == incomplete:
            items.extend(
                CompletionItem(one.name, help=one.word)
                for one in pool.instances
                if one.name.startswith(incomplete) and one.name not in given
            )
    return items
