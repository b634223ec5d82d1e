"""Keeps out of a running daemon what its libraries import and never uses: TLS, and much of its HTTP stack.

Decides which modules come late, and which never. What they are good for is not its business. Memory
that a module takes is never given back, so it has to be decided before the first import. See
docs/decisions/0024-what-a-daemon-imports.md.
"""

import functools
import importlib
import importlib.util
import sys
import types
import typing
from collections.abc import Mapping, Sequence
from importlib.machinery import ModuleSpec


def _unwrapped(about: object) -> object:
    """What a decorator wrapped; not for ever, where something says that it wraps itself."""
    for _ in range(100):
        about = getattr(about, "__wrapped__", about)
    return about


def _has_flag(about: object, flag: int) -> bool:
    """Whether a function, or what is bound or partly called of it, carries a flag of `inspect` (CO_...)."""
    while isinstance(about, types.MethodType | functools.partial):
        about = about.__func__ if isinstance(about, types.MethodType) else about.func
    return isinstance(about, types.FunctionType) and bool(about.__code__.co_flags & flag)


LATE: Mapping[str, Mapping[str, object]] = {
    # When something is encrypted. asyncio asks of each socket whether it is of this class.
    "ssl": {"SSLSocket": type("SSLSocket", (), {})},
    "asyncio.sslproto": {},
    "http.client": {},
    # When a name is wrong.
    "difflib": {},
    # When a command is run, which is never: workers are started without it. asyncio takes over its numbers.
    "subprocess": {"PIPE": -1, "STDOUT": -2, "DEVNULL": -3},
    # When somebody wants a signature or source code. asyncio and Starlette ask only this about functions.
    "inspect": {
        "isfunction": lambda about: isinstance(about, types.FunctionType),
        "ismethod": lambda about: isinstance(about, types.MethodType),
        "isgeneratorfunction": lambda about: _has_flag(about, 32),
        "iscoroutinefunction": lambda about: _has_flag(about, 128),
        "isasyncgenfunction": lambda about: _has_flag(about, 512),
        "unwrap": _unwrapped,
    },
    # When a traceback is written.
    "tokenize": {},
    "textwrap": {},
    # When a host has several addresses, and one of them is slow.
    "asyncio.staggered": {},
    # When a socket's name is too long, and when a host is a number.
    "hashlib": {},
    "ipaddress": {},
    # When there is a cookie.
    "http.cookies": {},
}
"""What comes with the first look into it, and what can be seen of it before, which then gives way to the real
one. asyncio, the HTTP stack and our probes import all of it."""

NEVER = ("_hashlib",)
"""OpenSSL's hash functions. Without them `hashlib` and `hmac` use Python's own, as they do in every
Python that was built without OpenSSL; what is hashed here are names of sockets."""


UNTRIED = (3, 15)
"""From this Python on nothing comes late and nothing is left out: its modules may ask other things of each
other, and a daemon that is larger is better than none."""

NO_PLUGINS = {"importlib.metadata": {"entry_points": lambda **_options: ()}}
"""pydantic looks for plugins in all that is installed; what it does that with brings a reader of mail."""

UNUSED = {
    "starlette.formparsers": ("FormParser", "MultiPartException", "MultiPartParser"),
    "anyio": (),
    "anyio.abc": (),
    "anyio.to_thread": (),
    "email.utils": ("format_datetime", "formatdate"),
    "ipaddress": ("AddressValueError", "IPv6Address"),
    "mimetypes": ("guess_type",),
    "secrets": ("token_hex",),
    "shlex": ("shlex",),
    "typing_extensions": ("TypeIs",),
    "uuid": ("UUID",),
}
"""What Starlette takes from where: for forms, files, streams, functions in threads, cookies that expire,
paths with a UUID, and the whole URL of a request. No route of ours has any; behind them are temporary files,
three compressions, calendars, dice, and an anyio that parses its own source."""


class _Absent(Exception):  # noqa: N818  # it stands for classes, and in `except` clauses
    """Stands for what a daemon does without."""

    def __init__(self, *_arguments: object, **_options: object) -> None:
        raise NotImplementedError("a daemon was loaded without this part of Starlette")


class _Late(types.ModuleType):
    """Stands where a module belongs until somebody looks into it, and then has everything that it has.

    Not `importlib.util.LazyLoader`: with that of Python 3.11 a second `import` of the module loads it.
    """

    def __getattr__(self, name: str) -> object:
        # What the import system asks of any module is answered without it.
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        real = importlib.import_module(self.__name__)
        vars(self).update(vars(real))
        return getattr(real, name)


