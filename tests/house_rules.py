"""The rules of the house: who imports whom, what is forbidden where, sizes and names.

A rule is a function from a source file to the sentences it finds wrong. It reads one file at a time and
runs nothing; `test_architecture` runs each over the tree, and over a planted sample that it must find.
"""

import ast
import re
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


@dataclass(frozen=True)
class Source:
    """One Python file: its path from the root of the repository, and its text."""

    path: str
    text: str

    @property
    def tree(self) -> ast.Module:
        """The syntax tree."""
        return _parse(self.text)

    @property
    def module(self) -> str:
        """The dotted name."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """The folder below `supervisor`; empty for the top package itself."""
        parts = self.path.split("/")
        return parts[1] if self.is_code and len(parts) > 2 else ""

    @property
    def is_code(self) -> bool:
        """Whether the file is shipped."""
        return self.path.startswith("supervisor/")

    @property
    def is_composition_root(self) -> bool:
        """Whether it is the one part that sees everything."""
        return self.path.startswith("supervisor/cli/pitbossd")

    def imports(self) -> Iterator[str]:
        """The dotted names of all modules it imports, also those imported inside functions."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from (alias.name for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = self.module.split(".")[: -node.level]
                    base = ".".join([*above, base]).rstrip(".")
                if base in {"supervisor", "supervisor.cli"} or base in _packages():
                    yield from (f"{base}.{alias.name}" for alias in node.names)
                else:
                    yield base

    def calls(self) -> Iterator[tuple[str, ast.Call]]:
        """Every call with the dotted name of what is called."""
        yield from _calls(self.text)


@cache
def _parse(text: str) -> ast.Module:
    return ast.parse(text)


@cache
def _calls(text: str) -> tuple[tuple[str, ast.Call], ...]:
    found = (node for node in ast.walk(_parse(text)) if isinstance(node, ast.Call))
    return tuple((ast.unparse(node.func), node) for node in found)


@cache
def _packages() -> frozenset[str]:
    return frozenset(
        path.parent.relative_to(ROOT).as_posix().replace("/", ".")
        for path in (ROOT / "supervisor").glob("*/**/__init__.py")
    )


@cache
def sources() -> tuple[Source, ...]:
    """Every Python file of the repository."""
    return tuple(
        Source(path.relative_to(ROOT).as_posix(), path.read_text(encoding="utf-8"))
        for folder in ("supervisor", "tests", "docs", "configs")
        for path in sorted((ROOT / folder).rglob("*.py"))
        if "__pycache__" not in path.parts
    )


# What each package may import of ours, and of others. A package always sees itself; `supervisor`
# stands for the version and nothing else.
OURS = {
    "core": set(),
    "manifest": {"core"},
    "runtime": {"core"},
    "store": {"core"},
    "telemetry": {"core"},
    "control": {"core"},
    "client": set(),
    "cli": {"client"},
    "worker": set(),
}
OTHERS = {
    "core": set(),
    "manifest": {"yaml", "pydantic", "pydantic_core"},
    "runtime": {"psutil", "httptools"},
    "store": set(),
    "telemetry": {"prometheus_client", "psutil"},
    "control": {"starlette", "uvicorn", "httptools", "pydantic"},
    "client": {"httpx", "pydantic"},
    "cli": {"click", "rich", "httpx"},
    "worker": set(),
}
CORE_STDLIB = {"dataclasses", "enum", "math", "typing", "collections", "heapq"}


def imports_follow_the_arrows(source: Source) -> Iterator[str]:
    """Decisions know nothing of the world, and only the composition root knows everybody."""
    if not source.is_code or source.is_composition_root:
        return
    package = source.package
    for name in source.imports():
        top, *rest = name.split(".")
        if top == "supervisor":
            target = rest[0] if rest else "__version__"
            if target == "__version__":
                if package in {"core", "worker"}:
                    yield f"imports {name}: {package} stands alone"
            elif target != package and target not in OURS.get(package, set()):
                yield f"imports {name}: {package or 'the top package'} may not see {target}"
            elif rest[:2] and "/".join(rest[:2]).startswith("cli/pitbossd"):
                yield f"imports {name}: nobody imports the composition root"
        elif top not in sys.stdlib_module_names and top not in OTHERS.get(package, set()):
            yield f"imports {name}: not among what {package or 'the top package'} may use of others"


def core_is_pure(source: Source) -> Iterator[str]:
    """The core has no clock, no dice, no files and no order that differs between two runs."""
    if source.package != "core":
        return
    for name in source.imports():
        top = name.split(".")[0]
        if top != "supervisor" and top not in CORE_STDLIB:
            yield f"imports {name}: the core may import only {', '.join(sorted(CORE_STDLIB))}"
    forbidden = {
        "open",
        "print",
        "input",
        "eval",
        "exec",
        "__import__",
        "hash",
        "id",
        "breakpoint",
        "globals",
    }
    for name, call in source.calls():
        if name in forbidden:
            yield f"line {call.lineno}: calls {name}(), which is not a function of its arguments"


