"""How a generation ends: its class, its record, and whether another follows."""

from typing import Any

import pytest

from supervisor.core.events import (
    Exited,
    RestartRequested,
    SignalRequested,
    SpawnFailed,
    StartRequested,
    StopRequested,
    TreeGone,
    Urgency,
)
from supervisor.core.exits import ExitClass, ExitStatus, is_ours
from supervisor.core.phases import Phase
from supervisor.core.plan import (
    Backoff,
    GiveUp,
    Kind,
    PoolPlan,
    RestartPolicy,
    RestartRules,
    Stage,
    StopPolicy,
    Target,
)
from tests.playbook import Playbook, named, running, wish

WEB = named("web/0")
OK = ExitStatus(code=0)
BAD = ExitStatus(code=1)
NO_JITTER = Backoff(jitter=0.0)


def web(rules: RestartRules, **plan: Any) -> Playbook:
    """A running pool of one with these rules."""
    return running(PoolPlan("web", restart=rules, **plan))


@pytest.mark.parametrize(
    ("status", "exit_class"),
    [
        (OK, ExitClass.CLEAN),
        (BAD, ExitClass.FAILURE),
        (ExitStatus(signal="SIGSEGV"), ExitClass.SIGNAL),
        (ExitStatus(signal="SIGKILL", out_of_memory=True), ExitClass.OUT_OF_MEMORY),
        (ExitStatus(signal="SIGTERM"), ExitClass.SIGNAL),
        (ExitStatus(code=143), ExitClass.FAILURE),
        (ExitStatus(), ExitClass.FAILURE),
    ],
    ids=str,
)
def test_an_end_that_nobody_asked_for(status: ExitStatus, exit_class: ExitClass) -> None:
    """The class says what the kernel said."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, status)
    assert book << "web/0 running > backoff (exit)"
    last = book.instance("web/0").last_exit
    assert last is not None
    assert last.exit_class is exit_class


@pytest.mark.parametrize("status", [ExitStatus(signal="SIGTERM"), ExitStatus(code=143), OK], ids=str)
def test_an_end_by_our_signal_is_clean(status: ExitStatus) -> None:
    """Also as the shell's 128 + n, and whoever sent it for us."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"))
    book << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book >> Exited(WEB, 1, status, last_lines=("bye",)) << f"web/0#1 ended clean ({status}, stage-1)"
    assert book << "web/0 stopping > stopped (exit)"
    last = book.instance("web/0").last_exit
    assert last is not None
    assert last.last_lines == ("bye",)
    book = running(PoolPlan("web")) >> SignalRequested(wish("web"), "SIGHUP") << "SIGHUP main web/0#1"
    book << "accepted op1" >> Exited(WEB, 1, ExitStatus(signal="SIGHUP")) << "web/0#1 ended clean (SIGHUP)"
    assert book << "web/0 running > backoff (exit)"


def test_a_status_reads_well() -> None:
    """As an operator would say it."""
    assert str(ExitStatus(signal="SIGSEGV", core_dumped=True)) == "SIGSEGV (core dumped)"
    assert str(ExitStatus()) == "exit status unknown"
    assert not is_ours(ExitStatus(), {"SIGTERM"})
    assert not is_ours(ExitStatus(code=130), {"SIGTERM"})


def test_a_failure_waits_longer_each_time() -> None:
    """Failures in a row double the wait; who was well for long enough begins anew."""
    book = web(RestartRules(backoff=NO_JITTER)) >> Exited(WEB, 1, BAD) << "web/0 waits 0.5 s (attempt 1)"
    book << "web/0 running > backoff (exit)"
    book.until(10.5) << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    book << "web/0 pending > starting (retry)"
    book >> Exited(WEB, 2, BAD) << "web/0 waits 1 s (attempt 2)" << "web/0 starting > backoff (exit)"
    assert book


def test_without_a_wait_the_next_attempt_is_made_at_once() -> None:
    """Where the first wait is 0 the replacement is spawned in the step of the exit, and counted as ever."""
    book = web(RestartRules(backoff=Backoff(initial_seconds=0.0))) >> Exited(WEB, 1, BAD)
    book << "web/0 running > backoff (exit)" << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    assert book << "web/0 pending > starting (retry)"
    assert book.instance("web/0").failures == 1


def test_who_was_well_begins_anew() -> None:
    """Ready for reset_after: the next failure is the first again."""
    book = web(RestartRules(backoff=NO_JITTER)).at(500)
    book.host.instances[WEB] = book.instance("web/0")._replace(failures=7)
    book >> Exited(WEB, 1, BAD) << "web/0 waits 0.5 s (attempt 1)" << "web/0 running > backoff (exit)"
    assert book


