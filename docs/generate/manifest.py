"""The reference of the manifest and its JSON Schema, from the model itself.

Decides the form of the two files; every word about a key comes from `supervisor.manifest`.
"""

import json
import typing
from collections.abc import Callable, Iterator

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from supervisor.core.exits import SIGNAL_NUMBERS
from supervisor.core.plan import Stage
from supervisor.manifest import model
from supervisor.manifest.draft import MOST_POOLS
from supervisor.manifest.fields import Called
from supervisor.manifest.host import MOST_INSTANCES
from supervisor.manifest.merge import MOST_FILES
from supervisor.manifest.presets import PRESETS, Preset
from supervisor.manifest.schema import schema

_BYTES = 1024 * 1024

INTRODUCTION = """\
# The manifest

*Generated from the model of the manifest; do not edit.* A manifest is one YAML file (JSON is YAML too),
by default `/etc/pitboss/pitboss.yaml`. `pitbossd check FILE` reads it exactly as `pitbossd run` does and
prints every problem at once as `FILE:LINE:COLUMN: key: what was expected, what was found`; it exits with 0
or 78. `configs/example.yaml` shows every key once; `docs/reference/manifest.schema.json` (also
`pitbossd schema`) gives editors completion.

## How it is read

* **Durations** are `"500ms"`, `"30s"`, `"5m"`, `"1h30m"`, `"1d"`, or a number of seconds.
* **Sizes** are `"64KiB"`, `"50MiB"`, `"1.5GB"`, or a number of bytes.
* **Signals** are written with or without `SIG`: {signals}. SIGKILL is never written: the kill rung always
  comes last by itself.
* **Words** follow YAML 1.2: only `true` and `false` are booleans, so `NO`, `on` and `22:22` are texts, and a
  number with a leading zero (`0022`) is a text too.
* **`null`** means: not set, the default holds (and what `defaults` says is taken back). Only a variable of
  `environment` cannot be null.
* **Commands** are lists, or strings that are split as a shell would. No shell is run: no pipes, no `$NAME`,
  no `~`.
* **Relative paths** are taken from the directory of the manifest; those in `include` from the file that says
  so. A program that is named with a `/` is taken from `working_directory`.
* **Unknown keys** are errors, and so are keys that a later version will have: `requires`, `schedule`,
  `limits.memory`, `limits.cpu`, `limits.pids`,
  `rollout.on_failure` other than halt, and `tls`, `tokens` and `roles` in `control`.
* **Bounds:** {files} files of at most 1 MiB, {pools} pools, {instances} instances of a pool and
  {all_instances} in all.
* **Warnings** keep nothing from starting: a program or a directory that is not there (a deploy may bring it),
  windows that add up to more than `shutdown.deadline` (they are scaled to fit), a `control.http` that other
  machines can reach.

## Several files

`include` names files and patterns (`conf.d/*.yaml`, wildcards in the last part only, sorted by name). An
included file has the same keys. What comes later overrides what came before: mappings are merged key by key,
everything else is replaced. A missing file is an error, a pattern that matches nothing is not. `defaults` are
merged the same way below every pool. Where a block holds one of several alternatives, writing one replaces
the others: a pool with `readiness: {{tcp: 8000}}` does not inherit `readiness.http`, one with `stop.stages`
does not inherit `stop.preset`.

## Templates

`{{{{ … }}}}` may stand in `command`, the values of `environment`, `working_directory`, `logs.directory`,
`listen` of a socket, and in every `url`, `unix_socket`, `tcp` and `exec` of a probe or a drain. Inside are
whole numbers, `+ - * // %`, parentheses and the names below, nothing else; a divisor is a number other than
zero, so an accepted template cannot fail later. Literal braces are written `{{{{ '{{{{' }}}}`.

| name | is |
|---|---|
| `index` | the number of the instance, from 0 |
| `generation` | how many processes this slot has had, from 1 |
| `pool` | the name of the pool |
| `instance` | the instance as it is written everywhere: `emails/0` |

A port of a probe may not depend on `generation`: it would leave the range of ports some day. Nor may
`listen`: a socket outlives every generation.

## The environment of a worker

Clean and the same on every start; later lines override earlier ones:

1. `PATH`, `LANG`, `LC_*` and `TZ` of the daemon, and nothing else of it;
2. `HOME`, `USER`, `LOGNAME` and `SHELL` of the pool's `user`, or the daemon's own;
3. `environment_files` in their order, 4. `environment`;
5. `PITBOSS_POOL`, `PITBOSS_INSTANCE` (`emails/0`), `PITBOSS_INDEX`, `PITBOSS_GENERATION`,
   `PITBOSS_REVISION`, and `PITBOSS_STOP_BUDGET_USEC` (the drain window and all grace windows together,
   microseconds);
6. from the running daemon `NOTIFY_SOCKET`, with `watchdog` also `WATCHDOG_USEC` and `WATCHDOG_PID`, and
   `PITBOSS_REQUEST_ID` where an operator's request is behind the start;
7. with `sockets`, and for the main process alone, `LISTEN_FDS`, `LISTEN_PID` and `LISTEN_FDNAMES`.

An environment file holds lines `NAME=value` or `export NAME=value`; empty lines and lines that begin with
`#` or `;` are skipped. A value may stand in single quotes (taken as it is) or in double quotes (with `\\n`,
`\\t`, `\\r`, `\\"`, `\\\\` and `\\$` as escapes, and a backslash that joins lines); both may span lines.
Nothing is expanded, and a `#` inside an unquoted value is part of it. Files are read when the manifest is.
No message, answer, event or log line repeats a value from a file.

## The revision of a pool

Twelve hexadecimal digits over everything a generation is started from, the contents of environment files and
the resolved account included. `instances` is not part of it: scaling makes no living instance outdated.
"""

