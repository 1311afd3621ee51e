# SPDX-License-Identifier: Apache-2.0
"""Weights from web servers and registries, behind a transport that answers from memory."""

import hashlib
import io
import json
import logging
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest

from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import NONE, Credentials
from lateen_serving.weights import uris
from lateen_serving.weights.registry import Registry
from lateen_serving.weights.remote import Remote
from lateen_serving.weights.web import Web
from unit.weights_fakes import Server, room

HOST = "93.184.216.34"
FILES = {"config.json": b"{}", "model.safetensors": b"w" * 3000, "tokenizer.json": b"[]"}
SECRET = Credentials("team/s", {"username": "u", "password": "hunter2"})


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """No pauses between attempts."""
    monkeypatch.setattr(retrying, "FIRST_PAUSE", 0.0)


def web(server: Server, path: str, credentials: Credentials = NONE, allowed: Allowed | None = None) -> Web:
    """The source `https://HOST/path`, a model."""
    parsed = uris._web(f"https://{HOST}{path}", f"{HOST}{path}")
    return Web(parsed, "model", credentials, allowed or Allowed(), server)


def listed(prefix: str = "/m/", names: dict[str, bytes] | None = None, sums: bool = False) -> Server:
    """A folder with its files.txt."""
    files = FILES if names is None else names
    lines = [f"{hashlib.sha256(data).hexdigest()}  {name}" if sums else name for name, data in files.items()]
    pages = {prefix + name: data for name, data in files.items()} | {
        f"{prefix}files.txt": "\n".join(lines).encode()
    }
    return Server(dict(pages))


async def load(remote: Remote, folder: Path) -> dict[str, bytes]:
    """What the source puts into `folder`."""
    Path.mkdir(folder, exist_ok=True)
    await remote.fill(await remote.survey(), folder, room(folder.parent / "cache"))
    return content(folder)


def content(folder: Path) -> dict[str, bytes]:
    """What lies in a folder."""
    found = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}


async def failing(remote: Remote, folder: Path) -> LoadError:
    """The error with which the source fails."""
    with pytest.raises(LoadError) as caught:
        await load(remote, folder)
    assert "hunter2" not in caught.value.message
    return caught.value


@pytest.mark.parametrize("sums", [False, True])
async def test_a_list_of_files(tmp_path: Path, sums: bool) -> None:
    """Only the model's files are fetched; each is known by size and version before."""
    server = listed(names={**FILES, "pytorch_model.bin": b"p", "README.md": b"r"}, sums=sums)
    remote = web(server, "/m/files.txt")
    survey = await remote.survey()
    assert survey.size == sum(map(len, FILES.values()))
    assert await load(remote, tmp_path / "x") == FILES
    assert not {"/m/pytorch_model.bin", "/m/README.md"} & set(server.paths())


async def test_a_changed_file_is_other_content(tmp_path: Path) -> None:
    """The identity follows the server's entity tags."""
    server = listed()
    before = (await web(server, "/m/files.txt").survey()).identity
    assert (await web(server, "/m/files.txt").survey()).identity == before
    server.pages["/m/model.safetensors"] = b"v" * 3000
    assert (await web(server, "/m/files.txt").survey()).identity != before


@pytest.mark.parametrize(
    "name", ["../config.json", "/etc/passwd", "a/../../b", "a\\b", "a//b", "./a", "x\x07"]
)
async def test_names_that_leave_the_folder(tmp_path: Path, name: str) -> None:
    """A list can't make us write or ask anywhere else."""
    server = listed()
    server.pages["/m/files.txt"] = f"config.json\n{name}\n".encode()
    assert (await failing(web(server, "/m/files.txt"), tmp_path / "x")).code == "SourceRefused"
    assert server.paths() == ["/m/files.txt"]


async def test_a_checksum_that_does_not_fit(tmp_path: Path) -> None:
    """The file is not made visible, and asking again would not help."""
    server = listed(sums=True)
    server.pages["/m/model.safetensors"] = b"v" * 3000
    error = await failing(web(server, "/m/files.txt"), tmp_path / "x")
    assert error.code == "DigestMismatch"
    assert not (tmp_path / "x" / "model.safetensors").exists()
    assert server.paths().count("/m/model.safetensors") == 1


