# SPDX-License-Identifier: Apache-2.0
"""Secrets of sources: how they are read, and what of them object stores are told."""

from pathlib import Path
from typing import Any

import pytest

from lateen_serving.errors import LoadError
from lateen_serving.outbound import buckets, credentials
from lateen_serving.outbound.addresses import Allowed
from lateen_serving.outbound.credentials import NONE, Credentials


def test_secrets_are_files(tmp_path: Path) -> None:
    """As Kubernetes mounts them, through links; values are trimmed and never shown."""
    mounted = tmp_path / "team" / "s"
    (mounted / "..data").mkdir(parents=True)
    (mounted / "..data" / "token").write_text("hunter2\n")
    (mounted / "token").symlink_to("..data/token")
    found = credentials.read("team/s", tmp_path)
    assert dict(found.values) == {"token": "hunter2"}
    assert "hunter2" not in repr(found)
    (mounted / "..data" / "token").write_bytes(b"\xff")
    with pytest.raises(LoadError) as caught:
        credentials.read("team/s", tmp_path)
    assert caught.value.code == "SourceUnauthorized"


def test_a_secret_that_changes_while_it_is_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The keys come from one state of it, the new one: the link that all of them are behind is followed once."""
    mounted, real = tmp_path / "team" / "s", credentials._value
    for name in ("old", "new"):
        (mounted / f"..{name}").mkdir(parents=True)
        for key in ("password", "user"):
            (mounted / f"..{name}" / key).write_text(name)
    (mounted / "..data").symlink_to("..old")
    for key in ("password", "user"):
        (mounted / key).symlink_to(f"..data/{key}")

    def changed(path: Path) -> str:
        value = real(path)
        if path.name == "password" and (mounted / "..old").exists():
            (mounted / "..fresh").symlink_to("..new")
            (mounted / "..fresh").replace(mounted / "..data")
            (mounted / "..old" / "password").unlink()  # as far as the kubelet's removal has come
            (mounted / "..old").rename(mounted / "..gone")
        return value

    monkeypatch.setattr(credentials, "_value", changed)
    assert dict(credentials.read("team/s", tmp_path).values) == {"password": "new", "user": "new"}


def test_a_secret_that_is_being_removed(tmp_path: Path) -> None:
    """Links without what they lead to are not a Secret without keys."""
    mounted = tmp_path / "team" / "s"
    mounted.mkdir(parents=True)
    (mounted / "token").symlink_to("..data/token")
    with pytest.raises(LoadError, match="team/s") as caught:
        credentials.read("team/s", tmp_path)
    assert caught.value.code == "SourceUnauthorized"


@pytest.mark.parametrize(
    ("store", "values", "word"),
    [
        ("s3", {"access_key_id": "a", "metadata_endpoint": "http://x"}, "metadata_endpoint"),
        ("s3", {"web_identity_token_file": "/etc/passwd"}, "web_identity_token_file"),
        ("s3", {"region": "@10.0.0.5/#"}, "region"),
        ("az", {"account_name": "evil.example/x"}, "account_name"),
        ("az", {"tenant_id": "../../x"}, "tenant_id"),
        ("gs", {"service_account": "/etc/passwd"}, "service_account"),
        ("gs", {"base_url": "https://10.0.0.1"}, "base_url"),
        ("gs", {"service_account_key": "{}"}, "service_account_key"),
        ("az", {"federated_token_file": "/etc/passwd"}, "federated_token_file"),
        ("az", {"authority_host": "https://10.0.0.1"}, "authority_host"),
    ],
)
def test_keys_by_which_the_node_would_act_for_a_stranger(
    store: Any, values: dict[str, str], word: str
) -> None:
    """A Secret brings an identity; it can't make the node read files, ask hosts or lend its own identity."""
    with pytest.raises(LoadError, match=word):
        buckets.configuration(store, Credentials("team/s", values))


ENDPOINT = {"endpoint": "https://x.example"}
APPLICATION = {"account_name": "abc", "tenant_id": "t", "client_id": "c", "client_secret": "x"}


@pytest.mark.parametrize(
    ("store", "values", "lacking"),
    [
        ("s3", {}, "access_key_id and secret_access_key"),
        ("s3", ENDPOINT, "access_key_id and secret_access_key"),
        ("s3", {"access_key_id": "a"}, "secret_access_key"),
        ("s3", {"access_key_id": "a", "secret_access_key": ""}, "secret_access_key"),
        ("s3", {"secret_access_key": "b", "region": "eu-west-1"}, "access_key_id"),
        ("s3", {"session_token": "t"}, "access_key_id and secret_access_key"),
        ("s3", {**ENDPOINT, "skip_signature": "false"}, "access_key_id and secret_access_key"),
        ("gs", {}, "service_account_key"),
        ("gs", {"skip_signature": "false"}, "service_account_key"),
        ("az", {"account_name": "abc"}, "account_key"),
        ("az", {"account_key": "YWJj"}, "account_name"),
        ("az", {"sas_key": "sv=1&sig=x"}, "account_name"),
        ("az", {"skip_signature": "true"}, "account_name"),
        ("az", {"account_name": "abc", "tenant_id": "t", "client_id": "c"}, "account_key"),
        (
            "az",
            {name: value for name, value in APPLICATION.items() if name != "account_name"},
            "account_name",
        ),
        ("az", {**ENDPOINT, **APPLICATION}, "account_key"),
    ],
)
def test_what_a_secret_lacks_is_not_taken_of_the_node(
    store: Any, values: dict[str, str], lacking: str
) -> None:
    """A Secret without a whole identity is refused, by the names of what is missing, with an endpoint or without."""
    with pytest.raises(LoadError, match=f"Secret team/s: it lacks {lacking}: ") as caught:
        buckets.configuration(store, Credentials("team/s", values))
    assert caught.value.code == "SourceUnauthorized"


