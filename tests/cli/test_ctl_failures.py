"""Wrong names, wrong options, no daemon, no permission; and the things that are ready before any daemon."""

import json
import os
import stat
import subprocess
import sys

import click
import pytest

from docs.generate.ctl import OUTPUTS
from supervisor import __version__
from supervisor.cli.pitbossctl import SECTIONS, load
from tests.cli.ctl_runs import ROOT, ctl, on_terminal
from tests.cli.stub_daemon import Stub, host, instance, pool

EVERY_VERB = [name for names in SECTIONS.values() for name in names]


def shop() -> Stub:
    """A daemon with two pools."""
    return Stub(
        host(
            pool("emails", [instance(f"emails/{index}") for index in range(3)]),
            pool("api", [instance("api/0")]),
        )
    )


@pytest.mark.parametrize("verb", ["drain", "resume", "restart", "stop", "start", "explain"])
def test_without_a_target_the_names_are_listed(verb: str) -> None:
    """Exit 2, nothing asked of the daemon but its names."""
    with shop() as stub:
        result = ctl(stub, verb)
        assert all(method == "GET" for method, _, _ in stub.asked)
    assert "There are: emails, api." in result.stderr
    assert result.exit_code == 2


LONG = "cannot drain emails: " + " ".join(["the journal is full and cannot be written"] * 4)


def test_an_error_is_one_line_in_a_pipe_and_wrapped_on_a_terminal() -> None:
    """What searches the output finds the sentence whole; what reads it sees lines that fit."""
    with shop() as stub:
        stub.refusals["POST /v1/pools/emails/drain"] = (503, {"kind": "journal", "detail": LONG})
        piped = ctl(stub, "drain", "emails", columns=60)
        shown = on_terminal(stub, "drain", "emails", columns=60)
    assert piped.stderr.splitlines()[0] == f"pitbossctl: {LONG}"
    lines = shown.text.splitlines()
    assert f"pitbossctl: {LONG}" not in lines
    assert all(len(line) <= 60 for line in lines)
    assert " ".join(shown.text.split()).startswith(f"pitbossctl: {LONG}")


@pytest.mark.parametrize(
    "arguments", [["drain", "emial"], ["status", "emial"], ["wait", "emial"], ["explain", "emial/0"]]
)
def test_a_mistyped_pool_gets_the_nearest(arguments: list[str]) -> None:
    """Exit 2, and what was probably meant."""
    with shop() as stub:
        result = ctl(stub, *arguments)
    assert 'there is no pool "emial"' in result.stderr
    assert "Did you mean emails?" in result.stderr
    assert result.exit_code == 2


def test_one_wrong_name_of_several_means_that_nothing_is_done() -> None:
    """No wish is sent."""
    with shop() as stub:
        result = ctl(stub, "drain", "api", "emails/7")
        assert all(method == "GET" for method, _, _ in stub.asked)
    assert "emails has no such instance" in result.stderr
    assert "emails/0 to emails/2. Nothing was done." in result.stderr
    assert result.exit_code == 2


def test_the_daemons_own_hint_is_kept() -> None:
    """It knows better."""
    problem = {
        "kind": "unknown-pool",
        "detail": "cannot drain emial: no such pool",
        "hint": "did you mean emails?",
    }
    with shop() as stub:
        stub.refusals["POST /v1/pools/emial/drain"] = (404, problem)
        result = ctl(stub, "drain", "emial")
    assert result.stderr.splitlines() == [
        "pitbossctl: cannot drain emial: no such pool",
        "did you mean emails?",
    ]


@pytest.mark.parametrize(
    "arguments",
    [
        ["drain", "a/b/c"],
        ["drain", "emails/x"],
        ["drain", ""],
        ["drain", ".."],
        ["operations", "resume", ".."],
        ["drain", "emails", "--all"],
        ["drain", "emails", "--timeout", "soon"],
        ["wait", "emails", "--for", "happiness"],
        ["signal", "HUP"],
        ["status", "--watch", "--json"],
        ["completion", "tcsh"],
        ["nonsense"],
    ],
)
def test_nonsense_is_exit_2(arguments: list[str]) -> None:
    """Usage errors, before anything is asked for."""
    with shop() as stub:
        result = ctl(stub, *arguments)
        assert all(method == "GET" for method, _, _ in stub.asked)
    assert result.exit_code == 2


