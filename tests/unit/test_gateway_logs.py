# SPDX-License-Identifier: Apache-2.0
"""The gateway's log lines."""

import io
import json

from lateen_serving.gateway import logs


def test_every_line_is_json() -> None:
    """Also where a value is no JSON by itself, or text that UTF-8 has no bytes for."""
    output = io.StringIO()
    log = logs.logger(output, replica="r1")
    log.info("plain", prompt_tokens=3, failure=None, who="ü")
    log.info("odd", text="\ud800", number=2**70, kind=ValueError)
    plain, odd = (json.loads(line) for line in output.getvalue().splitlines())
    assert (plain["replica"], plain["event"], plain["level"], plain["who"]) == ("r1", "plain", "info", "ü")
    assert (plain["prompt_tokens"], plain["failure"]) == (3, None)
    assert (odd["text"], odd["number"], odd["kind"]) == ("\ud800", 2**70, repr(ValueError))
