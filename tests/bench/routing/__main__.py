# SPDX-License-Identifier: Apache-2.0
"""`PYTHONPATH=tests python -m bench.routing`: compare the routing strategies; write the figures and their tables.

Simulated, so that it needs no Ray, no model and no quiet machine, and always gives the same figures.
"""

import argparse
import json
import sys
from pathlib import Path

from bench import table
from bench.routing import costs, report

DOCS = Path(__file__).resolve().parents[3] / "docs"


def main(arguments: list[str]) -> int:
    """Write `docs/routing-bench.json` and the tables in `docs/routing.md`."""
    parser = argparse.ArgumentParser(prog="bench.routing", description=__doc__)
    parser.add_argument("--replicas", type=int, nargs="+", default=report.COUNTS, help="numbers of replicas")
    counts = parser.parse_args(arguments).replicas
    measured = costs.measured()
    results = report.measure(measured, counts, lambda text: print(f"bench: {text}", file=sys.stderr))  # noqa: T201
    figures = json.dumps(report.document(measured, results), indent=1)
    (DOCS / "routing-bench.json").write_text(figures + "\n")
    page = DOCS / "routing.md"
    page.write_text(table.replace(page.read_text(), report.tables(results)))
    return 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
