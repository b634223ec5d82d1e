"""Which format a scraper gets, and that what it gets is whole."""

import asyncio
from collections.abc import Iterator

import pytest

from supervisor.control.scraping import PIECE_BYTES, wants_openmetrics
from tests.control.plant import plant

OPENMETRICS = "application/openmetrics-text"
PROMETHEUS_2 = (
    "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,"
    "text/plain;version=0.0.4;q=0.5,*/*;q=0.1"
)
PROMETHEUS_3 = (
    "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
    "application/openmetrics-text;version=0.0.1;q=0.4,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.3,"
    "text/plain;version=0.0.4;q=0.2,*/*;q=0.1"
)
PROTOBUF_FIRST = (
    "application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited,"
    "application/openmetrics-text;version=1.0.0;q=0.8,text/plain;version=0.0.4;q=0.5"
)
BROWSER = "text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8"


@pytest.mark.parametrize(
    "accept",
    [
        PROMETHEUS_2,
        PROMETHEUS_3,
        PROTOBUF_FIRST,
        OPENMETRICS,
        'Application/OpenMetrics-Text ; Version="1.0.0" ; Q=0.5, text/plain;q=0.4',
        f"*/*, {OPENMETRICS}",
        f"text/plain;q=0, {OPENMETRICS};q=0.1",
        f"text/plain;q=0.1, {OPENMETRICS};q=0.5, text/*;q=0.9",
    ],
)  # fmt: skip
def test_who_prefers_openmetrics_gets_it(accept: str) -> None:
    """By name, in version 1.0.0 or whichever, and not below the text."""
    assert wants_openmetrics(accept)


@pytest.mark.parametrize(
    "accept",
    [
        "",
        "*/*",
        "text/plain",
        "application/*",
        BROWSER,
        "application/json",
        f"{OPENMETRICS};version=0.0.1",
        f"{OPENMETRICS};version=2.0.0",
        f"{OPENMETRICS};q=0",
        f"{OPENMETRICS};q=0.4, text/plain;q=0.5",
        f"{OPENMETRICS};q=0.4, text/plain;q=0.1;version=1.0.0, text/plain;version=0.0.4;q=0.5",
        f"{OPENMETRICS};q=high",
        f"{OPENMETRICS};q=nan",
        f"{OPENMETRICS};q=7",
        ",;=,;q,;;;",
        "," * 5000 + OPENMETRICS,
    ],
)
def test_everybody_else_gets_the_text(accept: str) -> None:
    """Also who accepts neither, and who sends nonsense."""
    assert not wants_openmetrics(accept)


def scrape(openmetrics: bool) -> tuple[str, Iterator[bytes]]:
    """Two formats that can be told apart; some pieces are empty, one is large."""
    body = [b"", b"a 1\n", b"", b"b" * (3 * PIECE_BYTES), b"\n", b""]
    return ("text/x-open" if openmetrics else "text/x-text"), iter([*body, b"# EOF\n"])


WHOLE = b"".join(scrape(openmetrics=True)[1])


@pytest.mark.parametrize("tcp", [False, True])
async def test_the_answer_is_whole_and_of_the_type_asked_for(tcp: bool) -> None:
    """On both listeners: type, length and body; HEAD has the same headers and no body."""
    async with plant(metrics=scrape) as one, one.tcp() as over_tcp:
        client = over_tcp if tcp else one.client
        for accept, kind in ((PROMETHEUS_3, "text/x-open"), ("*/*", "text/x-text")):
            answer = await client.get("/metrics", headers={"Accept": accept})
            head = await client.head("/metrics", headers={"Accept": accept})
            assert (answer.status_code, answer.content) == (200, WHOLE)
            assert (head.status_code, head.content) == (200, b"")
            for found in (answer, head):
                assert found.headers["content-type"] == kind
                assert found.headers["content-length"] == str(len(WHOLE))
                assert found.headers["vary"] == "Accept"
                assert "transfer-encoding" not in found.headers


async def test_two_accept_headers_are_one() -> None:
    """A list may be split over several headers (RFC 9110, 5.3)."""
    async with plant(metrics=scrape) as one:
        headers = [("Accept", "text/plain;q=0.5"), ("Accept", OPENMETRICS)]
        assert (await one.client.get("/metrics", headers=headers)).headers["content-type"] == "text/x-open"


async def test_the_loop_turns_while_a_scrape_is_made() -> None:
    """Between two pieces others get their turn: this one waits for it in every step."""
    turned = 0

    def slow(_openmetrics: bool) -> tuple[str, Iterator[bytes]]:
        def pieces() -> Iterator[bytes]:
            for _ in range(20):
                before = turned
                asyncio.get_running_loop().call_soon(turn)
                until = asyncio.get_running_loop().time() + 0.002
                while asyncio.get_running_loop().time() < until:
                    pass
                yield b""
                assert turned > before
            yield b"x 1\n"

        return "text/plain", pieces()

    def turn() -> None:
        nonlocal turned
        turned += 1

    async with plant(metrics=slow) as one:
        assert (await one.client.get("/metrics")).content == b"x 1\n"
        assert turned == 20


async def test_a_scraper_that_does_not_read_holds_up_nobody() -> None:
    """Its answer waits for room while another scrape is served."""
    async with plant(metrics=lambda _: ("text/plain", iter([b"x" * (32 * 1024 * 1024)]))) as one:
        _, writer = await one.connect(tcp=True)
        writer.write(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\n\r\n")
        await writer.drain()
        async with one.tcp() as client:
            assert len((await client.get("/metrics")).content) == 32 * 1024 * 1024
        writer.close()
