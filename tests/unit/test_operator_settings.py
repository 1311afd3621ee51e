# SPDX-License-Identifier: Apache-2.0
"""Where the operator's settings come from, and what a wrong one looks like."""

from pathlib import Path

import pytest
from pydantic import ValidationError

from lateen_operator.settings import CONFIG_VARIABLE, OperatorSettings


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A settings file that the environment names."""
    path = tmp_path / "operator.yaml"
    monkeypatch.setenv(CONFIG_VARIABLE, str(path))
    return path


def test_environment_wins_over_the_file_and_the_file_over_defaults(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of precedence, from weak to strong: default, file, environment."""
    file.write_text("gateway_port: 9000\nresync_seconds: 5\n")
    monkeypatch.setenv("LATEEN_OPERATOR_GATEWAY_PORT", "9001")
    settings = OperatorSettings()
    assert (settings.gateway_port, settings.resync_seconds, settings.gateway_replicas) == (9001, 5, 1)


def test_namespaces_are_a_json_list(monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty list, the default, means the whole cluster."""
    assert OperatorSettings().watch_namespaces == ()
    monkeypatch.setenv("LATEEN_OPERATOR_WATCH_NAMESPACES", '["team-a", "team-b"]')
    assert OperatorSettings().watch_namespaces == ("team-a", "team-b")


def test_secrets_are_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    """Printing the settings gives no key away."""
    monkeypatch.setenv("LATEEN_OPERATOR_RAY_TOKEN", "ray-secret")
    monkeypatch.setenv("LATEEN_OPERATOR_WEAVIATE_API_KEY", "weaviate-secret")
    settings = OperatorSettings()
    assert "secret'" not in repr(settings).replace("api_key", "")
    assert settings.ray_token.get_secret_value() == "ray-secret"


def test_unknown_setting_in_the_file_is_refused_by_name(file: Path) -> None:
    """A typo does not go unnoticed."""
    file.write_text("gateway_prot: 9000\n")
    with pytest.raises(ValidationError, match="gateway_prot"):
        OperatorSettings()


def test_file_that_does_not_exist_is_named(file: Path) -> None:
    """A wrong path is no empty file."""
    with pytest.raises(FileNotFoundError, match=str(file)):
        OperatorSettings()


@pytest.mark.parametrize(
    ("name", "value"), [("GATEWAY_PORT", "0"), ("RESYNC_SECONDS", "-1"), ("CONCURRENCY", "0")]
)
def test_value_out_of_bounds_is_refused(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bounds are checked before anything starts."""
    monkeypatch.setenv(f"LATEEN_OPERATOR_{name}", value)
    with pytest.raises(ValidationError, match=name.lower()):
        OperatorSettings()
