# SPDX-License-Identifier: Apache-2.0
"""Finding the documents of sources."""

import asyncio
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from lateen_api.rag_sources import GitSource, Source
from lateen_serving.rag import files, git, sources
from lateen_serving.rag.protocol import Loaded, SourceFailure
from lateen_serving.rag.sources import Surroundings
from lateen_serving.settings import ServingSettings


@pytest.fixture
def around(tmp_path: Path) -> Surroundings:
    """Empty volumes, job folder and scratch."""
    for name in ("volumes", "job", "scratch", "repositories"):
        (tmp_path / name).mkdir()
    settings = ServingSettings(volumes=tmp_path / "volumes", file_roots=[tmp_path / "repositories"])
    return Surroundings(settings, tmp_path / "job", tmp_path / "scratch", 1000)


async def load(around: Surroundings, **kind: Any) -> Loaded:
    """The documents of one source named `s`."""
    return await sources.load(Source.model_validate({"name": "s"} | kind), around)


def write(folder: Path, **texts: str) -> None:
    """Files by name; `_` separates folders and `0` stands for the dot."""
    for name, text in texts.items():
        path = folder / name.replace("_", "/").replace("0", ".")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)


async def test_inline_documents_have_ids_uris_and_content(around: Surroundings) -> None:
    """A document's id is `source/name`; of two with one name the second is a failure."""
    documents = [{"name": "a.md", "text": "é"}, {"name": "a.md", "text": "again"}]
    loaded = await load(around, inline={"documents": documents})
    (document,) = loaded.documents
    assert (document.id, document.uri, document.size) == ("s/a.md", "inline:s/a.md", 2)
    assert await document.read() == "é".encode()
    assert [(failure.document, failure.reason) for failure in loaded.failures] == [("s/a.md", "Unreadable")]


async def test_configmap_keys_are_documents(around: Surroundings) -> None:
    """Each file beside the request is a document; a ConfigMap that did not come is SourceNotFound."""
    write(around.working_dir / "configmaps" / "s", a0md="x", b="y")
    loaded = await load(around, configMap={"name": "notes"})
    assert [(document.id, document.uri) for document in loaded.documents] == [
        ("s/a.md", "configmap:notes/a.md"),
        ("s/b", "configmap:notes/b"),
    ]
    (around.working_dir / "configmaps" / "s").rename(around.working_dir / "away")
    with pytest.raises(SourceFailure) as failure:
        await load(around, configMap={"name": "notes"})
    assert failure.value.reason == "SourceNotFound"


async def test_volume_files_are_selected_by_patterns(around: Surroundings) -> None:
    """Include and exclude apply below the path; hidden folders are left out."""
    claim = around.settings.volumes / "docs"
    write(
        claim,
        policies_a0md="1",
        policies_sub_b0txt="2",
        policies_draft_c0md="3",
        policies_0git_d0md="4",
        e0md="5",
    )
    write(claim, policies_f0png="6")
    loaded = await load(around, pvc={"claimName": "docs", "path": "policies", "exclude": ["draft/**"]})
    assert [document.uri for document in loaded.documents] == [
        "pvc://docs/policies/a.md",
        "pvc://docs/policies/sub/b.txt",
    ]
    assert [await document.read() for document in loaded.documents] == [b"1", b"2"]


async def test_nothing_leads_out_of_a_volume(around: Surroundings) -> None:
    """Links within the claim are followed once; links out of it are refused; pipes are not opened."""
    claim = around.settings.volumes / "docs"
    write(claim, real_a0md="1")
    write(around.scratch, secret0md="secret")
    (claim / "inside").symlink_to(claim / "real")
    (claim / "loop").symlink_to(claim)
    (claim / "file.md").symlink_to(around.scratch / "secret.md")
    (claim / "folder.md").symlink_to(around.scratch)
    (claim / "broken.md").symlink_to(claim / "nothing")
    os.mkfifo(claim / "pipe.md")
    loaded = await load(around, pvc={"claimName": "docs"})
    assert len(loaded.documents) == 1
    assert {failure.document: failure.reason for failure in loaded.failures} == {
        "s/file.md": "Unreadable",
        "s/folder.md": "Unreadable",
        "s/broken.md": "Unreadable",
    }


