"""The house keeps its rules, and each rule bites: one that was never seen to bite proves nothing.

See `house_rules` for the rules that judge a file; those about the tree as a whole are here.
"""

import ast
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.manifest.load import load
from supervisor.manifest.problems import ManifestError
from tests.house_rules import (
    ROOT,
    RULES,
    Source,
    core_is_pure,
    files_are_short,
    functions_are_short,
    identity_is_not_a_pid,
    imports_follow_the_arrows,
    names_say_something,
    no_test_sleeps,
    package_files_are_empty,
    processes_are_started_cheaply,
    public_things_are_described,
    sources,
)


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.__name__)
def test_the_house_keeps_its_rule(rule: Callable[[Source], Iterator[str]]) -> None:
    """No file of the repository breaks the rule."""
    found = [f"{source.path}: {sentence}" for source in sources() for sentence in rule(source)]
    assert not found, f"{rule.__doc__}\n" + "\n".join(found)


LONG_FUNCTION = "def long() -> None:\n" + "    x = 1\n" * 60

PLANTED = [
    (imports_follow_the_arrows, "supervisor/core/lifecycle.py", "from supervisor.runtime import engine\n"),
    (imports_follow_the_arrows, "supervisor/core/lifecycle.py", "from supervisor import __version__\n"),
    (imports_follow_the_arrows, "supervisor/core/lifecycle.py", "from ..runtime.engine import Engine\n"),
    (imports_follow_the_arrows, "supervisor/core/lifecycle.py", "def f():\n    import yaml\n"),
    (
        imports_follow_the_arrows,
        "supervisor/runtime/probes.py",
        "from supervisor.manifest.load import load\n",
    ),
    (imports_follow_the_arrows, "supervisor/runtime/probes.py", "import starlette.requests\n"),
    (imports_follow_the_arrows, "supervisor/control/routes.py", "from supervisor import runtime\n"),
    (imports_follow_the_arrows, "supervisor/client/api.py", "from supervisor.core.phases import Phase\n"),
    (imports_follow_the_arrows, "supervisor/cli/pitbossctl.py", "import supervisor.core.phases\n"),
    (imports_follow_the_arrows, "supervisor/cli/pitbossctl.py", "from supervisor.cli import pitbossd\n"),
    (imports_follow_the_arrows, "supervisor/worker/notify.py", "import psutil\n"),
    (core_is_pure, "supervisor/core/backoff.py", "import random\n"),
    (core_is_pure, "supervisor/core/backoff.py", "from time import monotonic\n"),
    (core_is_pure, "supervisor/core/backoff.py", "spread = hash('emails/0') % 100\n"),
    (core_is_pure, "supervisor/core/host.py", "def step():\n    print('moved')\n"),
    (files_are_short, "supervisor/core/host.py", "x = 1\n" * 401),
    (files_are_short, "tests/core/test_host.py", "x = 1\n" * 401),
    (files_are_short, "docs/generate/http.py", "x = 1\n" * 401),
    (functions_are_short, "supervisor/core/host.py", LONG_FUNCTION),
    (functions_are_short, "tests/core/test_host.py", LONG_FUNCTION),
    (names_say_something, "supervisor/runtime/utils.py", "x = 1\n"),
    (names_say_something, "supervisor/runtime/processes.py", "class ProcessManager:\n    pass\n"),
    (package_files_are_empty, "supervisor/client/__init__.py", "from supervisor.client.api import Client\n"),
    (public_things_are_described, "supervisor/core/host.py", "def step() -> None:\n    pass\n"),
    (public_things_are_described, "supervisor/core/host.py", '"""A."""\nclass Host:\n    pass\n'),
    (
        public_things_are_described,
        "supervisor/core/host.py",
        '"""A."""\nasync def step() -> None:\n    pass\n',
    ),
    (
        public_things_are_described,
        "supervisor/core/host.py",
        '"""A."""\nclass Host:\n    """B."""\n    def of(self) -> None:\n        pass\n',
    ),
    (no_test_sleeps, "tests/runtime/test_probes.py", "import time\ntime.sleep(1)\n"),
    (no_test_sleeps, "tests/conftest.py", "async def f():\n    await asyncio.sleep(0.1)\n"),
    (processes_are_started_cheaply, "supervisor/runtime/processes.py", "subprocess.Popen(['x'], user=3)\n"),
    (processes_are_started_cheaply, "supervisor/runtime/processes.py", "Popen(['x'], preexec_fn=f)\n"),
    (processes_are_started_cheaply, "supervisor/runtime/probes.py", "asyncio.create_subprocess_exec('x')\n"),
    (processes_are_started_cheaply, "supervisor/runtime/probes.py", "os.fork()\n"),
    (identity_is_not_a_pid, "supervisor/runtime/processes.py", "os.kill(pid, 15)\n"),
    (identity_is_not_a_pid, "supervisor/runtime/processes.py", "os.waitpid(-1, 0)\n"),
]


