# SPDX-License-Identifier: Apache-2.0
"""What the API server takes and refuses, and the words users read, on the CRDs as they are installed."""

from collections.abc import Callable, Iterator
from subprocess import CompletedProcess
from typing import Any

import pytest

from lateen_api import crd
from stack.crd_cases import ACCEPTED, REFUSED, Case

Kubectl = Callable[..., CompletedProcess[str]]


def dry_run(kubectl: Kubectl, case: Case) -> CompletedProcess[str]:
    """Apply, leaving nothing behind."""
    return kubectl("apply", "--server-side", "--dry-run=server", "-o=json", "-f=-", stdin=case.manifest())


@pytest.mark.parametrize("case", REFUSED, ids=str)
def test_a_bad_spec_is_refused_with_the_field_and_the_remedy(kubectl: Kubectl, case: Case) -> None:
    """The API server itself refuses it, in words that say what to change."""
    result = dry_run(kubectl, case)
    assert result.returncode != 0, "it was accepted"
    assert case.message in result.stderr


@pytest.mark.parametrize("case", ACCEPTED, ids=str)
def test_a_good_spec_is_accepted(kubectl: Kubectl, case: Case) -> None:
    """What the reference allows passes the API server."""
    result = dry_run(kubectl, case)
    assert result.returncode == 0, result.stderr


def test_every_rule_is_in_the_table() -> None:
    """No CEL rule without an object that breaks it."""
    expected = [case.message for case in REFUSED]
    untested = {
        message
        for kind in crd.KINDS
        for message in _messages(crd.root_schema(kind))
        if not any(known and known in message for known in expected)
    }
    assert not untested


def _messages(node: Any) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            if key == "x-kubernetes-validations":
                yield from (entry["message"] for entry in value)
            else:
                yield from _messages(value)