async def test_complete_files_are_not_fetched_again(tmp_path: Path) -> None:
    """A download that broke off goes on with the files that are missing."""
    server = listed()
    broken = server.pages["/m/model.safetensors"]
    remote = web(server, "/m/files.txt")
    survey = await remote.survey()
    (tmp_path / "x").mkdir()
    server.pages["/m/model.safetensors"] = b"short"
    with pytest.raises(LoadError, match="broke off") as caught:
        await remote.fill(survey, tmp_path / "x", room(tmp_path / "cache"))
    assert caught.value.code == "SourceUnavailable"
    assert server.paths().count("/m/model.safetensors") == retrying.ATTEMPTS
    (tmp_path / "x" / "config.json").write_bytes(b"{}")
    server.pages["/m/model.safetensors"] = broken
    server.asked.clear()
    await remote.fill(survey, tmp_path / "x", room(tmp_path / "cache"))
    assert "/m/model.safetensors" in server.paths()
    assert "/m/config.json" not in server.paths()


@pytest.mark.parametrize(
    ("status", "code", "attempts"),
    [
        (401, "SourceUnauthorized", 1), (403, "SourceUnauthorized", 1), (404, "SourceNotFound", 1),
        (410, "SourceNotFound", 1), (418, "SourceRefused", 1), (429, "SourceUnavailable", 4),
        (503, "SourceUnavailable", 4),
    ],
)  # fmt: skip
async def test_what_a_status_means(tmp_path: Path, status: int, code: str, attempts: int) -> None:
    """Only what may heal is tried again; neither the Secret's values nor the query are repeated."""
    server = Server({"/m.zip": lambda _: httpx.Response(status)})
    error = await failing(web(server, "/m.zip?sig=hunter2", SECRET), tmp_path / "x")
    assert error.code == code
    assert len(server.asked) == attempts
    assert server.asked[0].headers["authorization"].startswith("Basic ")
    if code == "SourceUnauthorized":
        assert "team/s" in error.message


async def test_a_failure_that_heals(tmp_path: Path) -> None:
    """A server that answers 503 once is asked again."""
    answers = iter([503, 503])

    def sometimes(request: httpx.Request) -> httpx.Response:
        if status := next(answers, None):
            return httpx.Response(status)
        return httpx.Response(200, content=b"config.json\nmodel.safetensors\ntokenizer.json")

    server = listed()
    server.pages["/m/files.txt"] = sometimes
    assert await load(web(server, "/m/files.txt"), tmp_path / "x") == FILES


@pytest.mark.parametrize(
    "to",
    ["https://127.0.0.1/x.zip", "https://169.254.169.254/latest", "http://93.184.216.35/x.zip", "file:///etc/passwd"],
)  # fmt: skip
async def test_a_redirect_is_checked_like_an_address(tmp_path: Path, to: str) -> None:
    """A public server can't send us to a private address, to plain http or to a file."""
    server = Server({"/m.zip": lambda _: httpx.Response(302, headers={"location": to})})
    error = await failing(web(server, "/m.zip"), tmp_path / "x")
    assert error.code in {"SourceRefused", "SourceUnavailable"}
    assert len({request.url.host for request in server.asked}) == 1


async def test_a_secret_stays_with_its_host(tmp_path: Path) -> None:
    """A redirect to another host is followed without the authorization."""
    body = zipped(FILES)

    def elsewhere(request: httpx.Request) -> httpx.Response:
        return httpx.Response(302, headers={"location": "https://93.184.216.35/real.zip"})

    server = Server({"/m.zip": elsewhere, "/real.zip": body})
    token = Credentials("team/s", {"token": "hunter2"})
    await load(web(server, "/m.zip", token), tmp_path / "x")
    for request in server.asked:
        assert ("authorization" in request.headers) == (request.headers["host"] == HOST)


