"""`{{ 8000 + index }}`: the words that differ between the instances of a pool.

Decides a language so small that it can be checked before anything runs: whole numbers, `+ - * // %`,
parentheses, and the names `index`, `generation`, `pool` and `instance`. A divisor must be a number
other than zero, so that no expression which was accepted can fail later.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple, NoReturn

from supervisor.core.identity import InstanceId
from supervisor.manifest.problems import quoted

LONGEST_EXPRESSION = 200
"""Characters between the braces. It bounds the work and the numbers that can come out."""

MOST_EXPRESSIONS = 100
"""Expressions in one text."""

LATE_GENERATION = 10**9
"""A generation that no worker reaches: what makes sense in the first and in this one always does."""

_NESTING = 20
_TOKEN = re.compile(
    r"[ \t]*(?:(?P<end>\}\})|(?P<number>[0-9]+)|(?P<name>[A-Za-z_]\w*)"
    r"|(?P<text>'[^'\n]*')|(?P<operator>//|[-+*%()]))"
)
_NUMBER_DIGITS = 12


class TemplateError(ValueError):
    """A template that makes no sense; the text says what was expected and found, and where."""


@dataclass(frozen=True, slots=True)
class Scope:
    """What the names of a template stand for."""

    pool: str
    index: int
    generation: int

    @property
    def instance(self) -> str:
        """The instance as it is written: `emails/0`."""
        return str(InstanceId(self.pool, self.index))


Numbers = Callable[[Scope], int]
Expression = Callable[[Scope], str]

_NUMBERS: dict[str, Numbers] = {
    "index": lambda scope: scope.index,
    "generation": lambda scope: scope.generation,
}
_TEXTS: dict[str, Expression] = {
    "pool": lambda scope: scope.pool,
    "instance": lambda scope: scope.instance,
}


@dataclass(frozen=True, slots=True)
class Template:
    """A text with its expressions; `spans` are their places in the source, braces included.

    One that is not constant is what `parse` makes of its source, and nothing else.
    """

    source: str
    parts: tuple[str | Expression, ...]
    spans: tuple[tuple[int, int], ...] = ()

    @property
    def constant(self) -> bool:
        """Whether every instance gets the same text."""
        return not any(callable(part) for part in self.parts)

    def render_constant(self) -> str:
        """The text of a template that is the same for every instance."""
        return "".join(part for part in self.parts if isinstance(part, str))

    def render(self, scope: Scope) -> str:
        """The text for one generation of one instance. Never fails."""
        return "".join(part if isinstance(part, str) else part(scope) for part in self.parts)

    def __reduce__(self) -> tuple[object, ...]:
        """How it is pickled: an expression is a function, which cannot be, so its source is read again."""
        return (Template, (self.source, self.parts, self.spans)) if self.constant else (parse, (self.source,))


def constant(text: str) -> Template:
    """A text that is no template, whatever it looks like."""
    return Template(text, (text,))


def parse(source: str) -> Template:
    """Read a text with templates.

    Raises:
        TemplateError: An expression is not of this language.
    """
    parts: list[str | Expression] = []
    spans: list[tuple[int, int]] = []
    at = 0
    while (opened := source.find("{{", at)) >= 0:
        if len(spans) == MOST_EXPRESSIONS:
            raise TemplateError(f"expected at most {MOST_EXPRESSIONS} templates in one text, found more")
        if opened > at:
            parts.append(source[at:opened])
        parser = _Parser(source, opened)
        parts.append(parser.read())
        at = parser.at
        spans.append((opened, at))
    if at < len(source) or not parts:
        parts.append(source[at:])
    return Template(source, tuple(parts), tuple(spans))


class _Token(NamedTuple):
    kind: str
    text: str
    at: int


class _Parser:
    """Recursive descent over one expression, from its `{{` to its `}}`."""

    def __init__(self, source: str, opened: int) -> None:
        self.source = source
        self.opened = opened
        self.at = opened + 2
        self.depth = 0
        self.token = self._next()

    def read(self) -> str | Expression:
        """The whole expression; a literal text comes back as text."""
        kind, text, _ = self.token
        result: str | Expression
        if kind == "text":
            result = text[1:-1]
            self._advance()
        elif kind == "name" and text in _TEXTS:
            result = _TEXTS[text]
            self._advance()
        else:
            number = self._sum()
            result = lambda scope: str(number(scope))  # noqa: E731
        if self.token.kind != "end":
            self._refuse('an operator or "}}"')
        return result

    def _sum(self) -> Numbers:
        left = self._product()
        while self.token.text in {"+", "-"}:
            operator, right = self._advance().text, self._product()
            left = _plus(left, right) if operator == "+" else _minus(left, right)
        return left

    def _product(self) -> Numbers:
        left = self._signed()
        while self.token.text in {"*", "//", "%"}:
            operator = self._advance().text
            if operator == "*":
                left = _times(left, self._signed())
                continue
            divisor = int(self.token.text) if self.token.kind == "number" else 0
            if divisor == 0:
                self._refuse(f'a number other than 0 after "{operator}"')
            self._advance()
            left = _divided(left, divisor) if operator == "//" else _modulo(left, divisor)
        return left

    def _signed(self) -> Numbers:
        negative = False
        while self.token.text in {"-", "+"} and self.token.kind == "operator":
            negative ^= self._advance().text == "-"
        number = self._atom()
        return _minus(lambda _: 0, number) if negative else number

    def _atom(self) -> Numbers:
        kind, text, _ = self.token
        if kind == "number":
            if len(text) > _NUMBER_DIGITS:
                self._refuse(f"a number of at most {_NUMBER_DIGITS} digits")
            self._advance()
            value = int(text)
            return lambda _: value
        if kind == "name":
            if text not in _NUMBERS:
                self._refuse_name(text)
            self._advance()
            return _NUMBERS[text]
        if text != "(":
            self._refuse("a number, a name or a parenthesis")
        self._advance()
        self.depth += 1
        if self.depth > _NESTING:
            self._refuse(f"at most {_NESTING} parentheses inside each other")
        inner = self._sum()
        if self.token.text != ")":
            self._refuse('")"')
        self._advance()
        self.depth -= 1
        return inner

    def _advance(self) -> _Token:
        token, self.token = self.token, self._next()
        return token

    def _next(self) -> _Token:
        match = _TOKEN.match(self.source, self.at)
        if match is None or match.end() - self.opened > LONGEST_EXPRESSION:
            closed = self.source.find("}}", self.at, self.opened + LONGEST_EXPRESSION)
            if closed < 0:
                raise TemplateError(
                    f'expected "}}}}" within {LONGEST_EXPRESSION} characters of "{{{{", found none '
                    f"(at character {self.opened + 1}; a literal brace is written {{{{ '{{{{' }}}})"
                )
            rest = self.source[self.at : closed].strip()
            raise TemplateError(
                f"expected a template such as {{{{ 8000 + index }}}}, found {quoted(rest)} "
                f"(at character {self.at + 1}; a literal brace is written {{{{ '{{{{' }}}})"
            )
        self.at = match.end()
        kind = str(match.lastgroup)
        return _Token(kind, match[kind], match.start(kind))

    def _refuse(self, expected: str) -> NoReturn:
        _, text, at = self.token
        raise TemplateError(
            f"expected {expected} in a template, found {quoted(text)} (at character {at + 1})"
        )

    def _refuse_name(self, text: str) -> NoReturn:
        at = self.token.at + 1
        if text in _TEXTS:
            raise TemplateError(f"expected a number in a template, found {text}, a text (at character {at})")
        names = "index, generation, pool or instance"
        raise TemplateError(f"expected {names} in a template, found {quoted(text)} (at character {at})")


def _plus(left: Numbers, right: Numbers) -> Numbers:
    return lambda scope: left(scope) + right(scope)


def _minus(left: Numbers, right: Numbers) -> Numbers:
    return lambda scope: left(scope) - right(scope)


def _times(left: Numbers, right: Numbers) -> Numbers:
    return lambda scope: left(scope) * right(scope)


def _divided(left: Numbers, divisor: int) -> Numbers:
    return lambda scope: left(scope) // divisor


def _modulo(left: Numbers, divisor: int) -> Numbers:
    return lambda scope: left(scope) % divisor
