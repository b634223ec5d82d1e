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
from tests.proc import children_of, descriptor_count, is_alive
from tests.waiting import eventually

Make = Callable[..., Daemon]

long_only = pytest.mark.skipif(not os.environ.get("FUZZ_REQUESTS"), reason="runs with make fuzz")

SHIM = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <spawn.h>
#include <stdlib.h>
#include <unistd.h>

/* The C library's own posix_spawn does not call its execve by name, so both are in the way. */
static int fault(void) {
    char text[8] = {0};
    const char *place = getenv("EXEC_FAILS_WITH");
    int descriptor = place ? open(place, O_RDONLY | O_CLOEXEC) : -1;
    if (descriptor < 0) return 0;
    ssize_t count = read(descriptor, text, sizeof text - 1);
    close(descriptor);
    return count > 0 ? atoi(text) : 0;
}

int execve(const char *path, char *const argv[], char *const environment[]) {
    int (*real)(const char *, char *const[], char *const[]) = dlsym(RTLD_NEXT, "execve");
    return (errno = fault()) ? -1 : real(path, argv, environment);
}

int posix_spawn(pid_t *pid, const char *path, const posix_spawn_file_actions_t *actions,
                const posix_spawnattr_t *attributes, char *const argv[], char *const environment[]) {
    int (*real)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,
                char *const[], char *const[]) = dlsym(RTLD_NEXT, "posix_spawn");
    int code = fault();
    return code ? code : real(pid, path, actions, attributes, argv, environment);
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


def is_starter(pid: int) -> bool:
    """Whether it is the process that is copied for workers with a limit."""
    return Path(f"/proc/{pid}/comm").read_text() == "pitboss-starter\n"


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
        # The limit makes `limited` one that is started through the exec helper, and where the process is gone
        # that makes quick copies, by an execve of its own.
        {"pools": {**neighbours(), "limited": victim(limits={"nofile": 200})}},
        env={"LD_PRELOAD": str(shim), "EXEC_FAILS_WITH": str(fault)},
    )
    one.wait_ready()
    assert_unharmed(one)
    before = descriptor_count(one.pid)
    fault.write_text(str(code))
    (starter,) = [pid for pid in children_of(one.pid) if is_starter(pid)]
    os.kill(starter, signal.SIGKILL)
    eventually(lambda: not is_alive(starter))
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
