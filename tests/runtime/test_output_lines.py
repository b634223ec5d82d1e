"""Framing, tail and rate limit: whatever the bytes are, lines stay whole and memory stays bounded."""

import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.core.identity import InstanceId
from supervisor.core.launch import LogFormat
from supervisor.runtime.log_lines import (
    LONGEST_LINE,
    TAIL_BYTES,
    TAIL_LINE_BYTES,
    TAIL_LINES,
    RateLimit,
    Stamps,
    Tail,
    framing,
    printable,
)

EMAILS = InstanceId("emails", 3)
STAMP = rb"2001-09-09T01:46:40\.123Z"

BLOCKS = st.lists(st.binary(min_size=1, max_size=60) | st.just(b"\n") | st.just(b"a\n"), max_size=20)


def stamps() -> Stamps:
    """A wall clock that stands still."""
    return Stamps(lambda: 1_000_000_000.1234)


@given(BLOCKS)
def test_raw_is_as_it_came(blocks: list[bytes]) -> None:
    """Not one byte is changed, however the blocks are cut."""
    frame = framing(LogFormat.RAW, EMAILS, stamps())
    assert b"".join(map(frame.take, blocks)) == b"".join(blocks)


@given(BLOCKS)
def test_each_line_begins_with_its_time(blocks: list[bytes]) -> None:
    """Without the times the text is as it came, and each line has exactly one."""
    frame = framing(LogFormat.TIMESTAMP, EMAILS, stamps())
    written = b"".join(map(frame.take, blocks))
    text = b"".join(blocks)
    assert re.sub(rb"(?m)^" + STAMP + b" ", b"", written) == text
    assert len(re.findall(rb"(?m)^" + STAMP + b" ", written)) == text.count(b"\n") + (text[-1:] not in b"\n")


@given(BLOCKS)
def test_each_line_is_an_object(blocks: list[bytes]) -> None:
    """Every line of the JSON format parses, and the messages are the lines in order."""
    frame = framing(LogFormat.JSON, EMAILS, stamps())
    frame.generation = 7
    written = b"".join(map(frame.take, blocks)) + frame.end_line()
    objects = [json.loads(line) for line in written.split(b"\n")[:-1]]
    expected = b"".join(blocks).decode("utf-8", "replace").split("\n")
    if not expected[-1]:
        expected.pop()
    assert [one["message"] for one in objects] == expected
    for one in objects:
        assert one["time"] == "2001-09-09T01:46:40.123Z"
        assert (one["pool"], one["instance"], one["generation"]) == ("emails", "emails/3", 7)


def test_a_character_cut_by_a_block_is_whole_again() -> None:
    """Two halves of one UTF-8 character in two blocks make that character."""
    frame = framing(LogFormat.JSON, EMAILS, stamps())
    text = "Grüße\n".encode()
    written = frame.take(text[:3]) + frame.take(text[3:])
    assert json.loads(written)["message"] == "Grüße"


def test_an_endless_line_becomes_pieces() -> None:
    """A line without an end takes bounded memory and is marked as partial, and nothing of it is lost."""
    frame = framing(LogFormat.JSON, EMAILS, stamps())
    block, written = b"x" * 8192, b""
    for _ in range(40):
        written += frame.take(block)
    written += frame.take(b"end\nnext\n")
    objects = [json.loads(line) for line in written.split(b"\n")[:-1]]
    assert [one.get("partial", False) for one in objects] == [True] * 5 + [False, False]
    assert "".join(one["message"] for one in objects[:-1]) == "x" * 8192 * 40 + "end"
    assert all(len(one["message"]) <= LONGEST_LINE for one in objects)
    assert objects[-1]["message"] == "next"


@pytest.mark.parametrize("form", list(LogFormat))
def test_an_unfinished_line_can_be_ended(form: LogFormat) -> None:
    """After the end of a generation the next one begins on a line of its own, once."""
    frame = framing(form, EMAILS, stamps())
    written = frame.take(b"half") + frame.end_line() + frame.end_line() + frame.take(b"whole\n")
    assert written.count(b"\n") == 2
    first, second, _ = written.split(b"\n")
    assert b"half" in first
    assert b"whole" in second


def test_a_time_is_rendered_anew_each_second() -> None:
    """The cached second is given up when it is over, also backwards."""
    moments = iter([1.0, 1.5, 2.25, 1.0])
    clock = Stamps(lambda: next(moments))
    assert [clock() for _ in range(4)] == [
        "1970-01-01T00:00:01.000Z",
        "1970-01-01T00:00:01.500Z",
        "1970-01-01T00:00:02.250Z",
        "1970-01-01T00:00:01.000Z",
    ]


# ── tail ─────────────────────────────────────────────────────────────────────────────────────────


