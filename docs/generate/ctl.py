"""The reference of `pitbossctl`, from the same declarations that its `--help` prints."""

import inspect
from collections.abc import Callable, Iterable, Iterator

import click

from supervisor.cli.ctl.settings import EXIT_CODES, Verb, shared_options
from supervisor.cli.pitbossctl import SECTIONS, cli, load

PAGE = "docs/reference/pitbossctl.md"

INTRODUCTION = """\
# pitbossctl

{about}

A verb that acts waits until its operation is over. On a terminal it shows each instance with its rung of the
stop ladder and the time left there; in a pipe it prints one line for each change. At the end comes one line
for each target. Ctrl-C ends the waiting, never the operation.

Names are checked first: if one of several targets does not exist, nothing is done. Text that workers or the
daemon provide is printed without its control characters.

## Options of every verb

They may stand before the verb or after it.

{options}

## Exit codes

{codes}
"""


def page() -> str:
    """The whole page."""
    context = click.Context(cli, info_name="pitbossctl")
    parts = [
        INTRODUCTION.format(
            about=_prose(cli),
            options=_table(("option", "meaning"), _records(shared_options(), context)),
            codes=_table(("code", "meaning"), EXIT_CODES.items()),
        )
    ]
    for title, names in SECTIONS.items():
        parts.append(f"## {title}\n")
        parts.extend(_verb(name, context) for name in names)
    return "\n".join(parts).rstrip() + "\n"


def _verb(name: str, context: click.Context) -> str:
    verb = load(name)
    if not isinstance(verb, Verb):
        raise TypeError(f"cannot describe {name}: it is not declared as a verb")
    own = click.Context(verb, info_name=name, parent=context)
    usage = " ".join(["pitbossctl", name, *verb.collect_usage_pieces(own)])
    shared = {option for one in shared_options() for option in one.opts}
    options = [
        one for one in verb.params if isinstance(one, click.Option) and not shared.intersection(one.opts)
    ]
    parts = [f"### {name}\n", f"```\n{usage}\n```\n", _prose(verb) + "\n"]
    if options:
        parts.append(_table(("option", "meaning"), _records(options, own)) + "\n")
    meanings = [record for record in verb.exit_code_records() if record[0] in {"0", "1"}]
    parts.append(" ".join(f"Exit {code}: {meaning}." for code, meaning in meanings) + "\n")
    if verb.examples:
        parts.append("```sh\n" + "\n".join(verb.examples) + "\n```\n")
    return "\n".join(parts)


def _prose(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "")


def _records(options: list[click.Option], context: click.Context) -> Iterator[tuple[str, str]]:
    for option in options:
        record = option.get_help_record(context)
        if record is not None:
            yield f"`{record[0]}`", record[1]


def _table(titles: tuple[str, str], rows: Iterable[tuple[str, str]]) -> str:
    lines = [f"| {titles[0]} | {titles[1]} |", "|---|---|"]
    for name, meaning in rows:
        escaped = meaning.replace("|", "\\|")
        lines.append(f"| {name} | {escaped} |")
    return "\n".join(lines)


OUTPUTS: dict[str, Callable[[], str]] = {PAGE: page}
