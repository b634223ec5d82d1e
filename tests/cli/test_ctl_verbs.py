"""The verbs that act: what they send, what they tell while they wait, and their exit codes."""

import json
from typing import Any

import pytest

from tests.cli.ctl_moments import emails, gone, rung, step, turn
from tests.cli.ctl_runs import ctl, on_terminal
from tests.cli.stub_daemon import succeed


def test_a_drain_in_a_pipe_tells_every_rung() -> None:
    """One line for each change, then the outcome, then how to undo it."""
    with emails() as stub:
        stub.on["drain emails"] = [
            rung("emails/0", "draining", "drain", 60.0, waiting_for="3 in flight"),
            rung("emails/1", "draining", "settle", 5.0, waiting_for="load balancers to notice"),
            rung(
                "emails/0",
                "stopping",
                "stage-1",
                25.0,
                stage_signal="SIGTERM",
                waiting_for="exit after SIGTERM",
            ),
            gone("emails/0"),
            gone("emails/1"),
            succeed("op-1"),
        ]
        result = ctl(stub, "drain", "emails")
    assert result.stdout.splitlines() == [
        "drain emails: 2 instances, operation op-1",
        "emails/0 draining: drain, window 60 s, waiting for 3 in flight",
        "emails/1 draining: settle, window 5 s, waiting for load balancers to notice",
        "emails/0 stopping: stage-1 SIGTERM, window 25 s, waiting for exit after SIGTERM",
        "emails/0 drained: exit 0 on stage-1",
        "emails/1 drained: exit 0 on stage-1",
        "✓ emails drained: 2 of 2 instances, 12s",
        "  pitbossctl resume emails  brings it back",
    ]
    assert result.stderr == ""
    assert result.exit_code == 0


def test_it_never_polls_without_waiting() -> None:
    """After the first look every request is a long poll or follows one."""
    with emails() as stub:
        stub.on["drain emails"] = [gone("emails/0"), gone("emails/1"), succeed("op-1")]
        ctl(stub, "drain", "emails")
        reads = [path for method, path, _ in stub.asked if method == "GET" and path.startswith("/v1/pools")]
    assert sum("wait=" not in path for path in reads) <= 2
    assert len(reads) <= 6


@pytest.mark.parametrize(
    ("arguments", "path", "body"),
    [
        (["drain", "emails"], "/v1/pools/emails/drain", {}),
        (["drain", "emails/1"], "/v1/pools/emails/instances/1/drain", {}),
        (["drain", "--all"], "/v1/drain", {}),
        (["resume", "emails"], "/v1/pools/emails/resume", {}),
        (["restart", "emails"], "/v1/pools/emails/restart", {}),
        (["restart", "--failed", "--all"], "/v1/restart", {"only_failed": True}),
        (["restart", "emails", "--failed"], "/v1/pools/emails/restart", {"only_failed": True}),
        (["stop", "emails"], "/v1/pools/emails/stop", {}),
        (["stop", "emails", "--now"], "/v1/pools/emails/stop", {"urgency": "now"}),
        (["stop", "--all", "--now", "--kill"], "/v1/stop", {"urgency": "kill"}),
        (["start", "emails/0"], "/v1/pools/emails/instances/0/start", {}),
        (["signal", "usr1", "emails"], "/v1/pools/emails/signal", {"signal": "SIGUSR1", "target": "main"}),
        (
            ["signal", "SIGHUP", "emails/0", "--all-processes"],
            "/v1/pools/emails/instances/0/signal",
            {"signal": "SIGHUP", "target": "all"},
        ),
        (["shutdown", "--no-wait"], "/v1/shutdown", {}),
        (
            ["shutdown", "--now", "--deadline", "2m", "--no-wait"],
            "/v1/shutdown",
            {"urgency": "now", "deadline_seconds": 120.0},
        ),
    ],
)
def test_each_verb_sends_its_wish(arguments: list[str], path: str, body: dict[str, Any]) -> None:
    """To its route, with a body only where it is needed; and succeeds when the operation does."""
    with emails() as stub:
        result = ctl(stub, *arguments)
        posts = [(where, what) for method, where, what in stub.asked if method == "POST"]
    assert posts == [(path, body)]
    assert result.exit_code == 0