PRESETS_TEXT = """\
## Presets

`stop: {preset: NAME}` is the ladder that a well-known worker needs. SIGKILL to whatever is left of the tree
follows in every case. A preset cannot be combined with `stages`; to change one window, write the stages.
"""

HEADINGS: tuple[tuple[str, type[BaseModel]], ...] = (
    ("The file", model.Document),
    ("control", model.Control),
    ("shutdown", model.Shutdown),
    ("A pool, and defaults", model.Pool),
    ("sockets, each", model.Socket),
    ("startup", model.Startup),
    ("readiness", model.Readiness),
    ("liveness", model.Probe),
    ("http of a probe or a drain", model.HttpRequest),
    ("restart", model.Restart),
    ("restart.backoff", model.BackoffRules),
    ("restart.give_up", model.GiveUpRules),
    ("drain", model.Drain),
    ("drain.until", model.Check),
    ("stop", model.Stop),
    ("stop.stages, each", model.StageBlock),
    ("stop.extend", model.Extend),
    ("rollout", model.Rollout),
    ("limits", model.Limits),
    ("logs", model.Logs),
)


def reference() -> str:
    """The page for people."""
    signals = ", ".join(name.removeprefix("SIG") for name in SIGNAL_NUMBERS if name != "SIGKILL")
    opening = INTRODUCTION.format(
        signals=signals,
        files=MOST_FILES,
        pools=MOST_POOLS,
        instances=model.MOST_INSTANCES,
        all_instances=MOST_INSTANCES,
    )
    parts = [
        opening,
        "## Keys\n",
        *(_block(name, block) for name, block in HEADINGS),
        PRESETS_TEXT,
        _presets(),
    ]
    return "\n".join(parts)


def schema_text() -> str:
    """The schema for editors."""
    return json.dumps(schema(), indent=2, ensure_ascii=False) + "\n"


OUTPUTS: dict[str, Callable[[], str]] = {
    "docs/reference/manifest.md": reference,
    "docs/reference/manifest.schema.json": schema_text,
}


def _block(name: str, block: type[BaseModel]) -> str:
    rows = [_row(field.alias or key, field) for key, field in block.model_fields.items()]
    said = " ".join((block.__doc__ or "").split())
    return "\n".join(
        [f"### {name}", "", said, "", "| key | takes | default | meaning |", "|---|---|---|---|", *rows, ""]
    )


def _row(key: str, field: FieldInfo) -> str:
    meaning, _, default = (field.description or "").partition("Default: ")
    if not default:
        default = _default(field)
    cells = (f"`{key}`", _takes(field), default.rstrip("."), meaning)
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    if value is None or value is PydanticUndefined or isinstance(value, BaseModel):
        return "none" if value is None else "see below"
    called = [one.name for one in field.metadata if isinstance(one, Called)]
    if isinstance(value, float) and any(name.startswith("duration") for name in called):
        return f"{value / 60:g}m" if value >= 120 else f"{value:g}s"
    if any(name.startswith("size") for name in called):
        return f"{value // _BYTES}MiB"
    if value in ([], {}):
        return "none"
    if called and called[0].startswith("full"):
        return "full"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


def _takes(field: FieldInfo) -> str:
    called = [one.name for one in field.metadata if isinstance(one, Called)]
    if called:
        return called[-1]
    return _named(field.annotation) + _range(field)


def _named(annotation: object) -> str:
    called = [one.name for one in getattr(annotation, "__metadata__", ()) if isinstance(one, Called)]
    if called:
        return called[-1]
    origin, arguments = typing.get_origin(annotation), typing.get_args(annotation)
    if hasattr(annotation, "__metadata__"):
        return _named(arguments[0])
    if origin is typing.Literal:
        return " or ".join(f"`{choice}`" for choice in arguments)
    if origin is list:
        return f"list of {_named(arguments[0])}"
    if origin is dict:
        return f"mapping of names to {_named(arguments[1])}"
    if arguments:
        return next(_named(one) for one in arguments if one is not type(None))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "block"
    if annotation is bool:
        return "`true` or `false`"
    return "text" if annotation is str else "number"


def _range(field: FieldInfo) -> str:
    bounds = [*field.metadata]
    for argument in typing.get_args(field.annotation):
        for one in getattr(argument, "__metadata__", ()):
            bounds.extend(getattr(one, "metadata", [one]))
    low = next((one.ge for one in bounds if hasattr(one, "ge")), None)
    high = next((one.le for one in bounds if hasattr(one, "le")), None)
    return "" if low is None or high is None else f" from {low} to {high}"


def _presets() -> str:
    lines = ["| preset | ladder | why |", "|---|---|---|"]
    lines += [
        f"| `{name}` | {', '.join(_rungs(preset))} | {preset.why} |" for name, preset in PRESETS.items()
    ]
    return "\n".join([*lines, ""])


def _rungs(preset: Preset) -> Iterator[str]:
    if preset.drain_signal is not None:
        yield f"drain: {preset.drain_signal} for {preset.drain_window_seconds:g}s"
    for stage in preset.stages:
        yield _rung(stage)


def _rung(stage: Stage) -> str:
    return f"{stage.signal} {stage.target} {stage.grace_seconds:g}s"
