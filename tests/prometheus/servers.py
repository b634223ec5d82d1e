"""A real Prometheus and a real Alertmanager with our configuration, and somebody to be alerted.

Only what a test cannot wait for is changed in copies of the shipped files: addresses, intervals, and
the time for which a rule must hold (`for`). Expressions, labels and texts are those that are shipped.
"""

import json
import queue
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import yaml

from tests.ports import free_port
from tests.waiting import eventually

CONFIGS = Path(__file__).resolve().parents[2] / "configs" / "prometheus"
INTERVAL = "1s"


class Webhook:
    """Takes what Alertmanager sends: alerts by name, as they come."""

    def __init__(self) -> None:
        self._posted: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._seen: list[dict[str, Any]] = []
        posted = self._posted

        class Handler(BaseHTTPRequestHandler):
            """One message."""

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                posted.put(json.loads(body))
                self.send_response(200)
                self.end_headers()

            def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}/"

    def alerts(self) -> list[dict[str, Any]]:
        """Every alert that was delivered so far."""
        while not self._posted.empty():
            self._seen += self._posted.get()["alerts"]
        return self._seen

    def wait_for(self, **labels: str) -> dict[str, Any]:
        """The first firing alert with these labels."""

        def found() -> dict[str, Any] | None:
            for alert in self.alerts():
                if alert["status"] == "firing" and labels.items() <= alert["labels"].items():
                    return alert
            return None

        told = eventually(found, 60, f"an alert with {labels} is delivered")
        assert told is not None
        return told

    def close(self) -> None:
        """Listen no more."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


class Monitoring:
    """Prometheus and Alertmanager, watching one target."""

    def __init__(self, target: str) -> None:
        self.directory = Path(tempfile.mkdtemp(prefix="pm-", dir="/tmp"))
        self.webhook = Webhook()
        self.prometheus = f"http://127.0.0.1:{free_port()}"
        self.alertmanager = f"http://127.0.0.1:{free_port()}"
        self._processes: list[subprocess.Popen[bytes]] = []
        self._client = httpx.Client(timeout=60)
        self._write(target)

    def _write(self, target: str) -> None:
        config = yaml.safe_load((CONFIGS / "prometheus.yml").read_text())
        config["global"] = {"scrape_interval": INTERVAL, "evaluation_interval": INTERVAL}
        (scrape,) = config["scrape_configs"]
        scrape["static_configs"] = [{"targets": [target]}]
        (manager,) = config["alerting"]["alertmanagers"]
        manager["static_configs"] = [{"targets": [self.alertmanager.removeprefix("http://")]}]
        rules = yaml.safe_load((CONFIGS / "alerts.yaml").read_text())
        for rule in rules["groups"][0]["rules"]:
            if "for" in rule:
                rule["for"] = INTERVAL
        people = yaml.safe_load((CONFIGS / "alertmanager.yml").read_text())
        people["route"] |= {"group_wait": INTERVAL, "group_interval": INTERVAL}
        people["receivers"][0]["webhook_configs"][0]["url"] = self.webhook.url
        for name, content in (("prometheus.yml", config), ("alerts.yaml", rules), ("people.yml", people)):
            (self.directory / name).write_text(yaml.safe_dump(content))

    def start(self) -> None:
        """Start both, and wait until they answer."""
        at = self.directory
        self._run(
            "prometheus",
            f"--config.file={at}/prometheus.yml",
            f"--storage.tsdb.path={at}/data",
            f"--web.listen-address={self.prometheus.removeprefix('http://')}",
        )
        self._run(
            "prometheus-alertmanager",
            f"--config.file={at}/people.yml",
            f"--storage.path={at}/alerts",
            f"--web.listen-address={self.alertmanager.removeprefix('http://')}",
            "--cluster.listen-address=",
        )
        for url in (self.prometheus, self.alertmanager):
            eventually(lambda url=url: self._answers(url), 60, f"{url} is ready")  # type: ignore[misc]

    def _run(self, *command: str) -> None:
        with (self.directory / f"{command[0]}.log").open("wb") as log:
            one = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._processes.append(one)

    def _answers(self, url: str) -> bool:
        for one in self._processes:
            if one.poll() is not None:
                logs = "".join(path.read_text() for path in self.directory.glob("*.log"))
                raise AssertionError(f"{one.args!r} ended:\n{logs[-4000:]}")
        try:
            return self._client.get(f"{url}/-/ready").status_code == 200
        except httpx.TransportError:
            return False

    def ask(self, path: str, **parameters: str) -> Any:
        """What an API of Prometheus answers; raises AssertionError with its reason if it refuses."""
        body = self._client.get(f"{self.prometheus}/api/v1/{path}", params=parameters).json()
        assert body["status"] == "success", body
        return body["data"]

    def query(self, expression: str) -> list[tuple[Mapping[str, str], float]]:
        """The samples of an expression at this moment: labels and value."""
        result = self.ask("query", query=expression)["result"]
        return [(sample["metric"], float(sample["value"][1])) for sample in result]

    def held_alerts(self) -> list[dict[str, Any]]:
        """What Alertmanager knows, told or not."""
        found: list[dict[str, Any]] = self._client.get(f"{self.alertmanager}/api/v2/alerts").json()
        return found

    def close(self) -> None:
        """End both and remove what they wrote."""
        for one in self._processes:
            one.terminate()
        for one in self._processes:
            try:
                one.wait(30)
            except subprocess.TimeoutExpired:
                one.kill()
                one.wait(30)
        self._client.close()
        self.webhook.close()
        shutil.rmtree(self.directory, ignore_errors=True)


@contextmanager
def monitoring(target: str) -> Iterator[Monitoring]:
    """Both, watching this target, for as long as the block lasts."""
    one = Monitoring(target)
    try:
        one.start()
        yield one
    finally:
        one.close()
