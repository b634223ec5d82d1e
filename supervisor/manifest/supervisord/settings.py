"""What becomes of each setting of supervisord: the table that the converter and the manual share.

Every setting that supervisord 4.3 reads is here, with its equivalent in a manifest and whether that
does the same. How a value is converted is in `programs` and `convert`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum


class Verdict(StrEnum):
    """How much of a setting survives."""

    SAME = "same"
    DIFFERS = "differs"
    LOST = "no equivalent"
    NEEDLESS = "not needed"
    UNKNOWN = "unknown"


@dataclass(frozen=True, slots=True)
class Known:
    """One setting: its equivalent in the manifest, whether it does the same, and what to know about it."""

    equivalent: str
    verdict: Verdict
    note: str = ""


_SAME, _DIFFERS, _LOST, _NEEDLESS = Verdict.SAME, Verdict.DIFFERS, Verdict.LOST, Verdict.NEEDLESS


def _same(equivalent: str) -> Known:
    return Known(equivalent, _SAME)


_ONE_FILE = "one file per instance takes both streams: `<directory>/<pool>-<index>.log`"
_EVENTS = "there is no event protocol on a worker's output; metrics and the daemon's log tell what happens"
_SYSLOG = "output goes to files; the daemon's own log goes to the journal"
_OWN_LOG = "the daemon writes its log to standard error; under systemd that is the journal"
_PEERS = "who may operate is decided by the peer's user on the unix socket; no password is kept anywhere"

PROGRAM: Mapping[str, Known] = {
    "command": Known("command", _SAME, "split as a shell would; no shell is run"),
    "process_name": Known("", _LOST, "an instance is always called `<pool>/<index>`"),
    "numprocs": _same("instances"),
    "numprocs_start": _same("`{{ 1 + index }}` in templates"),
    "directory": _same("working_directory"),
    "umask": _same("umask"),
    "user": Known("user", _SAME, "with its supplementary groups, HOME, USER, LOGNAME and SHELL"),
    "priority": Known(
        "",
        _LOST,
        "it only ordered the forks and waited for nothing; `depends_on` waits until a pool is ready",
    ),
    "autostart": Known(
        "", _DIFFERS, "every pool starts; `pitbossctl stop <pool>` once, it is remembered over restarts"
    ),
    "autorestart": Known("restart.policy", _SAME, "true: always; unexpected: on-failure; false: never"),
    "startsecs": Known(
        "startup.min_uptime",
        _DIFFERS,
        "a start that ends sooner has failed; a `readiness` probe knows better",
    ),
    "startretries": Known(
        "restart.give_up",
        _DIFFERS,
        "all starts within a time count, also those of workers that crash late; without it a crash loop is "
        "loud and goes on at the longest wait",
    ),
    "exitcodes": Known("", _LOST, "only exit 0, and the end by a signal that we sent, is a clean exit"),
    "stopsignal": _same("stop.stages[0].signal"),
    "stopwaitsecs": _same("stop.stages[0].grace"),
    "stopasgroup": Known(
        "stop.stages[0].target: all",
        _SAME,
        "Celery, Dramatiq and RQ lose tasks this way: for them a preset is used, which tells the main "
        "process alone",
    ),
    "killasgroup": Known("", _NEEDLESS, "SIGKILL always goes to the whole tree of a worker"),
    "environment": Known("environment", _SAME, "secrets belong into `environment_files`"),
    "redirect_stderr": Known("", _DIFFERS, _ONE_FILE),
    "stdout_logfile": Known("logs.directory", _DIFFERS, _ONE_FILE),
    "stdout_logfile_maxbytes": Known("logs.max_bytes", _SAME, "0 (never rotate) has no equivalent"),
    "stdout_logfile_backups": _same("logs.keep"),
    "stdout_capture_maxbytes": Known("", _LOST, _EVENTS),
    "stdout_events_enabled": Known("", _LOST, _EVENTS),
    "stdout_syslog": Known("", _LOST, _SYSLOG),
    "stderr_logfile": Known("", _DIFFERS, _ONE_FILE),
    "stderr_logfile_maxbytes": Known("", _DIFFERS, _ONE_FILE),
    "stderr_logfile_backups": Known("", _DIFFERS, _ONE_FILE),
    "stderr_capture_maxbytes": Known("", _LOST, _EVENTS),
    "stderr_events_enabled": Known("", _LOST, _EVENTS),
    "stderr_syslog": Known("", _LOST, _SYSLOG),
    "serverurl": Known("", _NEEDLESS, "pitbossctl finds the socket by itself"),
}

_FD = "it arrives as descriptor 3 with LISTEN_FDS, not as descriptor 0: the program has to take it from there"

SETTINGS: Mapping[str, Mapping[str, Known]] = {
    "program": PROGRAM,
    "fcgi-program": {
        **PROGRAM,
        "socket": Known("sockets[0].listen", _DIFFERS, _FD),
        "socket_backlog": _same("sockets[0].backlog"),
        "socket_owner": _same("sockets[0].owner"),
        "socket_mode": _same("sockets[0].mode"),
    },
    "supervisord": {
        "logfile": Known("", _LOST, _OWN_LOG),
        "logfile_maxbytes": Known("", _LOST, _OWN_LOG),
        "logfile_backups": Known("", _LOST, _OWN_LOG),
        "loglevel": Known("", _DIFFERS, "`pitbossd run --log-level`"),
        "pidfile": Known("", _NEEDLESS, "a lock in the runtime directory keeps a second daemon away"),
        "umask": _same("defaults.umask"),
        "nodaemon": Known("", _NEEDLESS, "pitbossd always stays in the foreground"),
        "silent": Known("", _NEEDLESS, _OWN_LOG),
        "minfds": Known("", _DIFFERS, "the unit's `LimitNOFILE`; the daemon says at start if it is too low"),
        "minprocs": Known("", _LOST, "`limits` of a pool, or the unit's `LimitNPROC`"),
        "nocleanup": Known("", _NEEDLESS, "logs are never removed at a start"),
        "childlogdir": _same("defaults.logs.directory"),
        "user": Known("", _LOST, "the user of the unit; each pool may have its own `user`"),
        "directory": _same("defaults.working_directory"),
        "strip_ansi": Known("", _LOST, "output is kept as it came"),
        "environment": Known(
            "defaults.environment", _SAME, "workers get a clean environment, not that of the daemon"
        ),
        "identifier": _same("name"),
    },
    "unix_http_server": {
        "file": Known(
            "", _NEEDLESS, "pitbossctl finds the daemon's socket; `control.unix` puts it elsewhere"
        ),
        "chmod": Known("", _LOST, "the socket is 0660; the group of the daemon may operate"),
        "chown": Known("", _LOST, "the socket belongs to the daemon's user and group"),
        "username": Known("", _LOST, _PEERS),
        "password": Known("", _LOST, _PEERS),
    },
    "inet_http_server": {
        "port": Known(
            "control.http", _DIFFERS, "only health and metrics answer there; operate through the unix socket"
        ),
        "username": Known("", _LOST, _PEERS),
        "password": Known("", _LOST, _PEERS),
    },
    "group": {
        "programs": Known("", _LOST, "the verbs of pitbossctl take several pools: `pitbossctl restart a b`"),
        "priority": Known("", _LOST, PROGRAM["priority"].note),
    },
    "include": {"files": Known("", _SAME, "the files are converted too; a manifest has `include` as well")},
}
"""The settings by kind of section."""

SECTIONS: Mapping[str, Known] = {
    "supervisorctl": Known("", _NEEDLESS, "pitbossctl finds the socket by itself"),
    "rpcinterface": Known("", _NEEDLESS, "the HTTP API has a fixed list of routes"),
    "ctlplugin": Known("", _LOST, "pitbossctl has no plug-ins"),
    "eventlistener": Known("", _LOST, _EVENTS),
}
"""Sections that are not converted at all."""
