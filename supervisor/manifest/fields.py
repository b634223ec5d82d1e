"""The kinds of values that keys of the manifest take: how each is checked, and how a schema says it.

Decides the form of one value. What it means beside other values is in `checks`.
"""

import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, WithJsonSchema
from pydantic_core import PydanticCustomError

from supervisor.core.exits import SIGNAL_NUMBERS
from supervisor.manifest import templates, units

LONGEST_TEXT_BYTES = 128 * 1024 - 1
"""The kernel refuses a longer argument or variable (MAX_ARG_STRLEN of execve(2))."""

POOL_NAME = r"^[a-zA-Z0-9][a-zA-Z0-9_.-]{0,62}$"
VARIABLE_NAME = r"^[A-Za-z_][A-Za-z0-9_]{0,254}$"
UNLIMITED = -1

RESERVED_VARIABLES = frozenset(
    {"NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES"}
)
"""What only pitbossd may tell a worker, beside everything that begins with `PITBOSS_`."""


@dataclass(frozen=True, slots=True)
class Called:
    """What the reference calls a kind of value."""

    name: str


def expected(what: str, hint: str = "") -> PydanticCustomError:
    """A value that is not what was expected; what was found is added where the message is put together."""
    return PydanticCustomError("expected", "{what}", {"what": what, "hint": hint})


def refused(message: str) -> PydanticCustomError:
    """A value that is refused with a whole sentence."""
    return PydanticCustomError("refused", "{what}", {"what": message})


def checked(convert: Callable[[Any], Any]) -> BeforeValidator:
    """A validator from a function that raises `ValueError` with what was expected."""

    def validate(value: object) -> object:
        try:
            return convert(value)
        except PydanticCustomError:
            raise
        except ValueError as error:
            raise expected(str(error)) from error

    return BeforeValidator(validate)


def is_reserved(variable: str) -> bool:
    """Whether only pitbossd may set a variable of a worker."""
    return variable in RESERVED_VARIABLES or variable.startswith("PITBOSS_")


def text(value: object) -> str:
    """A text that a process may get: no NUL, not too long. Numbers stay as they were written."""
    if isinstance(value, bool) or value is None:
        word = "null" if value is None else str(value).lower()
        raise expected("expected a text or a number", f'; write it in quotes ("{word}") if it is a text')
    if not isinstance(value, str | int | float):
        raise expected("expected a text or a number")
    written = value if isinstance(value, str) else str(getattr(value, "text", value))
    if "\0" in written:
        raise refused("expected a text, found one with a NUL character")
    if len(written.encode("utf-8", "surrogatepass")) > LONGEST_TEXT_BYTES:
        raise refused(f"expected at most {LONGEST_TEXT_BYTES} bytes, found more (the kernel would refuse it)")
    return written


def templated(value: object) -> str:
    """A text in which templates may stand."""
    written = text(value)
    try:
        templates.parse(written)
    except templates.TemplateError as error:
        raise refused(str(error)) from error
    return written


def split_command(value: object) -> object:
    """A command line to a list, split as a shell would; anything else as it is."""
    if not isinstance(value, str):
        return value
    line = templated(value)
    pieces: list[str] = []
    at = 0
    marked = ""
    for number, (start, end) in enumerate(templates.parse(line).spans):
        # NUL cannot be in the text, so the marks cannot be mistaken for it.
        marked += line[at:start] + f"\0{number}\0"
        pieces.append(line[start:end])
        at = end
    marked += line[at:]
    try:
        words = shlex.split(marked)
    except ValueError as error:
        raise refused(f"expected a command line, found one that a shell could not split: {error}") from error
    return [re.sub("\0([0-9]+)\0", lambda match: pieces[int(match[1])], word) for word in words]


def _program(argv: list[str]) -> list[str]:
    if not argv[0]:
        raise refused("expected a program as first item, found an empty text")
    return argv


def _path(value: object) -> str:
    if not isinstance(value, str) or not value:
        raise expected("expected a path")
    if value.startswith("~"):
        raise expected("expected a whole path (~ is not expanded)")
    return text(value)


def _plain_path(value: object) -> str:
    written = _path(value)
    if "{{" in written:
        raise expected("expected a path without templates")
    return written


def _templated_path(value: object) -> str:
    return templated(_path(value))


def _host_name(value: object) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"\S(?:.{0,251}\S)?", value) or not value.isprintable():
        raise expected("expected a name of at most 253 printable characters")
    return value


