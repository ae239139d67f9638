# SPDX-License-Identifier: BSD-2-Clause
"""Reader of Podman's databases: BoltDB up to Podman 4, SQLite since (``db.sql``).

Both have each container's configuration, written before its cgroup is made, and its state, as JSON:
``ctr/<id>/{config,state}`` of ``libpod/bolt_state.db``, the tables ContainerConfig and ContainerState of ``db.sql``,
and the same of each pod: ``pod/<id>/{config,state}``, PodConfig and PodState
(libpod/boltdb_state_internal.go, libpod/sqlite_state_internal.go of github.com/containers/podman).

An SQLite database is read whole and opened in memory: no other file is opened, no lock is taken, and no file is
mapped that its owner could truncate. The copy is consistent if nothing was written meanwhile: its time and change
counter are the same, and there is no journal.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import closing, suppress

from eunomia.containers import bolt
from eunomia.containers.storage import Store
from eunomia.resolve_in_root import read
from eunomia.typing import TYPE_CHECKING, NamedTuple, TypeVar

if TYPE_CHECKING:
    import sqlite3

SQLITE_LIMIT = 64 << 20  # bytes of a whole database
_TEXT_LIMIT = 4 << 20  # bytes of one configuration
_STEPS, _ROUNDS = 10_000, 500  # of SQLite's virtual machine: a query may never end
_ROWS = 1 << 16
_TRIES = 5

_T = TypeVar("_T")


class Record(NamedTuple):
    """A container's or a pod's configuration and state, in JSON."""

    config: bytes
    state: bytes


class _Kind(NamedTuple):
    """A kind of records: a bucket in BoltDB, two tables in SQLite."""

    bucket: bytes
    config: str
    state: str


_CONTAINERS = _Kind(b"ctr", "ContainerConfig", "ContainerState")
_PODS = _Kind(b"pod", "PodConfig", "PodState")


class Database:
    """The databases of one store; invalid content raises nothing."""

    def __init__(self, store: Store) -> None:
        self._store = store
        root = store.root.path
        self._bolt = (f"{root}/libpod/bolt_state.db",)
        self._sqlite = (f"{root}/db.sql", f"{root}/libpod/db.sql", *([f"{store.run}/db.sql"] if store.run else ()))
        self._opened: tuple[object, sqlite3.Connection] | None = None

    def close(self) -> None:
        """Drop the copy in memory."""
        if self._opened is not None:
            self._opened[1].close()
            self._opened = None

    @property
    def files(self) -> list[str]:
        """The existing database files, as paths in our own mount namespace."""
        found = (self._store.root.shown(path) for path in (*self._sqlite, *self._bolt))
        return [path for path in found if os.path.exists(path)]

    @property
    def watched(self) -> list[str]:
        """The files, and SQLite's directories: its journal is removed there after a write."""
        return [*(files := self.files), *{os.path.dirname(file) for file in files if file.endswith(".sql")}]

    def record(self, container_id: str) -> Record | None:
        """Return a container's record; ``None`` if none can be read."""
        return self._record(_CONTAINERS, container_id)

    def pod(self, pod_id: str) -> Record | None:
        """Return a pod's record; ``None`` if none can be read."""
        return self._record(_PODS, pod_id)

    def _record(self, kind: _Kind, name: str) -> Record | None:
        for path in self._sqlite:
            found = self._tables(path, lambda db: next(_rows(db, kind, name), None))
            if found is not None:
                return found[1]
        for path in self._bolt:
            with suppress(OSError, ValueError):
                return bolt.ask(self._store.open(path), lambda db: _of(db.bucket(kind.bucket, name.encode())))
        return None

    def digests(self) -> dict[str, int] | None:
        """Return a hash of each container's record.

        None if something could not be read because it is being written.
        """
        found: dict[str, int] = {}
        whole = True
        for path in self._sqlite:
            rows = self._tables(path, lambda db: {i: hash(record) for i, record in _rows(db, _CONTAINERS)})
            whole = whole and (rows is not None or self._sqlite_stamp(path) is None)
            found.update(rows or {})
        for path in self._bolt:
            try:
                found.update(bolt.ask(self._store.open(path), _bolt_digests))
            except FileNotFoundError:
                continue
            except (OSError, ValueError):
                whole = False
        self.close()
        return found if whole else None

    def stamp(self) -> tuple[object, ...]:
        """Return a value that changes with each transaction; cheap."""
        return (*map(self._sqlite_stamp, self._sqlite), *map(self._transaction, self._bolt))

    def _transaction(self, path: str) -> int:
        try:
            with bolt.Bolt(self._store.open(path)) as db:
                return db.transaction
        except (OSError, ValueError):
            return -1

    def _sqlite_stamp(self, path: str) -> object:
        try:
            descriptor = self._store.open(path)
        except (OSError, ValueError):
            return None
        try:
            about = os.fstat(descriptor)
            # the file change counter (https://www.sqlite.org/fileformat.html, 1.3.6).
            return about.st_ino, about.st_mtime_ns, about.st_size, os.pread(descriptor, 4, 24)
        except OSError:
            return None
        finally:
            os.close(descriptor)

    def _tables(self, path: str, question: Callable[[sqlite3.Connection], _T]) -> _T | None:
        stamp = self._sqlite_stamp(path)
        if stamp is None:
            return None
        import sqlite3

        try:
            if self._opened is None or self._opened[0] != (path, stamp):
                self.close()
                self._opened = (path, stamp), _in_memory(self._whole(path, stamp))
            return question(self._opened[1])
        except (sqlite3.Error, OSError, ValueError, OverflowError, MemoryError):
            self.close()
            return None

    def _whole(self, path: str, stamp: object) -> bytes:
        """Return a consistent copy of a database; raises :class:`OSError` if it is written to all the time."""
        for _ in range(_TRIES):
            journal = self._sqlite_stamp(path + "-journal")
            data, _ = read(self._store.open(path), SQLITE_LIMIT)
            if journal is None and self._sqlite_stamp(path) == stamp and self._sqlite_stamp(path + "-journal") is None:
                return data
            stamp = self._sqlite_stamp(path)
        raise OSError("written to all the time")


