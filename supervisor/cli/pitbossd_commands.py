"""The commands of `pitbossd`: their arguments, what they print and how they end."""

import json
import os
import sys
from dataclasses import asdict
from pathlib import Path

import click

from supervisor import __version__

DEFAULT_MANIFEST = "/etc/pitboss/pitboss.yaml"

# Whether the file can be read is found out by reading it: click would end with a usage error instead.
MANIFEST = click.Path(readable=False, path_type=Path)

INVALID_MANIFEST = os.EX_CONFIG
"""78 in sysexits(3); the systemd unit does not restart on it."""


@click.group(context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="pitbossd")
def commands() -> None:
    """Start, watch, drain and stop the workers of one machine.

    The daemon reads a manifest, starts its pools in order, and stays in the foreground until it is told
    to end. SIGTERM drains and stops everything; a second one, or SIGINT, skips the drains; SIGQUIT kills.
    Operate it with pitbossctl.
    """


@commands.command()
@click.argument("manifest", default=DEFAULT_MANIFEST, type=MANIFEST)
@click.option(
    "--log-format",
    type=click.Choice(["auto", "human", "json", "journal"]),
    default="auto",
    show_default=True,
    help="How the daemon's own log is written to standard error. auto: human on a terminal, with "
    "priorities under systemd, else JSON.",
)
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="The least important lines that are written.",
)
def run(manifest: Path, log_format: str, log_level: str) -> None:
    """Run the daemon on MANIFEST, in the foreground.

    Nothing is started if the manifest has a problem, if a directory cannot be used, or if another
    daemon runs on the same directory. Exit codes: 0 ended as asked; 1 could not start, or something
    outlived SIGKILL; 78 invalid manifest.
    """
    from supervisor.cli.pitbossd_complaints import complain
    from supervisor.cli.pitbossd_handover import CannotHandOverError, Handover, become_daemon
    from supervisor.manifest.load import load
    from supervisor.manifest.problems import ManifestError

    try:
        become_daemon(Handover(load(manifest), log_format, log_level))
    except ManifestError as error:
        complain(*str(error).splitlines())
        sys.exit(INVALID_MANIFEST)
    except CannotHandOverError as error:
        complain(f"pitbossd: {error}", "pitbossd: nothing was started.")
        sys.exit(1)


@commands.command()
@click.argument("manifest", default=DEFAULT_MANIFEST, type=MANIFEST)
@click.option("--json", "as_json", is_flag=True, help="Print problems and warnings as JSON.")
def check(manifest: Path, as_json: bool) -> None:
    """Check MANIFEST and print every problem at once, each with file, line and column.

    Starts nothing. Exit codes: 0 valid (warnings may be printed); 78 invalid.
    """
    from supervisor.manifest.load import load
    from supervisor.manifest.problems import ManifestError

    try:
        loaded = load(manifest)
    except ManifestError as error:
        if as_json:
            click.echo(
                json.dumps({"valid": False, "problems": [str(one) for one in error.problems]}, indent=2)
            )
        else:
            click.echo(str(error), err=True)
        sys.exit(INVALID_MANIFEST)
    warnings = [str(one) for one in loaded.warnings]
    worst = loaded.worst_case_shutdown_seconds
    if as_json:
        document = {"valid": True, "warnings": warnings, "worst_case_shutdown_seconds": worst}
        click.echo(json.dumps(document, indent=2))
        return
    for line in warnings:
        click.echo(f"warning: {line}", err=True)
    pools = loaded.plan.pools.values()
    instances = sum(pool.instances for pool in pools)
    click.echo(
        f"{manifest} is valid: {len(loaded.plan.pools)} pools, {instances} instances; stopping all of them "
        f"takes at most {worst:g} s (shutdown.deadline is {loaded.plan.shutdown_deadline_seconds:g} s)"
    )


@commands.command()
def schema() -> None:
    """Print the JSON Schema of the manifest, for editors."""
    from supervisor.manifest.schema import schema as manifest_schema

    click.echo(json.dumps(manifest_schema(), indent=2))


@commands.command()
@click.option("--json", "as_json", is_flag=True, help="Print what was found as JSON.")
def doctor(as_json: bool) -> None:
    """Say what this kernel, control group hierarchy and systemd allow, and what follows from it.

    It looks from where it is run: a daemon in a unit may have more. To see what that has:
    systemd-run --pipe --wait --property=Delegate=yes pitbossd doctor

    Exit codes: 0 pitbossd can run here; 1 it cannot.
    """
    from supervisor.runtime.doctor import Verdict, examine

    findings = list(examine())
    if as_json:
        click.echo(json.dumps([asdict(one) for one in findings], indent=2))
    else:
        for one in findings:
            click.echo(f"{one.verdict:<8} {one.topic:<17} {one.fact}")
            if one.consequence:
                click.echo(f"{'':<26} {one.consequence}")
    sys.exit(1 if any(one.verdict is Verdict.BAD for one in findings) else 0)


@commands.command("import-supervisord")
@click.argument("file", type=MANIFEST)
@click.option(
    "--output",
    "-o",
    type=MANIFEST,
    help="Write the manifest to this file, which must not exist yet, with mode 0600: environments hold "
    "secrets. Default: standard output.",
)
@click.option("--strict", is_flag=True, help="Exit with 1 if any setting has no equivalent.")
def import_supervisord(file: Path, output: Path | None, strict: bool) -> None:
    """Convert FILE, a supervisord.conf, into a manifest.

    What is not the same afterwards is said on standard error, each with file and line. %(ENV_X)s is
    what X is in the environment of this command. Starts nothing. Exit codes: 0 converted; 1 with
    --strict, or the output could not be written; 78 FILE is no configuration of supervisord.
    """
    from supervisor.manifest.supervisord.convert import convert
    from supervisor.manifest.supervisord.settings import Verdict
    from supervisor.manifest.supervisord.source import SourceError

    try:
        converted = convert(file)
    except SourceError as error:
        click.echo(f"pitbossd: {error}", err=True)
        sys.exit(INVALID_MANIFEST)
    if output is None:
        click.echo(converted.text, nl=False)
    else:
        _write_anew(output, converted.text)
    for remark in converted.remarks:
        click.echo(str(remark), err=True)
    counts = {verdict: sum(one.verdict is verdict for one in converted.remarks) for verdict in Verdict}
    lost, differ = counts[Verdict.LOST], counts[Verdict.DIFFERS]
    target = "it with pitbossd check" if output is None else f"it: pitbossd check {output}"
    click.echo(
        f"Converted; {differ} settings differ, {lost} have no equivalent. Now check {target}", err=True
    )
    if strict and lost:
        sys.exit(1)


def _write_anew(path: Path, text: str) -> None:
    try:
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        click.echo(f"pitbossd: cannot write {path}: {error.strerror}; nothing was overwritten", err=True)
        sys.exit(1)
