# SPDX-License-Identifier: Apache-2.0
"""`hack/tools`: which way gives which tool, and what is left behind when one does not."""

import hashlib
import importlib
import io
import os
import sys
import tarfile
import threading
import urllib.error
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from email.message import Message
from pathlib import Path
from types import ModuleType
from typing import IO, Any

import pytest

FOLDER = Path(__file__).resolve().parents[2] / "hack" / "tools"


def load(*names: str) -> list[ModuleType]:
    """The modules of hack/tools, which is a folder run as a script and no package."""
    sys.path.insert(0, str(FOLDER))
    try:
        return [importlib.import_module(name) for name in names]
    finally:
        sys.path.remove(str(FOLDER))


catalogue, gobuild, obtain, progress, releases = load(
    "catalogue", "gobuild", "obtain", "progress", "releases"
)

ETCD, APISERVER, KUBECTL = catalogue.named(["etcd", "kube-apiserver", "kubectl"])


@dataclass
class Ways:
    """Stands for the release and the build; each lists what it was asked for."""

    published: bool = True
    buildable: bool = True
    fetched: list[str] = field(default_factory=list)
    built: list[str] = field(default_factory=list)
    during: Callable[[], None] = lambda: None

    def fetch(self, tool: Any, into: Path) -> Path:
        self.fetched.append(tool.name)
        if not self.published:
            raise releases.Unavailable("the host is closed")
        return program(into / tool.name, "released")

    def build(self, _recipe: Any, tools: Sequence[Any], into: Path) -> Mapping[Any, Path]:
        self.built.append("+".join(tool.name for tool in tools))
        if not self.buildable:
            raise releases.Unavailable("no Go here")
        made = {tool: program(into / tool.name, "built") for tool in tools}
        self.during()
        return made


@dataclass
class Pages:
    """Stands for the network: a body per address, an error for what is not there."""

    bodies: Mapping[str, bytes]
    error: OSError = field(default_factory=lambda: urllib.error.URLError("no route"))
    asked: list[str] = field(default_factory=list)

    def open(self, url: str) -> IO[bytes]:
        self.asked.append(url)
        if url not in self.bodies:
            raise self.error
        return io.BytesIO(self.bodies[url])


