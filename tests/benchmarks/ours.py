"""Pitboss, the lower bound, and what Python makes of that bound, as subjects of a comparison."""

import platform
import pwd
import resource
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path

import yaml

from tests.benchmarks.subject import Endpoint, Job, Subject, said, told

HERE = Path(__file__).resolve().parent
PITBOSSD = Path(sys.executable).parent / "pitbossd"

_programs = tempfile.TemporaryDirectory(prefix="bench-", dir="/tmp", ignore_cleanup_errors=True)


@cache
def built(name: str, *options: str) -> Path:
    """A C program of this folder, compiled once for the life of this process."""
    Path(_programs.name).chmod(0o755)
    program = Path(_programs.name) / name
    subprocess.run(["gcc", "-O2", *options, "-o", str(program), str(HERE / f"{name}.c")], check=True)
    return program


class Bound(Subject):
    """The least that can be done; see bound.c, and for a rolling restart roll.c."""

    name = "bound"
    rotates = False
    shares = "3"
    remark = "no configuration, log, output, API, backoff: the least that can be done"

    def missing(self) -> str | None:
        return None if shutil.which("gcc") else "there is no gcc"

    def version(self) -> str:
        return said("gcc", "--version") and said("gcc", "-dumpfullversion")

    def configure(self, job: Job) -> list[str]:
        if job.listens:
            paths = (str(job.listens), str(job.directory / "notify"))
            return [str(built("roll")), str(job.instances), *paths, *job.command]
        return [str(built("bound")), *_numbers(job), *job.command]


class Bare(Subject):
    """The same in Python; see bare.py."""

    name = "bare"
    rotates = False
    remark = "what the bound does, in Python without asyncio: the interpreter's share of what pitboss takes"

    def missing(self) -> str | None:
        return None

    def version(self) -> str:
        return platform.python_version()

    def configure(self, job: Job) -> list[str]:
        # Without the environment of the tests: as little is imported as can be.
        return [sys.executable, "-I", "-S", str(HERE / "bare.py"), *_numbers(job), *job.command]


def _numbers(job: Job) -> tuple[str, ...]:
    entry = pwd.getpwnam(job.user) if job.user else None
    identity = f"{entry.pw_uid}:{entry.pw_gid}" if entry else "0:0"
    return str(job.instances), str(job.grace_seconds * 1000), str(job.nofile), identity


class Pitboss(Subject):
    """Ours: the whole daemon, with journal, output to files, and its control plane on a unix socket."""

    name = "pitboss"
    shares = "3"
    asked = True

    def __init__(self, program: Path = PITBOSSD) -> None:
        self.program = program
        if program == PITBOSSD:
            self.remark = "from the tree, not from a wheel: editable, and beside the tools of the tests"

    def missing(self) -> str | None:
        return None if self.program.exists() else f"there is no {self.program}"

    def version(self) -> str:
        return said(str(self.program), "--version").rpartition(" ")[2]

    def configure(self, job: Job) -> list[str]:
        pool: dict[str, object] = {
            "command": list(job.command),
            "instances": job.instances,
            "startup": {"min_uptime": 0},
            "restart": {"backoff": {"initial": "0s", "max": "1s"}},
            "stop": {"stages": [{"signal": "SIGTERM", "target": "main", "grace": job.grace_seconds}]},
        }
        if job.nofile:
            # The soft one, which is what s6-softlimit and chpst set.
            pool["limits"] = {"nofile": f"{job.nofile}:{resource.getrlimit(resource.RLIMIT_NOFILE)[1]}"}
        if job.listens:
            pool["sockets"] = [{"name": "web", "listen": f"unix:{job.listens}"}]
            pool["readiness"] = {"notify": True}
            pool["rollout"] = {"max_surge": 1, "max_unavailable": 0, "min_ready": 0}
        if job.user:
            pool["user"] = job.user
        # By default beside the journal, which alone is on a disk: the logs of the others are not.
        pool["logs"] = {"directory": str(job.directory / "logs")}
        if job.logs:
            pool["logs"] = {
                "directory": str(job.logs.directory),
                "max_bytes": job.logs.max_bytes,
                "keep": job.logs.keep,
            }
        manifest = {
            "version": 1,
            "name": "bench",
            "state_directory": str(job.lasting),
            "runtime_directory": str(job.directory / "run"),
            "pools": {"pool": pool},
        }
        path = job.directory / "pitboss.yaml"
        path.write_text(yaml.safe_dump(manifest, sort_keys=False))
        return [str(self.program), "run", str(path)]

    def endpoint(self, job: Job) -> Endpoint:
        paths = {"status": "/v1/status", "metrics": "/metrics", "small": "/livez"}
        return Endpoint(
            job.directory / "run" / "control.sock",
            {what: f"GET {path} HTTP/1.1\r\nHost: pitboss\r\n\r\n" for what, path in paths.items()},
        )

    def roll(self, process: subprocess.Popen[bytes], job: Job) -> None:
        told(self.endpoint(job).path, "POST /v1/pools/pool/restart")
