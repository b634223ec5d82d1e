"""A supervisord configuration becomes a manifest that loads, and nothing is dropped without a word."""

import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.manifest.load import load
from supervisor.manifest.supervisord.convert import Converted, convert
from supervisor.manifest.supervisord.settings import SECTIONS, SETTINGS, Verdict
from supervisor.manifest.supervisord.source import MOST_BYTES, SourceError

_STREAM = "_logfile _logfile_maxbytes _logfile_backups _capture_maxbytes _events_enabled _syslog"
READ_BY_SUPERVISORD = {
    "program": "command process_name numprocs numprocs_start directory umask user priority autostart "
    "autorestart startsecs startretries exitcodes stopsignal stopwaitsecs stopasgroup killasgroup "
    "environment redirect_stderr serverurl "
    + " ".join(stream + end for stream in ("stdout", "stderr") for end in _STREAM.split()),
    "fcgi-program": "socket socket_backlog socket_owner socket_mode",
    "supervisord": "logfile logfile_maxbytes logfile_backups loglevel pidfile umask nodaemon silent minfds "
    "minprocs nocleanup childlogdir user directory strip_ansi environment identifier",
    "unix_http_server": "file chmod chown username password",
    "inet_http_server": "port username password",
    "group": "programs priority",
    "include": "files",
}
"""What options.py of supervisord 4.3.0 asks its parser for, section by section."""


def converted(tmp_path: Path, text: str, **environment: str) -> Converted:
    """The conversion of this text."""
    path = tmp_path / "supervisord.conf"
    path.write_text(text)
    return convert(path, environment)


def pool_of(tmp_path: Path, lines: str, **environment: str) -> dict[str, Any]:
    """The one pool of a program with these settings."""
    text = converted(tmp_path, f"[program:web]\n{lines}\n", **environment).text
    pool = yaml.safe_load(text)["pools"]["web"]
    assert isinstance(pool, dict)
    return pool


def remarks(tmp_path: Path, text: str, **environment: str) -> list[str]:
    """What is said about it, without the directory."""
    found = converted(tmp_path, text, **environment).remarks
    return [str(one).replace(f"{tmp_path}/supervisord.conf", "F") for one in found]


def test_every_setting_of_supervisord_is_in_the_table() -> None:
    """A setting that the table lacks would be called unknown."""
    for section, keys in READ_BY_SUPERVISORD.items():
        missing = set(keys.split()) - set(SETTINGS[section])
        assert not missing, f"[{section}] lacks {missing}"
    assert set(SECTIONS) == {"supervisorctl", "rpcinterface", "ctlplugin", "eventlistener"}


def test_a_whole_configuration_loads(tmp_path: Path) -> None:
    """Head, programs in the order of their priority, an included file, and a manifest that is valid."""
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "beat.conf").write_text("[program:beat]\ncommand=/bin/sleep 9\npriority=5\n")
    text = """
[supervisord]
identifier=shop
environment=LANG="C"
childlogdir=/tmp
[inet_http_server]
port=*:9001
[program:web]
command=/bin/sleep 80%(process_num)02d ; a comment
numprocs=3
directory=/tmp
umask=022
autorestart=true
startsecs=90
stopsignal=INT
stopwaitsecs=45
stdout_logfile=/tmp/logs/web.log
stdout_logfile_maxbytes=20MB
stdout_logfile_backups=3
environment=A="1,2",B='x'
[include]
files = conf.d/*.conf
"""
    found = converted(tmp_path, text)
    whole = yaml.safe_load(found.text)
    assert list(whole["pools"]) == ["beat", "web"]
    assert whole["name"] == "shop"
    assert whole["control"] == {"http": "0.0.0.0:9001"}
    assert whole["defaults"] == {"environment": {"LANG": "C"}, "logs": {"directory": "/tmp"}}
    assert whole["pools"]["web"] == {
        "command": "/bin/sleep {{ 8000 + index }}",
        "instances": 3,
        "working_directory": "/tmp",
        "umask": "0022",
        "environment": {"A": "1,2", "B": "x"},
        "startup": {"timeout": "180s", "min_uptime": "90s"},
        "restart": {"policy": "always"},
        "stop": {"stages": [{"signal": "SIGINT", "target": "main", "grace": "45s"}]},
        "logs": {"directory": "/tmp/logs", "max_bytes": "20MiB", "keep": 3},
    }
    out = tmp_path / "out.yaml"
    out.write_text(found.text)
    plan = load(out).plan
    assert plan.pools["web"].instances == 3
    assert plan.pools["web"].stop.stages[0].grace_seconds == 45


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("run %(program_name)s %(numprocs)s %(here)s", "run web 12 {here}"),
        ("run --port=80%(process_num)02d", "run --port={{ 8000 + index }}"),
        ("run -n w%(process_num)d", "run -n w{{ index }}"),
        ("run 100%% %(ENV_REGION)s", "run 100% north"),
        ("run '{{ jinja }}'", "run '{{ '{{' }} jinja }}'"),
        ("run %(ENV_NOT_SET)s", "run %(ENV_NOT_SET)s"),
    ],
)
def test_placeholders(tmp_path: Path, command: str, expected: str) -> None:
    """Each becomes what it stood for, and what is not known stays visible."""
    pool = pool_of(tmp_path, f"command={command}\nnumprocs=12", REGION="north")
    assert pool["command"] == expected.replace("{here}", str(tmp_path))


