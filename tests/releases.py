"""All that CI runs, in other releases of Debian and so with other Pythons: `python -m tests.releases trixie`.

Decides in which surroundings `.ci/run` begins: a tree of the release as it was fetched, with this machine's
kernel, network and trusted certificates. Only root may do that. Tested is the checkout as it is on disk.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

from tests.systemd.trees import SUITES, CannotMakeError, copy_source, overlay, tree

CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")

ENTER = """
set -e
for place in dev sys; do mount --rbind "/$place" "$1/$place"; done
mount -t proc proc "$1/proc"
mount -t tmpfs tmpfs "$1/run"
exec chroot "$1" bash /src/.ci/run
"""
"""In a mount namespace of its own, so that nothing stays mounted."""

SURROUNDINGS = {
    "CI": "true",
    "HOME": "/root",
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "PIP_CERT": f"/usr/local/lib/{CERTIFICATES.name}",
    # A container in a tree in a tree would show nothing that `make systemd` does not.
    "PITBOSS_GUESTS": "",
}


def run_in(suite: str) -> int:
    """Run everything in a tree of this release; the exit code. Raises CannotMakeError without such a tree."""
    with overlay(tree(suite), "12g") as root:
        copy_source(root / "src")
        shutil.copy("/etc/resolv.conf", root / "etc/resolv.conf")
        shutil.copy(CERTIFICATES, root / "usr/local/lib")
        # A tree is kept for longer than what is said of `testing` is valid.
        (root / "etc/apt/apt.conf.d/kept").write_text('Acquire::Check-Valid-Until "false";\n')
        command = ["unshare", "--mount", "--propagation", "slave", "sh", "-c", ENTER, "sh", str(root)]
        return subprocess.run(command, env=SURROUNDINGS, stdin=subprocess.DEVNULL, check=False).returncode


def main() -> int:
    """Run it in each release that was named; 1 if it failed in one."""
    suites = sys.argv[1:]
    unknown = [suite for suite in suites if suite not in SUITES]
    if not suites or unknown or os.geteuid() != 0:
        print(f"usage, as root: python -m tests.releases SUITE...   ({', '.join(SUITES)})", file=sys.stderr)
        return 2
    failed = []
    for suite in suites:
        print(f"== {suite}", flush=True)
        try:
            if run_in(suite) != 0:
                failed.append(suite)
        except CannotMakeError as error:
            print(f"cannot make a tree of {suite}: {error}", file=sys.stderr)
            failed.append(suite)
    print(f"== failed in {', '.join(failed)}" if failed else f"== passed in {', '.join(suites)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
