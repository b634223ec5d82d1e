"""The JSON Schema of the manifest, for editors.

Decides nothing about the format, it is derived from the model. A schema can say what one value looks
like, not what holds between values: what it accepts may still be refused by `load`.
"""

from typing import Any

from supervisor.manifest.model import Document

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def schema() -> dict[str, Any]:
    """The schema as plain data, the same on every machine."""
    derived: dict[str, Any] = _tidied(Document.model_json_schema(by_alias=True))
    derived["properties"]["pools"]["additionalProperties"] = False
    # Another file, or the defaults, may say what one file does not.
    derived.pop("required")
    derived["$defs"]["Pool"].pop("required")
    return {"$schema": DIALECT, "title": "pitboss manifest", **derived}


_REQUEST = {"$ref": "#/$defs/HttpRequest"}
_URL = {"type": "string", "pattern": "^http://"}


def _tidied(node: Any) -> Any:
    """A copy without titles, which repeat the name of each key, and with a URL wherever a request may be."""
    if isinstance(node, list):
        items = [_tidied(item) for item in node]
        return [_URL, *items] if _REQUEST in items else items
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _tidied(value) for name, value in content.items()}
        if key in {"properties", "$defs"}
        else _tidied(content)
        for key, content in node.items()
        if key != "title"
    }