def program(path: Path, text: str) -> Path:
    """An executable file of this text."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


def workshop(
    cache: Path, ways: Ways, settings: Mapping[str, str] | None = None, stream: IO[str] | None = None
) -> Any:
    """A workshop whose network and compiler are `ways`."""
    said = progress.Progress(stream=stream or io.StringIO(), clock=lambda: 0.0)
    return obtain.Workshop(cache, settings or {}, ways, ways, said)


def left_over(cache: Path) -> list[str]:
    """What a run leaves in the cache, less the lock files."""
    return sorted(path.name for path in cache.iterdir() if not path.name.startswith(".lock-"))


@pytest.mark.parametrize(
    ("published", "in_cache", "expected", "asked"),
    [
        pytest.param(True, True, "cached", [], id="the cache comes before the network"),
        pytest.param(True, False, "released", ["release"], id="the release comes before the build"),
        pytest.param(False, False, "built", ["release", "build"], id="the build comes last"),
    ],
)
def test_ways_in_order(
    tmp_path: Path, published: bool, in_cache: bool, expected: str, asked: list[str]
) -> None:
    """Each way is tried only when the ones before it did not give the tool."""
    ways = Ways(published=published)
    shop = workshop(tmp_path, ways)
    if in_cache:
        program(shop.cached(ETCD), "cached")
    assert shop.obtain([ETCD])[ETCD].read_text() == expected
    assert ["release"] * len(ways.fetched) + ["build"] * len(ways.built) == asked
    assert left_over(tmp_path) == [f"etcd-{ETCD.version}"]


@pytest.mark.parametrize(
    ("offers", "expected"),
    [
        pytest.param({"LATEEN_TOOLS": True, "KUBEBUILDER_ASSETS": True}, "LATEEN_TOOLS", id="ours first"),
        pytest.param(
            {"LATEEN_TOOLS": False, "KUBEBUILDER_ASSETS": True}, "KUBEBUILDER_ASSETS", id="then theirs"
        ),
        pytest.param({"LATEEN_TOOLS": False}, "cached", id="a setting without the tool is passed over"),
    ],
)
def test_settings_come_first(tmp_path: Path, offers: dict[str, bool], expected: str) -> None:
    """A folder named by a setting wins over the cache if it holds the program."""
    cache = tmp_path / "cache"
    for setting, holds in offers.items():
        if holds:
            program(tmp_path / setting / "etcd", setting)
    shop = workshop(cache, Ways(), {setting: str(tmp_path / setting) for setting in offers})
    program(shop.cached(ETCD), "cached")
    assert shop.obtain([ETCD])[ETCD].read_text() == expected


def test_setting_needs_an_executable(tmp_path: Path) -> None:
    """A file without the executable bit is no program."""
    program(tmp_path / "mine" / "etcd", "mine").chmod(0o644)
    shop = workshop(tmp_path / "cache", Ways(), {"LATEEN_TOOLS": str(tmp_path / "mine")})
    assert shop.obtain([ETCD])[ETCD].read_text() == "released"


def test_outdated_link_is_no_setting(tmp_path: Path) -> None:
    """A folder of links from before a pin changed does not keep the old version alive."""
    old = program(tmp_path / "etcd-0.1.0" / "etcd", "old")
    (tmp_path / "current-0123").mkdir()
    (tmp_path / "current-0123" / "etcd").symlink_to(old)
    shop = workshop(tmp_path, Ways(), {"LATEEN_TOOLS": str(tmp_path / "current-0123")})
    assert shop.obtain([ETCD])[ETCD].read_text() == "released"


def test_one_build_for_tools_of_one_recipe(tmp_path: Path) -> None:
    """What lacks of the Kubernetes programs is built together, and each other tool by itself."""
    ways = Ways(published=False)
    workshop(tmp_path, ways).obtain([ETCD, APISERVER, KUBECTL])
    assert ways.built == ["etcd", "kube-apiserver+kubectl"]


@pytest.mark.parametrize("signal", [KeyboardInterrupt(), SystemExit(143)], ids=["ctrl-c", "sigterm"])
def test_interrupted_run_leaves_nothing(tmp_path: Path, signal: BaseException) -> None:
    """Neither a program nor a partial folder stays behind when a build is interrupted."""

    def interrupt() -> None:
        raise signal

    with pytest.raises(type(signal)):
        workshop(tmp_path, Ways(published=False, during=interrupt)).obtain([ETCD])
    assert left_over(tmp_path) == []


def test_killed_run_is_swept(tmp_path: Path) -> None:
    """What a run that was killed outright left behind goes with the next run of the same recipe."""
    program(tmp_path / ".part-etcd-killed" / "etcd", "half")
    workshop(tmp_path, Ways()).obtain([ETCD])
    assert left_over(tmp_path) == [f"etcd-{ETCD.version}"]


class Signalling(io.StringIO):
    """A stream that tells when a text was written to it."""

    def __init__(self, awaited: str) -> None:
        super().__init__()
        self.awaited = awaited
        self.seen = threading.Event()

    def write(self, text: str) -> int:
        if self.awaited in text:
            self.seen.set()
        return super().write(text)


def test_two_runs_at_once_build_once(tmp_path: Path) -> None:
    """The second of two runs says that it waits, and then uses what the first obtained."""
    waiting = Signalling("another run is at it")
    second_ways = Ways(published=False)
    second = workshop(tmp_path, second_ways, stream=waiting)
    found: list[Path] = []
    thread = threading.Thread(target=lambda: found.append(second.obtain([ETCD])[ETCD]))

    def start_second() -> None:
        thread.start()
        assert waiting.seen.wait(10)

    first = workshop(tmp_path, Ways(published=False, during=start_second)).obtain([ETCD])
    thread.join(10)
    assert found == [first[ETCD]]
    assert second_ways.built == []


def test_failure_names_ways_and_remedy(tmp_path: Path) -> None:
    """A failure lists the tool, every way with its reason, and what to do; other tools are still obtained."""
    shop = workshop(tmp_path, Ways(published=False, buildable=False), {"LATEEN_TOOLS": "/nowhere"})
    program(shop.cached(KUBECTL), "cached")
    with pytest.raises(obtain.Failure) as caught:
        shop.obtain([ETCD, KUBECTL])
    assert str(caught.value).splitlines() == [
        f"etcd {ETCD.version} cannot be obtained:",
        "  - LATEEN_TOOLS: /nowhere holds no usable etcd",
        "  - KUBEBUILDER_ASSETS: not set",
        f"  - cache: {shop.cached(ETCD)} is not there",
        "  - release: the host is closed",
        "  - build: no Go here",
        f"  Remedy: {obtain.REMEDY}.",
    ]


@pytest.fixture
def linux(monkeypatch: pytest.MonkeyPatch) -> None:
    """The machine every project publishes for."""
    monkeypatch.setattr(catalogue, "this_platform", lambda: "linux/amd64")


def etcd_pages(checksum_of: bytes | None = None, member: str | None = None) -> dict[str, bytes]:
    """What etcd publishes: an archive with the program in it, and the list of checksums."""
    release = ETCD.release()
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w:gz") as tar:
        entry = tarfile.TarInfo(member or release.member)
        entry.size = 4
        tar.addfile(entry, io.BytesIO(b"etcd"))
    archive = packed.getvalue()
    digest = hashlib.sha256(checksum_of or archive).hexdigest()
    name = release.url.rpartition("/")[2]
    listed = f"{'0' * 64}  another-file.tar.gz\n{digest}  {name}\n"
    return {release.url: archive, release.checksum_url: listed.encode()}


@pytest.mark.usefixtures("linux")
def test_release_is_verified_and_unpacked(tmp_path: Path) -> None:
    """A release whose checksum agrees gives the one program out of its archive."""
    assert releases.Releases(Pages(etcd_pages())).fetch(ETCD, tmp_path).read_bytes() == b"etcd"


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(
    ("pages", "reason"),
    [
        pytest.param({"checksum_of": b"tampered"}, "not used", id="another checksum"),
        pytest.param({"member": "elsewhere/etcd"}, "does not hold", id="another layout"),
    ],
)
def test_doubtful_release_is_refused(tmp_path: Path, pages: dict[str, Any], reason: str) -> None:
    """A file that is not what was published is never used as the program."""
    with pytest.raises(releases.Unavailable, match=reason):
        releases.Releases(Pages(etcd_pages(**pages))).fetch(ETCD, tmp_path)
    assert not (tmp_path / "etcd").exists()


@pytest.mark.usefixtures("linux")
def test_endless_release_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A download stops at its bound."""
    monkeypatch.setattr(releases, "PROGRAM_LIMIT", 8)
    with pytest.raises(releases.Unavailable, match="larger than"):
        releases.Releases(Pages(etcd_pages())).fetch(ETCD, tmp_path)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("A" * 64, "a" * 64, id="a bare hash"),
        pytest.param(f"{'b' * 64}  tool.tar.gz", "b" * 64, id="sha256sum, text"),
        pytest.param(f"{'c' * 64} *tool.tar.gz", "c" * 64, id="sha256sum, binary"),
        pytest.param(f"{'d' * 64}  other.tar.gz", None, id="another file"),
        pytest.param("<html>sign in</html>", None, id="no checksums at all"),
    ],
)
def test_published_checksum(text: str, expected: str | None) -> None:
    """The checksum is read from the shapes projects publish, and never guessed."""
    if expected is None:
        with pytest.raises(releases.Unavailable, match=r"do not name tool\.tar\.gz"):
            releases.published_checksum(text, "tool.tar.gz")
    else:
        assert releases.published_checksum(text, "tool.tar.gz") == expected


