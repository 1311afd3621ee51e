# SPDX-License-Identifier: Apache-2.0
"""The pins: every program the tests and the local stack start, its version, and where it can be had.

`obtain` walks this catalogue; nothing else in the repository names a version of these programs.
"""

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

GO_FOLDER = Path(__file__).resolve().parent / "go"

SETTINGS = ("LATEEN_TOOLS", "KUBEBUILDER_ASSETS")
"""Environment variables that may name a folder of ready programs, the strongest first."""

LINUX = ("linux/amd64", "linux/arm64")
UNIX = (*LINUX, "darwin/amd64", "darwin/arm64")


@dataclass(frozen=True)
class Release:
    """What a project publishes for one platform: the file, its checksums and the program's place in it."""

    url: str
    checksum_url: str
    member: str | None = None
    """Path inside the archive; None where the file is the program itself."""


@dataclass(frozen=True)
class Recipe:
    """A Go module under `go/` whose go.sum pins the sources of one or more tools."""

    name: str
    stamps: tuple[str, ...] = ()
    """`importpath.variable=value` pairs: Go leaves the version blank in a binary built from a module."""

    @property
    def folder(self) -> Path:
        """Where go.mod and go.sum lie."""
        return GO_FOLDER / self.name

    @property
    def ldflags(self) -> str:
        """Without symbols, with the version."""
        return " ".join(["-s", "-w", *(f"-X {stamp}" for stamp in self.stamps)])

    def needs_go(self) -> tuple[int, ...]:
        """The least Go version that the module's own `go` line accepts."""
        for line in (self.folder / "go.mod").read_text().splitlines():
            if line.startswith("go "):
                return tuple(int(part) for part in line.split()[1].split("."))
        raise ValueError(f"{self.folder / 'go.mod'} has no `go` line")


@dataclass(frozen=True)
class Tool:
    """One program at one version."""

    name: str
    version: str
    recipe: Recipe
    package: str
    releases: Mapping[str, Release] = field(compare=False, repr=False)
    """By platform, in Go's words."""
    built_as: str = ""
    """The last element of the package, where it is not the tool's name."""

    @property
    def go_output(self) -> str:
        """The file name that `go build` gives the program."""
        return self.built_as or self.name

    def release(self) -> Release | None:
        """The published file for this machine, if the project publishes one."""
        return self.releases.get(this_platform())


def this_platform() -> str:
    """The machine in Go's words, such as `linux/amd64`."""
    machine = platform.machine().lower()
    arch = {"x86_64": "amd64", "aarch64": "arm64"}.get(machine, machine)
    return f"{platform.system().lower()}/{arch}"


def _etcd(version: str) -> Tool:
    base = f"https://github.com/etcd-io/etcd/releases/download/v{version}"
    releases = {}
    for target in UNIX:
        stem = f"etcd-v{version}-{target.replace('/', '-')}"
        suffix = "tar.gz" if target in LINUX else "zip"
        releases[target] = Release(f"{base}/{stem}.{suffix}", f"{base}/SHA256SUMS", f"{stem}/etcd")
    return Tool("etcd", version, Recipe("etcd"), "go.etcd.io/etcd/server/v3", releases, built_as="server")


def _kubernetes(version: str) -> tuple[Tool, ...]:
    """The control plane and kubectl; one recipe, so that one build shares their common packages."""
    major, minor, _ = version.split(".")
    stamped = (f"gitVersion=v{version}", f"gitMajor={major}", f"gitMinor={minor}", "gitTreeState=clean")
    modules = ("k8s.io/component-base/version", "k8s.io/client-go/pkg/version")
    recipe = Recipe("kubernetes", tuple(f"{module}.{stamp}" for module in modules for stamp in stamped))

    def tool(name: str, platforms: tuple[str, ...]) -> Tool:
        base = f"https://dl.k8s.io/release/v{version}/bin"
        urls = {target: f"{base}/{target}/{name}" for target in platforms}
        releases = {target: Release(url, f"{url}.sha256") for target, url in urls.items()}
        return Tool(name, version, recipe, f"k8s.io/kubernetes/cmd/{name}", releases)

    return tool("kube-apiserver", LINUX), tool("kube-controller-manager", LINUX), tool("kubectl", UNIX)


def _weaviate(version: str) -> Tool:
    base = f"https://github.com/weaviate/weaviate/releases/download/v{version}"
    releases = {}
    for target in LINUX:
        url = f"{base}/weaviate-v{version}-{target.replace('/', '-')}.tar.gz"
        releases[target] = Release(url, f"{url}.sha256", "weaviate")
    package = "github.com/weaviate/weaviate/cmd/weaviate-server"
    return Tool("weaviate", version, Recipe("weaviate"), package, releases, built_as="weaviate-server")


def _helm(version: str) -> Tool:
    releases = {}
    for target in UNIX:
        dashed = target.replace("/", "-")
        url = f"https://get.helm.sh/helm-v{version}-{dashed}.tar.gz"
        releases[target] = Release(url, f"{url}.sha256sum", f"{dashed}/helm")
    stamps = (
        f"helm.sh/helm/v4/internal/version.version=v{version}",
        "helm.sh/helm/v4/internal/version.gitTreeState=clean",
    )
    return Tool("helm", version, Recipe("helm", stamps), "helm.sh/helm/v4/cmd/helm", releases)


def _rclone(version: str) -> Tool:
    """An S3 server for the tests of sources: `rclone serve s3`. Built, it has that server alone."""
    base = f"https://github.com/rclone/rclone/releases/download/v{version}"
    releases = {}
    for target in LINUX:
        stem = f"rclone-v{version}-{target.replace('/', '-')}"
        releases[target] = Release(f"{base}/{stem}.zip", f"{base}/SHA256SUMS", f"{stem}/rclone")
    return Tool("rclone", version, Recipe("rclone"), ".", releases)


def _registry(version: str) -> Tool:
    """An OCI registry for the tests of sources. Built, it keeps its content in a folder and nowhere else."""
    base = f"https://github.com/distribution/distribution/releases/download/v{version}"
    releases = {}
    for target in LINUX:
        url = f"{base}/registry_{version}_{target.replace('/', '_')}.tar.gz"
        releases[target] = Release(url, f"{url}.sha256", "registry")
    return Tool("registry", version, Recipe("registry"), ".", releases)


TOOLS: tuple[Tool, ...] = (
    _etcd("3.6.16"),
    *_kubernetes("1.37.2"),
    _weaviate("1.38.0"),
    _helm("4.3.1"),
    _rclone("1.76.0"),
    _registry("3.1.2"),
)


def named(names: list[str]) -> tuple[Tool, ...]:
    """The tools of these names in catalogue order, all of them for none; KeyError names an unknown one."""
    known = {tool.name for tool in TOOLS}
    for name in names:
        if name not in known:
            raise KeyError(name)
    return tuple(tool for tool in TOOLS if not names or tool.name in names)


def digest(tools: Mapping[Tool, Path]) -> str:
    """A short hash of the pins and of where each program lies: another choice is another folder."""
    lines = sorted(f"{tool.name} {tool.version} {path}" for tool, path in tools.items())
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:12]