def test_the_tail_is_the_last_lines() -> None:
    """The newest lines in order, an unfinished one included."""
    tail = Tail()
    tail.add(b"one\ntwo\nth")
    tail.add(b"ree\nfo")
    assert tail.lines(2) == ("three", "fo")
    assert tail.lines(10) == ("one", "two", "three", "fo")
    assert tail.lines(0) == ()


@given(st.lists(st.binary(min_size=1, max_size=100_000), max_size=6), st.integers(-1, 1000))
def test_the_tail_is_bounded(blocks: list[bytes], count: int) -> None:
    """No input makes it larger than its ceiling or shows a control character."""
    tail = Tail()
    for block in blocks:
        tail.add(block)
        assert len(tail._text or b"") <= TAIL_BYTES
    lines = tail.lines(count)
    assert len(lines) <= max(0, min(count, TAIL_LINES))
    for line in lines:
        assert len(line) <= TAIL_LINE_BYTES + 50
        assert not re.search(r"[\x00-\x08\x0a-\x1f\x7f-\x9f]", line)


def test_the_tail_of_much_output_has_only_whole_lines() -> None:
    """The line whose beginning was forgotten is not shown as if it were whole."""
    tail = Tail()
    for number in range(20_000):
        tail.add(b"line %06d\n" % number)
    lines = tail.lines(TAIL_LINES)
    assert lines == tuple(f"line {number:06d}" for number in range(20_000 - TAIL_LINES, 20_000))


def test_a_long_line_of_the_tail_is_cut_with_a_mark() -> None:
    """What is missing is said, at either end."""
    tail = Tail()
    tail.add(b"y" * 10_000 + b"\nafter\n")
    long, after = tail.lines(5)
    assert long == "y" * TAIL_LINE_BYTES + f" [pitboss: {10_000 - TAIL_LINE_BYTES} bytes cut]"
    assert after == "after"
    tail.add(b"z" * 200_000)
    (only,) = tail.lines(5)
    assert only.startswith("[...] zzz")
    assert only.endswith("bytes cut]")


def test_a_terminal_is_not_obeyed() -> None:
    """Colours, titles, cursor moves, and marks that turn the reading direction are taken out."""
    hostile = "\x1b[31mred\x1b[0m \x1b]0;title\x07\x1b[2Jdone\r\x08\x9b5m\u202eabc\ttab"
    assert printable(hostile) == "red done5mabc\ttab"


# ── rate limit ───────────────────────────────────────────────────────────────────────────────────


def test_within_the_rate_everything_is_kept() -> None:
    """A worker below its limit never notices it."""
    limit = RateLimit(1_000_000, 0.0)
    for second in range(100):
        assert limit.admit(b"x" * 999_999 + b"\n", float(second)) == (0, b"x" * 999_999 + b"\n")


def test_above_the_rate_whole_lines_are_dropped() -> None:
    """What is kept are whole lines; the note counts every byte that is missing; the rate holds."""
    limit = RateLimit(100_000, 0.0)
    line = b"0123456789abcdefghi\n"
    kept, gaps, sent = b"", 0, 0
    for turn in range(2000):
        block = line * 37 + line[: turn % 20]
        block = (line * 40)[sent % 20 : sent % 20 + len(block)]
        sent += len(block)
        gap, part = limit.admit(block, turn / 1000)
        gaps += gap
        kept += part
    assert set(kept.split(b"\n")) <= {line[:-1], b"", *(line[:cut] for cut in range(20))}
    torn = [part for part in kept.split(b"\n")[:-1] if part != line[:-1]]
    assert not torn
    assert len(kept) <= 100_000 * 3 + len(line)
    assert len(kept) >= 100_000 * 2
    assert len(kept) + gaps + limit._dropped == sent


@given(
    st.lists(st.tuples(st.binary(min_size=1, max_size=5000), st.floats(0, 3)), max_size=40),
    st.integers(1, 9000),
)
def test_the_rate_limit_accounts_for_every_byte(blocks: list[tuple[bytes, float]], rate: int) -> None:
    """Kept and dropped add up, whatever comes and when."""
    limit, now, kept, gaps, sent = RateLimit(rate, 0.0), 0.0, 0, 0, 0
    for block, pause in blocks:
        now += pause
        gap, part = limit.admit(block, now)
        assert part in block
        assert part or not gap
        kept, gaps, sent = kept + len(part), gaps + gap, sent + len(block)
    assert kept + gaps + limit._dropped == sent
    assert kept <= LONGEST_LINE + rate * now + 1


def test_a_long_line_passes_a_low_limit() -> None:
    """A line that is longer than a second's worth gets through when the bucket is full."""
    limit = RateLimit(100, 0.0)
    line = b"x" * 5000 + b"\n"
    assert limit.admit(line, 0.0) == (0, line)
