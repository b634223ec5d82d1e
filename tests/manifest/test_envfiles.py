"""Environment files: their grammar, and that no complaint repeats what they hold."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

from pathlib import Path

import pytest

from supervisor.manifest.envfiles import EnvironmentFileError, parse, read

GOOD = r"""
# a comment
; another
A=1
  B = two words # not a comment
export C='single $NAME \n # "quotes"'
D="double \"quoted\" \\ \$NAME\ttab" # a comment
E=
F="first
second"
G="joined \
line"
H=a=b=c
I='it''
""".replace("I='it''\n", "")


def test_the_grammar() -> None:
    """Quotes as systemd and dotenv have them; nothing is expanded."""
    assert parse(GOOD) == {
        "A": "1",
        "B": "two words # not a comment",
        "C": r'single $NAME \n # "quotes"',
        "D": 'double "quoted" \\ $NAME\ttab',
        "E": "",
        "F": "first\nsecond",
        "G": "joined line",
        "H": "a=b=c",
    }
    assert parse("A=1\r\nB='x\r\ny'\r\n") == {"A": "1", "B": "x\ny"}
    assert parse('K="\n-----BEGIN-----\nabc\n-----END-----\n"\nZ=1') == {
        "K": "\n-----BEGIN-----\nabc\n-----END-----\n",
        "Z": "1",
    }


@pytest.mark.parametrize(
    ("text", "line", "complaint"),
    [
        ("A=1\nhunter2\n", 2, 'expected NAME=value, found a line without "="'),
        ("A=1\nhunter2 hunter2=\n", 2, "expected a name of letters, digits and _, found something else"),
        ("=hunter2\n", 1, "expected a name of letters, digits and _, found something else"),
        ("A='hunter2\nhunter2\n", 1, "expected a closing quote, found the end of the file"),
        ("\nA='hunter2'hunter2\n", 2, "expected nothing after the closing quote, found more"),
        ("NOTIFY_SOCKET=hunter2", 1, "expected a variable of the worker, found NOTIFY_SOCKET (pitbossd sets it)"),
        ("PITBOSS_POOL=hunter2", 1, "expected a variable of the worker, found PITBOSS_POOL (pitbossd sets it)"),
        ("A=" + "hunter2" * 20_000, 1, "expected at most 131071 bytes, found a longer value"),
    ],
)  # fmt: skip
def test_what_is_refused(text: str, line: int, complaint: str) -> None:
    """Each mistake has its line and no word of the file."""
    with pytest.raises(EnvironmentFileError) as caught:
        parse(text)
    assert (caught.value.line, caught.value.message) == (line, complaint)
    assert "hunter2" not in str(caught.value)


def test_a_missing_file(tmp_path: Path) -> None:
    """A file may be missing only where the manifest says so."""
    assert read(tmp_path / "nope", optional=True) == {}
    with pytest.raises(EnvironmentFileError, match="cannot read the environment file: no such file"):
        read(tmp_path / "nope")
    (tmp_path / "bad").write_bytes(b"\xff\xfe")
    with pytest.raises(EnvironmentFileError, match="it is not UTF-8 text"):
        read(tmp_path / "bad", optional=True)
