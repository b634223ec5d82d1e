"""Keeps out of a running daemon what its libraries import and never uses: TLS, and much of its HTTP stack.

Decides which modules come late, and which never. What they are good for is not its business. Memory
that a module takes is never given back, so it has to be decided before the first import. See
docs/decisions/0024-what-a-daemon-imports.md.
"""

import importlib
import importlib.util
import sys
import types

LATE = ("ssl", "asyncio.sslproto", "http.client", "difflib")
"""asyncio, the HTTP stack and our probes import them, and look into them only when something is encrypted;
`difflib` is looked into when a name is wrong."""

NEVER = ("_hashlib",)
"""OpenSSL's hash functions. Without them `hashlib` and `hmac` use Python's own, as they do in every
Python that was built without OpenSSL; what is hashed here are names of sockets."""


UNUSED = {
    "starlette.formparsers": ("FormParser", "MultiPartException", "MultiPartParser"),
    "email.utils": ("format_datetime", "formatdate"),
    "mimetypes": ("guess_type",),
    "uuid": ("UUID",),
}
"""What Starlette takes from where, for forms, files, cookies that expire and paths with a UUID. No route of
ours has any; behind them are temporary files, three compressions, calendars and dice."""


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


def keep_small() -> None:
    """Call it before asyncio or the HTTP stack is imported. What is imported already stays as it is."""
    for name in LATE:
        if name not in sys.modules:
            sys.modules[name] = _Late(name)
            if name == "ssl":
                # asyncio asks of each socket whether it is one of these. None is before `ssl` is loaded,
                # and then this class gives way to the real one.
                vars(sys.modules[name])["SSLSocket"] = type("SSLSocket", (), {})
    for name in NEVER:
        sys.modules.setdefault(name, None)  # type: ignore[arg-type]  # the import system documents it
    if "uvicorn" not in sys.modules:
        _enter_uvicorn_by_the_side()
    if "starlette" not in sys.modules:
        _import_what_starlette_serves_with()


def _enter_uvicorn_by_the_side() -> None:
    """Make uvicorn's protocol importable without its command line, configuration and process manager.

    The package imports all of them before any of its modules can be had; the protocol names two classes
    of theirs, in annotations only. A uvicorn that does not fit is imported whole.
    """
    spec = importlib.util.find_spec("uvicorn")
    if spec is None or spec.submodule_search_locations is None:
        return
    package = types.ModuleType("uvicorn")
    package.__spec__ = spec
    package.__path__ = list(spec.submodule_search_locations)
    configuration, server = types.ModuleType("uvicorn.config"), types.ModuleType("uvicorn.server")
    vars(configuration)["Config"] = vars(server)["ServerState"] = object
    stand_ins = {"uvicorn": package, "uvicorn.config": configuration, "uvicorn.server": server}
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("uvicorn.protocols.http.httptools_impl")
    except (ImportError, AttributeError):
        for name in [one for one in sys.modules if one.partition(".")[0] == "uvicorn"]:
            del sys.modules[name]


def _import_what_starlette_serves_with() -> None:
    """Import requests, responses and routes while `UNUSED` is stood in for; others find the real ones later.

    A Starlette that does not fit is imported whole.
    """
    stand_ins = {name: types.ModuleType(name) for name in UNUSED if name not in sys.modules}
    for name, module in stand_ins.items():
        vars(module).update(dict.fromkeys(UNUSED[name], _Absent))
    sys.modules.update(stand_ins)
    try:
        importlib.import_module("starlette.routing")
    except (ImportError, AttributeError, TypeError):
        for name in [one for one in sys.modules if one.partition(".")[0] == "starlette"]:
            del sys.modules[name]
    finally:
        for name, module in stand_ins.items():
            if sys.modules.get(name) is module:
                del sys.modules[name]
