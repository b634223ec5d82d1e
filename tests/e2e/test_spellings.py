"""Every line of pitbossctl that the pages show, typed at a real daemon: the right thing answers."""

import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from tests.docs.test_pages import FENCE, PAGES
from tests.e2e.commands import pool, script
from tests.e2e.daemon import Daemon

Make = Callable[..., Daemon]

LIVES = (
    "import signal, sys\n"
    "for number in (1, 10): signal.signal(number, lambda *_: None)\n"
    "signal.signal(15, lambda *_: sys.exit(0))\n"
    "while True: signal.pause()\n"
)

HERE = ("emails", "api", "workers", "nginx")
"""The pools of the daemon; lines about any other name come from a story of their own page."""

ELSEWHERE = re.compile(r"6f1c2a|--watch|\[|completion")
"""Needs an id that only that daemon has, or a terminal; or is no line to type."""

ROW = r"^{}\s+\S+\s+(yes|no)\s+(\d+|-)\s+\d+\s+\S+\s+\S"

SAID = {
    "status": r"^NAME +STATE +READY +PID +GEN +SINCE +NOTE",
    "status emails api/0": ROW.format("api/0"),
    "status --json": r'^\{"name"|^\{\n',
    "explain emails": r"emails.*healthy",
    "explain emails/2": r"emails/2.*running",
    "explain --all": r"nginx",
    "wait --for ready --timeout 2m": r"",
    "wait api --for ready": r"",
    "wait emails --for drained": r"",
    "operations": r"",
    "version": r"^pitbossctl +\d+\.\d+.*^pitbossd +\d+\.\d+",
    "version --json": r"^\{",
    "signal HUP nginx": r"nginx",
    "signal SIGUSR1 emails/2": r"emails/2",
    "signal TERM emails --all-processes": r"emails",
}
"""What a line ends with and says. The verbs that act end with 0 and a line that names their target."""


def typed() -> Iterator[str]:
    """The lines of the pages, up to a pipe or another command; each form once, by the alphabet."""
    lines, seen = set(), set[str]()
    for page in PAGES:
        for language, body in FENCE.findall(page.read_text(encoding="utf-8")):
            if language in {"console", "sh"}:
                for part in re.findall(r"pitbossctl ([^|;&>#()\n]*)", body):
                    lines.add(part.strip())
    for line in sorted(lines):
        if line and not ELSEWHERE.search(line):
            words = re.sub(r"--(timeout|for|deadline) \S+|--\S+|^signal \S+", "", line).split()
            targets = words if line.startswith("signal ") else words[1:]
            if all(target.split("/")[0] in HERE for target in targets):
                shape = re.sub(rf"\b({'|'.join(HERE)})\b|\d+", "", line)
                if shape not in seen:
                    yield line
                seen.add(shape)


def bring_back(one: Daemon) -> None:
    """Everything up, whatever the line before did."""
    for verb in ("resume", "start"):
        assert one.post(f"/v1/{verb}").status_code in {202, 409}
    one.wait_ready()


def one_daemon(daemon: Make) -> Daemon:
    """A daemon with the pools of the pages."""
    quick: dict[str, Any] = {"rollout": {"min_ready": "0s"}, "startup": {"min_uptime": "100ms"}}
    one = daemon({"pools": {name: {**pool(script(LIVES), instances=3), **quick} for name in HERE}})
    one.wait_ready()
    return one


def test_every_documented_line_does_what_it_says(daemon: Make) -> None:
    """Exit code and form of the answer for each; none is refused, none hits another target."""
    one = one_daemon(daemon)
    lines = [line for line in typed() if not line.startswith("shutdown")]
    assert len(lines) > 20, lines
    for line in lines:
        verb, *rest = shlex.split(line)
        if line == "wait emails --for drained":
            assert one.ctl("drain", "emails").returncode == 0
        done = one.ctl(verb, *rest)
        names = [word for word in rest if word.split("/")[0] in HERE]
        codes, form = {0}, re.escape(names[0]) if names else r"\S"
        if "--no-wait" in rest:
            form = r"^[0-9a-z]{8,}$"
        elif "--failed" in rest:
            # Nobody has failed, and it says so.
            codes, form = {0, 1}, r"failed"
        elif line in SAID:
            form = SAID[line]
        said = done.stdout + done.stderr
        assert done.returncode in codes, (line, said)
        assert re.search(form, said, re.MULTILINE | re.DOTALL), (line, said)
        assert "Traceback" not in said, (line, said)
        assert done.returncode != 0 or not done.stderr, (line, said)
        if verb in {"status", "explain"} and names:
            others = set(HERE) - {name.split("/")[0] for name in names}
            assert not [name for name in others if name in done.stdout], (line, "only what was asked for")
        if verb not in {"status", "explain", "operations", "version"}:
            bring_back(one)


def test_starting_is_not_fine(daemon: Make, tmp_path: Path) -> None:
    """A gate that opens too early is none: exit code 1 until it is ready, then 0, for status and for wait."""
    gate = tmp_path / "gate"
    slow = pool(
        script(LIVES), readiness={"exec": ["test", "-e", str(gate)], "period": "100ms", "timeout": "100ms"}
    )
    one = daemon({"pools": {"web": {**slow, "startup": {"timeout": "10m"}}}})
    one.wait_phase("web/0", "starting")
    assert one.ctl("status").returncode == 1
    assert one.ctl("wait", "web", "--for", "ready", "--timeout", "500ms").returncode == 1
    assert one.get("/readyz").status_code == 503
    gate.touch()
    assert one.ctl("wait", "web", "--for", "ready", "--timeout", "60s").returncode == 0
    assert one.ctl("status").returncode == 0
