# SPDX-License-Identifier: Apache-2.0
"""The operator, the gateway and the command line agree: what one takes all take, and they render the same messages."""

import json
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lateen_api import admission, catalog, crd, names
from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.rendering import Injection
from lateen_cli import render, render_input, validate, yaml_values
from lateen_cli.documents import Document
from lateen_cli.render_input import Prompt
from lateen_operator.plan import prompt_checks
from lateen_operator.plan.world import World
from lateen_operator.seams import Key, Kind, Resource
from lateen_serving.errors import InputError
from lateen_serving.gateway import prompting
from lateen_serving.gateway.templates import Templates

NAMES = ["ask", "mood", "count", "when", "tags", "found", "who"]
CHECKER = admission.Checker(crd.PROMPT_TEMPLATE)
INJECTION = Injection(
    now=datetime(2026, 1, 31, 23, 30, tzinfo=UTC), name="ann", metadata={"t": "7"}, retrieved=["one", "two"]
)

_NAMED = st.sampled_from([*NAMES, "missing"])
PIECES = st.one_of(
    st.sampled_from(["Hello ", "\n", " \u200b", "a@b.org", "{{", "}}", "{", "\r", "é"]),
    st.builds("{{{}}}".format, _NAMED),
)
JINJA = st.one_of(
    st.sampled_from(
        ["Hello ", "\n", "{% raw %}{{ x }}{% endraw %}", "{{", "{% if %}", "{{ ask.__class__ }}", "{# a #}"]
    ),
    st.builds("{{{{ {} }}}}".format, _NAMED),
    st.builds("{{% if {} %}}yes{{% else %}}{{{{ {} }}}}{{% endif %}}".format, _NAMED, _NAMED),
    st.builds("{{% for one in {} %}}{{{{ loop.index }}}} {{{{ one }}}}{{% endfor %}}".format, _NAMED),
    st.builds("{{{{ {}|upper }}}}".format, _NAMED),
)
RULES = st.sampled_from(
    [
        {"maxLength": 5}, {"minLength": 2}, {"pattern": "^[a-z]+$"}, {"pattern": "(?=a)"}, {"minimum": "2"}, {"maximum": "9"},
        {"oneOf": ["good", "bad"]}, {"cel": "value.size() > 1", "message": "longer"}, {"cel": "value +", "message": "no"},
        {"cel": "true"}, {"schema": {"type": "array", "maxItems": 2}}, {"schema": {"type": 5}}, {"minLength": 1, "maxLength": 2},
    ]
)  # fmt: skip
SOURCES = st.sampled_from(["request"] * 6 + ["retrieval", "clock", "identity", "constant", "metadata"])
WRITTEN = [
    "good",
    "",
    "5",
    "2.5",
    "true",
    '["a", "b"]',
    '{"a": 1}',
    "2026-01-31T12:00:00Z",
    "2026-01-45",
    "[[",
    "NaN",
    "null",
]


