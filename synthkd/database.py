"""The run's SQLite file: the only place that opens it, knows its tables, and writes to it.

One connection writes, and commits are grouped: everything that is put while a commit is on its way to the disk goes
into the next one. Readers have a connection of their own per thread and never wait for the writer (WAL). Where another
program holds the file, the writer comes back for it again and again, and the loop goes on meanwhile. Invariant: when
`put` has been awaited, the row survives a kill of the process and a loss of power.
"""

from __future__ import annotations

import asyncio
import sqlite3
import threading
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from synthkd.errors import ConfigError, RunFolderError

T = TypeVar("T")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS sources (
    id INTEGER PRIMARY KEY, teacher TEXT NOT NULL, prompt TEXT NOT NULL, sampling TEXT NOT NULL,
    UNIQUE (teacher, prompt, sampling));
CREATE TABLE IF NOT EXISTS calls (
    id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, source INTEGER NOT NULL, sample INTEGER NOT NULL, request TEXT,
    text TEXT NOT NULL, reasoning TEXT, finish_reason TEXT, other TEXT,
    prompt_tokens INTEGER NOT NULL, completion_tokens INTEGER NOT NULL,
    reasoning_tokens INTEGER NOT NULL, cached_tokens INTEGER NOT NULL, seconds REAL, created REAL NOT NULL, cost REAL);
CREATE TABLE run (id TEXT NOT NULL);
INSERT INTO run VALUES (lower(hex(randomblob(8))));
CREATE TABLE IF NOT EXISTS stages (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, strategy TEXT NOT NULL, input TEXT NOT NULL,
    complete INTEGER NOT NULL DEFAULT 0, seconds REAL);
CREATE TABLE IF NOT EXISTS ledger (
    stage INTEGER NOT NULL, position INTEGER NOT NULL, id TEXT NOT NULL, outputs INTEGER NOT NULL,
    reason TEXT, detail TEXT, body TEXT, dropped TEXT, PRIMARY KEY (stage, position)) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS effects (
    key BLOB PRIMARY KEY, kind TEXT NOT NULL, asked TEXT NOT NULL, result TEXT NOT NULL, created REAL NOT NULL
    ) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS rows (
    stage INTEGER NOT NULL, position INTEGER NOT NULL, k INTEGER NOT NULL, id TEXT NOT NULL, kind TEXT NOT NULL,
    body TEXT NOT NULL, sources TEXT NOT NULL, PRIMARY KEY (stage, position, k));