@pytest.mark.parametrize(("rule", "path", "text"), PLANTED, ids=lambda value: getattr(value, "__name__", ""))
def test_a_rule_finds_what_was_planted(rule: Callable[[Source], Iterator[str]], path: str, text: str) -> None:
    """Each rule speaks up about a file that breaks it."""
    assert list(rule(Source(path, text))), f"{rule.__name__} lets pass:\n{text}"


def test_every_rule_has_a_planted_sample() -> None:
    """A rule that was never seen to bite is not a rule."""
    assert {rule for rule, _, _ in PLANTED} == set(RULES)


HARMLESS = [
    ("supervisor/runtime/clock.py", '"""A."""\nimport asyncio\nfrom supervisor.core.events import Tick\n'),
    (
        "supervisor/cli/pitbossd.py",
        '"""A."""\nfrom supervisor.runtime.engine import Engine\nimport starlette\n',
    ),
    ("supervisor/runtime/processes.py", '"""A."""\nimport os\nos.kill(os.getpid(), 15)\n'),
    ("tests/runtime/workers/slow.py", "import time\ntime.sleep(60)\n"),
    ("tests/core/test_host.py", "async def test_x():\n    await asyncio.sleep(0)\n"),
]


@pytest.mark.parametrize(("path", "text"), HARMLESS)
def test_the_rules_let_pass_what_is_allowed(path: str, text: str) -> None:
    """A rule that cries at everything would be switched off."""
    assert [sentence for rule in RULES for sentence in rule(Source(path, text))] == []


# Started by name, not by import; everything else that is shipped must be reached from one of these.
ENTRANCES = {
    "supervisor.cli.pitbossd": "console script",
    "supervisor.cli.pitbossctl": "console script",
    "supervisor.runtime.make_recruits": "script of `runtime.starter`",
}


def dead_modules(everything: tuple[Source, ...], entrances: set[str]) -> set[str]:
    """The shipped modules that no entrance reaches through imports, or by their name in a string."""
    code = {source.module: source for source in everything if source.is_code and source.text.strip()}
    reached: set[str] = set()
    todo = list(entrances)
    while todo:
        module = todo.pop()
        if module in reached or module not in code:
            continue
        reached.add(module)
        source = code[module]
        named = {
            node.value
            for node in ast.walk(source.tree)
            if isinstance(node, ast.Constant) and isinstance(node.value, str)
        }
        todo += code.keys() & (named | set(source.imports()))
    return set(code) - reached - {"supervisor"}


def test_no_module_is_dead() -> None:
    """Whatever is shipped is used by a command, or is what workers and scripts import."""
    library = {source.module for source in sources() if source.package in {"worker", "client"}}
    assert sorted(dead_modules(sources(), set(ENTRANCES) | library)) == []


def test_a_dead_module_is_found() -> None:
    """A module that nothing imports is reported, one that is started by its name is not."""
    planted = (
        Source(
            "supervisor/cli/pitbossd.py",
            "NAME = 'supervisor.runtime.launcher'\nimport supervisor.core.host\n",
        ),
        Source("supervisor/runtime/launcher.py", "x = 1\n"),
        Source("supervisor/core/host.py", "x = 1\n"),
        Source("supervisor/core/orphan.py", "x = 1\n"),
    )
    assert dead_modules(planted, {"supervisor.cli.pitbossd"}) == {"supervisor.core.orphan"}


TOP_LEVEL = {"pyproject.toml", "Makefile", "README.md", "LICENSE"}
TOP_FOLDERS = {"configs", "systemd", "docs", "tests", "supervisor"}


def strangers_at_the_top(names: set[str]) -> set[str]:
    """Names that do not belong at the top level; dot files and what tools make there do."""
    made = {name for name in names if name.startswith(".") or name.endswith(".egg-info")}
    return names - TOP_LEVEL - TOP_FOLDERS - made - {"build", "dist", "__pycache__"}


def test_the_top_level_stays_as_it_is() -> None:
    """Nothing joins the four files and five folders of the top level."""
    names = {path.name for path in ROOT.iterdir()}
    assert names >= TOP_LEVEL
    assert strangers_at_the_top(names) == set()


def test_a_stranger_at_the_top_is_found() -> None:
    """A new file at the top level is reported by its name."""
    assert strangers_at_the_top({"README.md", ".ci", "build", "setup.cfg"}) == {"setup.cfg"}


EXAMPLES = sorted((ROOT / "configs").glob("*.yaml"))


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.name)
def test_every_example_manifest_is_valid(path: Path) -> None:
    """What we hand out as an example can be run."""
    assert load(path).plan.pools


def test_a_wrong_example_is_found(tmp_path: Path) -> None:
    """An example with a misspelt key does not load."""
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("version: 1\npools: {a: {comand: [sleep, 1]}}\n")
    with pytest.raises(ManifestError):
        load(wrong)
