# SPDX-License-Identifier: Apache-2.0
"""What the office formats have in common: names without namespaces, properties, relations. Pure."""

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass
from xml.etree.ElementTree import Element

from lateen_serving.rag.parsing.archives import Archive


@dataclass(frozen=True)
class Properties:
    """What an office document says about itself."""

    title: str = ""
    modified: str = ""
    """RFC 3339."""


def local(element: Element) -> str:
    """The name of `element` without its namespace; there are two sets of them, transitional and strict."""
    return element.tag.rpartition("}")[2]


def child(element: Element, name: str) -> Element | None:
    """The first child called `name`."""
    return next((part for part in element if local(part) == name), None)


def properties(archive: Archive) -> Properties:
    """The properties in `docProps/core.xml`."""
    root = archive.tree("docProps/core.xml")
    found = {local(part): (part.text or "").strip() for part in (() if root is None else root)}
    return Properties(found.get("title", ""), found.get("modified", ""))


def targets(archive: Archive, member: str) -> Mapping[str, str]:
    """The members that `member` refers to, by relation id."""
    folder, name = posixpath.split(member)
    root = archive.tree(f"{folder}/_rels/{name}.rels")
    found = {}
    for relation in () if root is None else root:
        target = relation.get("Target", "")
        path = target.lstrip("/") if target.startswith("/") else posixpath.normpath(f"{folder}/{target}")
        found[relation.get("Id", "")] = path
    return found


def relation(element: Element) -> str:
    """The relation id that `element` refers with."""
    return next((value for key, value in element.items() if key.endswith("}id")), "")
