"""The supervisors that pitboss is measured against, each configured as its manual says.

Where they are: `install.py` puts them into a cache directory, nothing is installed on the machine.
"""

import json
import os
import shlex
import shutil
import signal
import subprocess
import xmlrpc.client
from collections.abc import Callable
from pathlib import Path

from tests.benchmarks.install import CACHE
from tests.benchmarks.subject import Endpoint, Job, Rotation, Subject, said, told


class Supervisord(Subject):
    """One program with `numprocs`; its output goes to files, as by default."""

    name = "supervisord"
    limits = False
    asked = True
    shares = "0"
    _bin = CACHE / "supervisord" / "bin"

    def missing(self) -> str | None:
        return None if (self._bin / "supervisord").exists() else "pip could not install it"

    def version(self) -> str:
        return said(str(self._bin / "supervisord"), "--version")

    def configure(self, job: Job) -> list[str]:
        lines = [
            "[supervisord]",
            f"logfile={job.directory}/supervisord.log",
            f"pidfile={job.directory}/supervisord.pid",
            f"childlogdir={job.directory}",
            "nodaemon=true",
            "user=root" if os.geteuid() == 0 else "",
            # It needs five descriptors for each process, and refuses to start with too few.
            f"minfds={1024 + 6 * job.instances}",
            "[unix_http_server]",
            f"file={job.directory}/s.sock",
            "[rpcinterface:supervisor]",
            "supervisor.rpcinterface_factory = supervisor.rpcinterface:make_main_rpcinterface",
        ]
        if job.instances:
            lines += [
                "[fcgi-program:pool]" if job.listens else "[program:pool]",
                f"socket=unix://{job.listens}" if job.listens else "",
                f"command={shlex.join(job.command)}",
                f"numprocs={job.instances}",
                "process_name=%(program_name)s_%(process_num)04d",
                "autorestart=true",
                "startsecs=0",
                f"stopwaitsecs={job.grace_seconds}",
                f"user={job.user}" if job.user else "",
            ]
        if job.logs:
            lines += [
                "redirect_stderr=true",
                f"stdout_logfile={job.logs.directory}/%(program_name)s-%(process_num)04d",
                f"stdout_logfile_maxbytes={job.logs.max_bytes}",
                f"stdout_logfile_backups={job.logs.keep}",
            ]
        path = job.directory / "supervisord.conf"
        path.write_text("\n".join(lines) + "\n")
        return [str(self._bin / "supervisord"), "-c", str(path)]

    def endpoint(self, job: Job) -> Endpoint:
        path = job.directory / "s.sock"
        return Endpoint(
            path,
            {
                "status": _xml_rpc("supervisor.getAllProcessInfo"),
                "small": _xml_rpc("supervisor.getProcessInfo", "pool:pool_0000"),
            },
        )

    def roll(self, process: subprocess.Popen[bytes], job: Job) -> None:
        # As `supervisorctl restart` of one after the other; there is no wish for a rolling restart.
        path = job.directory / "s.sock"
        for index in range(job.instances):
            for method in ("supervisor.stopProcess", "supervisor.startProcess"):
                told(path, "POST /RPC2", xmlrpc.client.dumps((f"pool:pool_{index:04d}",), method))


def _xml_rpc(method: str, *arguments: str) -> str:
    body = xmlrpc.client.dumps(arguments, method)
    head = f"POST /RPC2 HTTP/1.1\r\nHost: bench\r\nContent-Type: text/xml\r\nContent-Length: {len(body)}"
    return f"{head}\r\n\r\n{body}"


class Circus(Subject):
    """One watcher; it finds out about an end by looking, so it looks ten times a second."""

    name = "circus"
    remark = "check_delay = 0.1 (default 5): it polls, and this is its delay before a restart"
    shares = "$(circus.sockets.web)"
    asked = True
    _bin = CACHE / "circus" / "bin"

    def missing(self) -> str | None:
        return None if (self._bin / "circusd").exists() else "pip could not install it"

    def version(self) -> str:
        return said(str(self._bin / "circusd"), "--version")

    def configure(self, job: Job) -> list[str]:
        lines = [
            "[circus]",
            f"endpoint = ipc://{job.directory}/endpoint",
            f"pubsub_endpoint = ipc://{job.directory}/pubsub",
            "check_delay = 0.1",
        ]
        if job.listens:
            lines += ["[socket:web]", f"path = {job.listens}"]
        # All processes of a watcher share one stream, so with files there is a watcher for each.
        watchers = job.instances if job.logs else min(job.instances, 1)
        for index in range(watchers):
            lines += [
                f"[watcher:pool{index}]",
                f"cmd = {job.command[0]}",
                f"args = {shlex.join(job.command[1:])}",
                f"numprocesses = {job.instances // watchers}",
                "warmup_delay = 0",
                "max_retry = -1",
                f"graceful_timeout = {job.grace_seconds}",
            ]
            if job.listens:
                lines += ["use_sockets = True"]
            if job.nofile:
                lines += [f"rlimit_nofile = {job.nofile}"]
            if job.user:
                lines += [f"uid = {job.user}"]
            if job.logs:
                lines += self._stream("stdout", index, job.logs) + self._stream("stderr", index, job.logs)
        path = job.directory / "circus.ini"
        path.write_text("\n".join(lines) + "\n")
        return [str(self._bin / "circusd"), str(path)]

    def endpoint(self, job: Job) -> Endpoint:
        # Which processes live: its `status` is of watchers, and its `stats` looks up each process in /proc.
        status, small = (
            json.dumps({"command": command, "properties": {"name": "pool0"}})
            for command in ("list", "status")
        )
        return Endpoint(
            job.directory / "endpoint",
            {"status": status, "small": small},
            (str(self._bin / "python"), str(Path(__file__).with_name("ask_circus.py"))),
        )

    @staticmethod
    def _stream(kind: str, index: int, logs: Rotation) -> list[str]:
        return [
            f"{kind}_stream.class = FileStream",
            f"{kind}_stream.filename = {logs.directory}/pool-{index:04d}.{kind}",
            f"{kind}_stream.max_bytes = {logs.max_bytes}",
            f"{kind}_stream.backup_count = {logs.keep}",
        ]


