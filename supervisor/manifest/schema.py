"""The JSON Schema of the manifest, for editors.

Decides nothing about the format, it is derived from the model. A schema can say what one value looks
like, not what holds between values: what it accepts may still be refused by `load`.
"""

from typing import Any

from supervisor.manifest.model import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema as plain data, the same on every machine."""
    derived: dict[str, Any] = _without_titles(Document.model_json_schema(by_alias=True))
    derived["properties"]["pools"]["additionalProperties"] = False
    # Another file, or the defaults, may say what one file does not.
    derived.pop("required")
    derived["$defs"]["Pool"].pop("required")
    return {"$schema": DIALECT, "title": "pitboss manifest", **derived}


def _without_titles(node: Any) -> Any:  # noqa: ANN401
    """A copy without the titles that repeat the name of each key."""
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_titles(value) for name, value in content.items()}
        if key in {"properties", "$defs"}
        else _without_titles(content)
        for key, content in node.items()
        if key != "title"
    }
