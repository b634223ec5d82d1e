"""`%(process_num)02d` and its like: the placeholders of supervisord, written as templates of a manifest.

Decides only the text. What is not known outside a running supervisord is left as it stands and said.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Complain = Callable[[str], None]

_PLACEHOLDER = re.compile(
    r"(?P<digits>\d*)%(?:\((?P<name>[^)]*)\)(?P<form>0?\d*[sd])|(?P<percent>%)|(?P<stray>.?))", re.DOTALL
)


@dataclass(frozen=True, slots=True)
class Expansion:
    """What the placeholders of one program stand for; `first` is its numprocs_start."""

    fixed: Mapping[str, str]
    environment: Mapping[str, str]
    numprocs: int
    first: int

    def expand(self, text: str, complain: Complain) -> str:
        """The text for a manifest; `complain` hears of what has no equivalent."""
        return _PLACEHOLDER.sub(lambda found: self._one(found, complain), text.replace("{{", "{{ '{{' }}"))

    def _one(self, found: re.Match[str], complain: Complain) -> str:
        digits, name, form = found["digits"], found["name"], found["form"]
        if found["percent"]:
            return digits + "%"
        if name is None:
            complain(f"the lone % in {found.group()!r} is kept as it stands; supervisord would refuse it")
            return found.group()
        if name == "process_num":
            return self._number(digits, form, complain)
        if name.startswith("ENV_"):
            value = self.environment.get(name[4:])
            if value is None:
                complain(f"%({name})s is not set here and left as it stands: put the value in its place")
                return found.group()
            complain(f"%({name})s is written out as the value that it has in this environment")
            return digits + value.replace("{{", "{{ '{{' }}")
        if name not in self.fixed:
            complain(f"%({name}){form} is not known and left as it stands: put the value in its place")
            return found.group()
        return digits + self.fixed[name]

    def _number(self, digits: str, form: str, complain: Complain) -> str:
        width = int(form[:-1] or 0) if form[:-1] else 0
        last = self.first + self.numprocs - 1
        if width > 1 and len(str(last)) <= width:
            if digits and not digits.startswith("0"):
                # `80%(process_num)02d` is the idiom for ports: 8000, 8001, ...
                return _index(int(digits) * 10**width + self.first)
            if len(str(self.first)) == len(str(last)):
                return digits + "0" * (width - len(str(last))) + _index(self.first)
        if width > len(str(self.first)):
            complain(f"numbers are not padded: %(process_num){form} becomes the plain number")
        return digits + _index(self.first)


def _index(first: int) -> str:
    return "{{ index }}" if first == 0 else f"{{{{ {first} + index }}}}"
