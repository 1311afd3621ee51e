# SPDX-License-Identifier: Apache-2.0
"""Names in `jinja`: those that are checked are those that rendering asks for, and each problem has its place."""

import ast
from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lateen_api.prompt_template import PromptTemplateSpec
from lateen_api.prompts import jinja_syntax
from lateen_api.prompts.format_syntax import Malformed
from lateen_api.prompts.violations import Text, Violation
from lateen_api.rendering import violations

ENDS = ["\n", "\r", "\r\n", "\f", "\v", "\x85", "\u2028", "\u2029", " ", "\t", "\u00a0", ""]
PIECES = [
    "{{{{{0}y{0}}}}}", "{{{{-{0}x.y{0}-}}}}", "{{{{ x if{0}z{0}else y }}}}", "{{{{ y[{0}z] }}}}", "{{{{ '{0}x{0}' }}}}",
    "{{{{ x|default(z{0}) }}}}", "{{# {{{{ w{0} }}}} #}}", "{{% raw %}}{{{{{0}w }}}}{{% endraw %}}", "x{0}", "{0}y {0}", "}}}}",
    "{{{{{0}i{0}}}}}", "{{{{ loop.index }}}}",
]  # fmt: skip
BLOCKS = [
    "{{% if{0}x{0}%}}{1}{{% endif %}}", "{{%- if z -%}}{0}{1}{{% elif{0}w %}}{1}{{%- else -%}}{{% endif{0}%}}",
    "{{% for{0}i in{0}y %}}{1}{{% endfor %}}", "{{% for x in z{0}%}}{1}{{% else %}}{0}{{{{ x }}}}{{% endfor{0}-%}}",
    "{{% if (x{0}%}}{1}", "{0}{1}{{% endif %}}",
]  # fmt: skip
TEXTS = st.recursive(
    st.builds(str.format, st.sampled_from(PIECES), st.sampled_from(ENDS)),
    lambda inner: (
        st.builds(str.format, st.sampled_from(BLOCKS), st.sampled_from(ENDS), inner)
        | st.lists(inner, max_size=4).map("".join)
    ),
    max_leaves=8,
)


def text(content: str) -> Text:
    """A message of this content."""
    return Text("messages[0].content", "user", content)


def asked(content: str) -> set[str]:
    """The names that the compiled template asks its values for, read from the program that Jinja runs."""
    tree, _ = jinja_syntax.parse(text(content))
    assert tree.environment is not None
    program = ast.parse(tree.environment.compile(tree, raw=True))
    return {
        call.args[0].value
        for call in ast.walk(program)
        if isinstance(call, ast.Call)
        and isinstance(call.func, ast.Name)
        and call.func.id == "resolve"
        and isinstance(call.args[0], ast.Constant)
        and isinstance(call.args[0].value, str)
    }


@given(TEXTS)
def test_names_found_are_names_asked_for(content: str) -> None:
    """In every text that is not refused, whatever ends its lines; and each is where it is said to be."""
    try:
        found = jinja_syntax.names(text(content))
    except Malformed:
        return
    assert {name for name, _, _ in found} == asked(content)
    lines = content.replace("\r\n", "\n").replace("\r", "\n").split("\n")
    assert [lines[line - 1][column - 1 :].startswith(name) for name, line, column in found] == [True] * len(
        found
    )


@pytest.mark.parametrize("end", ENDS)
def test_no_end_of_a_line_hides_a_name(end: str) -> None:
    """A name that is not declared is refused, in both syntaxes."""
    for syntax, content in (
        ("jinja", f"{{{{{end}hidden{end}}}}} \n {end}"),
        ("format", f"{end}{{hidden}}\n{end}"),
    ):
        spec = {"version": "1", "syntax": syntax, "messages": [{"role": "user", "content": content}]}
        (violation,) = violations(PromptTemplateSpec.model_validate(spec))
        assert violation.reason == "UndeclaredVariable"


def of(content: str) -> Iterator[Violation]:
    """The violation of a text in `jinja`."""
    spec = {"version": "1", "syntax": "jinja", "messages": [{"role": "user", "content": content}]}
    yield from violations(PromptTemplateSpec.model_validate(spec))


@pytest.mark.parametrize(
    ("content", "reason", "line", "column"),
    [
        ("a\n  {{ x }}", "UndeclaredVariable", 2, 6),
        ("a\rb\r\n{{ x }}", "UndeclaredVariable", 3, 4),
        ("{%- if true -%}  \n {{ x }}{% endif %}", "UndeclaredVariable", 2, 5),
        ("{# x #}{{ 'x' }}{{ x }}", "UndeclaredVariable", 1, 20),
        ("a\n{{ x | upper | reverse }}", "Forbidden", 2, 16),
        ("a {{ f() }}", "Forbidden", 1, 7),
        ("\n\n{% set a = 1 %}", "Forbidden", 3, 4),
        ("{{ \uff58 }}", "Forbidden", 1, 4),
        ("a\n{{ ? }}", "SyntaxError", 2, 4),
        ("a\n {% if %}", "SyntaxError", 2, 8),
        ("a\n {% endif %}", "SyntaxError", 2, 5),
        ("a {% wrong %}", "SyntaxError", 1, 6),
        ("a\n {# b", "SyntaxError", 2, 4),
        ("a {{ (b] }}", "SyntaxError", 1, 8),
        ("a {{ " + "1" * 5000 + " }}", "SyntaxError", 1, 6),
    ],
)
def test_each_problem_has_its_line_and_column(content: str, reason: str, line: int, column: int) -> None:
    """Those of the text as its author wrote it."""
    first = next(of(content))
    assert (first.reason, first.line, first.column) == (reason, line, column)
