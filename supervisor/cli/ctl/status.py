"""`pitbossctl status`: how everything stands, once or continuously."""

import click

from supervisor.cli.ctl.settings import EXIT_REACHED, print_json, settings, verb
from supervisor.cli.ctl.table import Selection, status_lines
from supervisor.cli.ctl.targets import check_form, check_names, complete_targets, is_instance, pool_of
from supervisor.cli.ctl.view import HostView, host_view
from supervisor.client.errors import EXIT_NOT_REACHED


@verb(
    examples=(
        "pitbossctl status",
        "pitbossctl status emails api/0",
        "pitbossctl status --watch",
        "pitbossctl status | awk '$2 == \"backoff\" {print $1}'",
        "pitbossctl status --json | jq '.pools[] | select(.ready < .wanted) | .name'",
    ),
    exit_codes=(
        "everything shown is where the operator wants it: ready, completed, or drained or stopped as asked",
        "something is not there yet, or a rollout is on its way",
    ),
)
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_targets)
@click.option("--watch", "-w", is_flag=True, help="Keep it on the screen, up to date, until Ctrl-C.")
@click.option("--all-instances", "-a", is_flag=True, help="Show every instance of large pools too.")
def status(targets: tuple[str, ...], watch: bool, all_instances: bool) -> None:
    """Show how everything stands.

    A line for each pool and each instance: where it is (with the goal beside it where that differs),
    whether it may get work, its process, its generation, since when, and a note: the rung of the stop
    ladder and the time left there, or the last exit, what it waits for, what it says about itself.

    A pool of more than 8 instances shows only those that are not simply running; --all-instances, or
    naming the pool, shows them all. In a pipe the columns never change, empty cells are "-", and only
    the last column holds blanks.
    """
    options = settings()
    check_form(targets)
    if watch:
        from supervisor.cli.ctl.watch import watch_status

        watch_status(options, targets, expanded=all_instances)
        return
    with options.client(options.timeout_seconds) as client:
        answer = client.status()
    host = host_view(answer)
    check_names(targets, host, "show")
    if options.json:
        print_json(_picked(dict(answer), targets), options)
    else:
        screen = options.screen()
        screen.lines(status_lines(host, screen, Selection(frozenset(targets), all_instances)))
    raise click.exceptions.Exit(EXIT_REACHED if _is_settled(host, targets) else EXIT_NOT_REACHED)


def _is_settled(host: HostView, targets: tuple[str, ...]) -> bool:
    if not targets:
        return host.settled
    instances = host.instances()
    pools = {pool.name: pool for pool in host.pools}
    return all(instances[one].at_goal if is_instance(one) else pools[one].settled for one in targets)


def _picked(answer: dict[str, object], targets: tuple[str, ...]) -> dict[str, object]:
    """The answer with only the named pools and instances in it."""
    pools = answer.get("pools")
    if not targets or not isinstance(pools, list):
        return answer
    wanted = {pool_of(one) for one in targets}
    picked = []
    for pool in pools:
        if pool.get("name") in wanted:
            if pool["name"] not in targets:
                only = [one for one in pool.get("instances", []) if one.get("name") in targets]
                pool = {**pool, "instances": only}  # noqa: PLW2901
            picked.append(pool)
    return {**answer, "pools": picked}
