"""The table of `status`: what it says, how wide it is, and when the exit code is 0."""

import json

import pytest

from tests.cli.ctl_runs import ctl, on_terminal
from tests.cli.stub_daemon import Stub, host, instance, last_exit, pool


def emails() -> list[dict[str, object]]:
    """One that works, and three in trouble or on their way out."""
    return [
        instance("emails/0", in_flight=3, queue_depth=1200),
        instance(
            "emails/1",
            phase="draining",
            goal="drained",
            ready=False,
            stage="drain",
            deadline_seconds=47.2,
            stage_since_seconds=12.0,
            waiting_for="3 in flight",
            in_flight=3,
            since_seconds=12.8,
        ),
        instance(
            "emails/2",
            phase="backoff",
            ready=False,
            pid=None,
            generation=7,
            since_seconds=3.3,
            deadline_seconds=11.2,
            restarts=6,
            failures=6,
            waiting_for="its next attempt",
            last_exit=last_exit("exit 1", ago_seconds=3.3, last_lines=["Traceback", "ValueError: no"]),
        ),
        instance(
            "emails/3",
            phase="stopping",
            ready=False,
            since_seconds=8.1,
            stage="stage-1",
            stage_signal="SIGTERM",
            stage_target="main",
            stage_since_seconds=4.0,
            deadline_seconds=21.0,
            waiting_for="exit after SIGTERM",
        ),
    ]


def shop() -> dict[str, object]:
    """A host with something of everything."""
    done = last_exit("exit 0", "clean", ago_seconds=1300.0)
    reports = [
        instance(f"reports/{index}", phase="stopped", goal="drained", ready=False, pid=None, last_exit=done)
        for index in range(2)
    ]
    return host(
        pool("api", [instance("api/0", since_seconds=11200.0, status_text="serving on :8000")]),
        pool(
            "emails",
            emails(),
            status="degraded",
            rollout={"operation": "op-1", "state": "paused", "waiting": 1, "turns": ["emails/3"]},
        ),
        pool(
            "migrate",
            [instance("migrate/0", phase="stopped", ready=False, pid=None, last_exit=done)],
            status="completed",
            kind="task",
        ),
        pool("reports", reports, status="drained", goal="drained", critical=False),
        ready=False,
        reasons=["emails/2 is backoff, waiting for its next attempt after exit 1"],
    )


IN_A_PIPE = """\
shop  ✗ not ready                                      pitbossd 0.1.0, up 3d04h
  emails/2 is backoff, waiting for its next attempt after exit 1

NAME       STATE        READY   PID  GEN  SINCE  NOTE
api        healthy        1/1     -    -      -  -
api/0      running        yes  4100    1  3h06m  "serving on :8000"
emails     degraded       1/3     -    -      -  rollout paused: 1 to go, 1 now
emails/0   running        yes  4100    1  3m12s  3 in flight, 1200 queued
emails/1   draining        no  4101    1    12s  drain 48s left: 3 in flight
emails/2   backoff         no     -    7     3s  starts in 12s, exit 1 3s ago,…
emails/3   stopping→up     no  4103    1     8s  stage-1 21s left: exit after S…
migrate    completed     done     -    -      -  task
migrate/0  stopped       done     -    1  3m12s  exit 0 21m40s ago
reports    drained        0/2     -    -      -  not critical, until resumed
reports/0  drained         no     -    1  3m12s  exit 0 21m40s ago
reports/1  drained         no     -    1  3m12s  exit 0 21m40s ago
"""

ON_A_TERMINAL = """\
shop  ✗ not ready                                      pitbossd 0.1.0, up 3d04h
  emails/2 is backoff, waiting for its next attempt after exit 1

  NAME         STATE        READY   PID  SINCE  NOTE
✓ api          healthy        1/1
●   api/0      running        yes  4100  3h06m  "serving on :8000"
▲ emails       degraded       1/3               rollout paused: 1 to go, 1 now
●   emails/0   running        yes  4100  3m12s  3 in flight, 1200 queued
●   emails/1   draining        no  4101    12s  drain 48s left: 3 in flight
✗   emails/2   backoff         no           3s  starts in 12s, exit 1 3s ago, 6…
●   emails/3   stopping→up     no  4103     8s  stage-1 21s left: exit after SI…
✓ migrate      completed     done               task
○   migrate/0  stopped       done        3m12s  exit 0 21m40s ago
○ reports      drained        0/2               not critical, until resumed
○   reports/0  drained         no        3m12s  exit 0 21m40s ago
○   reports/1  drained         no        3m12s  exit 0 21m40s ago
"""


