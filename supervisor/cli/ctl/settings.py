"""What every verb shares: the options that lead to the daemon, how failures are told, and exit codes.

The options may stand before the verb or after it; the one nearer to the verb wins.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any, NoReturn

import click

from supervisor.cli.ctl.durations import duration
from supervisor.cli.ctl.screen import Screen
from supervisor.cli.ctl.text import Line, Span, clean, wrap
from supervisor.client.errors import (
    EXIT_USAGE,
    ClientError,
    NotPermitted,
    Problem,
)

if TYPE_CHECKING:
    from supervisor.client.client import Client

EXIT_REACHED = 0
EXIT_INTERRUPTED = 130
"""128 + SIGINT, as a shell reports it."""

_KEY = "pitboss.settings"
EXIT_CODES = {
    "0": "the goal is reached",
    "1": "it is not reached, or the wait was over before",
    "2": "usage: a wrong option, or a name that does not exist",
    "69": "the daemon is not reachable",
    "77": "not permitted",
    "130": "Ctrl-C",
}
"""Exit codes of every verb (69 and 77 are EX_UNAVAILABLE and EX_NOPERM of sysexits.h)."""


@dataclass(frozen=True, slots=True)
class Settings:
    """The values of the shared options. `timeout_seconds` bounds the whole wait; None: no bound."""

    socket: str | None = None
    url: str | None = None
    token_file: str | None = None
    json: bool = False
    colour: bool = True
    timeout_seconds: float | None = None

    def screen(self) -> Screen:
        """Standard output."""
        return Screen(colour=self.colour)

    def client(self, request_seconds: float | None = None) -> "Client":
        """Find the daemon and connect; raises `Unreachable` or `NotPermitted`."""
        from supervisor.client.client import TIMEOUT_SECONDS, Client

        return Client.connect(
            self.socket, self.url, self.token_file, timeout_seconds=request_seconds or TIMEOUT_SECONDS
        )


def settings() -> Settings:
    """The settings of the running command."""
    return settings_of(click.get_current_context())


def settings_of(ctx: click.Context) -> Settings:
    """The settings of this command line, also while it is being completed."""
    found = ctx.meta.get(_KEY)
    return found if isinstance(found, Settings) else Settings()


def _keep(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    if value is None or value is False:
        return
    name, value = ("colour", False) if param.name == "no_color" else (param.name or "", value)
    if name in {field.name for field in fields(Settings)}:
        ctx.meta[_KEY] = replace(settings_of(ctx), **{name: value})


def shared_options() -> list[click.Option]:
    """The options that every verb takes."""

    def option(*names: str, **attributes: Any) -> click.Option:
        return click.Option(list(names), expose_value=False, callback=_keep, **attributes)

    return [
        option("--socket", metavar="PATH", help="The daemon's unix socket [PITBOSS_SOCKET]."),
        option("--url", metavar="URL", help="The daemon's URL instead of a socket [PITBOSS_URL]."),
        option("--token-file", metavar="FILE", help="Holds the bearer token for --url [PITBOSS_TOKEN_FILE]."),
        option("--json", is_flag=True, help="Print JSON and nothing else."),
        option("--no-color", is_flag=True, help="No colours [NO_COLOR]."),
        option(
            "--timeout",
            "timeout_seconds",
            type=duration,
            metavar="DURATION",
            help="Wait no longer than this (30s, 5m, 1h30m); then exit 1.",
        ),
    ]


class Verb(click.Command):
    """A verb of the ctl: takes the shared options, and turns failures into messages and exit codes."""

    def __init__(
        self, *args: Any, examples: Sequence[str] = (), exit_codes: Sequence[str] = (), **attributes: Any
    ) -> None:
        super().__init__(*args, **attributes)
        self.examples = tuple(examples)
        self.exit_codes = tuple(exit_codes)
        taken = {name for parameter in self.params for name in parameter.opts}
        self._shared = [one for one in shared_options() if not taken.intersection(one.opts)]
        self.params.extend(self._shared)

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """List the verb's own options before those of every verb."""
        shared = [record for one in self._shared if (record := one.get_help_record(ctx)) is not None]
        own = [
            record
            for one in self.get_params(ctx)
            if isinstance(one, click.Option)
            and one not in self._shared
            and (record := one.get_help_record(ctx)) is not None
        ]
        for title, records in (("Options", own), ("Options of every verb", shared)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)

    def format_epilog(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Add the examples and the exit codes."""
        super().format_epilog(ctx, formatter)
        if self.examples:
            with formatter.section("Examples"):
                for example in self.examples:
                    formatter.write(f"{'':>{formatter.current_indent}}{example}\n")
        with formatter.section("Exit codes"):
            formatter.write_dl(self.exit_code_records())

    def exit_code_records(self) -> list[tuple[str, str]]:
        """The exit codes with their meanings; `exit_codes` are those of 0 and 1 where a verb has its own."""
        own = dict(zip(("0", "1"), self.exit_codes, strict=False))
        return [(code, own.get(code, meaning)) for code, meaning in EXIT_CODES.items()]

    def invoke(self, ctx: click.Context) -> Any:
        """Run the verb."""
        with told_failures(settings_of(ctx)):
            return super().invoke(ctx)


@contextmanager
def told_failures(options: Settings) -> Iterator[None]:
    """Turn the exceptions of the client, and Ctrl-C, into a message and an exit code."""
    try:
        yield
    except ClientError as error:
        tell(error, options)
    except KeyboardInterrupt:
        raise click.exceptions.Exit(EXIT_INTERRUPTED) from None


class WrongNameError(ClientError):
    """A target that the daemon does not have; nothing was done."""

    exit_code = EXIT_USAGE

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.hint = hint


def tell(error: ClientError, options: Settings) -> NoReturn:
    """Print what went wrong and end with its exit code."""
    if options.json:
        options.screen().raw(json.dumps({"error": error_json(error)}, indent=2))
    else:
        complain(error_lines(error), options)
    raise click.exceptions.Exit(error.exit_code)


def error_json(error: ClientError) -> dict[str, Any]:
    """A failure for a machine."""
    kind = error.kind if isinstance(error, Problem) else _KINDS.get(type(error).__name__, "failed")
    return {"kind": kind, "detail": str(error), "hint": getattr(error, "hint", None) or None}


_KINDS = {"Unreachable": "unreachable", "NotPermitted": "not-permitted", "WrongNameError": "unknown-target"}


def error_lines(error: ClientError) -> list[str]:
    """A failure for a person: what, and on further lines what to do."""
    lines = [clean(line) for line in str(error).splitlines()] or [type(error).__name__]
    hint = clean(getattr(error, "hint", None))
    if isinstance(error, NotPermitted) and not hint:
        hint = "Ask for the role that this needs, or run it as root."
    return [*lines, *([hint] if hint else [])]


def complain(lines: list[str], options: Settings) -> None:
    """Print lines to standard error, the first one under the program's name.

    A terminal gets them wrapped under each other; in a pipe or a file each stays one line, which a
    program can search for.
    """
    import sys

    screen = Screen(sys.stderr, colour=options.colour)
    printed: list[Line] = []
    for index, line in enumerate(lines):
        lead = "pitbossctl: " if index == 0 else "  " if line.startswith("  ") else ""
        parts = wrap(line, screen.width - len(lead)) if screen.is_terminal else [" ".join(line.split())]
        for part in parts:
            printed.append((Span(lead, "bold red" if index == 0 else ""), Span(part)))
            lead = " " * len(lead)
    screen.say(printed)


def verb(**attributes: Any) -> Callable[[Callable[..., Any]], Verb]:
    """Declare a verb."""
    return click.command(cls=Verb, **attributes)


def print_json(answer: Any, options: Settings) -> None:
    """Print an answer as JSON; every character that is not ASCII is escaped, so it is safe anywhere."""
    options.screen().raw(json.dumps(answer, indent=2))