def _optional(**fields: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    return st.fixed_dictionaries({}, optional=fields)


def _variable(name: str) -> st.SearchStrategy[dict[str, Any]]:
    types = st.sampled_from(
        ["string"] * 4 + ["integer", "number", "boolean", "enum", "datetime", "list", "object"]
    )
    plain = st.fixed_dictionaries(
        {"name": st.just(name)},
        optional={
            "type": types,
            "required": st.booleans(),
            "default": st.sampled_from(WRITTEN),
            "example": st.sampled_from(WRITTEN),
            "rules": st.lists(RULES, min_size=1, max_size=2),
        },
    )
    injected = st.fixed_dictionaries(
        {"name": st.just(name), "from": SOURCES},
        optional={
            "type": types,
            "value": st.sampled_from(WRITTEN),
            "metadata": st.sampled_from([{"key": "t"}, {"key": "u"}]),
            "clock": st.sampled_from(
                [{"timeZone": "Europe/Rome"}, {"timeZone": "Nowhere/X"}, {"format": "%A %x"}]
            ),
        },
    )
    return st.one_of(plain, plain, st.just({"name": name}), injected)


@st.composite
def specs(draw: st.DrawFn) -> dict[str, Any]:
    """A spec as somebody writes it: most are sound, or nearly."""
    syntax = draw(st.sampled_from(["format", "jinja"]))
    contents = st.lists(JINJA if syntax == "jinja" else PIECES, min_size=1, max_size=4).map("".join)
    roles = st.sampled_from(["system", "developer", "user", "assistant"])
    message = st.fixed_dictionaries({"role": roles, "content": contents})
    messages = draw(st.lists(message, min_size=1, max_size=3))
    text = json.dumps(messages)
    declared = [name for name in NAMES if name in text] if draw(st.integers(0, 9)) else NAMES[:3]
    steps = st.sampled_from(
        [
            "Dedent",
            "Strip",
            "CollapseWhitespace",
            "NormalizeUnicode",
            "RedactPII",
            "MaxLines(2)",
            "RemoveEmptyMessages",
        ]
    )
    windows = st.sampled_from(
        [
            {"maxPromptTokens": 9},
            {"overflow": "Truncate", "priority": ["ask"]},
            {"overflow": "Truncate", "priority": ["x"]},
        ]
    )
    more = draw(
        _optional(postProcessing=st.lists(steps, max_size=3), contextWindow=windows, suspend=st.none())
    )
    variables = [draw(_variable(name)) for name in declared]
    return {"version": "1", "syntax": syntax, "messages": messages, "variables": variables, **more}


SOUND: dict[str, list[dict[str, Any]]] = {
    "ask": [
        {},
        {"rules": [{"minLength": 2}, {"cel": "value.size() < 9", "message": "shorter"}]},
        {"required": False},
    ],
    "mood": [
        {"type": "enum", "default": "good", "rules": [{"oneOf": ["good", "bad"]}]},
        {"from": "metadata", "metadata": {"key": "t"}},
        {"from": "constant", "value": "calm"},
    ],
    "count": [{"type": "integer", "rules": [{"maximum": "9"}]}, {"type": "number"}, {"type": "boolean"}],
    "when": [
        {"type": "datetime"},
        {"from": "clock", "clock": {"format": "%A"}},
        {"from": "clock", "type": "datetime"},
    ],
    "tags": [{"type": "list", "rules": [{"schema": {"items": {"type": "string"}}}]}, {"type": "object"}],
    "found": [{"from": "retrieval"}, {"from": "retrieval", "type": "list"}],
    "who": [
        {"from": "identity"},
        {"from": "identity", "identity": {"attribute": "tenant"}, "default": "all"},
    ],
}
GIVEN = {
    "ask": ["good", "good {mood} \x1b", "a@b.org"],
    "mood": ["bad"],
    "count": ["5", "true"],
    "when": ["2026-01-31T12:00:00Z"],
    "tags": ['["a", "b"]', '{"a": 1}'],
}
SOUND_TEXTS = {
    "format": ["Hello ", "\n", "{{", "{ask}", "{ask}", "{mood}", "{count}", "{when}", "{tags}", "{found}", "{who}"],
    "jinja": [
        "Hello ", "{{ ask }}", "{% if ask %}{{ ask|upper }}{% endif %}", "{{ count }} {{ when }}", "{{ mood }}",
        "{% for tag in tags %}{{ loop.index }}{{ tag }}{% endfor %}", "{{ found }}", "{{ found|length }} {{ who }}",
    ],
}  # fmt: skip


@st.composite
def sound(draw: st.DrawFn) -> tuple[dict[str, Any], dict[str, str]]:
    """A spec that may be live, and values of which most fit it."""
    syntax = draw(st.sampled_from(["format", "jinja"]))
    contents = st.lists(st.sampled_from(SOUND_TEXTS[syntax]), min_size=1, max_size=4).map("".join)
    messages = [
        {"role": "user", "content": content} for content in draw(st.lists(contents, min_size=1, max_size=3))
    ]
    used = [name for name in NAMES if name in json.dumps(messages)]
    variables = [{"name": name} | draw(st.sampled_from(SOUND[name])) for name in used]
    steps = draw(
        st.lists(
            st.sampled_from(["Strip", "NormalizeUnicode", "RedactPII", "RemoveEmptyMessages"]), max_size=2
        )
    )
    asked = [each["name"] for each in variables if "from" not in each]
    texts = {name: draw(st.sampled_from(GIVEN[name])) for name in asked if draw(st.integers(0, 9))}
    odd = draw(st.dictionaries(st.sampled_from([*NAMES, "other"]), st.sampled_from(WRITTEN), max_size=1))
    spec = {
        "version": "1",
        "syntax": syntax,
        "messages": messages,
        "variables": variables,
        "postProcessing": steps,
    }
    return spec, texts | (odd if draw(st.integers(0, 3)) == 0 else {})


def document(spec: dict[str, Any]) -> Document:
    """A file with this spec, read as the command line reads it."""
    content = {
        "apiVersion": names.API_VERSION,
        "kind": "PromptTemplate",
        "metadata": {"name": "p"},
        "spec": spec,
    }
    (node,) = yaml_values.nodes(json.dumps(content))
    return Document("p.json", *yaml_values.value(node))


def checked(spec: dict[str, Any]) -> prompt_checks.Checked:
    """What the operator makes of a spec that the API server has stored."""
    key = Key(Kind.PROMPT_TEMPLATE, "default", "p")
    return prompt_checks.check(Resource(key, "u", 1, "1", 0, spec, {}, {}, (), False), World())


slow = settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.too_slow])