def test_in_a_pipe_it_is_a_plain_table_of_eighty_columns() -> None:
    """No colour, no signs, every cell filled; 1 because emails is not at its goal."""
    with Stub(shop()) as stub:
        result = ctl(stub, "status")
    assert result.stdout == IN_A_PIPE
    assert result.exit_code == 1


def test_every_row_has_the_same_columns_for_awk() -> None:
    """Six cells without blanks, then the note, on every row; the title row too."""
    with Stub(shop()) as stub:
        lines = ctl(stub, "status").stdout.splitlines()
    rows = [line.split(None, 6) for line in lines[lines.index("") + 1 :]]
    assert all(len(row) == 7 for row in rows)
    assert rows[0] == ["NAME", "STATE", "READY", "PID", "GEN", "SINCE", "NOTE"]


def test_on_a_terminal_it_has_signs_and_colours() -> None:
    """The same facts; the least important columns give way to the notes."""
    with Stub(shop()) as stub:
        shown = on_terminal(stub, "status")
    assert [line.rstrip() for line in shown.text.splitlines()] == ON_A_TERMINAL.splitlines()
    assert "\x1b[31m" in shown.output
    assert shown.exit_code == 1


@pytest.mark.parametrize("how", ["NO_COLOR", "--no-color"])
def test_without_colour_nothing_is_coloured(how: str) -> None:
    """NO_COLOR and --no-color leave no colour (30 to 37); the signs stay."""
    with Stub(shop()) as stub:
        shown = (
            on_terminal(stub, "status", how)
            if how.startswith("-")
            else on_terminal(stub, "status", NO_COLOR="1")
        )
    assert "\x1b[3" not in shown.output
    assert "✗" in shown.text


@pytest.mark.parametrize("columns", [20, 40, 60, 79, 80, 132])
def test_no_line_is_wider_than_the_screen(columns: int) -> None:
    """In a pipe and on a terminal, with names and texts of any length."""
    status = shop()
    status["pools"].append(  # type: ignore[attr-defined]
        pool(
            "a-name-that-goes-on-and-on-and-on-for-sixty-three-characters-x",
            [
                instance(
                    "a-name-that-goes-on-and-on-and-on-for-sixty-three-characters-x/0", status_text="x" * 500
                )
            ],
        )
    )
    with Stub(status) as stub:
        piped = ctl(stub, "status", columns=columns).stdout
        shown = on_terminal(stub, "status", columns=columns).text
    assert max(map(len, piped.splitlines())) <= columns
    assert max(map(len, shown.splitlines())) <= columns


def test_a_long_name_is_cut_inside_so_that_the_index_stays() -> None:
    """Two instances of one pool look different at any width."""
    name = "thumbnails-of-everything-that-was-ever-uploaded"
    with Stub(host(pool(name, [instance(f"{name}/{index}") for index in range(3)]))) as stub:
        shown = on_terminal(stub, "status", columns=60).text
    assert "…/0" in shown
    assert "…/2" in shown


def many(**changes: object) -> dict[str, object]:
    """A pool of two hundred, of which some may be different."""
    return pool(
        "many", [instance(f"many/{index}", **(changes if index == 17 else {})) for index in range(200)]
    )


def test_a_large_healthy_pool_is_one_line() -> None:
    """Two hundred running instances are a count."""
    with Stub(host(many())) as stub:
        result = ctl(stub, "status")
    row = f"many  healthy  200/200{'-':>5}{'-':>5}{'-':>7}  -"
    assert result.stdout.splitlines()[3:] == [row, "… 200 running"]
    assert len(result.stdout.splitlines()) == 5
    assert result.exit_code == 0


def test_of_a_large_pool_the_interesting_instances_are_shown() -> None:
    """One that starts is shown, the others are counted; --all-instances and naming the pool show them all."""
    with Stub(host(many(phase="starting", ready=False))) as stub:
        short = ctl(stub, "status").stdout
        for expanded in (ctl(stub, "status", "--all-instances"), ctl(stub, "status", "many")):
            assert expanded.stdout.count("many/") == 200
    assert "many/17" in short
    assert short.count("many/") == 1
    assert "… and 199 running" in short


def test_hundreds_in_trouble_are_counted() -> None:
    """Even if every instance is interesting, the table stays short and says what is missing."""
    instances = [instance(f"many/{index}", phase="backoff", ready=False) for index in range(200)]
    with Stub(host(pool("many", instances, status="unhealthy"), ready=False)) as stub:
        text = ctl(stub, "status").stdout
    assert text.count("many/") == 12
    assert "… and 188 backoff" in text


