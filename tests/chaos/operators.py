"""Operators in a hurry: wishes over HTTP and by pitbossctl, each written down with its answer."""

import subprocess
import time
from collections.abc import Callable
from typing import Any

import httpx

from tests.chaos.record import Deed
from tests.e2e.daemon import Daemon


class Operators:
    """Speak to one daemon and write down what was said. Safe to use from several threads."""

    def __init__(self, daemon: Daemon, write: Callable[[Deed], None]) -> None:
        self.daemon, self.write = daemon, write
        self._client = daemon.client()

    def close(self) -> None:
        """Let go of all connections."""
        self._client.close()

    def wish(
        self, verb: str, pool: str | None, index: int | None = None, *, key: str = "", **body: Any
    ) -> dict[str, Any]:
        """One wish; the answer with its `status_code`, which is 0 if there was none."""
        path = f"/v1/pools/{pool}" if pool else "/v1"
        path += f"/instances/{index}" if index is not None else ""
        at = time.monotonic()
        answer = self._post(f"{path}/{verb}", body, {"Idempotency-Key": key} if key else {})
        facts = {"verb": verb, "pool": pool, "index": index, "urgency": body.get("urgency", "normal")}
        facts |= {"status": answer["status_code"], "operation": answer.get("id"), "how": "http"}
        self.write(Deed(at, time.monotonic(), "wish", facts))
        return answer

    def by_ctl(self, verb: str, pool: str, index: int | None, *options: str) -> None:
        """One wish by the command line, without waiting for its end."""
        target = pool if index is None else f"{pool}/{index}"
        at = time.monotonic()
        try:
            done = self.daemon.ctl(verb, target, "--no-wait", *options, timeout=120)
            status = 202 if done.returncode == 0 else done.returncode
        except subprocess.TimeoutExpired:
            status = 0
        urgency = "kill" if "--kill" in options else "now" if "--now" in options else "normal"
        facts = {
            "verb": verb,
            "pool": pool,
            "index": index,
            "urgency": urgency,
            "status": status,
            "how": "ctl",
        }
        self.write(Deed(at, time.monotonic(), "wish", facts))

    def twice(self, verb: str, pool: str, key: str) -> None:
        """The same wish again at once."""
        at = time.monotonic()
        first = self.wish(verb, pool, key=key)
        second = self.wish(verb, pool, key=key)
        if (first["status_code"], second["status_code"]) != (202, 202):
            return
        ended = False
        if not key:
            state = self.get(f"/v1/operations/{first['id']}").get("state")
            ended = state not in {"running", "paused", "pending"}
        facts = {
            "verb": verb,
            "pool": pool,
            "first": first["id"],
            "second": second["id"],
            "ended_between": ended,
        }
        self.write(Deed(at, time.monotonic(), "repeat", facts))

    def steer(self, verb: str, choice: float) -> str | None:
        """Pause, resume or abort one of the restarts under way; its id."""
        operations = self.get("/v1/operations").get("operations", [])
        running = [
            one["id"]
            for one in operations
            if one["kind"] == "restart" and one["state"] in {"running", "paused"}
        ]
        if not running:
            return None
        chosen = str(running[int(choice * len(running))])
        self.steer_one(verb, chosen)
        return chosen

    def steer_one(self, verb: str, operation: str) -> None:
        """Pause, resume or abort this operation."""
        at = time.monotonic()
        answer = self._post(f"/v1/operations/{operation}/{verb}", {}, {})
        facts = {"verb": verb, "operation": operation, "status": answer["status_code"]}
        self.write(Deed(at, time.monotonic(), "steer", facts))

    def unpause_all(self) -> None:
        """No restart is left paused."""
        for one in self.get("/v1/operations").get("operations", []):
            if one["state"] == "paused":
                self.steer_one("resume", one["id"])

    def look(self, seconds: int) -> None:
        """Wait for a change, as a dashboard does."""
        revision = self.get("/v1/status").get("revision", 0)
        self.get(f"/v1/status?after={revision}&wait={seconds}")

    def get(self, path: str) -> dict[str, Any]:
        """A document; empty if there is none."""
        try:
            document: dict[str, Any] = self._client.get(path).json()
        except (httpx.HTTPError, ValueError):
            return {}
        return document

    def _post(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> dict[str, Any]:
        try:
            answer = self._client.post(path, json=body, headers=headers)
            document: dict[str, Any] = answer.json()
        except (httpx.HTTPError, ValueError) as error:
            return {"status_code": 0, "error": str(error)}
        return {**document, "status_code": answer.status_code}
