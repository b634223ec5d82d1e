"""What the manifest needs to know about the machine and the daemon that reads it.

Decides where things live by default and whom a name of an account means. It asks the account
databases, which may ask the network: only while a manifest is loaded, never while it is in use.
"""

import grp
import os
import pwd
import resource
import socket
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from supervisor.core.launch import Identity
from supervisor.manifest.problems import quoted

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_PASSED = ("PATH", "LANG", "TZ")
_PERSONAL = ("HOME", "USER", "LOGNAME", "SHELL")


class AccountError(Exception):
    """An account that cannot be used: the key that names it, and why."""

    def __init__(self, key: str, message: str) -> None:
        self.key = key
        self.message = message
        super().__init__(key, message)


@dataclass(frozen=True, slots=True)
class Machine:
    """The daemon's own identity, environment and limits.

    `hard_limits` are by their name in `resource` without the prefix ("NOFILE"); -1 is unlimited.
    """

    uid: int
    gid: int
    host_name: str
    environ: Mapping[str, str] = field(repr=False)
    hard_limits: Mapping[str, int] = field(default_factory=dict)
    niceness: int = 0

    @classmethod
    def here(cls) -> "Machine":
        """This process on this machine."""
        limits = {
            name.removeprefix("RLIMIT_"): resource.getrlimit(getattr(resource, name))[1]
            for name in dir(resource)
            if name.startswith("RLIMIT_")
        }
        niceness = os.getpriority(os.PRIO_PROCESS, 0)
        return cls(os.getuid(), os.getgid(), socket.gethostname(), dict(os.environ), limits, niceness)

    @property
    def is_root(self) -> bool:
        """Whether the daemon may become somebody else."""
        return self.uid == 0

    def state_directory(self) -> Path:
        """Where journal and logs live if the manifest does not say."""
        if self.is_root:
            return Path("/var/lib/pitboss")
        state = self.environ.get("XDG_STATE_HOME", "")
        base = Path(state) if state.startswith("/") else Path(self._home(), ".local", "state")
        return base / "pitboss"

    def runtime_directory(self) -> Path:
        """Where sockets live if the manifest does not say."""
        if self.is_root:
            return Path("/run/pitboss")
        runtime = self.environ.get("XDG_RUNTIME_DIR", "")
        if runtime.startswith("/"):
            return Path(runtime) / "pitboss"
        return Path(f"/tmp/pitboss-{self.uid}")  # noqa: S108 - whoever makes it checks its owner

    def base_environment(self, identity: Identity | None) -> dict[str, str]:
        """The clean beginning of a worker's environment, the same on every start."""
        base = {
            name: value for name, value in self.environ.items() if name in _PASSED or name.startswith("LC_")
        }
        base.setdefault("PATH", DEFAULT_PATH)
        entry = _entry(self.uid if identity is None else identity.uid)
        if entry is not None:
            personal = (entry.pw_dir or "/", entry.pw_name, entry.pw_name, entry.pw_shell or "/bin/sh")
        else:
            name = str(self.uid) if identity is None else identity.user
            personal = ("/", name, name, "/bin/sh")
        base |= dict(zip(_PERSONAL, personal, strict=True))
        if identity is None:
            base |= {name: self.environ[name] for name in _PERSONAL if name in self.environ}
        return base

    def identity(self, user: str | None, group: str | None, groups: list[str] | None) -> Identity | None:
        """Whom a pool runs as; None means as the daemon does.

        Raises:
            AccountError: There is no such account, or the daemon is not root and would have to be.
        """
        if user is None and group is None and groups is None:
            return None
        entry = _entry(self.uid) if user is None else _user(user)
        uid = self.uid if user is None else entry.pw_uid if entry else int(user)
        gid = _gid("group", group) if group is not None else self._primary(user, entry)
        if not self.is_root:
            self._stay_as_we_are(user, uid, gid, group, groups)
            return None
        name = entry.pw_name if entry else str(uid)
        if groups is not None:
            supplementary = [_gid("groups", one) for one in groups]
        else:
            supplementary = os.getgrouplist(name, gid) if entry else [gid]
        return Identity(name, uid, gid, tuple(dict.fromkeys(supplementary)))

    def owner(self, user: str, group: str | None) -> tuple[int, int]:
        """The uid and gid that a file is given; without a group the user's own.

        Raises:
            AccountError: There is no such account, or the daemon is not root and would have to be.
        """
        entry = _user(user)
        uid = entry.pw_uid if entry else int(user)
        if uid != self.uid and not self.is_root:
            raise AccountError("owner", f"cannot give it to {user}: pitbossd is not root")
        return uid, self._primary(user, entry) if group is None else _gid("owner", group)

    def _primary(self, user: str | None, entry: pwd.struct_passwd | None) -> int:
        if user is None:
            return self.gid
        if entry is None:
            message = f"expected a user of this machine or a group beside it, found {quoted(user)} alone"
            raise AccountError("user", message)
        return entry.pw_gid

    def _stay_as_we_are(
        self, user: str | None, uid: int, gid: int, group: str | None, groups: list[str] | None
    ) -> None:
        if uid != self.uid:
            raise AccountError("user", f"cannot run as {user}: pitbossd is not root")
        if group is not None and gid != self.gid:
            raise AccountError("group", f"cannot run with group {group}: pitbossd is not root")
        if groups is not None:
            raise AccountError("groups", "cannot set supplementary groups: pitbossd is not root")

    def _home(self) -> str:
        home = self.environ.get("HOME", "")
        entry = _entry(self.uid)
        return home if home.startswith("/") else entry.pw_dir if entry and entry.pw_dir else "/"


def _entry(uid: int) -> pwd.struct_passwd | None:
    try:
        return pwd.getpwuid(uid)
    except KeyError:
        return None


def _user(user: str) -> pwd.struct_passwd | None:
    """The entry of a user by name or number; None for a number that nobody has."""
    try:
        return pwd.getpwnam(user)
    except KeyError:
        if user.isdecimal():
            return _entry(int(user))
    raise AccountError("user", f"expected a user of this machine, found {quoted(user)}")


def _gid(key: str, group: str) -> int:
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal():
            return int(group)
    raise AccountError(key, f"expected a group of this machine, found {quoted(group)}")
