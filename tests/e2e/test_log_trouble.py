"""A log that cannot be written never holds up the worker that writes to it, and no last word is lost."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.commands import pool, script
from tests.e2e.daemon import Daemon
from tests.e2e.scrape import metric
from tests.proc import descriptor_targets
from tests.waiting import eventually

Make = Callable[..., Daemon]

NOBODY = 65534

CHATTY = (
    "import sys\n"
    "line = ' '.join(['x'] * 40)\n"
    "n = 0\n"
    "while True:\n"
    "    n += 1\n"
    "    print('line', n, line, flush=True)\n"
    "    if n % 50 == 0: open(sys.argv[1], 'w').write(f'{n}\\n')\n"
)
"""It writes as fast as it may, and says elsewhere how far it has come: stuck in a write it says nothing."""


def progress(beat: Path) -> int:
    """The last count of a chatty worker that was written whole."""
    text = beat.read_text() if beat.exists() else ""
    return int(text) if text.endswith("\n") else 0


def goes_on(beat: Path) -> None:
    """The worker writes much more than a pipe holds."""
    count = eventually(lambda: progress(beat))
    eventually(lambda: progress(beat) > count + 2000, 60, "the worker goes on writing")


def newest(log: Path) -> int:
    """The number of the newest whole line of a log."""
    found = re.findall(r"^line (\d+) ", log.read_text(errors="replace") if log.exists() else "", re.MULTILINE)
    return int(found[-1]) if found else 0


def break_log(how: str, log: Path) -> Callable[[], object]:
    """Spoil a log; what mends it."""
    if how == "deleted":
        log.unlink()
        return lambda: None
    if how == "file-closed":
        log.unlink()
        log.touch(mode=0)
        os.chown(log, 0, 0)
        return lambda: log.unlink(missing_ok=True)
    log.parent.chmod(0)
    return lambda: log.parent.chmod(0o755)


@pytest.mark.parametrize("how", ["deleted", "file-closed", "directory-closed"])
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can make a daemon that modes hold for")
def test_a_worker_goes_on_while_its_log_is_broken(daemon: Make, how: str) -> None:
    """Its own count advances, control answers, and once mended the log is written again."""
    one = daemon({}, start=False, user=NOBODY)
    beat, log = one.directory / "beat", one.directory / "logs" / "web-0.log"
    chatty = pool(
        [*script(CHATTY), str(beat)],
        logs={"directory": str(log.parent), "max_bytes": "1MiB", "keep": 1},
    )
    one.write_manifest({"pools": {"web": chatty}})
    one.start()
    one.wait_ready()
    eventually(lambda: newest(log) > 1000)
    mend = break_log(how, log)
    count = progress(beat)

    def noticed() -> bool:
        # The next rotation moves aside what stands in the way; where it cannot, drops are counted.
        return metric(one, 'pitboss_log_dropped_total{pool="web"}') > 0 or newest(log) > count

    eventually(noticed, 60, "the trouble is noticed")
    goes_on(beat)
    shown = one.instance("web/0")
    assert (shown["generation"], shown["ready"]) == (1, True)
    mend()
    goes_on(beat)
    count = progress(beat)
    eventually(lambda: newest(log) > count, 60, f"lines arrive again; log:\n{one.log()[-2000:]}")
    assert one.ctl("stop", "web").returncode == 0
    assert metric(one, "pitboss_core_faults_total") == 0
    assert "Traceback" not in one.log()


def test_a_log_that_was_moved_away_is_let_go(daemon: Make) -> None:
    """At SIGUSR1, as logrotate sends it, and not only when a worker that says little writes its next line."""
    one = daemon({}, start=False)
    log = one.directory / "logs" / "web-0.log"
    says_once = script("import signal; print('line', 1, 'x', flush=True)\nwhile True: signal.pause()\n")
    one.write_manifest({"pools": {"web": pool(says_once, logs={"directory": str(log.parent)})}})
    one.start()
    one.wait_ready()
    eventually(lambda: newest(log) == 1)
    moved = log.with_name("moved")
    log.rename(moved)
    assert str(moved) in descriptor_targets(one.pid).values()
    one.signal(signal.SIGUSR1)
    eventually(lambda: str(moved) not in descriptor_targets(one.pid).values(), 60, "it is let go")
    assert (one.instance("web/0")["generation"], newest(moved)) == (1, 1)


LAST_WORDS = (
    "import os, signal, sys\n"
    "def end(*_):\n"
    "    for n in range(300): print('last', n, 'x' * 60)\n"
    "    sys.stdout.write('without a newline'); sys.stdout.flush()\n"
    "    os._exit(0)\n"
    "signal.signal(signal.SIGTERM, end)\n"
    "print('up', flush=True)\n"
    "while True: signal.pause()\n"
)


@pytest.mark.parametrize("how", ["stop", "shutdown"])
def test_the_last_words_of_all_are_kept(daemon: Make, how: str) -> None:
    """Each worker says a lot on its way out: all of it is in its file, also where the daemon ends too."""
    one = daemon({"pools": {"many": pool(script(LAST_WORDS), instances=20)}})
    one.wait_ready()
    eventually(lambda: all(one.output(f"many/{index}") for index in range(20)), 60, "all can be told")
    if how == "stop":
        assert one.ctl("stop", "many").returncode == 0
    else:
        one.signal(signal.SIGTERM)
        assert one.wait_end() == 0
    for index in range(20):
        said = one.output(f"many/{index}")
        assert said.count("last ") == 300, index
        assert said.endswith(("without a newline", "without a newline\n")), said[-50:]
