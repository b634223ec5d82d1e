"""Text from outside: nothing that a daemon or a worker wrote can steer the operator's terminal."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli.ctl.durations import age, left, parse_duration, took
from supervisor.cli.ctl.text import Span, clean, clip, clip_line, clip_name, line_width, wrap
from supervisor.cli.ctl.text import width as cells_of
from tests.cli.ctl_runs import ESCAPES, ctl, on_terminal
from tests.cli.stub_daemon import Stub, host, instance, last_exit, pool

HOSTILE = (
    "\x1b[2J\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b]52;c;ZWNobw==\x1b\\ \x9b2J \x07\x08\x7f "
    "[bold]markup[/bold] :warning: \u202eesrever \u200bzero\nnext\r\ttab\x00"
)


@given(st.text(max_size=300))
def test_clean_leaves_no_control_character(text: str) -> None:
    """No category C survives but what replaces it, and no line break."""
    cleaned = clean(text)
    assert all(unicodedata.category(character)[0] != "C" for character in cleaned)
    assert "\n" not in cleaned
    assert len(cleaned) <= len(text)


@given(st.text(alphabet=st.sampled_from("\x1b[]0;m\x07\x9b\x9d\\a"), max_size=60))
def test_clean_survives_broken_sequences(text: str) -> None:
    """Halves of escape sequences are no way around it."""
    assert "\x1b" not in clean(text)
    assert "\x9b" not in clean(text)


def test_clean_keeps_what_people_wrote() -> None:
    """Letters, brackets and signs stay; colour goes."""
    assert clean(HOSTILE) == "red   ��� [bold]markup[/bold] :warning: esrever zero next  tab�"


@given(st.text(max_size=80).map(clean), st.integers(min_value=1, max_value=90))
def test_clip_and_wrap_fit(text: str, cells: int) -> None:
    """Whatever the script: nothing is wider than asked for."""
    assert cells_of(clip(text, cells)) <= cells
    assert cells_of(clip(text, cells, "...")) <= max(cells, 0)
    assert line_width(clip_line((Span(text), Span("  "), Span(text, "dim")), cells)) <= cells
    if cells > 1:
        assert all(cells_of(line) <= cells for line in wrap(text, cells))


def test_a_name_is_clipped_before_its_index() -> None:
    """The index tells instances apart."""
    assert clip_name("thumbnails/130", 10) == "thumb…/130"
    assert clip_name("thumbnails", 6) == "thumb…"
    assert clip_name("a/1", 10) == "a/1"


def test_nothing_hostile_reaches_a_pipe_or_a_terminal() -> None:
    """Status text, names, reasons and last lines: in a pipe no escape, on a terminal only our own colours."""
    bad = instance(
        "emails/0",
        phase="backoff",
        ready=False,
        status_text=HOSTILE,
        waiting_for=HOSTILE,
        last_exit=last_exit(HOSTILE, last_lines=[HOSTILE, "plain"]),
    )
    evil = pool("emails", [bad], status=HOSTILE, reasons=[HOSTILE], depends_on={HOSTILE: HOSTILE})
    status = host(evil, name=HOSTILE, version=HOSTILE, ready=False, reasons=[HOSTILE])
    with Stub(status) as stub:
        for arguments in (
            ["status"],
            ["explain", "emails/0"],
            ["explain", "emails"],
            ["wait", "emails", "--timeout", "1ms"],
        ):
            piped = ctl(stub, *arguments).output
            assert all(character == "\n" or unicodedata.category(character)[0] != "C" for character in piped)
            shown = on_terminal(stub, *arguments, columns=200).output
            own = {escape[-1] for escape in ESCAPES.findall(shown)}
            assert own <= set("mlhAKG")
            assert "]52" not in shown
            assert "[bold]markup[/bold]" in shown + piped
        assert ctl(stub, "status", "--json").stdout.isascii()


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("30s", 30.0),
        ("5m", 300.0),
        ("1h30m", 5400.0),
        ("500ms", 0.5),
        ("90", 90.0),
        ("1.5", 1.5),
        ("1d", 86400.0),
        ("1.5m", 90.0),
    ],
)
def test_durations_are_read(text: str, seconds: float) -> None:
    """As a manifest writes them."""
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "soon", "5x", "-1", "1h-3m", "nan", "inf", "400d", "s", "5 m 3"])
def test_what_is_no_duration_is_refused(text: str) -> None:
    """With the text in the message."""
    with pytest.raises(ValueError, match="is not"):
        parse_duration(text)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "0s"),
        (0.9, "0s"),
        (59.9, "59s"),
        (60, "1m00s"),
        (192, "3m12s"),
        (3720, "1h02m"),
        (273600, "3d04h"),
        (10_368_000, "120d"),
    ],
)
def test_ages_are_short(seconds: float, text: str) -> None:
    """Six characters at most."""
    assert age(seconds) == text
    assert len(age(seconds)) <= 6


def test_time_left_is_rounded_up() -> None:
    """0s means that it is over."""
    assert (left(0.2), left(0.0), left(47.0), left(47.01)) == ("1s", "0s", "47s", "48s")
    assert (took(0.42), took(9.97), took(65.0)) == ("0.4s", "10s", "1m05s")