@pytest.mark.usefixtures("linux")
@pytest.mark.parametrize(
    ("error", "times_asked"),
    [
        pytest.param(urllib.error.URLError("timed out"), 1, id="silent"),
        pytest.param(urllib.error.HTTPError("url", 404, "Not Found", Message(), None), 2, id="answering"),
    ],
)
def test_closed_host_is_remembered(tmp_path: Path, error: OSError, times_asked: int) -> None:
    """A host that did not answer is not asked again for the next tool; one that refuses a file is."""
    pages = Pages({}, error)
    source = releases.Releases(pages)
    for tool in (APISERVER, KUBECTL):
        with pytest.raises(releases.Unavailable):
            source.fetch(tool, tmp_path)
    assert len(pages.asked) == times_asked


def go(path: Path, version: str) -> Path:
    """A `go` that only knows its version."""
    return program(path, f"#!/bin/sh\necho go{version}\n")


@pytest.mark.parametrize(
    ("machines", "from_pypi"),
    [
        pytest.param("1.26.8", False, id="recent enough"),
        pytest.param("1.19.8", True, id="too old"),
        pytest.param(None, True, id="none"),
    ],
)
def test_toolchain(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, machines: str | None, from_pypi: bool
) -> None:
    """The machine's Go is used if the module accepts it, else PyPI's in the cache folder."""
    path = tmp_path / "path"
    # The sixth word of the command is the folder after --target.
    program(path / "uv", '#!/bin/sh\nmkdir -p "$6/go/bin" && cp "$0.go" "$6/go/bin/go"\n')
    go(path / "uv.go", "1.27.3")
    if machines:
        go(path / "go", machines)
    monkeypatch.setenv("PATH", f"{path}{os.pathsep}/bin")
    cache = tmp_path / "cache"
    builder = gobuild.GoBuilder(cache, progress.Progress(stream=io.StringIO()))
    chosen = Path(builder._toolchain(ETCD.recipe, "etcd"))
    assert chosen.is_relative_to(cache) == from_pypi
    assert not list(cache.glob(".part-*"))