async def test_the_checked_address_is_the_one_that_is_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The name goes into Host and TLS, the connection to the address that was checked, at every call."""
    answers = iter(["93.184.216.34", "127.0.0.1"])

    def lookup(*_: object, **__: object) -> object:
        return [(2, 1, 6, "", (next(answers), 443))]

    monkeypatch.setattr("socket.getaddrinfo", lookup)
    server = listed()
    source = uris.WebSource("https://rebinding.example/m/files.txt", "list")
    remote = Web(source, "model", NONE, Allowed(), server)
    error = await failing(remote, tmp_path / "x")
    assert error.code == "SourceRefused"
    (first,) = server.asked
    assert first.url.host == "93.184.216.34"
    assert first.headers["host"] == "rebinding.example"
    assert first.extensions["sni_hostname"] == "rebinding.example"


async def test_addresses_are_not_logged(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Signed addresses carry a secret, so the HTTP client's own lines stay out."""
    caplog.set_level(logging.INFO)
    server = Server({"/m.zip": zipped(FILES)})
    await load(web(server, "/m.zip?sig=hunter2"), tmp_path / "x")
    assert "hunter2" not in caplog.text


def zipped(files: dict[str, bytes]) -> bytes:
    """A zip archive."""
    output = io.BytesIO()
    with zipfile.ZipFile(output, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return output.getvalue()


def tarred(files: dict[str, bytes], mode: str = "w:gz", extra: tuple[tarfile.TarInfo, ...] = ()) -> bytes:
    """A tar archive."""
    output = io.BytesIO()
    with tarfile.open(fileobj=output, mode=mode) as archive:  # type: ignore[call-overload]  # any mode
        for info in extra:
            archive.addfile(info)
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return output.getvalue()


def special(name: str, kind: bytes, target: str = "") -> tarfile.TarInfo:
    """A link or device in a tar."""
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, target
    return info


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/m.zip", zipped(FILES)),
        ("/m.tar", tarred(FILES, "w")),
        ("/m.tgz", tarred({f"top/{name}": data for name, data in FILES.items()})),
        ("/m.tar.gz", tarred({f"./{name}": data for name, data in FILES.items()})),
    ],
)
async def test_archives(tmp_path: Path, path: str, body: bytes) -> None:
    """Each kind is unpacked, a single top folder is dropped."""
    found = await load(web(Server({path: body}), path), tmp_path / "x")
    assert {name: data for name, data in found.items() if not name.startswith(".")} == FILES


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (zipped({"../out.json": b"x"}), "SourceRefused"),
        (tarred({"/abs.json": b"x"}), "SourceRefused"),
        (tarred({"a/../../b.json": b"x"}), "SourceRefused"),
        (tarred(FILES, extra=(special("config.json", tarfile.SYMTYPE, "/etc/passwd"),)), "SourceRefused"),
        (tarred(FILES, extra=(special("a.json", tarfile.LNKTYPE, "../../x"),)), "SourceRefused"),
        (tarred(FILES, extra=(special("a.json", tarfile.CHRTYPE),)), "SourceRefused"),
        (b"no archive at all", "ModelUnsupported"),
        (tarred(FILES)[:-900], "ModelUnsupported"),
    ],
)
async def test_dangerous_and_broken_archives(tmp_path: Path, body: bytes, code: str) -> None:
    """Names and links that lead out, devices and cut archives are refused, and nothing is written outside."""
    error = await failing(web(Server({"/m.tar.gz": body}), "/m.tar.gz"), tmp_path / "x")
    assert error.code == code
    assert all(name.startswith(("x/", "cache/locks/")) for name in content(tmp_path))


def artifact(server: Server, layers: list[tuple[str, bytes, dict[str, str]]]) -> str:
    """Put a model artifact into the server; its digest."""
    described = []
    for media, data, annotations in layers:
        digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
        server.pages[f"/v2/team/m/blobs/{digest}"] = data
        described.append(
            {"mediaType": media, "digest": digest, "size": len(data), "annotations": annotations}
        )
    manifest = json.dumps({"schemaVersion": 2, "layers": described}).encode()
    digest = f"sha256:{hashlib.sha256(manifest).hexdigest()}"
    server.pages["/v2/team/m/manifests/v1"] = server.pages[f"/v2/team/m/manifests/{digest}"] = manifest
    return digest


