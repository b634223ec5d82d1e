"""The reference of metrics, from the table that the daemon renders by."""

from collections.abc import Callable

from supervisor.telemetry.metric_table import CLOSED, TABLE, Metric

_HEAD = """# Metrics

`GET /metrics` answers with Prometheus text (0.0.4), and with OpenMetrics where that is asked for. This page
is generated from the table in `supervisor/telemetry/metric_table.py`.

* Label values come from the manifest or from the closed lists below: nothing that a worker or a client says
  becomes a label, and the number of series is known from the manifest.
* Counters of a pool begin at 0 when the pool appears in the manifest, go on over changes of its definition,
  and are gone with it. They do not outlive the daemon. Histograms begin with their first observation, which
  `rate` and `increase` therefore do not see; `pitboss_start_seconds` begins with the pool.
* A scrape is made in steps, between which the daemon goes on: each instance and each pool is shown as it was
  at some moment of the scrape, and no histogram is torn.
* The label `instance` is the name that `pitbossctl` takes (`emails/0`). Prometheus has a label of its own by
  that name, the address it scraped, and renames ours to `exported_instance` unless `honor_labels` is set.
  Leave it unset: two hosts may have an `emails/0`.
* CPU time and memory are read from `/proc` when somebody scrapes and at no other time. Up to 40 instances are
  read within the scrape; on a larger host the figures of the others are those of the previous scrape.
"""


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _row(metric: Metric) -> str:
    labels = ", ".join(f"`{label}`" for label in metric.labels) or "–"
    return f"| `{metric.name}` | {metric.kind} | {labels} | {_cell(metric.help)} |"


def page() -> str:
    """The page."""
    lines = [_HEAD, "| metric | kind | labels | meaning |", "|---|---|---|---|", *map(_row, TABLE)]
    lines += ["", "## Closed lists", "", "| metric | label | values |", "|---|---|---|"]
    for (name, label), values in CLOSED.items():
        lines.append(f"| `{name}` | `{label}` | {', '.join(f'`{value}`' for value in values)} |")
    lines += [
        "",
        "`stage` is a rung of the stop ladder: `settle`, `drain`, `hold`, `stage-1` and on, `sweep`, `kill`.",
        "`kind` of an operation is its verb.",
        "",
        "## Buckets",
        "",
    ]
    for metric in TABLE:
        if metric.buckets:
            bounds = ", ".join(f"{bound:g}" for bound in metric.buckets)
            lines.append(f"* `{metric.name}`: {bounds} seconds")
    return "\n".join(lines) + "\n"


OUTPUTS: dict[str, Callable[[], str]] = {"docs/reference/metrics.md": page}