def test_what_is_not_known_is_said(tmp_path: Path) -> None:
    """A placeholder without a value here, a number that loses its zeros, a secret by its name."""
    said = remarks(
        tmp_path,
        "[program:web]\ncommand=x %(ENV_HOST)s w%(process_num)03d %(nonsense)s\nnumprocs=11\n"
        'environment=DB_PASSWORD="hunter2"\n',
    )
    command, environment = (
        "F:2: [program:web] command: differs: ",
        "F:4: [program:web] environment: differs: ",
    )
    assert said == [
        command + "%(ENV_HOST)s is not set here and left as it stands: put the value in its place",
        command + "numbers are not padded: %(process_num)03d becomes the plain number",
        command + "%(nonsense)s is not known and left as it stands: put the value in its place",
        environment + "DB_PASSWORD looks like a secret: keep it in a file, with environment_files",
    ]


@pytest.mark.parametrize(
    ("lines", "stop"),
    [
        ("command=celery worker\nstopasgroup=true", {"preset": "celery"}),
        ("command=/v/bin/python -m celery worker", {"preset": "celery"}),
        ("command=/v/bin/python /v/bin/huey_consumer.py app.huey", {"preset": "huey"}),
        ("command=nginx -g 'daemon off;'\nstopsignal=QUIT", {"preset": "nginx"}),
        (
            "command=nginx\nstopsignal=TERM",
            {"stages": [{"signal": "SIGTERM", "target": "main", "grace": "10s"}]},
        ),
        (
            "command=bash -c 'a | b'\nstopasgroup=true\nstopwaitsecs=7",
            {"stages": [{"signal": "SIGTERM", "target": "all", "grace": "7s"}]},
        ),
    ],
)
def test_stopping(tmp_path: Path, lines: str, stop: dict[str, Any]) -> None:
    """A known program gets its preset unless another signal was asked for; others get what was said."""
    assert pool_of(tmp_path, lines)["stop"] == stop


def test_a_known_program_keeps_its_own_patience(tmp_path: Path) -> None:
    """`stopwaitsecs` is the first window of the preset's ladder."""
    stages = pool_of(tmp_path, "command=celery worker\nstopwaitsecs=600")["stop"]["stages"]
    assert stages[0] == {"signal": "SIGTERM", "target": "main", "grace": "600s"}
    assert [stage["signal"] for stage in stages] == ["SIGTERM", "SIGQUIT", "SIGTERM"]


@pytest.mark.parametrize(
    ("lines", "restart"),
    [
        ("", {"policy": "on-failure"}),
        ("autorestart=false", {"policy": "never"}),
        (
            "autorestart=unexpected\nstartretries=3",
            {"policy": "on-failure", "give_up": {"starts": 4, "within": "8s"}},
        ),
        ("autorestart=Yes\nstartretries=x", {"policy": "always"}),
    ],
)
def test_restarting(tmp_path: Path, lines: str, restart: dict[str, Any]) -> None:
    """The policy, and a limit of attempts only where one was written."""
    assert pool_of(tmp_path, f"command=x\n{lines}")["restart"] == restart


def test_a_socket_of_an_fcgi_program(tmp_path: Path) -> None:
    """It stays open over restarts as it did, and how it arrives is said."""
    text = (
        "[fcgi-program:php]\ncommand=x\nsocket=unix:///run/php.sock\nsocket_owner=www:www\nsocket_mode=0600\n"
    )
    found = converted(tmp_path, text)
    assert yaml.safe_load(found.text)["pools"]["php"]["sockets"] == [
        {"name": "php", "listen": "unix:/run/php.sock", "owner": "www:www", "mode": "0600"}
    ]
    assert any("LISTEN_FDS" in one.text for one in found.remarks)