class _LateModules:
    """Finds a stand-in, once, for whoever imports one of these; to its package it is a module like any other.

    Below no class of `importlib.abc`: with that comes what reads resources.
    """

    def __init__(self, expected: Mapping[str, Mapping[str, object]]) -> None:
        self._expected = dict(expected)

    def find_spec(
        self, name: str, _path: Sequence[str] | None, _target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        """Nothing for those that are not expected, or have had theirs: the real one is wanted now."""
        if name not in self._expected:
            return None
        return ModuleSpec(name, self)  # type: ignore[arg-type]  # it has what is asked of a loader

    def create_module(self, spec: ModuleSpec) -> types.ModuleType:
        """What stands in."""
        return _Late(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        """Let be seen of it what may be seen before it is there."""
        vars(module).update(self._expected.pop(module.__name__))


def ask_for_no_plugins() -> None:
    """Call it before pydantic is imported: a tenth of reading a manifest was to find none."""
    if sys.version_info < UNTRIED:
        sys.meta_path.insert(0, _LateModules(NO_PLUGINS))


def keep_small() -> None:
    """Call it before asyncio or the HTTP stack is imported. What is imported already stays as it is."""
    if sys.version_info >= UNTRIED:
        return
    sys.meta_path.insert(0, _LateModules(LATE))
    for name in NEVER:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # the import system documents it
    # Now that `inspect` comes late, which dataclasses import.
    from supervisor.cli.pitbossd_dataclasses import share_methods

    share_methods()
    _leave_types_as_text()
    if "uvicorn" not in sys.modules:
        _enter_uvicorn_by_the_side()
    if "starlette" not in sys.modules:
        _import_what_starlette_serves_with()


def _leave_types_as_text() -> None:
    """Keep `typing` from compiling each type that is written as text; eval(), which makes it one, takes both.

    The first compile() makes a class for each node that source code may have, 119 of them, and for good.
    """
    vars(typing)["compile"] = lambda text, *_others: text


def _enter_uvicorn_by_the_side() -> None:
    """Make uvicorn's protocol importable without its command line, configuration and process manager.

    The package imports all of them before any of its modules can be had; the protocol names two classes
    of theirs, and the shapes of messages, in annotations only. A uvicorn that does not fit is imported whole.
    """
    spec = importlib.util.find_spec("uvicorn")
    if spec is None or spec.submodule_search_locations is None:
        return
    package = types.ModuleType("uvicorn")
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    configuration, server = types.ModuleType("uvicorn.config"), types.ModuleType("uvicorn.server")
    vars(configuration)["Config"] = vars(server)["ServerState"] = object
    shapes = types.ModuleType("uvicorn._types")
    # Whichever name is asked for (PEP 562): which shapes there are differs from release to release.
    vars(shapes)["__getattr__"] = lambda _name: object
    for module in (package, configuration, server, shapes):
        sys.modules[module.__name__] = module
    try:
        importlib.import_module("uvicorn.protocols.http.httptools_impl")
    except (ImportError, AttributeError):
        for name in [one for one in sys.modules if one.partition(".")[0] == "uvicorn"]:
            del sys.modules[name]


def _import_what_starlette_serves_with() -> None:
    """Import requests, responses and routes while `UNUSED` is stood in for; others find the real ones later.

    A Starlette that does not fit is imported whole.
    """
    before = {name: sys.modules.get(name) for name in UNUSED}
    stand_ins = {name: types.ModuleType(name) for name, one in before.items() if not one or name in LATE}
    for name, module in stand_ins.items():
        vars(module).update(dict.fromkeys(UNUSED[name], _Absent))
    if "typing_extensions" in stand_ins:
        vars(stand_ins["typing_extensions"])["TypeVar"] = _type_variable
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("starlette.routing")
    except (ImportError, AttributeError, TypeError):
        for name in [one for one in sys.modules if one.partition(".")[0] == "starlette"]:
            del sys.modules[name]
    finally:
        for name, module in stand_ins.items():
            former = before[name]
            if former is not None:
                sys.modules[name] = former
            elif sys.modules.get(name) is module:
                del sys.modules[name]


def _type_variable(name: str, *bounds: type, **_options: object) -> typing.TypeVar:
    """Without a default, which is only looked at by those who check types."""
    return typing.TypeVar(name, *bounds)
