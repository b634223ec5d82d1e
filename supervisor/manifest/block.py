"""What every block of the manifest has in common, and which keys are kept for a later version.

Decides how a block is validated. Which blocks and keys there are is in `model`.
"""

from pydantic import BaseModel, ConfigDict, model_validator

LATER = {
    "Pool": frozenset({"requires", "schedule"}),
    "Rollout": frozenset({"on_failure"}),
    "Limits": frozenset({"memory", "cpu", "pids"}),
    "Control": frozenset({"tls", "tokens", "roles", "token_file", "certificate", "client_ca"}),
}
"""Keys that are understood and refused: what they promise is not kept yet."""


def later_keys(block: type[BaseModel]) -> frozenset[str]:
    """The keys that a block will have some day; `defaults` has those of a pool."""
    return LATER.get("Pool" if block.__name__ == "Defaults" else block.__name__, frozenset())


class Block(BaseModel):
    """A mapping of known keys. A key whose value is null counts as not written."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, strict=True, use_attribute_docstrings=True, hide_input_in_errors=True
    )

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, data: object) -> object:
        if not isinstance(data, dict):
            return data
        known = {field.alias or name for name, field in cls.model_fields.items()}
        known |= later_keys(cls)
        return {key: value for key, value in data.items() if value is not None or key not in known}