@pytest.mark.parametrize(
    ("path", "reason"),
    [("missing", "SourceNotFound"), ("../other", "SourceRefused"), ("link", "SourceRefused")],
)
async def test_a_path_that_can_not_be_read(around: Surroundings, path: str, reason: str) -> None:
    """A missing folder is SourceNotFound; one that leads out of the claim is SourceRefused."""
    (around.settings.volumes / "docs").mkdir()
    (around.settings.volumes / "other").mkdir()
    (around.settings.volumes / "docs" / "link").symlink_to(around.settings.volumes / "other")
    with pytest.raises(SourceFailure) as failure:
        await load(around, pvc={"claimName": "docs", "path": path})
    assert failure.value.reason == reason


async def test_a_file_that_grows_or_is_replaced_is_not_half_read(around: Surroundings) -> None:
    """What was listed is read whole, or not at all."""
    write(around.settings.volumes / "docs", a0md="1", b0md="2")
    grown, replaced = (await load(around, pvc={"claimName": "docs"})).documents
    write(around.settings.volumes / "docs", a0md="1 and more")
    (around.settings.volumes / "docs" / "b.md").unlink()
    (around.settings.volumes / "docs" / "b.md").symlink_to("/etc/hostname")
    for document in (grown, replaced):
        with pytest.raises(OSError, match=r"grew|symbolic"):
            await document.read()


@pytest.mark.parametrize("bound", ["MAX_FILES", "MAX_ENTRIES", "MAX_BYTES"])
async def test_sources_are_bounded(around: Surroundings, monkeypatch: pytest.MonkeyPatch, bound: str) -> None:
    """Beyond a bound the source fails as a whole, so that nothing of it is taken for removed."""
    write(around.settings.volumes / "docs", a0md="11", b0md="22")
    monkeypatch.setattr(files, bound, 1)
    with pytest.raises(SourceFailure) as failure:
        await load(around, pvc={"claimName": "docs"})
    assert failure.value.reason == "TooLarge"


@pytest.mark.parametrize(
    "url",
    [
        "https://127.0.0.1/a.git", "https://[::1]/a.git", "https://localhost/a", "https://2130706433/a",
        "https://user:secret@93.184.216.34/a", "https:///a", "http://93.184.216.34/a", "ssh://93.184.216.34/a",
        "ext::sh -c id", "file:///etc", "file://host/repositories/a",
    ],
)  # fmt: skip
async def test_refused_repositories_never_reach_git(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch, url: str
) -> None:
    """Private hosts, credentials, other protocols and local folders that are not allowed are refused before git runs."""

    async def run(*arguments: object, **more: object) -> bytes:
        raise AssertionError("git was run")

    monkeypatch.setattr(git, "run", run)
    with pytest.raises(SourceFailure) as failure:
        await load(around, git={"url": url})
    assert failure.value.reason == "SourceRefused"
    assert "secret" not in str(failure.value)


async def test_what_nobody_foresaw_fails_the_source_alone(
    around: Surroundings, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Any error is a SourceFailure that names its kind and nothing of its text; a build that is ended stays ended."""

    def broken(error: BaseException) -> Callable[..., None]:
        def listing(*_: object, **__: object) -> None:
            raise error

        return listing

    (around.settings.volumes / "docs").mkdir()
    monkeypatch.setattr(files, "listing", broken(OverflowError("hunter2")))
    with pytest.raises(SourceFailure, match="OverflowError") as failure:
        await load(around, pvc={"claimName": "docs"})
    assert (failure.value.reason, "hunter2" in str(failure.value)) == ("SourceUnavailable", False)
    monkeypatch.setattr(files, "listing", broken(asyncio.CancelledError()))
    with pytest.raises(asyncio.CancelledError):
        await load(around, pvc={"claimName": "docs"})


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("https://github.com/o/r.git", "https://github.com/o/r/blob/main/docs/a%20b.md"),
        ("https://gitlab.com/o/r", "https://gitlab.com/o/r/-/blob/main/docs/a%20b.md"),
        ("https://git.example/o/r.git", "https://git.example/o/r#docs/a%20b.md"),
    ],
)
def test_documents_of_repositories_link_to_their_page(url: str, expected: str) -> None:
    """Known hosts get a link to the file, others the repository and the path."""
    source = GitSource.model_validate({"url": url, "ref": "main", "path": "docs/"})
    assert git.uri(source, "a b.md") == expected
