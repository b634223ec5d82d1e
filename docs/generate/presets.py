"""The table of stop presets in the how-to page, from the presets themselves."""

from supervisor.core.plan import Stage, Target
from supervisor.manifest.presets import PRESETS


def _stage(stage: Stage) -> str:
    whom = " to all" if stage.target is Target.ALL else ""
    return f"{stage.signal}{whom} {stage.grace_seconds:g} s"


def table() -> str:
    """One row for each preset: its ladder, and why it is so."""
    rows = ["| preset | ladder, before SIGKILL | why |", "|---|---|---|"]
    for name, preset in PRESETS.items():
        stages = [_stage(stage) for stage in preset.stages]
        if preset.drain_signal is not None:
            stages.insert(0, f"drain: {preset.drain_signal} {preset.drain_window_seconds:g} s")
        rows.append(f"| `{name}` | {', '.join(stages)} | {preset.why} |")
    return "\n".join(rows)


OUTPUTS = {"docs/how-to/stop-signals.md#presets": table}
