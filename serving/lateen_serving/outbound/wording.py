# SPDX-License-Identifier: Apache-2.0
"""Words that every kind of source uses in its errors."""

from lateen_serving.errors import LoadError


def shown(uri: str) -> str:
    """A uri for messages and logs: without the query, in which signed addresses carry their secret."""
    return uri.partition("?")[0].partition("#")[0]


def refused(message: str) -> LoadError:
    """The error for what exists but must not be used."""
    return LoadError(message, code="SourceRefused")