def test_a_signal_to_all_goes_to_each_pool() -> None:
    """The host has no route for signals."""
    with emails() as stub:
        result = ctl(stub, "signal", "HUP", "--all")
        posts = [where for method, where, _ in stub.asked if method == "POST"]
    assert posts == ["/v1/pools/emails/signal", "/v1/pools/api/signal"]
    assert result.exit_code == 0


def test_several_targets_end_with_a_line_each() -> None:
    """Waited for together; one outcome for each, one way back for all."""
    with emails() as stub:
        result = ctl(stub, "drain", "emails/0", "api")
    assert result.stdout.splitlines()[-3:] == [
        "✓ emails/0 drained: 12s",
        "✓ api drained: 12s",
        "  pitbossctl resume emails/0 api  brings them back",
    ]


def test_an_operation_that_is_over_at_once_needs_no_wait() -> None:
    """A repeated wish: the answer itself says that nothing is left to do."""
    with emails() as stub:
        accept = stub.accept

        def over(verb: str, target: str, body: dict[str, Any]) -> dict[str, Any]:
            operation = accept(verb, target, body)
            operation.update(state="succeeded", total=0, steps=[], message="every instance is up already")
            return operation

        stub.accept = over  # type: ignore[method-assign]
        result = ctl(stub, "start", "emails")
        assert [method for method, _, _ in stub.asked] == ["POST"]
    assert result.stdout == "✓ emails up: every instance is up already\n"
    assert result.exit_code == 0


def test_a_failed_rollout_says_what_and_where() -> None:
    """Exit 1; the failed instance, its reason once, and the command that says more."""
    reason = "not ready within 60 s: connection refused"
    with emails(3) as stub:
        stub.on["restart emails"] = [
            step("op-1", "emails/0", "done", "ready"),
            step("op-1", "emails/1", "failed", reason),
            step("op-1", "emails/2", "aborted"),
            turn("op-1", "failed", f"emails/1: {reason}"),
        ]
        result = ctl(stub, "restart", "emails")
    assert result.stdout.splitlines()[-4:] == [
        "✗ emails not restarted: 1 of 3 instances, 12s",
        f"  emails/1 failed: {reason}",
        "  emails/2 aborted",
        "  pitbossctl explain emails/1  says more",
    ]
    assert result.exit_code == 1


def test_an_aborted_operation_is_not_a_success() -> None:
    """Exit 1."""
    with emails() as stub:
        stub.on["restart emails"] = [turn("op-1", "aborted", "aborted by uid:0")]
        result = ctl(stub, "restart", "emails")
    assert "✗ emails restart aborted: 0 of 2 instances, 12s" in result.stdout
    assert "  aborted by uid:0" in result.stdout
    assert result.exit_code == 1


def test_a_paused_rollout_is_told() -> None:
    """Somebody else pauses and resumes it meanwhile."""
    with emails() as stub:
        stub.on["restart emails"] = [
            turn("op-1", "paused"),
            turn("op-1", "running"),
            succeed("op-1"),
        ]
        result = ctl(stub, "restart", "emails")
    assert "restart emails paused: 0/2 done" in result.stdout
    assert "restart emails running: 0/2 done" in result.stdout
    assert result.exit_code == 0


def test_a_timeout_says_where_things_stand() -> None:
    """Exit 1; the operation goes on, and how to follow it."""
    with emails() as stub:
        stub.on["drain emails"] = [rung("emails/1", "draining", "drain", 600.0, waiting_for="3 in flight")]
        result = ctl(stub, "drain", "emails", "--timeout", "1500ms")
    lines = result.stdout.splitlines()
    assert "✗ emails not drained after 1s: 0 of 2 instances, the operation goes on" in lines
    assert any(
        line.startswith("  emails/1 draining: drain ") and line.endswith(": 3 in flight") for line in lines
    )
    assert lines[-1] == "  pitbossctl operations op-1 --wait  follows it"
    assert result.exit_code == 1


