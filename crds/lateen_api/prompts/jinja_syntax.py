# SPDX-License-Identifier: Apache-2.0
"""The syntax `jinja`: a small part of Jinja, found safe by parsing, rendered in Jinja's own sandbox.

Only listed kinds of nodes and filters pass. There are no calls, assignments, macros, includes or arithmetic, so that text
grows only by output; loops take from one budget, and each iteration costs as much as its body can read. Filters and
comparisons may read a whole value, so where values are long they are paid for too.

What is parsed is what is rendered, and every problem is told with its place: tokens carry their offset where Jinja's carry
the number of their line, and so do the nodes made of them.
"""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from jinja2 import StrictUndefined, TemplateError, TemplateSyntaxError, meta, nodes
from jinja2.lexer import TokenStream
from jinja2.runtime import LoopContext
from jinja2.sandbox import ImmutableSandboxedEnvironment

from lateen_api.prompts.format_syntax import Malformed
from lateen_api.prompts.values import size, written
from lateen_api.prompts.violations import MAX_MESSAGE, InvalidVariable, Text, TooLong, Violation, position

MAX_DEPTH = 40
MAX_LOOPS = 3
MAX_WORK = 10_000
_MAX_DIGITS = 300
CHARACTERS_PER_WORK = 10_000
"""Characters of all values together from which on a filter or a comparison costs one more piece of work."""

FILTERS = frozenset({"default", "d", "length", "count", "lower", "upper", "trim", "first", "last"})
_LINE_END = re.compile("\r\n|\r")
_LOOP = frozenset({"index", "index0", "first", "last"})
_BUDGET = "_budget"
_ALLOWED = (
    nodes.Template, nodes.Output, nodes.TemplateData, nodes.Name, nodes.Const, nodes.Getattr, nodes.Getitem, nodes.For,
    nodes.If, nodes.CondExpr, nodes.Compare, nodes.Operand, nodes.And, nodes.Or, nodes.Not, nodes.Filter, nodes.Test,
    nodes.Tuple, nodes.List,
)  # fmt: skip
TESTS = frozenset({"defined", "undefined", "none", "true", "false", "string", "number", "mapping", "boolean"})


class _Environment(ImmutableSandboxedEnvironment):
    """Names reach items of objects and lists, never attributes of Python values. Tokens and nodes have their offset, from 1,
    as `lineno`, and syntax errors too.
    """

    def _tokenize(
        self, source: str, name: str | None, filename: str | None = None, state: str | None = None
    ) -> TokenStream:
        return TokenStream(self.lexer.wrap(self._placed(source, state), name, filename), name, filename)

    def _placed(self, source: str, state: str | None) -> Iterator[tuple[int, str, str]]:
        at = 0
        try:
            for _, kind, value in self.lexer.tokeniter(source, None, state=state):
                at = source.index(value, at)  # beyond white space that a tag has eaten
                if kind in {"integer", "float"} and len(value) > _MAX_DIGITS:
                    raise TemplateSyntaxError(f"a number has more than {_MAX_DIGITS} digits", at + 1)
                yield at + 1, kind, value
                at += len(value)
        except TemplateSyntaxError as error:
            raise TemplateSyntaxError(error.message or "", at + 1) from error

    def getattr(self, obj: Any, attribute: str) -> Any:
        if isinstance(obj, LoopContext) and attribute in _LOOP:
            return getattr(obj, attribute)
        return self.getitem(obj, attribute)

    def getitem(self, obj: Any, argument: Any) -> Any:
        if isinstance(obj, Mapping) and isinstance(argument, str) and argument in obj:
            return obj[argument]
        if isinstance(obj, list) and isinstance(argument, int) and -len(obj) <= argument < len(obj):
            return obj[argument]
        return self.undefined(obj=obj, name=argument)


class Budget:
    """What one rendering may still do."""

    def __init__(self, values: Mapping[str, Any]) -> None:
        self.left = MAX_WORK
        self._weight = size(values) // CHARACTERS_PER_WORK

    def pay(self, cost: int, readers: int) -> None:
        """Take the cost of something with so many filters and comparisons; raises InvalidVariable when too little is left."""
        self.left -= cost + readers * self._weight
        if self.left < 0:
            raise InvalidVariable("", "the prompt takes too long with these values; give shorter ones")

    def each(self, items: Iterable[Any], cost: int, readers: int) -> Iterator[Any]:
        """The items, each paid for; raises InvalidVariable when the budget is spent."""
        for item in items:
            self.pay(cost, readers)
            yield item


def _readers(node: nodes.Node) -> int:
    return len(list(node.find_all((nodes.Filter, nodes.Compare))))


def _each(items: Any, budget: Budget, cost: int, readers: int) -> Iterator[Any]:
    if items == "":  # an optional list that nobody gave
        return iter(())
    if not isinstance(items, list | dict | tuple):
        raise InvalidVariable("", "a loop of the prompt goes through something that is no list or object")
    return budget.each(items, cost, readers)


def _text(value: Any) -> Any:
    return value if isinstance(value, StrictUndefined) else written(value)