def test_a_target_shows_only_that() -> None:
    """A pool with its instances, or an instance alone; the exit code is about what is shown."""
    with Stub(shop()) as stub:
        result = ctl(stub, "status", "api", "emails/0")
    names = [line.split()[0] for line in result.stdout.splitlines()[4:]]
    assert names == ["api", "api/0", "emails/0"]
    assert result.exit_code == 0


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({}, 0),
        ({"status": "drained", "goal": "drained"}, 0),
        ({"status": "stopped", "goal": "down"}, 0),
        ({"status": "completed"}, 0),
        ({"status": "starting"}, 1),
        ({"status": "draining", "goal": "drained"}, 1),
        ({"status": "unhealthy"}, 1),
        ({"rollout": {"operation": "op-1", "state": "running", "waiting": 1, "turns": []}}, 1),
    ],
)
def test_the_exit_code_is_a_gate(change: dict[str, object], code: int) -> None:
    """0 exactly when everything is where the operator wants it."""
    phases = {"phase": "stopped", "ready": False} if code == 0 and change else {}
    with Stub(host(pool("emails", [instance("emails/0", **phases)], **change))) as stub:
        assert ctl(stub, "status").exit_code == code


def test_an_instance_that_is_not_ready_is_not_at_its_goal() -> None:
    """A daemon in a hurry may still call the pool healthy: the instance counts."""
    with Stub(host(pool("emails", [instance("emails/0", phase="starting", ready=False)]))) as stub:
        assert ctl(stub, "status").exit_code == 1


def test_json_is_the_answer_and_nothing_else() -> None:
    """What the daemon sent, or the part of it that was asked for."""
    with Stub(shop()) as stub:
        whole = ctl(stub, "status", "--json")
        part = ctl(stub, "--json", "status", "api", "emails/2")
        assert json.loads(whole.stdout) == stub.status
    picked = json.loads(part.stdout)["pools"]
    assert [one["name"] for one in picked] == ["api", "emails"]
    assert [one["name"] for one in picked[1]["instances"]] == ["emails/2"]
    assert whole.exit_code == 1


def test_a_shutdown_is_in_the_header() -> None:
    """With the time that is left; and nothing is at its goal."""
    with Stub(
        host(goal="down", ready=False, shutdown={"deadline_seconds": 99.5, "operation": "op-1"})
    ) as stub:
        result = ctl(stub, "status")
    assert "● shutting down, 1m40s left" in result.stdout
    assert result.exit_code == 1


def test_many_reasons_are_counted() -> None:
    """Three are told, the rest is a number."""
    with Stub(host(ready=False, reasons=[f"a/{index} is failed" for index in range(9)])) as stub:
        text = ctl(stub, "status").stdout
    assert "a/2 is failed" in text
    assert "a/3 is failed" not in text
    assert "and 6 more reasons" in text


def test_without_utf8_every_sign_is_ascii() -> None:
    """A pipe in an old locale gets no byte above 127."""
    from tests.cli.ctl_runs import command

    with Stub(shop()) as stub:
        stub.instance("api/0")["status_text"] = "größe ✓"
        process = command(stub, "status", PYTHONIOENCODING="ascii", COLUMNS="80")
        output, _ = process.communicate(timeout=60)
    assert output.isascii()
    assert "x not ready" in output
    assert "stopping>up" in output
    assert '"gr??e ?"' in output


def test_an_answer_of_another_version_is_shown_as_far_as_it_goes() -> None:
    """Missing and odd fields are defaults, never a traceback."""
    odd = {
        "revision": "x",
        "pools": [{"name": "a", "instances": [{"name": "a/0", "phase": 7, "pid": "no"}, 5]}, "b"],
    }
    with Stub(odd) as stub:
        result = ctl(stub, "status")
    assert "a/0" in result.stdout
    assert result.exit_code == 1


def test_watching_in_a_pipe_tells_each_change() -> None:
    """The table once, then a line for each change, until the time-out."""
    with Stub(host(pool("emails", [instance("emails/0")]))) as stub:
        stub.script = [
            lambda now: now.instance("emails/0").update(phase="backoff", ready=False, deadline_seconds=5.0)
        ]
        result = ctl(stub, "status", "--watch", "--timeout", "2s")
    assert result.stdout.splitlines()[-1] == "emails/0 backoff: starts in 5s"
    assert result.exit_code == 1


def test_watching_ends_with_ctrl_c_and_leaves_the_last_table() -> None:
    """Ctrl-C is how a watch ends: exit 0, the cursor is back, and the table stays on the screen."""
    with Stub(shop()) as stub:
        shown = on_terminal(stub, "status", "--watch", press=("emails/3", b"\x03"))
    assert shown.exit_code == 0
    assert shown.output.rindex("\x1b[?25h") > shown.output.rindex("\x1b[?25l")
    assert shown.text.rindex("emails/3") > shown.text.index("emails/3")
