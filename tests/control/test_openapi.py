"""The API's own description: valid, whole, and in agreement with the code that it is derived from."""

import json
from typing import Any

import jsonschema_rs
import pytest
import schemathesis
from hypothesis import given
from hypothesis import strategies as st

from supervisor.control import bodies, openapi, wishes
from supervisor.control.problems import Problem
from supervisor.control.routes import TABLE, Access, Row
from tests.control.plant import plant

DOCUMENT: dict[str, Any] = json.loads(openapi.render("1.2.3"))

ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=3), inner, max_size=2),
    max_leaves=4,
)
WORDS = st.sampled_from(["normal", "now", "kill", "main", "all", "SIGTERM", "SIGUSR1", "SIGSEGV", "SIG"])
SECONDS = st.sampled_from([0, -0.0, 1, 0.5, -1, 604800, 604800.5, 10**400, float("inf"), float("nan")])


def test_it_is_a_valid_openapi_document() -> None:
    """By the specification's own schema, which also bites."""
    schemathesis.openapi.from_dict(DOCUMENT).validate()
    broken = json.loads(json.dumps(DOCUMENT))
    broken["paths"]["/livez"]["get"]["responses"] = {"200": {"content": 1}}
    with pytest.raises(jsonschema_rs.ValidationError):
        schemathesis.openapi.from_dict(broken).validate()


def test_every_reference_leads_somewhere() -> None:
    """And every component is referred to."""
    text = json.dumps(DOCUMENT)
    named = {
        f"#/components/{kind}/{name}" for kind, known in DOCUMENT["components"].items() for name in known
    }
    assert named == {part.partition('"')[0] for part in text.split('"$ref": "')[1:]}


def test_what_is_documented_is_what_is_routed() -> None:
    """Each route of the table is described with its access, and nothing else is."""
    described = {
        (method.upper(), path): operation["x-access"]
        for path, methods in DOCUMENT["paths"].items()
        for method, operation in methods.items()
    }
    assert described == {(row.method, row.path): row.access for row in TABLE}
    identifiers = [one["operationId"] for path in DOCUMENT["paths"].values() for one in path.values()]
    assert len(set(identifiers)) == len(TABLE)


@pytest.mark.parametrize("row", TABLE, ids=lambda row: f"{row.method} {row.path}")
def test_every_endpoint_says_what_it_answers(row: Row) -> None:
    """One that is no wish is in `ANSWERS`; a wish that takes fields is named by the last word of its path."""
    is_wish = row.endpoint.__module__ == wishes.__name__
    assert is_wish != (row.endpoint in openapi.ANSWERS)
    if is_wish and "{operation}" not in row.path:
        assert row.endpoint.__name__ == row.path.rpartition("/")[2]


def takes(field: bodies.Field, value: object) -> bool:
    """Whether the code takes a value."""
    try:
        field(value)
    except (ValueError, Problem):
        return False
    return True


@pytest.mark.parametrize("field", bodies.SCHEMAS, ids=lambda field: field.__name__)
def test_the_schema_of_a_field_is_what_the_code_takes(field: bodies.Field) -> None:
    """Any value is either right for both or wrong for both."""
    schema = jsonschema_rs.validator_for(dict(bodies.SCHEMAS[field]))

    @given(ANYTHING | WORDS | SECONDS)
    def agree(value: object) -> None:
        try:
            sent = json.loads(json.dumps(value, allow_nan=False))
        except ValueError:
            # Not JSON, so nobody can send it.
            return
        assert schema.is_valid(sent) == takes(field, sent)

    agree()


async def test_it_is_served_to_everybody() -> None:
    """On both listeners, the same bytes each time, and made only when somebody asks."""
    async with plant() as one:
        first = await one.client.get("/openapi.json")
        async with one.tcp() as client:
            second = await client.get("/openapi.json")
        assert first.status_code == second.status_code == 200
        assert first.headers["content-type"] == "application/json"
        assert first.content == second.content == openapi.render("0.1.0")
        refused = (await one.client.get("/openapi.jso")).json()
        assert refused["kind"] == "not-found"


async def test_a_listener_that_serves_little_says_what() -> None:
    """The refusal on TCP names every open route."""
    async with plant() as one, one.tcp() as client:
        detail = (await client.get("/v1/status")).json()["detail"]
        assert all(row.path in detail for row in TABLE if row.access is Access.OPEN)