def _environment_file(value: object) -> str:
    if isinstance(value, str) and value.startswith("-"):
        return "-" + _plain_path(value[1:])
    return _plain_path(value)


def signal_name(value: object) -> str:
    """A signal by its name, with or without `SIG`, as `SIGTERM`."""
    if not isinstance(value, str):
        raise expected("expected the name of a signal such as SIGTERM")
    name = value if value.startswith("SIG") else f"SIG{value}"
    if name == "SIGKILL":
        raise expected("expected a signal that a worker can answer (kill always comes last by itself)")
    if name == "SIGSTOP":
        raise expected("expected a signal that a worker can answer (a stopped worker can finish nothing)")
    if name not in SIGNAL_NUMBERS:
        raise expected("expected the name of a signal such as SIGTERM", "signal")
    return name


def _positive(value: float) -> float:
    if value <= 0:
        raise expected("expected a duration above 0")
    return value


def _positive_size(value: int) -> int:
    if value <= 0:
        raise expected("expected a size above 0")
    return value


def _rate(value: object) -> int:
    if isinstance(value, str) and value.endswith("/s"):
        value = value[:-2]
    try:
        return units.octets(value)
    except ValueError as error:
        raise expected('expected bytes per second such as "1MiB"') from error


def _umask(value: object) -> int:
    if isinstance(value, str) and re.fullmatch(r"[0-7]{1,4}", value) and int(value, 8) <= 0o777:
        return int(value, 8)
    if isinstance(value, int) and not isinstance(value, bool) and value == 0:
        return 0
    raise expected('expected an octal number with a leading zero such as "0022"')


def _account(value: object) -> str:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 2**32 - 1:
        return str(int(value))
    if not isinstance(value, str) or not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.@\\-]{0,254}\$?", value):
        raise expected("expected a name or a number of an account")
    if value.isdecimal() and (len(value) > 10 or int(value) >= 2**32 - 1):
        raise expected("expected a name or a number of an account")
    return value


def _limit(value: object, one: Callable[[object], int]) -> tuple[int, int]:
    soft, _, hard = value.partition(":") if isinstance(value, str) else (value, "", "")
    low = one(soft)
    high = one(hard) if hard else low
    if high != UNLIMITED and (low == UNLIMITED or low > high):
        raise ValueError("expected a soft limit that is not above the hard one")
    return low, high


def _count(value: object) -> int:
    if value == "unlimited":
        return UNLIMITED
    if isinstance(value, str) and re.fullmatch("[0-9]{1,18}", value):
        return int(value)
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError('expected a number, "soft:hard" or "unlimited"')
    return int(value)


def _size(value: object) -> int:
    if value == "unlimited":
        return UNLIMITED
    try:
        return units.octets(int(value) if isinstance(value, str) and value.isdecimal() else value)
    except ValueError as error:
        raise ValueError('expected a size such as "64MiB", "soft:hard" or "unlimited"') from error


def _jitter(value: object) -> float:
    if value in ("full", "none"):
        return 1.0 if value == "full" else 0.0
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
        raise ValueError("expected full, none or a share between 0 and 1")
    return float(value)


def _owner(value: object) -> str:
    user, colon, group = value.partition(":") if isinstance(value, str) else (value, "", "")
    return f"{_account(user)}:{_account(group)}" if colon else _account(user)


def _header(value: object) -> str:
    written = text(value)
    if not re.fullmatch(r"[\t -~]{0,4096}", written):
        raise refused("expected a header of printable ASCII characters, found something else")
    return written


def _names_to_ready(value: object) -> object:
    if isinstance(value, list) and all(isinstance(name, str) for name in value):
        return dict.fromkeys(value, "ready")
    return value


def _url_to_request(value: object) -> object:
    return {"url": value} if isinstance(value, str) else value


_DURATION_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": units.DURATION_PATTERN},
        {"type": "number", "minimum": 0, "maximum": units.LONGEST_SECONDS},
    ]
}
_SIZE_SCHEMA: dict[str, Any] = {
    "anyOf": [{"type": "string", "pattern": units.SIZE_PATTERN}, {"type": "integer", "minimum": 0}]
}
_RATE_SCHEMA: dict[str, Any] = {
    "anyOf": [
        {"type": "string", "pattern": units.SIZE_PATTERN.removesuffix("$") + "(?:/s)?$"},
        {"type": "integer", "minimum": 0},
    ]
}
_TEXT_SCHEMA: dict[str, Any] = {"type": ["string", "number"]}
_ACCOUNT_SCHEMA: dict[str, Any] = {"type": ["string", "integer"]}
_LIMIT_SCHEMA: dict[str, Any] = {"type": ["string", "integer"]}

