"""Keep the upstreams of nginx in step with pitbossd: an instance that is not ready gets no new request.

    python follow.py web=127.0.0.1:8001 files=127.0.0.1:8101

follows the pools `web` and `files`, whose instances listen on that port and on those after it. It asks the
daemon by a long poll, so it knows of a change as soon as it happens; writes `run/upstreams.conf`; and lets
pitbossd send SIGHUP to nginx, which finishes the open requests with the servers of before. It is ready as
soon as the file is there.
"""

import argparse
import os
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from supervisor.client.client import Client
from supervisor.client.errors import ClientError
from supervisor.client.shapes import PoolStatus
from supervisor.worker import notify

POLL_SECONDS = 25.0
RETRY_SECONDS = 1.0

NOBODY = "server 127.0.0.1:1 down;"
"""nginx wants at least one server; with this one alone it answers 502 at once."""


def main() -> None:
    """Follow until told to end."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("pools", nargs="+", metavar="POOL=HOST:PORT", help="where its instance 0 listens")
    parser.add_argument("--file", type=Path, default=Path("run/upstreams.conf"))
    parser.add_argument("--nginx", default="nginx/0", help="the instance to reload")
    parser.add_argument("--socket", help="control socket of pitbossd, if it is not where it is by default")
    options = parser.parse_args()
    addresses = dict(one.split("=", 1) for one in options.pools)
    options.file.parent.mkdir(exist_ok=True)
    revision: int | None = None
    pending = False
    with Client.connect(socket=options.socket) as client:
        while True:
            try:
                answer = client.pools(after=revision, wait_seconds=POLL_SECONDS if revision else 0)
                pools = {pool["name"]: pool for pool in answer["pools"]}
                if write(options.file, upstreams(pools, addresses)):
                    pending = revision is not None
                if pending and is_up(pools, options.nginx):
                    client.signal(options.nginx, "SIGHUP")
                    pending = False
                if revision is None:
                    notify.ready()
                revision = answer["revision"]
            except ClientError as error:
                print(f"cannot ask pitbossd: {error}; nginx keeps what it has", file=sys.stderr, flush=True)
                time.sleep(RETRY_SECONDS)


def upstreams(pools: Mapping[str, PoolStatus], addresses: Mapping[str, str]) -> str:
    """The file for nginx: of each pool those instances that are ready."""
    blocks = []
    for name, address in addresses.items():
        host, _, port = address.rpartition(":")
        ready = [int(one["name"].rpartition("/")[2]) for one in pools[name]["instances"] if one["ready"]]
        lines = [f"server {host}:{int(port) + index};" for index in ready] or [NOBODY]
        blocks.append("\n    ".join([f"upstream {name} {{", *lines]) + "\n}\n")
    return "".join(blocks)


def is_up(pools: Mapping[str, PoolStatus], nginx: str) -> bool:
    """Whether nginx has read its configuration and can be told to read it again."""
    pool = pools.get(nginx.partition("/")[0])
    return pool is not None and any(one["name"] == nginx and one["ready"] for one in pool["instances"])


def write(path: Path, text: str) -> bool:
    """Replace the file in one step; False if that is what it says already."""
    if path.exists() and path.read_text() == text:
        return False
    whole = path.with_suffix(".new")
    whole.write_text(text)
    os.replace(whole, path)
    return True


if __name__ == "__main__":
    main()