def _in_memory(data: bytes) -> sqlite3.Connection:
    import sqlite3

    db = sqlite3.connect(":memory:", check_same_thread=False)
    try:
        # clear the write-ahead-log mode in bytes 18 and 19, which a database in memory cannot have
        db.deserialize(data[:18] + b"\1\1" + data[20:])
        db.text_factory = bytes
        db.setlimit(sqlite3.SQLITE_LIMIT_LENGTH, _TEXT_LIMIT)
        db.execute("PRAGMA trusted_schema = OFF")
        db.execute("PRAGMA cell_size_check = ON")
        db.set_authorizer(_reads_tables)
        rounds = iter(range(_ROUNDS))
        db.set_progress_handler(lambda: next(rounds, None) is None, _STEPS)
    except BaseException:
        db.close()
        raise
    return db


def _reads_tables(action: int, _table: object, _column: object, _database: object, source: str | None) -> int:
    """Allow only plain reads of tables: a view or a function may take forever."""
    import sqlite3

    plain = action in {sqlite3.SQLITE_SELECT, sqlite3.SQLITE_READ} and source is None
    return sqlite3.SQLITE_OK if plain else sqlite3.SQLITE_DENY


def _rows(db: sqlite3.Connection, kind: _Kind, id_: str = "") -> Iterator[tuple[str, Record]]:
    query = f"SELECT c.ID, c.JSON, s.JSON FROM {kind.config} c LEFT JOIN {kind.state} s ON s.ID = c.ID"  # noqa: S608
    answer = db.execute(query + " WHERE c.ID = ?", (id_,)) if id_ else db.execute(query)
    with closing(answer):
        for _, (name, config, state) in zip(range(_ROWS), answer, strict=False):
            if isinstance(name, bytes) and isinstance(config, bytes):
                yield name.decode("utf-8", "replace"), Record(config, state if isinstance(state, bytes) else b"")


def _of(bucket: bolt.Bucket | None) -> Record | None:
    if bucket is None:
        return None
    return Record(bucket.get(b"config") or b"", bucket.get(b"state") or b"")


def _bolt_digests(db: bolt.Bolt) -> dict[str, int]:
    containers = db.bucket(_CONTAINERS.bucket)
    if containers is None:
        return {}
    found = {}
    for _, (name, bucket) in zip(range(_ROWS), containers.buckets(), strict=False):
        found[name.decode("utf-8", "replace")] = hash(_of(bucket))
    return found