def files_are_short(source: Source) -> Iterator[str]:
    """At 400 lines, ask which second reason to change has moved in; in a test, which second subject."""
    lines = source.text.count("\n")
    if lines > 400:
        yield f"{lines} lines; the ceiling is 400"


def functions_are_short(source: Source) -> Iterator[str]:
    """A function fits on a screen."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > 60:
                yield f"line {node.lineno}: {node.name} has {length} lines; the ceiling is 60"


def names_say_something(source: Source) -> Iterator[str]:
    """A file or class named for nothing collects everything."""
    vague = {"util", "utils", "helper", "helpers", "manager", "common", "misc", "base"}
    for part in source.path.removesuffix(".py").split("/"):
        if part in vague:
            yield f"{part} names nothing: say what it decides"
    for node in ast.walk(source.tree):
        if isinstance(node, ast.ClassDef) and re.search(r"(Manager|Helper|Utils?)$", node.name):
            yield f"line {node.lineno}: class {node.name}: say what it decides"


def package_files_are_empty(source: Source) -> Iterator[str]:
    """A command must not import what it does not need because a package file does."""
    if source.is_code and source.path.endswith("/__init__.py") and source.package and source.text.strip():
        yield "a package file is empty"


def public_things_are_described(source: Source) -> Iterator[str]:
    """Every public module, class and function says what it is for."""
    if not source.is_code or source.path.endswith("__init__.py"):
        return
    if not ast.get_docstring(source.tree):
        yield "the module has no docstring"
    stack: list[ast.Module | ast.ClassDef] = [source.tree]
    while stack:
        for node in stack.pop().body:
            if not isinstance(node, ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            decorators = {ast.unparse(one).split(".")[-1] for one in node.decorator_list}
            if node.name.startswith("_") or decorators & {"overload", "override", "setter"}:
                continue
            if not ast.get_docstring(node):
                yield f"line {node.lineno}: {node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                stack.append(node)


PACES = {
    ("tests/runtime/listeners.py", "trickle"): "a server that sends a byte at a time is what is tested",
}
"""Functions in which a pause is the pace of something, and nobody waits for it to be over."""


def no_test_sleeps(source: Source) -> Iterator[str]:
    """A test waits for a condition; a fixed pause is too long on one machine and too short on another."""
    exempt = source.path == "tests/waiting.py" or "/workers/" in source.path
    if not source.path.startswith("tests/") or exempt:
        return
    paced = {
        call
        for node in ast.walk(source.tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and (source.path, node.name) in PACES
        for call in ast.walk(node)
    }
    for name, call in source.calls():
        yields = bool(call.args) and isinstance(call.args[0], ast.Constant) and call.args[0].value == 0
        if name.split(".")[-1] == "sleep" and not yields and call not in paced:
            yield f"line {call.lineno}: {name}(): use eventually() of tests/waiting.py"


def processes_are_started_cheaply(source: Source) -> Iterator[str]:
    """Starting a worker never copies the daemon's page tables and never races with its reaper.

    subprocess uses vfork unless one of these keywords is given (measured: 5 to 15 times slower
    with them); asyncio's own subprocesses reap and publish the exit status in two steps
    (cpython issue 127049), between which a signal can hit a stranger.
    """
    if not source.is_code:
        return
    for name, call in source.calls():
        last = name.split(".")[-1]
        keywords = {keyword.arg for keyword in call.keywords}
        slow = keywords & {"user", "group", "extra_groups", "preexec_fn"}
        if last in {"Popen", "run", "call", "check_call", "check_output"} and slow:
            yield f"line {call.lineno}: {name}({', '.join(sorted(map(str, slow)))}=…) makes subprocess fork"
        behind = {"os.fork", "os.system", "os.popen", "os.forkpty"}
        if name in behind or last.startswith("create_subprocess"):
            yield f"line {call.lineno}: {name}() starts a process behind the reaper's back"


PID_CALLS = {"os.kill", "os.waitpid", "os.wait", "os.wait3", "os.wait4"}
PIDS_ARE_SAFE_IN: dict[str, str] = {}
"""Files that may call these all the same, with the reason why the number cannot name a stranger."""


def identity_is_not_a_pid(source: Source) -> Iterator[str]:
    """Signals and exit statuses go through pidfds: a number may have been given to somebody else."""
    if not source.is_code or source.path in PIDS_ARE_SAFE_IN:
        return
    for name, call in source.calls():
        itself = bool(call.args) and ast.unparse(call.args[0]) == "os.getpid()"
        if name in PID_CALLS and not itself:
            yield f"line {call.lineno}: {name}() trusts a pid"


RULES: tuple[Callable[[Source], Iterator[str]], ...] = (
    imports_follow_the_arrows,
    core_is_pure,
    files_are_short,
    functions_are_short,
    names_say_something,
    package_files_are_empty,
    public_things_are_described,
    no_test_sleeps,
    processes_are_started_cheaply,
    identity_is_not_a_pid,
)