@slow
@given(specs())
def test_operator_and_command_line_refuse_alike(spec: dict[str, Any]) -> None:
    """What the API server lets pass is live if and only if `lateen validate` finds nothing, and both say the same."""
    found = validate.check([document(spec)])
    if CHECKER.problems(document(spec).content):
        assert found
        return
    problem = checked(CHECKER.stored_spec({"spec": spec})).problem
    assert (problem is None) == (not found)
    for finding in found:
        assert problem is not None
        assert finding.reason == problem.reason
        assert finding.message.partition(" (line ")[0] in problem.message


def by_command_line(spec: PromptTemplateSpec, texts: dict[str, str]) -> Any:
    """The messages that `lateen render` prints; None where it refuses."""
    try:
        values = render._checked(Prompt(spec), texts, INJECTION)
    except render._Refused:
        return None
    return render._rendered(Prompt(spec), values, INJECTION)["messages"]


def by_gateway(spec: PromptTemplateSpec, values: dict[str, Any]) -> Any:
    """The messages that a model reads, from a prompt that came with the catalog; None where the request is refused."""
    revision = catalog.PromptRevision(revision="r", created=0, spec=spec)
    sent = catalog.Prompt(id="p", revisions=[revision]).model_dump_json(by_alias=True, exclude_none=True)
    prompt = catalog.Prompt.model_validate_json(sent)
    template = Templates().get(prompt, prompt.revisions[0])
    try:
        return prompting.prompt_messages(template, values, INJECTION)
    except InputError:
        return None


@slow
@given(sound())
def test_gateway_and_command_line_render_alike(given: tuple[dict[str, Any], dict[str, str]]) -> None:
    """Of what the operator lets be live: the same messages for the same values, or a refusal by both."""
    spec, texts = given
    live = checked(CHECKER.stored_spec({"spec": spec})).expanded
    assert live is not None
    assert validate.check([document(spec)]) == []
    values, wrong = render_input.values(live, texts)
    shown = by_command_line(live, texts)
    assert shown is None if wrong else shown == by_gateway(live, values)