def test_a_command_that_is_not_there_waits_too() -> None:
    """There never was a process; the reason is the record."""
    book = web(RestartRules(backoff=NO_JITTER)) >> Exited(WEB, 1, BAD) << "web/0 running > backoff (exit)"
    book.until(10.5) << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    book << "web/0 pending > starting (retry)"
    book >> SpawnFailed(WEB, 2, "cannot run ./x") << "web/0#2 ended spawn-error (cannot run ./x)"
    assert book << "web/0 starting > backoff (spawn-failed)"


def test_enough_starts_inside_the_window_are_enough() -> None:
    """Phase failed; an operator's start begins anew, with all attempts before it."""
    book = web(RestartRules(backoff=NO_JITTER, give_up=GiveUp(2, 60))) >> Exited(WEB, 1, BAD)
    book << "web/0 running > backoff (exit)"
    book.until(10.5) << "web/0 backoff > pending (retry)" << "spawn web/0#2 (retry)"
    book << "web/0 pending > starting (retry)"
    book >> Exited(WEB, 2, BAD) << "web/0 starting > failed (gave-up)"
    book >> StartRequested(wish("web")) << "web/0 failed > pending (start)" << "accepted op1"
    book << "spawn web/0#3 (start)" << "web/0 pending > starting (start)"
    book >> Exited(WEB, 3, BAD) << "web/0 starting > backoff (exit)"
    assert book


def test_some_codes_are_not_worth_a_retry() -> None:
    """EX_CONFIG and its like lead to failed at once."""
    rules = RestartRules(permanent_exit_codes=frozenset({78}))
    assert web(rules) >> Exited(WEB, 1, ExitStatus(code=78)) << "web/0 running > failed (permanent)"


def test_a_pool_that_is_never_restarted() -> None:
    """A failure is failed, a clean end is the end."""
    rules = RestartRules(RestartPolicy.NEVER)
    assert web(rules) >> Exited(WEB, 1, BAD) << "web/0 running > failed (exit)"
    assert web(rules) >> Exited(WEB, 1, OK) << "web/0 running > stopped (completed)"


def test_a_pool_that_is_restarted_on_failure() -> None:
    """A clean end is final, a failure is not."""
    rules = RestartRules(RestartPolicy.ON_FAILURE)
    assert web(rules) >> Exited(WEB, 1, BAD) << "web/0 running > backoff (exit)"
    book = web(rules) >> Exited(WEB, 1, OK) << "web/0 running > stopped (completed)"
    assert book
    assert book.instance("web/0").at_goal


def test_a_service_that_always_runs_is_started_after_a_clean_end() -> None:
    """With the same patience as after a failure."""
    assert web(RestartRules()) >> Exited(WEB, 1, OK) << "web/0 running > backoff (exit)"


def test_a_task_runs_to_completion() -> None:
    """Whatever its policy says about failures, a clean end is completion."""
    book = web(RestartRules(), kind=Kind.TASK) >> Exited(WEB, 1, OK) << "web/0 running > stopped (completed)"
    assert book
    assert web(RestartRules(), kind=Kind.TASK) >> Exited(WEB, 1, BAD) << "web/0 running > backoff (exit)"


# ── the tree ─────────────────────────────────────────────────────────────────────────────────────


def test_what_ends_while_we_linger_was_no_leftover() -> None:
    """A resource tracker that ends a moment later is nothing to report."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, BAD, leftovers=1)
    book << "web/0 running > stopping (leftovers, sweep)"
    book.at(10.1) >> TreeGone(WEB, 1) << "web/0 stopping > backoff (exit)"
    assert book
    last = book.instance("web/0").last_exit
    assert last is not None
    assert last.leftovers == 0


def test_leftovers_are_swept_by_the_stages_for_all() -> None:
    """A main process that ended by itself leaves its children to the declared stages, then to SIGKILL."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, BAD, leftovers=2)
    book << "web/0 running > stopping (leftovers, sweep)"
    book.until(10.2) << "web/0 climbs sweep > stage-2 (window-closed)" << "SIGTERM all web/0#1"
    book.until(15.2) << "kill web/0#1" >> TreeGone(WEB, 1) << "web/0 stopping > backoff (exit)"
    assert book
    last = book.instance("web/0").last_exit
    assert last is not None
    assert (last.leftovers, last.exit_class, last.rung) == (2, ExitClass.FAILURE, None)