_TEXTS_SCHEMA: dict[str, Any] = {"type": "array", "items": _TEXT_SCHEMA, "minItems": 1}
_COMMAND_SCHEMA: dict[str, Any] = {"anyOf": [_TEXTS_SCHEMA, {"type": "string", "minLength": 1}]}
_SIGNALS = sorted(name for name in SIGNAL_NUMBERS if name != "SIGKILL")
_SIGNAL_SCHEMA: dict[str, Any] = {"enum": _SIGNALS + [name.removeprefix("SIG") for name in _SIGNALS]}

Seconds = Annotated[float, checked(units.seconds), WithJsonSchema(_DURATION_SCHEMA), Called("duration")]
PositiveSeconds = Annotated[Seconds, AfterValidator(_positive), Called("duration above 0")]
Octets = Annotated[int, checked(units.octets), WithJsonSchema(_SIZE_SCHEMA), Called("size")]
PositiveOctets = Annotated[Octets, AfterValidator(_positive_size), Called("size above 0")]
Rate = Annotated[int, BeforeValidator(_rate), WithJsonSchema(_RATE_SCHEMA), Called("size per second")]

Text = Annotated[str, BeforeValidator(templated), WithJsonSchema(_TEXT_SCHEMA), Called("text")]
Command = Annotated[
    list[Text],
    Field(min_length=1, max_length=4096),
    BeforeValidator(split_command),
    AfterValidator(_program),
    WithJsonSchema(_COMMAND_SCHEMA),
    Called("command"),
]
PlainPath = Annotated[str, BeforeValidator(_plain_path), WithJsonSchema({"type": "string"}), Called("path")]
TemplatedPath = Annotated[
    str, BeforeValidator(_templated_path), WithJsonSchema({"type": "string"}), Called("path")
]
HostName = Annotated[
    str,
    BeforeValidator(_host_name),
    WithJsonSchema({"type": "string", "minLength": 1, "maxLength": 253}),
    Called("text"),
]
EnvironmentFile = Annotated[
    str, BeforeValidator(_environment_file), WithJsonSchema({"type": "string"}), Called("path")
]
SignalName = Annotated[str, BeforeValidator(signal_name), WithJsonSchema(_SIGNAL_SCHEMA), Called("signal")]
Umask = Annotated[
    int,
    BeforeValidator(_umask),
    WithJsonSchema({"type": ["string", "integer"], "pattern": "^[0-7]{1,4}$"}),
    Called("octal number"),
]
Account = Annotated[str, BeforeValidator(_account), WithJsonSchema(_ACCOUNT_SCHEMA), Called("name or number")]
CountLimit = Annotated[
    tuple[int, int],
    checked(lambda value: _limit(value, _count)),
    WithJsonSchema(_LIMIT_SCHEMA),
    Called("number, soft:hard or unlimited"),
]
SizeLimit = Annotated[
    tuple[int, int],
    checked(lambda value: _limit(value, _size)),
    WithJsonSchema(_LIMIT_SCHEMA),
    Called("size, soft:hard or unlimited"),
]
Jitter = Annotated[
    float,
    checked(_jitter),
    WithJsonSchema({"anyOf": [{"enum": ["full", "none"]}, {"type": "number", "minimum": 0, "maximum": 1}]}),
    Called("full, none or a share from 0 to 1"),
]
Owner = Annotated[str, BeforeValidator(_owner), WithJsonSchema(_ACCOUNT_SCHEMA), Called("user or user:group")]
Header = Annotated[str, BeforeValidator(_header), WithJsonSchema(_TEXT_SCHEMA), Called("text")]
Dependencies = Annotated[
    dict[str, Literal["started", "ready", "completed"]],
    BeforeValidator(_names_to_ready),
    WithJsonSchema(
        {
            "anyOf": [
                {
                    "type": "object",
                    "additionalProperties": {"type": "string", "enum": ["started", "ready", "completed"]},
                },
                {"type": "array", "items": {"type": "string"}},
            ]
        }
    ),
    Called("mapping of pools to `started`, `ready` or `completed`, or list of pools"),
]
url_to_request = BeforeValidator(_url_to_request)
