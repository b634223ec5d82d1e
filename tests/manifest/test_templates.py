"""The little language of templates."""

# A table of sentences is read line by line, each in one piece.
# ruff: noqa: E501

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.manifest.templates import Scope, TemplateError, parse

SCOPE = Scope("api", 3, 7)


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("plain", "plain"),
        ("", ""),
        ("{{ index }}", "3"),
        ("{{index}}", "3"),
        ("{{ 8000 + index }}", "8003"),
        ("a-{{ pool }}-{{ instance }}-{{ generation }}", "a-api-api/3-7"),
        ("{{ (index + 1) * 10 // 3 % 5 }}", "3"),
        ("{{ 1 + 2 * 3 - 4 }}", "3"),
        ("{{ 10 - 4 - 3 }}", "3"),
        ("{{ -index + 4 }}", "1"),
        ("{{ - - 2 }}", "2"),
        ("{{ '{{' }}x{{ '}}' }}", "{{x}}"),
        ("single { brace }", "single { brace }"),
        ("}}", "}}"),
    ],
)  # fmt: skip
def test_what_templates_mean(source: str, text: str) -> None:
    """Arithmetic is that of whole numbers, and text outside the braces is untouched."""
    assert parse(source).render(SCOPE) == text


@pytest.mark.parametrize(
    ("source", "complaint"),
    [
        ("x{{", 'expected "}}" within 200 characters of "{{", found none (at character 2; a literal brace is '),
        ("{{ }}", 'expected a number, a name or a parenthesis in a template, found "}}" (at character 4)'),
        ("{{ foo }}", 'expected index, generation, pool or instance in a template, found "foo" (at character 4)'),
        ("{{ 1 // 0 }}", 'expected a number other than 0 after "//" in a template, found "0" (at character 9)'),
        ("{{ 1 % index }}", 'expected a number other than 0 after "%" in a template, found "index" (at character 8)'),
        ("{{ pool + 1 }}", 'expected an operator or "}}" in a template, found "+" (at character 9)'),
        ("{{ 1 + pool }}", "expected a number in a template, found pool, a text (at character 8)"),
        ("{{ (1 }}", 'expected ")" in a template, found "}}" (at character 7)'),
        ("{{ 2 ** 3 }}", 'expected a number, a name or a parenthesis in a template, found "*" (at character 7)'),
        ("{{ index.real }}", 'expected a template such as {{ 8000 + index }}, found ".real" (at character 9; a literal'),
        ("{{ 1 / 2 }}", 'expected a template such as {{ 8000 + index }}, found "/ 2" (at character 5; a literal'),
        ("{{ __import__('os') }}", 'found "__import__" (at character 4)'),
        ("{{ 1234567890123 }}", "expected a number of at most 12 digits in a template"),
        ("{{ " + "(" * 21 + "1" + ")" * 21 + " }}", "expected at most 20 parentheses inside each other"),
        ("{{ " + "1+" * 200 + "1 }}", 'expected "}}" within 200 characters'),
        ("{{ 1 }}" * 101, "expected at most 100 templates in one text, found more"),
    ],
)  # fmt: skip
def test_what_they_cannot(source: str, complaint: str) -> None:
    """Everything else is refused with the character where it stops making sense."""
    with pytest.raises(TemplateError) as caught:
        parse(source)
    assert complaint in str(caught.value)


def test_only_what_varies_is_not_constant() -> None:
    """A text is constant when every instance gets the same."""
    assert parse("a {{ '{{' }}").constant
    assert not parse("{{ index }}").constant


PIECES = [
    "{{",
    "}}",
    " ",
    "index",
    "generation",
    "pool",
    "instance",
    "0",
    "17",
    "+",
    "-",
    "*",
    "//",
    "%",
    "(",
    ")",
    "'",
    "x",
]


@settings(max_examples=500, deadline=None)
@given(
    st.lists(st.sampled_from(PIECES), max_size=40).map("".join), st.integers(0, 10**6), st.integers(1, 10**9)
)
def test_what_was_accepted_never_fails(source: str, index: int, generation: int) -> None:
    """A template either is refused when it is read, or renders for every instance and generation."""
    try:
        template = parse(source)
    except TemplateError:
        return
    assert isinstance(template.render(Scope("p", index, generation)), str)
