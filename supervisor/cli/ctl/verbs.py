"""The verbs that change a goal: drain, resume, restart, stop, start; and signal, which changes none."""

from typing import Any

import click

from supervisor.cli.ctl.settings import settings, verb
from supervisor.cli.ctl.targets import check_form, chosen, complete_targets, target_arguments
from supervisor.cli.ctl.view import host_view
from supervisor.cli.ctl.wishes import Ask, carry_out

no_wait_option = click.option(
    "--no-wait", is_flag=True, help="Only ask for it, and print the id of the operation."
)


def urgency_options(function: Any) -> Any:
    """Give a verb `--now` and `--kill`."""
    function = click.option("--kill", is_flag=True, help="Straight to SIGKILL for the whole process tree.")(
        function
    )
    return click.option(
        "--now", is_flag=True, help="Skip settling and draining; begin with the first signal."
    )(function)


def urgency_of(now: bool, kill: bool) -> str:
    """The word of the API for `--now` and `--kill`; both together mean the stronger one."""
    return "kill" if kill else "now" if now else "normal"


def _simply(name: str, targets: tuple[str, ...], everything: bool, no_wait: bool, ask: Ask) -> None:
    options = settings()
    carry_out(name, chosen(targets, everything, options), ask, options, wait=not no_wait)


@verb(
    examples=(
        "pitbossctl drain emails",
        "pitbossctl drain emails/2 --timeout 2m",
        "pitbossctl drain --all --no-wait",
    ),
    exit_codes=(
        "every instance has finished its work and is gone",
        "not all of them are, or not within --timeout",
    ),
)
@target_arguments
@no_wait_option
def drain(targets: tuple[str, ...], everything: bool, no_wait: bool) -> None:
    """Finish what is held, take nothing new, go, and stay away.

    Each instance becomes unready, settles, and is told to drain; when its work is done, or the window is
    over, it is stopped by the ladder of its pool. What is drained stays drained, also over a restart of
    the daemon, until it is resumed.
    """
    _simply("drain", targets, everything, no_wait, lambda client, target: client.drain(target))


@verb(
    examples=("pitbossctl resume emails", "pitbossctl resume --all"),
    exit_codes=("every instance is up and ready", "not all of them became ready, or not within --timeout"),
)
@target_arguments
@no_wait_option
def resume(targets: tuple[str, ...], everything: bool, no_wait: bool) -> None:
    """Bring back what was drained or stopped.

    The wait is over when it is ready. Its dependencies come first, as at boot. An instance that is still
    settling goes back to work at once.
    """
    _simply("resume", targets, everything, no_wait, lambda client, target: client.resume(target))


@verb(
    examples=(
        "pitbossctl restart api",
        "pitbossctl restart api --timeout 10m",
        "pitbossctl restart --failed --all",
        "pitbossctl restart api/1",
    ),
    exit_codes=(
        "every instance was replaced and is ready",
        "the rollout was halted, aborted, or is not done yet",
    ),
)
@target_arguments
@click.option("--failed", is_flag=True, help="Only instances that have given up or are waiting in backoff.")
@no_wait_option
def restart(targets: tuple[str, ...], everything: bool, failed: bool, no_wait: bool) -> None:
    """Replace processes by new ones, a few at a time.

    A rollout: no more instances are away at once than the pool allows, each turn waits until the new
    process has been ready for a while, and the first one that does not become ready halts the rest. Meanwhile
    it can be steered with pitbossctl operations pause, resume and abort.

    A drained or stopped pool is not restarted; resume or start it.
    """
    _simply(
        "restart",
        targets,
        everything,
        no_wait,
        lambda client, target: client.restart(target, only_failed=failed),
    )


@verb(
    examples=("pitbossctl stop emails", "pitbossctl stop emails/2 --now", "pitbossctl stop emails --kill"),
    exit_codes=("every process is gone, its children too", "not all of them are, or not within --timeout"),
)
@target_arguments
@urgency_options
@no_wait_option
def stop(targets: tuple[str, ...], everything: bool, now: bool, kill: bool, no_wait: bool) -> None:
    """Take down, and keep down.

    The whole ladder: settle, drain, each stage with its grace window, and SIGKILL for what is left of the
    tree. Asking again only ever speeds up: --now leaves the drain, --kill goes to the last rung. It stays
    down, also over a restart of the daemon, until it is started or resumed.
    """
    urgency = urgency_of(now, kill)
    _simply("stop", targets, everything, no_wait, lambda client, target: client.stop(target, urgency=urgency))


@verb(
    examples=("pitbossctl start emails", "pitbossctl start emails/2"),
    exit_codes=("every instance is up and ready", "not all of them became ready, or not within --timeout"),
)
@target_arguments
@no_wait_option
def start(targets: tuple[str, ...], everything: bool, no_wait: bool) -> None:
    """Start what was stopped or has failed.

    The wait is over when it is ready. An instance in backoff starts at once. A drained pool is not started
    by this: resume it.
    """
    _simply("start", targets, everything, no_wait, lambda client, target: client.start(target))


@verb(
    name="signal",
    examples=(
        "pitbossctl signal HUP nginx",
        "pitbossctl signal SIGUSR1 emails/2",
        "pitbossctl signal TERM emails --all-processes",
    ),
    exit_codes=("the signal was sent", "it could not be sent to every instance"),
)
@click.argument("signal_name", metavar="SIGNAL")
@click.argument("targets", nargs=-1, metavar="[TARGET]...", shell_complete=complete_targets)
@click.option("--all", "everything", is_flag=True, help="Every pool of the host.")
@click.option("--all-processes", is_flag=True, help="To every process of the tree, not only to the main one.")
@no_wait_option
def signal_verb(
    signal_name: str, targets: tuple[str, ...], everything: bool, all_processes: bool, no_wait: bool
) -> None:
    """Send one signal to the main process of each instance, now.

    No goal changes: if the signal ends a process, the restart policy of its pool applies. To take
    something down use stop, which knows the ladder.
    """
    name = signal_name.upper() if signal_name.upper().startswith("SIG") else f"SIG{signal_name.upper()}"
    options = settings()
    check_form(targets)
    wanted = chosen(targets, everything, options)
    if wanted == [None]:
        with options.client() as client:
            wanted = [pool.name for pool in host_view(client.status()).pools]
    carry_out(
        "signal",
        wanted,
        lambda client, target: client.signal(str(target), name, everyone=all_processes),
        options,
        wait=not no_wait,
    )


VERBS = {
    "drain": drain,
    "resume": resume,
    "restart": restart,
    "stop": stop,
    "start": start,
    "signal": signal_verb,
}
"""The verbs of this module by name."""