@pytest.mark.parametrize(
    ("store", "values"),
    [
        ("s3", {"access_key_id": "a", "secret_access_key": "b"}),
        ("s3", {"skip_signature": "true"}),
        ("az", {"account_name": "abc", "account_key": "YWJj"}),
        ("az", {"account_name": "abc", "skip_signature": "true"}),
        ("az", APPLICATION),
    ],
)
def test_a_secret_with_all_it_needs(store: Any, values: dict[str, str]) -> None:
    """It is taken as it is, and says itself whether requests are signed."""
    found = buckets.configuration(store, Credentials("team/s", values))
    assert found == {"skip_signature": "false"} | values


def test_without_a_secret_the_node_says_all() -> None:
    """A source that names no Secret is read with the node's identity."""
    assert buckets.configuration("s3", NONE) == {}


@pytest.mark.parametrize(
    ("store", "values", "handed"),
    [
        (
            "s3",
            {"access_key_id": "a", "secret_access_key": "b"},
            {"access_key_id": "a", "secret_access_key": "b", "token": None},
        ),
        (
            "s3",
            {"access_key_id": "a", "secret_access_key": "b", "session_token": "c"},
            {"access_key_id": "a", "secret_access_key": "b", "token": "c"},
        ),
        ("az", {"account_key": "YWJj"}, {"access_key": "YWJj"}),
        ("az", {"sas_key": "?sv=1&sig=x%3D", "client_id": "c"}, {"sas_token": "?sv=1&sig=x%3D"}),
    ],
)
def test_credentials_of_a_secret_leave_nothing_to_the_node(
    store: Any, values: dict[str, str], handed: dict[str, Any]
) -> None:
    """The store's client is told them directly, so that it can't prefer others from its environment."""
    config = {**values, "region": "r", "skip_signature": "false"}
    own = buckets.provider(store, config, "team/s")
    assert own is not None
    assert own() == {**handed, "expires_at": None}
    assert config == {"region": "r", "skip_signature": "false"}


def test_nothing_is_signed_for_whoever_says_so() -> None:
    """Keys beside `skip_signature` are dropped."""
    config = {"skip_signature": "true", "access_key_id": "a", "endpoint": "https://x.example"}
    assert buckets.provider("s3", config, "team/s") is None
    assert config == {"skip_signature": "true", "endpoint": "https://x.example"}


@pytest.mark.parametrize(
    "values", [{"account_key": "not base64!"}, {"sas_key": "https://x.example"}, {"sas_key": "sv"}]
)
def test_a_key_that_is_none(values: dict[str, str]) -> None:
    """It is refused before anybody is asked, by its name and without its value."""
    (name, value), *_ = values.items()
    with pytest.raises(LoadError, match=name) as caught:
        buckets.provider("az", dict(values), "team/s")
    assert caught.value.code == "SourceUnauthorized"
    assert f"{value} " not in caught.value.message


@pytest.mark.parametrize(
    ("store", "values", "variable"),
    [
        ("gs", {"service_account_key": "{}"}, "GOOGLE_SERVICE_ACCOUNT"),
        ("gs", {"service_account_key": "{}"}, "GOOGLE_BEARER_TOKEN"),
        ("az", {"client_secret": "x"}, "AZURE_FEDERATED_TOKEN_FILE"),
    ],
)
def test_what_the_node_hides(
    monkeypatch: pytest.MonkeyPatch, store: Any, values: dict[str, str], variable: str
) -> None:
    """Where the node's own identity would be used instead of the Secret's, it is told which variable is the reason."""
    monkeypatch.setenv(variable, "x")
    with pytest.raises(LoadError, match=variable) as caught:
        buckets.provider(store, values, "team/s")
    assert caught.value.code == "SourceRefused"


def test_a_service_account_names_no_hosts() -> None:
    """Of its document only the identity is taken."""
    fields = dict.fromkeys(("type", "project_id", "private_key_id", "private_key", "client_email"), "x")
    text = str({**fields, "gcs_base_url": "https://10.0.0.1", "token_uri": "https://10.0.0.1"}).replace(
        "'", '"'
    )
    found = buckets.configuration("gs", Credentials("team/s", {"service_account_key": text}))
    assert "10.0.0.1" not in found["service_account_key"]
    assert Allowed().private("10.0.0.1", 443) is False
