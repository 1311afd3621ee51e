# SPDX-License-Identifier: Apache-2.0
"""kubectl's own word about the YAML that `lateen validate` reads. No cluster is asked."""

import json
import os
import subprocess
from typing import Any

import pytest

from lateen_cli import tools
from stack.yaml_words import NO_JSON, WORDS

OBJECT = "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: a}}\ndata:\n  key: {}\n"


def read(text: str) -> subprocess.CompletedProcess[str]:
    """What kubectl reads, as JSON."""
    program = tools.find("kubectl", os.environ)
    assert program is not None
    return subprocess.run(
        [str(program), "label", "--local", "--filename=-", "--output=json", "absent-"],
        input=OBJECT.format(text),
        env={"KUBECONFIG": os.devnull},
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )


@pytest.mark.parametrize(("text", "expected"), WORDS.items())
def test_kubectl_makes_this_of_a_word(text: str, expected: Any) -> None:
    """The same table that `lateen` is tested with."""
    result = read(text)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)["data"]["key"]
    assert (type(found), found) == (type(expected), expected)


@pytest.mark.parametrize("text", NO_JSON)
def test_kubectl_does_not_read_this(text: str) -> None:
    """It is no JSON."""
    result = read(text)
    assert (result.returncode, "error converting YAML to JSON" in result.stderr) == (1, True)