def test_failing_build_quotes_its_last_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What `go build` said last is in the reason."""
    program(
        tmp_path / "path" / "go",
        '#!/bin/sh\nif [ "$1" = env ]; then echo go1.26.8; else echo "no such module" >&2; exit 1; fi\n',
    )
    monkeypatch.setenv("PATH", f"{tmp_path / 'path'}{os.pathsep}/bin")
    builder = gobuild.GoBuilder(tmp_path, progress.Progress(stream=io.StringIO()))
    with pytest.raises(releases.Unavailable, match="no such module"):
        builder.build(ETCD.recipe, [ETCD], tmp_path)


def test_links_are_one_folder_per_choice(tmp_path: Path) -> None:
    """The same tools give the same folder again, other places another one, and nothing partial stays."""
    ours, theirs = program(tmp_path / "a" / "etcd", "ours"), program(tmp_path / "b" / "etcd", "theirs")
    cache = tmp_path / "cache"
    folder = obtain.link(cache, {ETCD: ours})
    assert obtain.link(cache, {ETCD: ours}) == folder
    other = obtain.link(cache, {ETCD: theirs})
    assert ((folder / "etcd").read_text(), (other / "etcd").read_text()) == ("ours", "theirs")
    assert left_over(cache) == sorted([folder.name, other.name])


@pytest.mark.parametrize("tool", catalogue.TOOLS, ids=lambda tool: tool.name)
def test_pins_agree_with_their_module(tool: Any) -> None:
    """The version in the catalogue is the one that the committed go.mod builds."""
    required = (tool.recipe.folder / "go.mod").read_text()
    modules = [
        line.split() for line in required.splitlines() if line.startswith("require ") and "(" not in line
    ]
    (commands,) = tool.recipe.folder.glob("*.go")
    own = tool.package == "."
    assert ("package main" if own else f'"{tool.package}"') in commands.read_text()
    assert any(
        (f'"{module}/' in commands.read_text() if own else tool.package.startswith(module))
        and version == f"v{tool.version}"
        for _, module, version in modules
    )


def test_unknown_tool_is_named() -> None:
    """A misspelt name is an error that carries it."""
    with pytest.raises(KeyError, match="kubctl"):
        catalogue.named(["kubctl"])