@pytest.mark.parametrize(
    ("typed", "meant"), [("stauts", "status"), ("drian", "drain"), ("restrat", "restart")]
)
def test_a_mistyped_verb_gets_the_nearest(typed: str, meant: str) -> None:
    """As for names."""
    result = ctl(None, typed)
    assert "Did you mean" in result.stderr
    assert meant in result.stderr
    assert result.exit_code == 2


def test_no_daemon_is_exit_69_with_every_place() -> None:
    """Each place that was tried, and why it was no good."""
    result = ctl(None, "status", XDG_RUNTIME_DIR="/tmp/there-is-nothing-here")
    assert "/tmp/there-is-nothing-here/pitboss/control.sock: there is no such socket" in result.stderr
    assert "/run/pitboss/control.sock: " in result.stderr
    assert "Is pitbossd running?" in result.stderr
    assert result.exit_code == 69


def test_a_stale_socket_is_named_so() -> None:
    """The file is there, nobody listens."""
    with shop() as stub:
        stub.close()
        result = ctl(stub, "drain", "emails")
        as_json = ctl(stub, "drain", "emails", "--json")
    assert "stale socket, is pitbossd running?" in result.stderr
    assert (result.exit_code, as_json.exit_code) == (69, 69)
    assert json.loads(as_json.stdout)["error"]["kind"] == "unreachable"


