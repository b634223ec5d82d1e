"""The table of every supervisord setting in the how-to page, from what the converter knows."""

from supervisor.manifest.supervisord.settings import SECTIONS, SETTINGS, Known

_FIRST_KEYS = frozenset(SETTINGS["program"])


def table() -> str:
    """One row for each setting; those of `[fcgi-program]` that `[program]` has too are not repeated."""
    rows = ["| section | setting | in a manifest | | |", "|---|---|---|---|---|"]
    for section, settings in SETTINGS.items():
        shown = (
            f"[{section}]" if section in {"supervisord", "include"} or "http" in section else f"[{section}:x]"
        )
        for key, known in settings.items():
            if section != "fcgi-program" or key not in _FIRST_KEYS:
                rows.append(_row(shown, f"`{key}`", known))
    rows.extend(_row(f"[{section}]", "all", known) for section, known in SECTIONS.items())
    return "\n".join(rows)


def _row(section: str, key: str, known: Known) -> str:
    equivalent = (
        known.equivalent if "`" in known.equivalent or not known.equivalent else f"`{known.equivalent}`"
    )
    return f"| {section} | {key} | {equivalent} | {known.verdict} | {known.note} |"


OUTPUTS = {"docs/how-to/migrate-from-supervisord.md#settings": table}
