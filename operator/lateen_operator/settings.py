# SPDX-License-Identifier: Apache-2.0
"""What the operator reads from its environment and, where `LATEEN_OPERATOR_CONFIG` names one, a YAML file.

Read once by `main.py`; the environment wins over the file. Kubernetes access is not here: it comes from
`KUBECONFIG` or the pod's service account.
"""

import os
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, SecretStr
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    YamlConfigSettingsSource,
)

CONFIG_VARIABLE = "LATEEN_OPERATOR_CONFIG"
"""Environment variable that names the optional YAML file."""

Seconds = Annotated[float, Field(gt=0, le=86400)]
Port = Annotated[int, Field(ge=1, le=65535)]


class OperatorSettings(BaseSettings):
    """Settings of one operator process; each variable is prefixed `LATEEN_OPERATOR_`."""

    model_config = SettingsConfigDict(env_prefix="LATEEN_OPERATOR_", frozen=True, extra="forbid")

    namespace: Annotated[str, Field(min_length=1, max_length=63)] = "lateen-system"
    """Namespace of the operator's Lease and of the Secrets that hold client keys."""

    watch_namespaces: tuple[str, ...] = ()
    """Namespaces whose resources are reconciled, as a JSON list; empty: all of the cluster."""

    ray_url: str = "http://127.0.0.1:8265"
    """Ray's dashboard, where the Serve and Jobs APIs are."""

    ray_token: SecretStr = SecretStr("")
    """Ray's authentication token; empty: none is sent."""

    weaviate_url: str = "http://127.0.0.1:8080"
    """Weaviate's HTTP address."""

    weaviate_grpc_port: Port = 50051
    """Weaviate's gRPC port, on the same host."""

    weaviate_api_key: SecretStr = SecretStr("")
    """Weaviate's API key; empty: none is sent."""

    gateway_host: str = "127.0.0.1"
    """Host that Ray Serve's HTTP proxy listens on; also where `/readyz` is asked."""

    gateway_port: Port = 8000
    """Port of Ray Serve's HTTP proxy."""

    gateway_replicas: Annotated[int, Field(ge=1, le=1000)] = 1
    """Replicas of the gateway."""

    gateway_url: Annotated[str, Field(pattern=r"^(https?://[^\s/?#]+(/[^\s?#]*)?)?$")] = ""
    """Base URL of the API as clients reach it, with its path, such as `https://models.example.com/v1`; every
    ModelDeployment shows it as `status.url`. Empty: it is not known, and only the path is shown."""

    secrets_folder: str = ""
    """Folder in which the Secrets that specs refer to are kept as `NAMESPACE/NAME/KEY` for Ray nodes of the same
    machine; it belongs to the operator alone. Empty: Ray nodes get them another way."""

    resync_seconds: Seconds = 15.0
    """How often everything is listed afresh and compared with the world."""

    placement_seconds: Seconds = 30.0
    """How long a replica may wait for a node before its model is `Unschedulable`: longer than Ray takes to start a node
    where a cluster grows by itself, or every growth is reported as a lack."""

    concurrency: Annotated[int, Field(ge=1, le=256)] = 64
    """Resources reconciled at the same time. Those share their looks at the world, so that more of them cost less."""

    health_host: str = "127.0.0.1"
    """Address that `/healthz`, `/readyz` and `/metrics` listen on."""

    health_port: Annotated[int, Field(ge=0, le=65535)] = 8090
    """Port of the same; 0: any free port."""

    watch_stale_seconds: Seconds = 180.0
    """A kind neither watched nor listed successfully for this long makes `/healthz` fail."""

    lease_name: str = "lateen-operator"
    """Name of the Lease that only one operator holds."""

    lease_seconds: Seconds = 15.0
    """How long a Lease is valid without renewal: the longest pause after a leader is killed."""

    lease_renew_seconds: Seconds = 10.0
    """A leader that could not renew for this long gives up; less than `lease_seconds`."""

    lease_retry_seconds: Seconds = 2.0
    """Pause between attempts to get or renew the Lease; less than `lease_renew_seconds`."""

    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Least severe log lines that are written."""

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # the base class fixes the signature
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  # as above
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """Arguments, then environment, then the YAML file."""
        file = os.environ.get(CONFIG_VARIABLE)
        if not file:
            return init_settings, env_settings
        if not Path(file).is_file():
            raise FileNotFoundError(f"{CONFIG_VARIABLE} names {file}, which is not a file")
        return init_settings, env_settings, YamlConfigSettingsSource(settings_cls, yaml_file=file)
