# SPDX-License-Identifier: Apache-2.0
"""What the processes of the data plane read from their environment, set where Ray is started.

Secrets arrive here and nowhere else: never in the Serve config, never in job metadata.
"""

from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class ServingSettings(BaseSettings):
    """Environment of Ray's processes, each variable prefixed `LATEEN_` but Ray's own."""

    model_config = SettingsConfigDict(env_prefix="LATEEN_", frozen=True)

    weaviate_url: str = "http://127.0.0.1:8080"
    """Weaviate's HTTP address."""

    weaviate_grpc_port: int = 50051
    """Weaviate's gRPC port, on the same host."""

    weaviate_api_key: SecretStr = SecretStr("")
    """Weaviate's API key; empty: none."""

    volumes: Path = Path("/var/lib/lateen/volumes")
    """Folder in which a claim `c` is mounted at `volumes/c`."""

    file_roots: list[Path] = Field(default=[])
    """Folders below which `file://` weights, documents and repositories are allowed; JSON list. Default: none."""

    source_hosts: list[str] = Field(default=[])
    """Hosts of weights and documents that may have private addresses; JSON list of `host`, `host:port` or, to speak
    http without TLS, `http://host:port`. Default: none. Link-local and metadata addresses are refused always."""

    secrets: Path = Path("/var/run/lateen/secrets")
    """Folder in which the keys of a Secret are the files `secrets/NAMESPACE/NAME/KEY`, mounted on every Ray node."""

    ray_auth_token: SecretStr = Field(default=SecretStr(""), validation_alias="RAY_AUTH_TOKEN")
    """Ray's own token, from the variable that Ray reads; it also opens the gateway's report. Empty: none."""

    file_bytes: int = Field(default=64 * 2**20, gt=0, le=2**30)
    """Bytes of the largest file that clients may upload."""

    files: int = Field(default=50_000, gt=0)
    """Most uploaded files."""

    files_bytes: int = Field(default=16 * 2**30, gt=0)
    """Most bytes of all uploaded files together. They are kept in Weaviate, four thirds as large."""

    files_replicas: int = Field(default=1, ge=1, le=16)
    """Copies of uploaded files that Weaviate keeps, each on another node; for the first upload of all."""

    model_cache: Path = Path.home() / ".cache" / "lateen" / "models"
    """Where downloaded and converted weights are kept: of this node, or on a volume that several nodes share. It belongs
    to one Unix user: all processes that use it run as that user."""

    model_cache_bytes: int | None = Field(default=None, gt=0)
    """Size that the cache may have; what nobody uses goes first, the least recently used before others. Default: the
    disk's."""
