"""A server that knows nothing of being supervised: `python -m http.server` with answers that take a while.

`python server.py PORT`; `/?token=abc&seconds=0.3` answers as `configs/web/app.py` does. SIGTERM ends it at
once, whatever it is about to answer, so it must have nothing to answer by then.
"""

import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

REPEATS = 1000
LONGEST_SECONDS = 60.0


class Handler(BaseHTTPRequestHandler):
    """Answers half of what is asked at once, and the rest after a while."""

    def do_GET(self) -> None:
        """Answer."""
        values = parse_qs(urlsplit(self.path).query)
        half = values.get("token", ["hello"])[0][:100].encode() * (REPEATS // 2)
        seconds = min(max(float(values.get("seconds", ["0"])[0]), 0.0), LONGEST_SECONDS)
        self.send_response(200)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(2 * len(half)))
        self.end_headers()
        self.wfile.write(half)
        time.sleep(seconds)
        self.wfile.write(half)

    def do_POST(self) -> None:
        """Answer something that a proxy may not ask twice."""
        self.rfile.read(min(int(self.headers.get("Content-Length", "0")), 1 << 20))
        self.do_GET()

    def log_message(self, *_: object) -> None:
        """Say nothing: a line for each request is a matter of the balancer."""


if __name__ == "__main__":
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
