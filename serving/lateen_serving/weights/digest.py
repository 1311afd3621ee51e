# SPDX-License-Identifier: Apache-2.0
"""`python -m lateen_serving.weights.digest FOLDER`: prints what belongs into `spec.source.digest`.

For a Ray node without the command line; `lateen digest FOLDER` prints the same.
"""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path

from lateen_api import digests


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line; 0 when the digest was printed, else 1."""
    parser = argparse.ArgumentParser(description="Print the digest of a model folder or a GGUF file.")
    parser.add_argument("folder", type=Path, help="folder that holds the weights, or one .gguf file")
    options = parser.parse_args(arguments)
    try:
        sys.stdout.write(f"{digests.of_folder(options.folder)}\n")
    except OSError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