"""
_VERSION = 2
_PAGE = 8192
"""Bytes of a page: few rows of text spill over, and a commit of a few rows still writes little."""
_FULL = 4096
"""Rows that may wait for a commit before whoever puts more is made to wait."""
_PATIENCE = 30.0
"""Seconds for which another program may hold the file."""
_HASTE = 0.2
"""The same, once the run is being closed."""
_PAUSE = 0.02
"""Seconds between two looks at whether it still does."""
_READER_PATIENCE = 5.0
"""Seconds that a read may wait in SQLite itself: only a repair of the file after a kill makes it wait at all."""


class Database:
    """The SQLite file of one run folder.

    Raises:
        RunFolderError: the file cannot be written, is damaged, or was made by another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._local = threading.local()
        self._readers: list[sqlite3.Connection] = []
        self._pending: dict[str, list[Sequence[Any]]] = {}
        self._count = 0
        self._waiters: list[asyncio.Future[None]] = []
        self._busy = False
        self._broken: Exception | None = None
        self._closed = False
        self._patience = _PATIENCE
        self._held_since: float | None = None
        self._committer = ThreadPoolExecutor(1, thread_name_prefix="synthkd-commit")
        try:
            self._writer = self._patiently(self._opened)
            self.run = str(self._writer.execute("SELECT id FROM run").fetchone()[0])
            """What tells this run from every other, also where folders are copied or renamed: 16 hex digits."""
        except sqlite3.Error as error:
            raise self._wrapped(error) from error

    def put(self, sql: str, row: Sequence[Any]) -> None:
        """Queue a row for the next commit. Call on the run's loop only."""
        rows = self._pending.get(sql)
        if rows is None:
            self._pending[sql] = [row]
        else:
            rows.append(row)
        self._count += 1
        if not self._busy:
            self._busy = True
            asyncio.get_running_loop().call_soon(self._flush)

    async def committed(self) -> None:
        """Wait until everything put so far is on disk."""
        if self._broken:
            raise self._broken
        if self._count or self._busy:
            waiter = asyncio.get_running_loop().create_future()
            self._waiters.append(waiter)
            await waiter

    @property
    def crowded(self) -> bool:
        """Whether so much waits for a commit that putting more should wait."""
        return self._count > _FULL

    def read(self, sql: str, values: Sequence[Any] = ()) -> list[tuple[Any, ...]]:
        """Rows of a query, on this thread's own connection."""
        if self._closed:
            raise ConfigError(f"{self.path} is closed: read a stage inside of its `with Run(...)`, or save it there")
        try:
            return self._reader().execute(sql, values).fetchall()
        except sqlite3.Error as error:
            raise self._wrapped(error) from error

    def hurry(self) -> None:
        """Wait no longer for another program: whoever runs this wants it to end."""
        self._patience = _HASTE

    def close(self) -> None:
        """Commit what waits and close every connection."""
        self._committer.shutdown(wait=True)
        try:
            if self._pending and not self._broken:
                self._patiently(lambda: self._insert(self._pending))
                self._writer.execute("COMMIT")
        except sqlite3.Error as error:
            raise self._wrapped(error) from error
        finally:
            self._pending, self._closed = {}, True
            for connection in [self._writer, *self._readers]:
                connection.close()

    def _opened(self) -> sqlite3.Connection:
        """The writer's connection to a file that has its tables."""
        connection = self._connect(0)
        try:
            found = connection.execute("PRAGMA user_version").fetchone()[0]
            if found not in (0, _VERSION):
                raise RunFolderError(
                    f"{self.path} has schema version {found}, this synthkd reads {_VERSION}. Use a new folder."
                )
            if not found:  # one transaction: half a schema cannot be left behind, and it costs one flush to disk
                connection.executescript(f"BEGIN IMMEDIATE; {_SCHEMA} PRAGMA user_version = {_VERSION}; COMMIT;")
        except BaseException:
            connection.close()
            raise
        return connection

    def _patiently(self, work: Callable[[], T]) -> T:
        """Try until the file is free. Not on the loop; here the pauses are ours, so that Ctrl-C is heard in them."""
        while True:
            try:
                return work()
            except sqlite3.Error as error:
                if not self._worth_waiting(error):
                    raise
            time.sleep(_PAUSE)

    def _worth_waiting(self, error: Exception) -> bool:
        """Whether another program holds the file, and has not held it for too long."""
        if not _is_held(error):
            return False
        now = time.monotonic()
        self._held_since = self._held_since or now
        return now - self._held_since < self._patience

    def _flush(self) -> None:
        loop = asyncio.get_running_loop()
        try:
            self._insert(self._pending)
        except Exception as error:  # whatever it is: somebody waits for this commit
            if self._worth_waiting(error):
                loop.call_later(_PAUSE, self._flush)
            else:
                self._fail(error)
            return
        waiters = self._waiters
        self._pending, self._waiters, self._count = {}, [], 0
        commit = loop.run_in_executor(self._committer, self._writer.execute, "COMMIT")
        commit.add_done_callback(lambda done: self._finished(waiters, done.exception()))

    def _insert(self, pending: dict[str, list[Sequence[Any]]]) -> None:
        self._writer.execute("BEGIN IMMEDIATE")  # the one statement that another program can make fail
        self._held_since = None
        for sql, rows in pending.items():
            self._writer.executemany(sql, rows)

    def _finished(self, waiters: list[asyncio.Future[None]], error: BaseException | None) -> None:
        if error is not None:
            self._waiters += waiters
            self._fail(error)
            return
        for waiter in waiters:
            if not waiter.done():
                waiter.set_result(None)
        if self._pending or self._waiters:
            self._flush()
        else:
            self._busy = False

    def _fail(self, error: BaseException) -> None:
        """The file takes no more: everybody who waits, and everybody who comes, hears it."""
        if isinstance(error, sqlite3.Error) or not isinstance(error, Exception):
            error = self._wrapped(error)
        self._broken = error
        for waiter in self._waiters:
            if not waiter.done():
                waiter.set_exception(error)
        self._waiters = []

    def _reader(self) -> sqlite3.Connection:
        connection: sqlite3.Connection | None = getattr(self._local, "connection", None)
        if connection is None:
            connection = self._local.connection = self._connect(_READER_PATIENCE)
            self._readers.append(connection)
        return connection

    def _connect(self, patience: float) -> sqlite3.Connection:
        connection = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=patience)
        connection.execute(f"PRAGMA page_size = {_PAGE}")  # heard by a new file only
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA cache_size = -16000")
        return connection

    def _wrapped(self, error: BaseException) -> RunFolderError:
        cure = "Free space or make the folder writable, then run the same command again: what was paid for is kept."
        if _is_held(error):
            held = time.monotonic() - (self._held_since or time.monotonic())
            return RunFolderError(
                f"{self.path}: another program holds the file and has not let go of it"
                f"{f' for {held:.0f} s' if held >= 1 else ''}. Expected to be the only one that writes. Close what has "
                "it open for writing (a database browser, a backup), then run the same command again: what was paid "
                "for is kept."
            )
        if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
            cure = (
                "The file is damaged. Save a copy, recover what is readable with `sqlite3 run.db .recover`, "
                "and start again in a new folder."
            )
        return RunFolderError(f"{self.path}: {error}. {cure}")


def _is_held(error: BaseException) -> bool:
    """Whether SQLite failed because another program holds the file."""
    code = getattr(error, "sqlite_errorcode", None)
    return code is not None and code & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
