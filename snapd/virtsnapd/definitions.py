"""Domain definitions by digest: each distinct one is kept, parsed and formatted once, for however many snapshots."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Final

from virtsnapd.models.domain import DomainDefinition
from virtsnapd.store import DefinitionRow

if TYPE_CHECKING:
    from virtsnapd.store import Transaction

PARSED_MAX: Final = 512
"""Parsed definitions held at a time; a parsed document takes some ten times its text."""


class Definitions:
    """The definitions that the store holds, and those that a transaction is about to add."""

    def __init__(self, rows: dict[str, DefinitionRow]) -> None:
        self._rows = rows
        self._parsed = lru_cache(maxsize=PARSED_MAX)(self._parse)
        self._public = lru_cache(maxsize=PARSED_MAX)(self._without_secrets)

    def keep(self, transaction: Transaction, definition: DomainDefinition) -> str:
        """Make `definition` part of the change, unless it is held already; return its digest."""
        digest = definition.digest
        if digest not in self._rows:
            row = DefinitionRow(
                xml=definition.text,
                os_type=definition.os_type,
                vcpus=definition.vcpus,
                max_memory=definition.max_memory,
                memory=definition.memory,
            )
            transaction.put_definition(digest, row)
            transaction.on_durable(lambda: self._rows.update({digest: row}))
        return digest

    def facts(self, digest: str) -> DefinitionRow:
        """Return what listings show of the definition; parses nothing."""
        return self._rows[digest]

    def parsed(self, digest: str) -> DomainDefinition:
        """Return the definition with this digest."""
        return self._parsed(digest)

    def text(self, digest: str, *, secure: bool) -> str:
        """Return the definition's XML, with its secrets only when `secure`."""
        return self._rows[digest].xml if secure else self._public(digest)

    def _parse(self, digest: str) -> DomainDefinition:
        return DomainDefinition.parse(self._rows[digest].xml)

    def _without_secrets(self, digest: str) -> str:
        return self.parsed(digest).format(secure=False)
