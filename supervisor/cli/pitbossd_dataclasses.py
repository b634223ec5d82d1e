"""Keeps `dataclasses` from writing for each class what is the same for all, and compiling it.

Decides which methods all dataclasses of a daemon share: how one is shown, and how a frozen one refuses to be
changed. What a hundred classes have of their own for that is half a MiB, and a tenth of loading a daemon.
What makes and compares values stays their own: that is asked for all day long. See
docs/decisions/0024-what-a-daemon-imports.md.
"""

import dataclasses
import inspect
from reprlib import recursive_repr
from typing import Any


def share_methods() -> None:
    """Call it before the first dataclass is made; those that are there already keep what they have."""
    inside = vars(dataclasses)
    inside["inspect"] = _Inspect()
    if "_FuncBuilder" in inside:
        # From Python 3.13 on, all methods of a class are written at once.
        inside["_FuncBuilder"] = _sharing(inside["_FuncBuilder"])
    elif "_repr_fn" in inside and "_frozen_get_del_attr" in inside:
        inside["_repr_fn"] = lambda *_about: _shown
        inside["_frozen_get_del_attr"] = lambda *_about: (_Frozen.__setattr__, _Frozen.__delattr__)


@recursive_repr()
def _shown(value: Any) -> str:
    fields = (f"{one.name}={getattr(value, one.name)!r}" for one in dataclasses.fields(value) if one.repr)
    return f"{type(value).__qualname__}({', '.join(fields)})"


class _Inspect:
    """For `dataclasses`: they ask for the fields of a class, and write below one without a word its call."""

    @staticmethod
    def get_annotations(of: type) -> dict[str, object]:
        return dict(vars(of).get("__annotations__", ()))

    @staticmethod
    def signature(_of: object, **_options: object) -> str:
        return "()"

    def __getattr__(self, name: str) -> object:
        return getattr(inspect, name)


class _Frozen:
    """Its methods are those of frozen dataclasses. A class below one may have more that can be changed."""

    def __setattr__(self, name: str, value: object) -> None:
        _refuse(self, name, "assign to")
        object.__setattr__(self, name, value)

    def __delattr__(self, name: str) -> None:
        _refuse(self, name, "delete")
        object.__delattr__(self, name)


def _refuse(value: Any, name: str, what: str) -> None:
    if "__dataclass_fields__" in vars(type(value)) or name in value.__dataclass_fields__:
        raise dataclasses.FrozenInstanceError(f"cannot {what} field {name!r}")


def _sharing(builder: Any) -> Any:
    """Something that writes the methods of a class, but not those that all share."""
    shared = {"__repr__": _shown, "__setattr__": _Frozen.__setattr__, "__delattr__": _Frozen.__delattr__}

    class Sharing(builder):  # type: ignore[misc]  # of which base is known when it is called
        def __init__(self, seen: dict[str, Any]) -> None:
            super().__init__(seen)
            self.taken: dict[str, bool] = {}

        def add_fn(self, name: str, *about: Any, overwrite_error: bool = False, **more: Any) -> None:
            if name not in shared:
                super().add_fn(name, *about, overwrite_error=overwrite_error, **more)
            else:
                self.taken[name] = overwrite_error

        def add_fns_to_class(self, of: type) -> None:
            super().add_fns_to_class(of)
            for name, must_be_new in self.taken.items():
                if name not in vars(of):
                    setattr(of, name, shared[name])
                elif must_be_new:
                    raise TypeError(f"Cannot overwrite attribute {name} in class {of.__name__}")

    return Sharing