def test_a_socket_of_somebody_else_is_exit_77() -> None:
    """Permission denied, with owner and mode."""
    with shop() as stub:
        os.chmod(stub.folder.name, 0o755)
        os.chmod(stub.socket, 0)
        assert stat.S_IMODE(os.stat(stub.socket).st_mode) == 0
        # The interpreter may lie where only root can read, so it becomes somebody else after it has started.
        code = (
            "import os, supervisor.client.client\n"
            "from supervisor.cli.pitbossctl import load, main\n"
            "load('status')\n"
            "if os.getuid() == 0:\n"
            "    os.setgroups([]); os.setgid(65534); os.setuid(65534)\n"
            f"main(args=['--socket', {stub.socket!r}, 'status'])"
        )
        done = subprocess.run(
            [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False, timeout=60
        )
    assert "permission denied (owner" in " ".join(done.stderr.split())
    assert done.returncode == 77


def test_the_daemon_says_who_may_not() -> None:
    """403: exit 77."""
    with shop() as stub:
        stub.refusals["POST /v1/pools/emails/stop"] = (
            403,
            {"kind": "not-permitted", "detail": "uid 1000 may only read"},
        )
        result = ctl(stub, "stop", "emails")
    assert "uid 1000 may only read" in result.stderr
    assert result.exit_code == 77


def test_an_answer_that_is_no_json_is_told() -> None:
    """Something else listens there: exit 1 with the reason, no traceback."""
    with shop() as stub:
        stub.refusals["GET /v1/status"] = (200, "<html>")  # type: ignore[assignment]
        result = ctl(stub, "status")
    assert "it is not the JSON of a pitbossd" in result.stderr
    assert result.exit_code == 1


def test_options_may_stand_before_or_after_the_verb() -> None:
    """The one nearer to the verb wins."""
    with shop() as stub:
        before = ctl(None, "--socket", stub.socket, "--json", "status")
        after = ctl(None, "--socket", "/nowhere", "status", "--socket", stub.socket, "--json")
    assert before.stdout == after.stdout
    assert before.exit_code == after.exit_code == 0


def test_version_never_fails() -> None:
    """Both versions, or why there is only one."""
    with shop() as stub:
        both = ctl(stub, "version")
        stub.close()
        one = ctl(stub, "version")
        as_json = ctl(stub, "version", "--json")
    assert both.stdout == f"pitbossctl {__version__}\npitbossd   0.1.0  shop at {stub.socket}\n"
    assert "stale socket" in one.stdout
    assert json.loads(as_json.stdout) == {"pitbossctl": __version__, "pitbossd": None}
    assert both.exit_code == one.exit_code == 0


@pytest.mark.parametrize("verb", EVERY_VERB)
def test_every_help_says_what_happens(verb: str) -> None:
    """What it does, examples, exit codes; within eighty columns but for the examples."""
    result = ctl(None, verb, "--help")
    assert "Exit codes:" in result.stdout
    assert "Examples:" in result.stdout
    assert "--json" in result.stdout
    assert result.exit_code == 0
    command = load(verb)
    assert command is not None
    assert command.help is not None
    examples = getattr(command, "examples", ())
    prose = [line for line in result.stdout.splitlines() if line.strip() not in examples]
    assert max(map(len, prose)) <= 80


def test_the_short_help_is_whole() -> None:
    """Each verb's line fits without an ellipsis."""
    text = ctl(None, "--help").stdout
    assert all(f"  {verb} " in text for verb in EVERY_VERB)
    assert "..." not in text.split("Look:")[1]


def test_help_needs_neither_rich_nor_httpx() -> None:
    """They take longer to import than everything else together."""
    code = (
        "import sys; from supervisor.cli.pitbossctl import cli; "
        "cli.main(['drain', '--help'], standalone_mode=False); "
        "print([name for name in ('rich', 'httpx', 'asyncio', 'json.tool') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "[]"


def complete(stub: Stub | None, *words: str) -> tuple[list[str], str]:
    """What bash is told for a command line whose last word is being typed, and what was printed."""
    result = ctl(
        stub,
        _PITBOSSCTL_COMPLETE="bash_complete",
        COMP_WORDS=" ".join(["pitbossctl", *words]),
        COMP_CWORD=str(len(words)),
    )
    return [line.split(",", 1)[1] for line in result.stdout.splitlines() if line], result.stderr


def test_verbs_pools_and_instances_complete() -> None:
    """From the running daemon; what is on the line already is not offered again."""
    with shop() as stub:
        assert complete(stub, "sta")[0] == ["status", "start"]
        assert complete(stub, "drain", "e")[0] == ["emails"]
        assert complete(stub, "drain", "emails/")[0] == ["emails/0", "emails/1", "emails/2"]
        assert complete(stub, "drain", "api", "''")[0] in (["emails"], ["emails", "api"])
        assert complete(None, "--socket", stub.socket, "drain", "e")[0] == ["emails"]
        assert "--failed" in complete(stub, "restart", "--f")[0]
        stub.accept("drain", "emails", {})
        assert complete(stub, "operations", "o")[0] == ["op-1"]
        assert complete(stub, "operations", "pause", "o")[0] == ["op-1"]
        assert complete(stub, "operations", "p")[0] == ["pause"]


def test_completion_is_silent_without_a_daemon() -> None:
    """No names, no message, no delay by a traceback."""
    with shop() as stub:
        stub.close()
        assert complete(stub, "drain", "e") == ([], "")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_completion_script_names_the_command(shell: str) -> None:
    """The shell's own form of it; bash finds no fault with its syntax."""
    result = ctl(None, "completion", shell)
    assert "pitbossctl" in result.stdout
    assert f"{shell}_complete" in result.stdout
    assert result.exit_code == 0
    if shell == "bash":
        subprocess.run(["bash", "-n"], input=result.stdout, text=True, check=True, timeout=60)


def test_the_reference_page_is_current() -> None:
    """It is generated from the same declarations as --help."""
    for path, text in OUTPUTS.items():
        assert (ROOT / path).read_text() == text(), f"write {path} again: python -m docs.generate"


def test_every_verb_is_declared_as_one() -> None:
    """So that it has the shared options."""
    for name in EVERY_VERB:
        command = load(name)
        assert isinstance(command, click.Command)
        assert command.name == name