def _environment() -> _Environment:
    environment = _Environment(
        undefined=StrictUndefined, keep_trailing_newline=True, trim_blocks=True, cache_size=0
    )
    environment.filters = {name: environment.filters[name] for name in FILTERS} | {"_each": _each}
    environment.tests = {name: environment.tests[name] for name in TESTS}
    environment.globals = {}
    environment.finalize = _text
    return environment


def parse(text: Text) -> tuple[nodes.Template, set[str]]:
    """The checked syntax tree, in which `lineno` is an offset from 1, and the variables it reads; raises Malformed."""
    try:
        tree = _environment().parse(_source(text))
    except TemplateSyntaxError as error:
        raise Malformed(_violation(text, "SyntaxError", error.lineno, error.message or "")) from error
    except RecursionError as error:
        raise Malformed(_violation(text, "Forbidden", 1, "expressions are nested too deeply")) from error
    _check(text, tree, 1, 0, 0)
    return tree, meta.find_undeclared_variables(tree)


def names(text: Text) -> list[tuple[str, int, int]]:
    """The variables a text reads, each with line and column of its first mention in a tag; raises Malformed."""
    tree, read = parse(text)
    first: dict[str, int] = {}
    for node in tree.find_all(nodes.Name):
        first[node.name] = min(node.lineno, first.get(node.name, node.lineno))
    source = _source(text)
    return [(name, *position(source, first[name] - 1)) for name in sorted(read, key=first.__getitem__)]


def _source(text: Text) -> str:
    """What Jinja reads: every end of a line is a line feed. Offsets are those in it."""
    return _LINE_END.sub("\n", text.content)


def _violation(text: Text, reason: str, offset: int, message: str) -> Violation:
    return Violation(text.path, reason, message, *position(_source(text), offset - 1))


def _check(text: Text, node: nodes.Node, offset: int, depth: int, loops: int) -> None:
    offset = node.lineno or offset
    loops += isinstance(node, nodes.For)
    problem = _problem(node)
    if depth > MAX_DEPTH:
        problem = "expressions are nested too deeply"
    if loops > MAX_LOOPS:
        problem = f"at most {MAX_LOOPS} loops can stand in each other"
    if problem:
        raise Malformed(_violation(text, "Forbidden", offset, problem))
    for child in node.iter_child_nodes():
        _check(text, child, offset, depth + 1, loops)


def _problem(node: nodes.Node) -> str:
    name = str(getattr(node, "name", getattr(node, "attr", "")))
    match node:
        case nodes.Filter() if name not in FILTERS or node.dyn_args or node.dyn_kwargs:
            problem = f"filter {name!r} is not one of: {', '.join(sorted(FILTERS))}"
        case nodes.Filter() if name == "trim" and (node.args or node.kwargs):
            problem = "filter 'trim' takes no arguments"
        case nodes.Tuple() if node.ctx == "store":
            problem = "a loop has one variable; take items of it by their number, as in row[0]"
        case nodes.Test() if name not in TESTS:
            problem = f"test {name!r} is not one of: {', '.join(sorted(TESTS))}"
        case nodes.For() if node.recursive:
            problem = "a loop can't be recursive"
        case nodes.Name() if node.ctx == "store" and name == "loop":
            problem = "'loop' is taken"
        case nodes.Name() | nodes.Getattr() if name.startswith("_"):
            problem = f"name {name!r} must not start with '_'"
        case nodes.Name() if not name.isascii():
            problem = f"name {name!r} must be letters of ASCII, digits and '_'"
        case node if not isinstance(node, _ALLOWED):
            problem = f"{type(node).__name__} is not part of this syntax; docs/prompts.md lists what is"
        case _:
            problem = ""
    return problem


class Template:
    """One text, compiled; rendering is bounded in time and output."""

    def __init__(self, text: Text) -> None:
        tree, self.variables = parse(text)
        self._readers = _readers(tree)
        for loop in list(tree.find_all(nodes.For)):
            budget = nodes.Name(_BUDGET, "load", lineno=loop.lineno)
            cost = nodes.Const(1 + len(list(loop.find_all(nodes.Expr))) // 16, lineno=loop.lineno)
            readers = nodes.Const(_readers(loop), lineno=loop.lineno)
            price = [budget, cost, readers]
            loop.iter = nodes.Filter(loop.iter, "_each", price, [], None, None, lineno=loop.lineno)
        environment = _environment()
        self._template = environment.from_string(tree)

    def render(self, values: Mapping[str, Any], budget: Budget) -> str:
        """The text with its values; raises InvalidVariable when they don't fit it."""
        budget.pay(0, self._readers)
        context = self._template.new_context({**values, _BUDGET: budget})
        parts: list[str] = []
        size = 0
        try:
            for part in self._template.root_render_func(context):
                size += len(part)
                if size > MAX_MESSAGE:
                    raise TooLong
                parts.append(part)
        except (TemplateError, TypeError, RecursionError) as error:
            raise InvalidVariable("", f"the prompt can't be rendered with these values: {error}") from error
        return "".join(parts)
