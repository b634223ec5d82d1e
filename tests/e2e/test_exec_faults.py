"""The kernel makes a process and will not run its program: as bad as no process, and got over as well.

A library that is preloaded into the daemon alone lets execve(2) fail as long as a file says so. Workers
and helpers start with a clean environment, so it is only the daemon's own calls that fail.
"""

import errno
import os
import shutil
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.e2e.daemon import Daemon
from tests.e2e.neighbours import assert_unharmed, neighbours, victim
from tests.e2e.scrape import metric
from tests.proc import descriptor_count
from tests.waiting import eventually

Make = Callable[..., Daemon]

long_only = pytest.mark.skipif(not os.environ.get("FUZZ_REQUESTS"), reason="runs with make fuzz")

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

static int (*true_execve)(const char *, char *const[], char *const[]);
static const char *place;

/* Before main: what runs between vfork and exec must not look anything up. */
__attribute__((constructor)) static void prepare(void) {
    true_execve = dlsym(RTLD_NEXT, "execve");
    place = getenv("EXEC_FAILS_WITH");
}

int execve(const char *path, char *const argv[], char *const environment[]) {
    char text[8] = {0};
    int descriptor = place ? open(place, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor >= 0) {
        ssize_t count = read(descriptor, text, sizeof text - 1);
        close(descriptor);
        if (count > 0) {
            errno = atoi(text);
            return -1;
        }
    }
    return true_execve(path, argv, environment);
}
"""


@pytest.fixture(scope="module")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The library, compiled."""
    if shutil.which("gcc") is None and not os.environ.get("CI"):
        pytest.skip("needs the package gcc")
    directory = tmp_path_factory.mktemp("shim")
    source, library = directory / "shim.c", directory / "shim.so"
    source.write_text(SHIM)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", library, source, "-ldl"], check=True)
    return library


@pytest.mark.parametrize(
    ("code", "says"),
    [
        pytest.param(errno.EAGAIN, "limit of processes", marks=long_only),
        (errno.ENOMEM, "not enough memory"),
    ],
    ids=["EAGAIN", "ENOMEM"],
)
def test_programs_cannot_be_run(daemon: Make, shim: Path, tmp_path: Path, code: int, says: str) -> None:
    """Starts fail with the reason and back off, no check is held against anybody, and then all is well."""
    fault = tmp_path / "fault"
    one = daemon(
        # The limit makes `limited` one that is started through the exec helper.
        {"pools": {**neighbours(), "limited": victim(limits={"nofile": 200})}},
        env={"LD_PRELOAD": str(shim), "EXEC_FAILS_WITH": str(fault)},
    )
    one.wait_ready()
    assert_unharmed(one)
    before = descriptor_count(one.pid)
    fault.write_text(str(code))
    for name in ("victim", "limited"):
        os.kill(one.instance(f"{name}/0")["pid"], signal.SIGKILL)
    for name in ("victim", "limited"):
        failed = f'pitboss_exits_total{{pool="{name}",class="spawn-error"}}'
        eventually(lambda failed=failed: metric(one, failed) > 2, 60)  # type: ignore[misc]
        shown = one.instance(f"{name}/0")
        assert says in shown["last_exit"]["detail"]
        assert os.strerror(code) in shown["last_exit"]["detail"]
        assert shown["phase"] in {"backoff", "starting"}
        assert shown["pid"] is None
    eventually(lambda: metric(one, "pitboss_checks_not_asked_total") > 1, 60)
    for name in ("quiet", "teller"):
        shown = one.instance(f"{name}/0")
        assert (shown["generation"], shown["ready"]) == (1, True), shown
    fault.unlink()
    one.wait_ready()
    assert_unharmed(one)
    eventually(lambda: descriptor_count(one.pid) <= before + 1, 60, "no descriptor was lost on the way")
