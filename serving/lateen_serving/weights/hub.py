# SPDX-License-Identifier: Apache-2.0
"""Weights from a model hub, through the hub's own client. `HF_ENDPOINT` of the node names another hub."""

import asyncio
import glob
import shutil
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pydantic import BaseModel, Field

from lateen_serving.errors import LoadError
from lateen_serving.outbound import retrying
from lateen_serving.outbound.credentials import Credentials
from lateen_serving.weights import child, quota
from lateen_serving.weights.quota import Room
from lateen_serving.weights.remote import Part, Survey
from lateen_serving.weights.selection import Kind, choose
from lateen_serving.weights.uris import HubSource

_PATIENCE_SECONDS = 10.0


@dataclass(frozen=True)
class Hub:
    """A `remote.Remote`."""

    source: HubSource
    kind: Kind
    credentials: Credentials

    async def survey(self) -> Survey:
        """See `Remote`."""
        info = await retrying.insist(lambda: asyncio.to_thread(self._ask))
        files = {file.rfilename: file for file in info.siblings or []}
        chosen = choose(files, self.kind, self.where)
        return Survey(tuple(Part(name, name, info.sha, files[name].size) for name in chosen))

    async def fill(self, survey: Survey, folder: Path, room: Room) -> list[str]:
        """See `Remote`."""
        await retrying.insist(lambda: self._download(survey, folder, room))
        # The client's notes about what it has; they are needed until everything is there.
        await asyncio.to_thread(shutil.rmtree, folder / ".cache", ignore_errors=True)
        return []

    @property
    def where(self) -> str:
        """The repository, for messages."""
        revision = f"@{self.source.revision}" if self.source.revision else ""
        return f"hf://{self.source.repository}{revision}"

    def _token(self) -> str | None:
        """The Secret's; None without a Secret, where the node's own identity counts. Never that one beside a Secret."""
        token = self.credentials.get("token")
        if self.credentials.name and not token:
            raise LoadError(
                f"Secret {self.credentials.name} has no key 'token', which hf:// asks for",
                code="SourceUnauthorized",
            )
        return token

    def _ask(self) -> Any:
        from huggingface_hub import HfApi

        token = self._token()
        try:
            return HfApi(token=token).model_info(
                self.source.repository,
                revision=self.source.revision,
                files_metadata=True,
                timeout=_PATIENCE_SECONDS,
            )
        except Exception as error:
            raise failure(error, self.where, self.credentials) from error

    async def _download(self, survey: Survey, folder: Path, room: Room) -> None:
        """In a process of its own: the hub's client can't be told when to stop."""
        order = _Order(
            where=self.where,
            repository=self.source.repository,
            commit=survey.parts[0].version,
            names=[part.name for part in survey.parts],
            secret=self.credentials.name,
            token=self._token(),
        )
        try:
            await child.run(__name__, [str(folder)], folder, room, order.model_dump_json())
        except child.Failed as failed:
            why = "its process was killed" if failed.killed else failed.words
            raise LoadError(
                f"{self.where} can't be downloaded now: {why}", code="SourceUnavailable"
            ) from failed


class _Order(BaseModel):
    """What the child is to fetch."""

    where: str
    repository: str
    commit: str
    names: list[str]
    secret: str
    """The Secret's `NAMESPACE/NAME`, for messages."""
    token: str | None = Field(default=None, repr=False)


def _fetch(order: _Order, folder: Path) -> None:
    """The child's work: raises LoadError, and OSError when the disk is full."""
    from huggingface_hub import snapshot_download

    try:
        snapshot_download(
            order.repository,
            revision=order.commit,
            local_dir=folder,
            allow_patterns=[glob.escape(name) for name in order.names],
            token=order.token,
            etag_timeout=_PATIENCE_SECONDS,
        )
    except Exception as error:
        if isinstance(error, OSError) and quota.is_full(error):
            raise
        raise failure(error, order.where, Credentials(order.secret)) from error


def failure(error: Exception, name: str, credentials: Credentials) -> LoadError:
    """The LoadError for what the hub's client raised about the repository `name`."""
    from huggingface_hub import errors as hub

    hint = credentials.hint if credentials.name else f"{credentials.hint}, or set HF_TOKEN for the Ray nodes"
    if isinstance(error, hub.GatedRepoError):
        return LoadError(f"{name} is gated: accept its terms; {hint}", code="SourceUnauthorized")
    status = getattr(getattr(error, "response", None), "status_code", None)
    if isinstance(error, hub.RevisionNotFoundError):
        return LoadError(f"{name}: there is no such revision", code="SourceNotFound")
    if status in {401, 403}:
        return LoadError(
            f"{name} does not exist, or the hub refuses access ({status}); {hint}", code="SourceUnauthorized"
        )
    if status == 404 or isinstance(error, hub.RepositoryNotFoundError):
        return LoadError(f"{name} does not exist, or is private; {hint}", code="SourceNotFound")
    kind = type(error).__name__
    return LoadError(
        f"{name} can't be downloaded now ({kind}); is the hub reachable?", code="SourceUnavailable"
    )


def main(arguments: Sequence[str]) -> int:
    """The child (`python -m lateen_serving.weights.hub FOLDER`, the order on its standard input)."""
    return child.serve(lambda order: _fetch(_Order.model_validate_json(order), Path(arguments[0])))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