def test_no_wait_prints_the_id() -> None:
    """And nothing else; as JSON the operation."""
    with emails() as stub:
        stub.on["drain emails"] = []
        result = ctl(stub, "drain", "emails", "--no-wait")
        as_json = ctl(stub, "drain", "emails", "--no-wait", "--json")
    assert result.stdout == "op-1\n"
    assert json.loads(as_json.stdout)["id"] == "op-2"
    assert (result.exit_code, as_json.exit_code) == (0, 0)


def test_json_is_the_final_operation_only() -> None:
    """Progress is silent; several targets are a list."""
    with emails() as stub:
        one = ctl(stub, "drain", "emails", "--json")
        two = ctl(stub, "--json", "drain", "emails", "api")
    assert json.loads(one.stdout)["state"] == "succeeded"
    assert [each["target"] for each in json.loads(two.stdout)["operations"]] == ["emails", "api"]
    assert one.stderr == two.stderr == ""


def test_a_wish_that_is_not_durable_is_a_warning() -> None:
    """On standard error; the wait goes on."""
    with emails() as stub:
        accept = stub.accept

        def warned(verb: str, target: str, body: dict[str, Any]) -> dict[str, Any]:
            return {**accept(verb, target, body), "warning": "cannot write the journal: disk full"}

        stub.accept = warned  # type: ignore[method-assign]
        result = ctl(stub, "drain", "emails")
    assert result.stderr == "pitbossctl: warning: cannot write the journal: disk full\n"
    assert result.exit_code == 0


def test_a_refusal_is_told_with_its_hint() -> None:
    """409: exit 1, nothing waited for."""
    refusal = {
        "kind": "drained",
        "detail": "cannot restart emails: it is drained",
        "hint": "Resume it: pitbossctl resume emails",
    }
    with emails() as stub:
        stub.refusals["POST /v1/pools/emails/restart"] = (409, refusal)
        result = ctl(stub, "restart", "emails")
        as_json = ctl(stub, "restart", "emails", "--json")
    assert result.stderr.splitlines() == [
        "pitbossctl: cannot restart emails: it is drained",
        "Resume it: pitbossctl resume emails",
    ]
    assert result.exit_code == 1
    assert json.loads(as_json.stdout)["error"]["kind"] == "drained"
    assert as_json.exit_code == 1


def test_one_refusal_of_several_does_not_stop_the_others() -> None:
    """The others are waited for; the exit code tells of the refusal."""
    with emails() as stub:
        stub.refusals["POST /v1/pools/emails/restart"] = (
            409,
            {"kind": "drained", "detail": "emails is drained"},
        )
        result = ctl(stub, "restart", "emails", "api")
        as_json = ctl(stub, "restart", "emails", "api", "--json")
    assert "✓ api restarted: 12s" in result.stdout
    assert "emails is drained" in result.stderr
    assert result.exit_code == 1
    document = json.loads(as_json.stdout)
    assert [one["target"] for one in document["operations"]] == ["api"]
    assert document["errors"][0]["kind"] == "drained"


def test_on_a_terminal_a_drain_is_a_moving_table() -> None:
    """Rungs with bars and time left; only the outcome stays, and the cursor is back."""
    with emails() as stub:
        stub.on["drain emails"] = [
            rung("emails/0", "draining", "drain", 60.0, waiting_for="3 in flight"),
            rung("emails/1", "draining", "settle", 5.0),
        ]
        shown = on_terminal(stub, "drain", "emails", press=("settle", b"\x03"))
    assert "drain emails" in shown.text
    assert "0/2 done" in shown.text
    assert "━━━━━━━━━━━━" in shown.text
    assert "waiting for 3 in flight" in shown.text
    assert "drain emails goes on, 0 of 2 done" in shown.text
    assert shown.output.rindex("\x1b[?25h") > shown.output.rindex("\x1b[?25l")
    assert shown.exit_code == 130


def test_on_a_small_terminal_the_rest_is_counted() -> None:
    """Two hundred instances on ten lines: no line wider or lower than the screen."""
    with emails(200) as stub:
        stub.on["drain emails"] = [rung("emails/77", "draining", "drain", 60.0)]
        shown = on_terminal(stub, "drain", "emails", columns=60, rows=10, press=("emails/77", b"\x03"))
    assert "more: " in shown.text
    assert all(len(line) <= 60 for line in shown.text.replace("\r", "\n").splitlines())