def test_leftovers_are_swept_where_no_stage_is_for_all() -> None:
    """Five seconds of SIGTERM to all that is left, then SIGKILL."""
    book = running(PoolPlan("web", stop=StopPolicy((Stage(),)))) >> Exited(WEB, 1, BAD, leftovers=2)
    book << "web/0 running > stopping (leftovers, sweep)"
    book.until(10.2) << "web/0 climbs sweep > sweep (window-closed)" << "SIGTERM all web/0#1"
    book.until(15.2) << "web/0 climbs sweep > kill (window-closed)" << "kill web/0#1"
    assert book.until(20.2) << "web/0 stopping > stuck (outlived-kill)"


def test_leftovers_of_a_stop() -> None:
    """The main process went on the first rung; the rungs for all follow, and the stop was escalated."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"))
    book << "web/0 running > stopping (stop, stage-1)" << "SIGTERM main web/0#1" << "accepted op1"
    book >> Exited(WEB, 1, OK, leftovers=1) << "web/0 climbs stage-1 > sweep (exit)"
    book.until(10.2) << "web/0 climbs sweep > stage-2 (window-closed)" << "SIGTERM all web/0#1"
    book >> TreeGone(WEB, 1) << "web/0 stop escalated after 0.2 s" << "web/0 stopping > stopped (exit)"
    assert book


@pytest.mark.parametrize("seconds", [25, 30])
def test_leftovers_on_a_rung_that_addresses_all(seconds: int) -> None:
    """The window that is open stays open for them; SIGKILL already goes to all."""
    book = running(PoolPlan("web", stop=StopPolicy((Stage(target=Target.ALL, grace_seconds=30),))))
    book >> StopRequested(wish("web")) << "web/0 running > stopping (stop, stage-1)"
    book << "SIGTERM all web/0#1" << "accepted op1"
    if seconds == 30:
        book.until(40) << "kill web/0#1"
    book >> Exited(WEB, 1, OK, leftovers=1)
    assert book.instance("web/0").waiting_for == "what its main process left behind"
    assert book >> TreeGone(WEB, 1) << "web/0 stopping > stopped (exit)"


def test_the_record_says_who_skipped_the_windows_of_leftovers() -> None:
    """The main process was gone before anybody hurried: the record is completed at the end."""
    book = running(PoolPlan("web")) >> Exited(WEB, 1, BAD, leftovers=2)
    book << "web/0 running > stopping (leftovers, sweep)"
    book >> StopRequested(wish("web"), Urgency.KILL) << "web/0 climbs sweep > kill (hurried)"
    book << "kill web/0#1" << "accepted op1" >> TreeGone(WEB, 1)
    book << "web/0#1 ended failure (exit 1 (windows cut short by operator))"
    assert book << "web/0 stopping > stopped (exit)"


def test_an_end_of_the_tree_without_one_of_the_main_process_is_not_believed() -> None:
    """The runtime tells the end of the main process first."""
    assert running(PoolPlan("web")) >> TreeGone(WEB, 1)


def stuck() -> Playbook:
    """A process that outlived everything."""
    book = running(PoolPlan("web")) >> StopRequested(wish("web"), Urgency.KILL)
    book << "web/0 running > stopping (stop, kill)" << "kill web/0#1" << "accepted op1"
    book.until(15) << "web/0 stop stuck after 5 s" << "web/0 stopping > stuck (outlived-kill)"
    return book


def test_what_is_stuck_may_still_end() -> None:
    """The kernel lets go of it at last: stopped, as was wanted, without a second report of the stop."""
    book = stuck() >> Exited(WEB, 1, ExitStatus(signal="SIGKILL"), leftovers=1)
    assert book.instance("web/0").phase is Phase.STUCK
    assert book >> TreeGone(WEB, 1) << "web/0 stuck > stopped (exit)"


def test_what_is_stuck_is_never_doubled() -> None:
    """Wanted up again it still has to end first."""
    book = stuck() >> StartRequested(wish("web", "op2")) << "accepted op2"
    book >> RestartRequested(wish("web", "op3")) << "accepted op3"
    assert book.host.operations["op3"].message == "web/0 is stuck, so nobody was touched"
    book >> Exited(WEB, 1, ExitStatus(signal="SIGKILL")) << "web/0 stuck > pending (exit)"
    assert book << "spawn web/0#2 (start)" << "web/0 pending > starting (start)"
