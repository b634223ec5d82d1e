"""What an environment file holds reaches its worker, and nobody else."""

import signal
import sqlite3
import subprocess
from collections.abc import Callable
from pathlib import Path

from tests.e2e.commands import FAST_BACKOFF, pool, worker
from tests.e2e.daemon import BIN, Daemon
from tests.proc import is_alive

Make = Callable[..., Daemon]


def command_lines() -> bytes:
    """What `ps` shows of every process of this machine."""
    lines = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            lines.append(path.read_bytes())
        except OSError:
            continue
    return b"\n".join(lines)


def test_a_secret_of_an_environment_file_is_shown_nowhere(daemon: Make, tmp_path: Path) -> None:
    """It reaches its worker, and no endpoint, log, metric, file, ctl output or command line."""
    secret = "planted-7f3a91c2"
    file = tmp_path / "env"
    file.write_text(f"API_TOKEN={secret}\n")
    web = pool(
        worker("obedient"),
        environment_files=[str(file)],
        instances=2,
        readiness={"exec": ["/bin/true"], "period": "200ms"},
        rollout={"min_ready": "200ms"},
    )
    broken = pool(["/nowhere/program"], environment_files=[str(file)], restart={"backoff": FAST_BACKOFF})
    one = daemon({"pools": {"web": web, "broken": broken}})
    one.wait_ready("web")
    pid = one.instance("web/0")["pid"]
    assert f"API_TOKEN={secret}".encode() in Path(f"/proc/{pid}/environ").read_bytes()
    operation = one.post("/v1/pools/web/restart").json()["id"]
    shown = [command_lines()]
    while one.get(f"/v1/operations/{operation}").json()["state"] == "running":
        shown.append(command_lines())
    paths = (
        *("/livez", "/readyz", "/health", "/metrics", "/v1/status", "/v1/pools", "/v1/pools/web", "/"),
        *("/v1/pools/web/instances/0", "/v1/pools/broken/instances/0", "/v1/operations", "/v1/manifest"),
        *(f"/v1/operations/{operation}", "/openapi.json", "/v1/manifest/revisions", "/no-such-path"),
        "/v1/pools/web/instances/0/logs",
    )
    shown += [one.get(path).content for path in paths]
    for verb in (["status"], ["status", "--json"], ["explain", "broken/0"], ["operations"], ["version"]):
        done = one.ctl(*verb)
        shown.append((done.stdout + done.stderr).encode())
    check = subprocess.run(
        [str(BIN / "pitbossd"), "check", str(one.manifest_path)], capture_output=True, check=True
    )
    shown.append(check.stdout + check.stderr)
    one.signal(signal.SIGTERM)
    assert one.wait_end() == 0
    shown.append(one.log().encode())
    kept = [file for file in (one.directory / "state").rglob("*") if file.is_file()]
    shown += [file.read_bytes() for file in kept]
    with sqlite3.connect(one.directory / "state" / "journal.db") as journal:
        shown.append("\n".join(journal.iterdump()).encode())
    journal.close()
    assert [text for text in shown if secret.encode() in text] == []
    assert not is_alive(pid)
