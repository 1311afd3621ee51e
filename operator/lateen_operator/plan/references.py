# SPDX-License-Identifier: Apache-2.0
"""Which Secrets are referred to. Pure; called by `reconcile/convergence.py`."""

import re
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from lateen_api import names
from lateen_operator.seams import Resource, ServeApplication

_NAME = re.compile(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?")
"""What can be the name of an object, and so of a folder: no path leads elsewhere."""


_KINDS = ("git", "http", "objectStore", "sql")
"""Sources of documents that may have credentials."""


def secrets(
    models: Iterable[Resource], indexes: Iterable[Resource], applications: Iterable[ServeApplication]
) -> list[tuple[str, str]]:
    """Namespace and name of the Secrets of all specs, and of the applications that still run, sorted."""
    found = {pair for resource in models for pair in _of_spec(resource)}
    found |= {pair for resource in indexes for pair in _of_index(resource)}
    found |= {pair for application in applications for pair in _of_application(application)}
    return sorted(found)


def _of_spec(resource: Resource) -> Iterator[tuple[str, str]]:
    # The spec may be one that this version can't read: only the references count here.
    yield from _named(resource, (resource.spec.get("source"), *(resource.spec.get("adapters") or ())))


def _of_index(resource: Resource) -> Iterator[tuple[str, str]]:
    for source in resource.spec.get("sources") or ():
        if isinstance(source, Mapping):
            yield from _named(resource, [source.get(kind) for kind in _KINDS])


def _named(resource: Resource, holders: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """The Secrets that `holders` name in their `secretRef`."""
    for holder in holders:
        if isinstance(holder, Mapping):
            name = (holder.get("secretRef") or {}).get("name")
            if _NAME.fullmatch(str(name)):
                yield resource.key.namespace, str(name)


def _of_application(application: ServeApplication) -> Iterator[tuple[str, str]]:
    if names.application_owner(application.name) is None or application.config is None:
        return
    arguments: list[Mapping[str, Any]] = [application.config.get("args") or {}]
    for deployment in application.config.get("deployments") or []:
        arguments += (deployment.get("user_config") or {}).get("adapters") or []
    for each in arguments:
        namespace, slash, name = str(each.get("secret") or "").partition("/")
        if slash and _NAME.fullmatch(namespace) and _NAME.fullmatch(name):
            yield namespace, name