def test_nothing_is_dropped_without_a_word(tmp_path: Path) -> None:
    """Each setting that does not end up in the manifest is in the remarks, also those nobody knows."""
    text = (
        "[program:a b]\ncommand=x\npriority=1\nexitcodes=0,2\nautostart=false\nwibble=1\n"
        "stdout_logfile=NONE\n[eventlistener:mail]\ncommand=y\n[group:g]\nprograms=a\n[nonsense]\nkey=1\n"
    )
    said = "\n".join(remarks(tmp_path, text))
    for what in (
        "priority",
        "exitcodes",
        "autostart",
        "wibble",
        "NONE",
        "eventlistener",
        "programs",
        "[nonsense]",
    ):
        assert what in said
    assert "the pool is called a-b" in said
    assert not converted(tmp_path, text).is_whole


def test_what_asks_for_nothing_gets_no_remark(tmp_path: Path) -> None:
    """A configuration of defaults written out is converted in silence."""
    text = (
        "[program:web]\ncommand=x\npriority=999\nexitcodes=0\nautostart=true\nredirect_stderr=true\n"
        "process_name=%(program_name)s_%(process_num)02d\nkillasgroup=true\n"
    )
    assert remarks(tmp_path, text) == []


@pytest.mark.parametrize(
    ("raw", "why"),
    [
        (b"\xff\xfe\0", "it is not UTF-8 text (byte 0)"),
        (b"hello\n", "File contains no section headers"),
        (b"[mysqld]\nport=1\n", "it has neither [supervisord] nor any [program:NAME]"),
        (b"[program:x]\n" + b"#" * MOST_BYTES, f"it is longer than {MOST_BYTES} bytes"),
    ],
)
def test_what_is_no_configuration_is_refused(tmp_path: Path, raw: bytes, why: str) -> None:
    """One sentence that names the file and says why."""
    path = tmp_path / "f.conf"
    path.write_bytes(raw)
    with pytest.raises(SourceError) as error:
        convert(path, {})
    assert str(path) in str(error.value)
    assert why in str(error.value)


KEYS = st.sampled_from([*sorted(SETTINGS["fcgi-program"]), "wibble"])
VALUES = st.text(
    st.characters(codec="utf-8", exclude_characters="\r\n\0", exclude_categories=["Cs"]), max_size=40
)


@settings(max_examples=150, deadline=None)
@given(st.dictionaries(KEYS, VALUES, max_size=8), st.sampled_from(["program", "fcgi-program"]))
def test_any_values_are_converted_or_refused(
    tmp_path_factory: pytest.TempPathFactory, said: dict[str, str], kind: str
) -> None:
    """Never a traceback, always YAML, and each setting leaves a trace."""
    directory = tmp_path_factory.mktemp("any")
    lines = "".join(f"{key}={value}\n" for key, value in said.items())
    try:
        found = converted(directory, f"[{kind}:web]\n{lines}")
    except SourceError:
        return
    assert set(yaml.safe_load(found.text)["pools"]) == {"web"}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    """The command as an operator gives it."""
    command = [sys.executable, "-m", "supervisor.cli.pitbossd", "import-supervisord", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)


def test_the_command(tmp_path: Path) -> None:
    """A new file with tight modes, remarks on standard error, exit codes, and nothing overwritten."""
    source, target = tmp_path / "s.conf", tmp_path / "out.yaml"
    source.write_text("[program:web]\ncommand=/bin/sleep 1\npriority=3\n")
    done = run(str(source), "-o", str(target))
    assert (done.returncode, done.stdout) == (0, "")
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert f"{source}:3: [program:web] priority: {Verdict.LOST}: " in done.stderr
    assert "0 settings differ, 1 have no equivalent" in done.stderr
    assert load(target).plan.pools["web"].instances == 1
    again = run(str(source), "-o", str(target))
    assert (again.returncode, "nothing was overwritten" in again.stderr) == (1, True)
    shown = run(str(source), "--strict")
    assert shown.returncode == 1
    assert yaml.safe_load(shown.stdout)["pools"]["web"]["command"] == "/bin/sleep 1"
    missing = run(str(tmp_path / "nope"))
    assert missing.returncode == 78
    assert missing.stderr == f"pitbossd: cannot read {tmp_path}/nope: No such file or directory\n"
