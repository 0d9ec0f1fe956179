"""What survives: domains, hierarchies, definitions, interrupted operations and the outbox of events, in SQLite."""

from __future__ import annotations

from virtsnapd.store.rows import (
    DefinitionRow,
    DomainRow,
    HierarchyRow,
    Loaded,
    Operation,
    OperationRow,
    SaveOperationRow,
    SaveTarget,
    SaveVerb,
    Verb,
)
from virtsnapd.store.store import Store
from virtsnapd.store.transaction import Transaction

__all__ = [
    "DefinitionRow",
    "DomainRow",
    "HierarchyRow",
    "Loaded",
    "Operation",
    "OperationRow",
    "SaveOperationRow",
    "SaveTarget",
    "SaveVerb",
    "Store",
    "Transaction",
    "Verb",
]
