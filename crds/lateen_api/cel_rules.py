# SPDX-License-Identifier: Apache-2.0
"""The CEL rules of CRDs, evaluated here as the API server does. Called by `admission.py`.

What the rules of our CRDs use is in this library, or given to it: `size()` counts characters, and patterns are RE2's.
A contract test breaks each rule, so that one which needs more (`quantity()`, `url()`, `oldSelf`) can't go unseen.
"""

import re
from typing import Any

from pydantic_core import SchemaValidator, core_schema

from lateen_api.structural import Node

_SIZE = re.compile(r"\bsize(?=\s*\()")
_MATCHES = re.compile(r"\bmatches(?=\s*\()")
_CLASSES = {r"\s": r"[\t\n\f\r ]", r"\S": r"[^\t\n\f\r ]", r"\d": "[0-9]"}
"""RE2's classes are those of ASCII."""


class Rules:
    """Rules and patterns, each compiled once."""

    def __init__(self) -> None:
        self._programs: dict[str, Any] = {}
        self._patterns: dict[str, SchemaValidator] = {}

    def broken(self, node: Node, value: Any) -> list[str]:
        """The messages of a schema's rules that `value` breaks; a rule without a result is broken."""
        return [
            entry["message"]
            for entry in node.get("x-kubernetes-validations", ())
            if not self._holds(entry["rule"], value)
        ]

    def matches(self, pattern: str, text: str) -> bool:
        """Whether an RE2 pattern matches somewhere in the text."""
        found = self._patterns.get(pattern)
        if found is None:
            ascii_only = re.sub(r"\\[sSd]", lambda match: _CLASSES[match[0]], pattern)
            schema = core_schema.str_schema(pattern=ascii_only, regex_engine="rust-regex")
            found = self._patterns[pattern] = SchemaValidator(schema)
        return found.isinstance_python(text)

    def _holds(self, rule: str, value: Any) -> bool:
        import cel  # takes most of a second, and only some commands need it

        program = self._programs.get(rule)
        if program is None:
            known_here = _MATCHES.sub("matches_re2", _SIZE.sub("characters", rule))
            program = self._programs[rule] = cel.compile(known_here)
        context = cel.Context(
            variables={"self": value}, functions={"characters": len, "matches_re2": self._matched}
        )
        try:
            return program.execute(context) is True
        except (RuntimeError, TypeError, ValueError, LookupError, ArithmeticError):
            return False

    def _matched(self, text: str, pattern: str) -> bool:
        return self.matches(pattern, text)