def registry(server: Server, reference: str = "v1", credentials: Credentials = NONE) -> Registry:
    """The artifact `team/m`."""
    return Registry(
        uris.RegistrySource(HOST, "team/m", reference), "model", credentials, Allowed(), server
    )  # fmt: skip


def titled(name: str) -> dict[str, str]:
    """The annotation that names a layer's file."""
    return {"org.opencontainers.image.title": name}


async def test_artifacts_of_files_and_of_archives(tmp_path: Path) -> None:
    """Layers are files named by their title, or tars; both may come in one artifact."""
    server = Server({})
    digest = artifact(
        server, [("application/octet-stream", data, titled(name)) for name, data in FILES.items()]
    )
    assert await load(registry(server), tmp_path / "a") == FILES
    assert await load(registry(server, digest), tmp_path / "b") == FILES
    config, *rest = FILES.items()
    artifact(
        server,
        [
            ("application/octet-stream", config[1], titled(config[0])),
            ("application/vnd.oci.image.layer.v1.tar+gzip", tarred({f"m/{n}": d for n, d in rest}), {}),
        ],
    )
    found = await load(registry(server), tmp_path / "c")
    assert {name: data for name, data in found.items() if not name.startswith(".")} == FILES


async def test_a_layer_that_was_changed(tmp_path: Path) -> None:
    """A registry that gives other bytes than the manifest says is not believed, nor one with another manifest."""
    server = Server({})
    digest = artifact(
        server, [("application/octet-stream", data, titled(name)) for name, data in FILES.items()]
    )
    blob = f"/v2/team/m/blobs/sha256:{hashlib.sha256(FILES['config.json']).hexdigest()}"
    server.pages[blob] = b"[]"
    assert (await failing(registry(server), tmp_path / "a")).code == "DigestMismatch"
    server.pages[f"/v2/team/m/manifests/{digest}"] = b'{"layers": []}'
    assert (await failing(registry(server, digest), tmp_path / "b")).code == "DigestMismatch"


async def test_the_token_of_a_registry(tmp_path: Path) -> None:
    """The registry says where tokens are given; the login goes there and the token to the registry alone."""
    server = Server({})
    artifact(server, [("application/octet-stream", data, titled(name)) for name, data in FILES.items()])
    inside = dict(server.pages)

    def token(request: httpx.Request) -> httpx.Response:
        if "authorization" not in request.headers:
            return httpx.Response(401)
        assert request.url.params["scope"] == "repository:team/m:pull"
        return httpx.Response(200, json={"token": "short-lived"})

    def guarded(request: httpx.Request) -> httpx.Response:
        if request.headers.get("authorization") != "Bearer short-lived":
            challenge = f'Bearer realm="https://93.184.216.35/token",service="r",scope="{request.url.path}"'
            return httpx.Response(401, headers={"www-authenticate": challenge})
        page = inside[request.url.path]
        assert isinstance(page, bytes)
        return httpx.Response(200, content=page)

    server.pages = {**dict.fromkeys(inside, guarded), "/token": token}
    assert await load(registry(server, credentials=SECRET), tmp_path / "a") == FILES
    logins = [r.headers["host"] for r in server.asked if "Basic" in r.headers.get("authorization", "")]
    assert set(logins) == {"93.184.216.35"}
    assert (await failing(registry(server), tmp_path / "b")).code == "SourceUnauthorized"


async def test_what_is_no_artifact(tmp_path: Path) -> None:
    """A missing tag, something that is no manifest, and layers with bad names are told apart."""
    server = Server({})
    assert (await failing(registry(server), tmp_path / "a")).code == "SourceNotFound"
    server.pages["/v2/team/m/manifests/v1"] = b"<html>"
    assert (await failing(registry(server), tmp_path / "b")).code == "ModelUnsupported"
    artifact(server, [("application/octet-stream", b"{}", titled("../config.json"))])
    assert (await failing(registry(server), tmp_path / "c")).code == "SourceRefused"
