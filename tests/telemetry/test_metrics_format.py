"""The text of a scrape: any value is read back, and nothing is rendered twice for nothing."""

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.openmetrics.parser import text_string_to_metric_families as parse_openmetrics
from prometheus_client.parser import text_string_to_metric_families as parse_text

from supervisor.core.effects import (
    Cause,
    Moved,
    ReadyChanged,
    Report,
    TasksReported,
)
from supervisor.core.identity import InstanceId
from supervisor.core.phases import Phase
from supervisor.telemetry.exposition import Family, Histogram, escaped, number
from supervisor.telemetry.metric_table import Kind, Metric
from supervisor.telemetry.metrics import Metrics
from tests.telemetry.scripted import Clock, filled, make_host, samples


@given(st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\r"), max_size=30))
def test_any_label_value_is_read_back(value: str) -> None:
    """Quotes, backslashes and newlines in a name come out of both parsers as they went in."""
    family = Family(Metric("x", Kind.GAUGE, "help", ("label",)))
    family.set(1, value)
    text = "# HELP x help\n# TYPE x gauge\n" + family.text().decode()
    for parse, ending in ((parse_text, ""), (parse_openmetrics, "# EOF\n")):
        parsed = parse(text + ending)
        assert [one.labels for one in next(iter(parsed)).samples] == [{"label": value}]
    assert "\n" not in escaped(value)


@given(st.floats() | st.integers(-(2**70), 2**70))
def test_any_value_is_read_back(value: float) -> None:
    """Also infinities, NaN, and numbers too large for a float's integers."""
    text = number(value)
    assert float(text) == float(value) or (math.isnan(value) and text == "NaN")


@given(st.lists(st.floats(0, 1000), max_size=50))
def test_a_histogram_adds_up(values: list[float]) -> None:
    """Buckets are cumulative with inclusive bounds, the last is the count."""
    bounds = (0.5, 1.0, 10.0)
    histogram = Histogram(Metric("x", Kind.HISTOGRAM, "help", (), bounds))
    histogram.begin()
    for value in values:
        histogram.observe(value)
    found = {}
    for sample in next(iter(parse_text("# TYPE x histogram\n" + histogram.text().decode()))).samples:
        found[sample.name, sample.labels.get("le")] = sample.value
    for bound in bounds:
        assert found["x_bucket", repr(bound)] == sum(value <= bound for value in values)
    assert found["x_bucket", "+Inf"] == found["x_count", None] == len(values)
    assert found["x_sum", None] == pytest.approx(sum(values))


def test_an_unchanged_family_is_not_rendered_again() -> None:
    """The text of a family is kept until something in it changes."""
    family = Family(Metric("x_total", Kind.COUNTER, "help", ("a",)))
    family.add(1, "b")
    first = family.text()
    assert family.text() is first
    family.set(1, "b")
    assert family.text() is first
    family.add(0.5, "b")
    assert family.text() == b'x_total{a="b"} 1.5\n'


@pytest.mark.parametrize("openmetrics", [False, True])
def test_a_scrape_is_sound_whatever_happens_between_its_pieces(openmetrics: bool) -> None:
    """Instances move, tasks end and pools go while the text is made: it is parsed all the same.

    No histogram is torn, and the work is done in steps: several for a thousand instances.
    """
    metrics = Metrics(version="1", clock=Clock())
    host = make_host(1000)
    metrics([], host, 0.0)
    _, pieces = metrics.scrape(openmetrics=openmetrics)
    got = []
    for turn, piece in enumerate(pieces):
        got.append(piece)
        key = InstanceId("emails", turn)
        reports: list[Report] = [Moved(key, 1, Phase.PENDING, Phase.STARTING, Cause.BOOT)]
        reports += [TasksReported(key, 1, 0, 0, (0.3, 7.0)), ReadyChanged(key, 1, True, "", 0.2)]
        if "web" in host.pools and turn > 20:
            host.plan = replace(host.plan, pools={"emails": host.plan.pools["emails"]})
            del host.pools["web"], host.census["web"], host.instances[InstanceId("web", 0)]
        metrics(reports, host, 1.0)
    assert sum(not piece for piece in got) > 5
    parse = parse_openmetrics if openmetrics else parse_text
    found = {
        (sample.name, *sample.labels.values()): sample.value
        for family in parse(b"".join(got).decode())
        for sample in family.samples
    }
    assert len([key for key in found if key[0] == "pitboss_instance_up"]) == 1000
    for name in ("pitboss_task_seconds", "pitboss_start_seconds"):
        for labels in [one[1:] for one in found if one[0] == f"{name}_count"]:
            assert found[f"{name}_count", *labels] == found[f"{name}_bucket", *labels, "+Inf"]
    after = samples(metrics)
    assert after["pitboss_tasks_total", "emails", "completed"] == len(got)
    assert not [key for key in after if "web" in key]


def test_a_scrape_that_is_dropped_half_way_does_no_harm() -> None:
    """The client of one scrape has left; the next one is whole."""
    metrics, _ = filled()
    whole = samples(filled()[0])
    for length in range(0, 40, 3):
        _, pieces = metrics.scrape()
        for _ in zip(range(length), pieces, strict=False):
            pass
    assert {key for key in samples(metrics) if key[0].startswith("pitboss")} == {
        key for key in whole if key[0].startswith("pitboss")
    }
