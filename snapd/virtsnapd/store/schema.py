"""The tables, and how a store of an older version becomes one of this version."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, Final

from virtsnap_protocol.errors import StoreUnusable

if TYPE_CHECKING:
    import sqlite3

TABLES: Final = """
CREATE TABLE meta (key TEXT PRIMARY KEY, value TEXT NOT NULL) WITHOUT ROWID;

-- A domain's XML at one moment, once per distinct content.
CREATE TABLE definitions (
    digest TEXT PRIMARY KEY,
    xml TEXT NOT NULL,
    -- what listings show, so that they parse nothing
    os_type TEXT NOT NULL,
    vcpus INTEGER NOT NULL,
    max_memory INTEGER NOT NULL,
    memory INTEGER NOT NULL
) WITHOUT ROWID;

CREATE TABLE domains (
    driver TEXT NOT NULL,
    uuid TEXT NOT NULL,
    name TEXT NOT NULL,
    definition TEXT REFERENCES definitions (digest),
    live TEXT REFERENCES definitions (digest),
    id INTEGER,
    state TEXT NOT NULL,
    reason TEXT NOT NULL,
    runtime BLOB,
    attention TEXT,
    PRIMARY KEY (driver, uuid),
    UNIQUE (driver, name),
    CHECK (definition IS NOT NULL OR live IS NOT NULL)
) WITHOUT ROWID;

CREATE TABLE hierarchies (
    key INTEGER PRIMARY KEY,
    driver TEXT NOT NULL,
    uuid TEXT NOT NULL,
    current TEXT,
    generation INTEGER NOT NULL,
    UNIQUE (driver, uuid),
    FOREIGN KEY (key, current) REFERENCES snapshots (hierarchy, name) DEFERRABLE INITIALLY DEFERRED
);

CREATE TABLE snapshots (
    hierarchy INTEGER NOT NULL REFERENCES hierarchies (key) ON DELETE CASCADE,
    name TEXT NOT NULL,
    parent TEXT,
    record BLOB NOT NULL,
    domain TEXT REFERENCES definitions (digest),
    inactive_domain TEXT REFERENCES definitions (digest),
    PRIMARY KEY (hierarchy, name),
    FOREIGN KEY (hierarchy, parent) REFERENCES snapshots (hierarchy, name) DEFERRABLE INITIALLY DEFERRED
) WITHOUT ROWID;
-- Deleting a snapshot looks for children that still name it.
CREATE INDEX snapshots_by_parent ON snapshots (hierarchy, parent) WHERE parent IS NOT NULL;

-- What was begun: after a crash each row is completed or undone.
CREATE TABLE operations (
    driver TEXT NOT NULL,
    uuid TEXT NOT NULL,
    verb TEXT NOT NULL,
    snapshot BLOB NOT NULL,
    final TEXT NOT NULL,
    started INTEGER NOT NULL,
    PRIMARY KEY (driver, uuid)
) WITHOUT ROWID;

-- The outbox: written in the same transaction as the change that the event announces.
CREATE TABLE events (seq INTEGER PRIMARY KEY AUTOINCREMENT, event BLOB NOT NULL);
"""

MANAGED_SAVE: Final = """
-- Whether the domain's next start resumes from a saved state, which the driver keeps.
ALTER TABLE domains ADD COLUMN managed_save INTEGER NOT NULL DEFAULT 0;
"""

SAVES: Final = """
-- A snapshot's record, or of a save the file that it is in; which one is told by the verb.
ALTER TABLE operations RENAME COLUMN snapshot TO subject;
"""

MIGRATIONS: Final[tuple[str, ...]] = (TABLES, MANAGED_SAVE, SAVES)
"""Script N brings a store from version N to N + 1."""

VERSION: Final = len(MIGRATIONS)


def refuse_newer(connection: sqlite3.Connection) -> int:
    """Return the version of the database, of which nothing is touched.

    Raises:
        StoreUnusable: The store was written by a newer version.
    """
    found: int = connection.execute("PRAGMA user_version").fetchone()[0]
    if found > VERSION:
        raise StoreUnusable(
            f"the store has format {found} and this daemon knows formats up to {VERSION}",
            remedy="start the version of virtsnapd that wrote it, or a newer one",
        )
    return found


def require_current(connection: sqlite3.Connection) -> None:
    """Refuse a store of another version, of which nothing more is known.

    Raises:
        StoreUnusable: Older, or newer.
    """
    refuse_newer(connection)
    (found,) = connection.execute("PRAGMA user_version").fetchone()
    if found < VERSION:
        raise StoreUnusable(
            f"the store has format {found}, which the daemon brings to format {VERSION} when it starts"
        )


def prepare(connection: sqlite3.Connection) -> None:
    """Bring the database to this version.

    Raises:
        StoreUnusable: The store was written by a newer version; nothing is touched.
    """
    found = refuse_newer(connection)
    for number, script in enumerate(MIGRATIONS[found:], start=found + 1):
        # executescript commits what is open; the script itself is one transaction with its version
        connection.executescript(f"BEGIN IMMEDIATE; {script} PRAGMA user_version = {number}; COMMIT;")
    connection.execute("INSERT OR IGNORE INTO meta VALUES ('epoch', ?)", (str(uuid.uuid4()),))