def _services(job: Job, logger: Callable[[Path, Rotation], str], prefix: str) -> list[Path]:
    """A directory for each instance, with the scripts that their manuals show."""
    parent = job.directory / "services"
    parent.mkdir()
    found = []
    for index in range(job.instances):
        service = parent / f"pool-{index:04d}"
        _script(service, prefix + shlex.join(job.command))
        if job.logs:
            kept = job.logs.directory / service.name
            kept.mkdir()
            _script(service / "log", logger(kept, job.logs))
        found.append(service)
    return found


def _script(directory: Path, command: str) -> None:
    directory.mkdir()
    (directory / "run").write_text(f"#!/bin/sh\nexec {command} 2>&1\n")
    (directory / "run").chmod(0o755)


def _debian_version(package: str) -> str:
    return said("dpkg-query", "--show", "--showformat", "${Version}", package)


class S6(Subject):
    """A service directory for each instance, with a `run` of two lines for the shell."""

    name = "s6"
    remark = "one small process beside each worker"

    def missing(self) -> str | None:
        return None if shutil.which("s6-svscan") else "not on this machine (apt-get install s6)"

    def version(self) -> str:
        return _debian_version("s6")

    def configure(self, job: Job) -> list[str]:
        prefix = f"s6-softlimit -o {job.nofile} " if job.nofile else ""
        prefix += f"s6-setuidgid {job.user} " if job.user else ""
        for service in _services(job, self._logger, prefix):
            # In milliseconds; without this file SIGKILL never comes.
            (service / "timeout-kill").write_text(f"{job.grace_seconds * 1000}\n")
        # By default it takes no more than 500.
        return ["s6-svscan", "-c", str(2 * job.instances + 10), str(job.directory / "services")]

    @staticmethod
    def _logger(kept: Path, logs: Rotation) -> str:
        # No stamps: as the others, the worker's bytes and nothing else.
        return f"s6-log n{logs.keep} s{logs.max_bytes} {kept}"


class Runit(Subject):
    """As s6; a grace window is the business of who stops it, so `sv` does."""

    name = "runit"
    remark = "one small process beside each worker; ended by HUP to runsvdir and `sv force-shutdown`"

    def missing(self) -> str | None:
        return None if shutil.which("runsvdir") else "not on this machine (apt-get install runit)"

    def version(self) -> str:
        return _debian_version("runit")

    def configure(self, job: Job) -> list[str]:
        options = f"-o {job.nofile} " if job.nofile else ""
        options += f"-u {job.user} " if job.user else ""
        _services(job, self._logger, f"chpst {options}" if options else "")
        return ["runsvdir", "-P", str(job.directory / "services")]

    @staticmethod
    def _logger(kept: Path, logs: Rotation) -> str:
        (kept / "config").write_text(f"s{logs.max_bytes}\nn{logs.keep}\n")
        # A line is at most -l bytes, and read into a buffer of -b.
        return f"svlogd -l 1024 -b 65536 {kept}"

    def stop(self, process: subprocess.Popen[bytes], job: Job) -> None:
        # runsvdir passes SIGTERM on to each runsv, and that to its worker; only sv knows of a window.
        process.send_signal(signal.SIGHUP)
        services = [str(path) for path in sorted((job.directory / "services").iterdir())]
        if services:
            with (job.directory / "stop").open("wb") as output:
                command = ["sv", "-w", str(job.grace_seconds), "force-shutdown", *services]
                subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output)


class Pm2(Subject):
    """Fork mode without an interpreter, as for any program that is not JavaScript.

    Without an application it ends at once; with more than 200 a start takes minutes.
    """

    name = "pm2"
    limits = False
    least = 1
    rotates = False
    most = 200
    remark = "PM2_KILL_SIGNAL=SIGTERM (default SIGINT); not measured above 200: a start of 1000 takes minutes"
    _bin = CACHE / "pm2/node_modules/.bin/pm2-runtime"

    def missing(self) -> str | None:
        return None if self._bin.exists() else "npm could not install it"

    def version(self) -> str:
        package = CACHE / "pm2/node_modules/pm2/package.json"
        return str(json.loads(package.read_text())["version"])

    def configure(self, job: Job) -> list[str]:
        apps = [
            {
                "name": "pool",
                "script": job.command[0],
                "args": list(job.command[1:]),
                "interpreter": "none",
                "exec_mode": "fork",
                "instances": job.instances,
                "autorestart": True,
                "restart_delay": 0,
                "max_restarts": 1_000_000_000,
                "kill_timeout": job.grace_seconds * 1000,
                "pmx": False,
                "vizion": False,
                **({"uid": job.user} if job.user else {}),
            }
        ]
        path = job.directory / "ecosystem.config.json"
        path.write_text(json.dumps({"apps": apps if job.instances else []}))
        return [str(self._bin), "start", str(path), "--no-auto-exit"]

    def environment(self) -> dict[str, str]:
        return {"PM2_KILL_SIGNAL": "SIGTERM"}


PEERS: tuple[type[Subject], ...] = (S6, Runit, Supervisord, Circus, Pm2)
