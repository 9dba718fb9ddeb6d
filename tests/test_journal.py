"""The journal and the run's file: what was recorded is on disk and found equal, and nobody waits forever."""

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from contextlib import closing
from pathlib import Path
from typing import Any, TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.database import Database
from synthkd.errors import ConfigError, RunFolderError
from synthkd.journal import Journal
from synthkd.message import Message
from synthkd.request import Completion, Request, Sampling, Usage

T = TypeVar("T")
REQUEST = Request((Message("user", "What is 2 + 2?"),), str, Sampling(temperature=0.5), prompt="labeling/answer@0")


def with_database(path: Path, work: Callable[[Database], Awaitable[T]]) -> T:
    async def main() -> T:
        with closing(Database(path)) as database:
            return await asyncio.wait_for(work(database), 20)

    return asyncio.run(main())


texts = st.text(max_size=30)
counts = st.integers(0, 2**40)
objects = st.dictionaries(texts, st.integers(-100, 100) | st.floats(-100, 100) | texts | st.lists(texts), max_size=3)
completions = st.builds(
    Completion,
    text=texts,
    reasoning=st.none() | texts,
    finish_reason=st.none() | texts,
    refusal=st.none() | texts,
    tool_calls=st.lists(objects, max_size=2).map(tuple),
    logprobs=st.lists(objects, max_size=2).map(tuple),
    usage=st.builds(Usage, counts, counts, counts, counts),
    model=st.none() | texts,
)


@settings(deadline=None, derandomize=True, max_examples=15)
@given(st.lists(completions, min_size=1, max_size=12))
def test_what_was_recorded_is_found_equal_in_every_field_also_by_the_next_process(
    tmp_path_factory: pytest.TempPathFactory, drawn: list[Completion]
) -> None:
    path = tmp_path_factory.mktemp("journal") / "run.db"
    rows = [(b"key %d" % i, i, completion) for i, completion in enumerate(drawn)]

    async def record(database: Database) -> list[Completion | None]:
        journal = Journal(database)
        await journal.record(rows, journal.source("t", REQUEST), REQUEST, 0.1)
        return [journal.find(key) for key, _, _ in rows]

    async def find(database: Database) -> list[Completion | None]:
        return [Journal(database).find(key) for key, _, _ in rows]

    assert with_database(path, record) == drawn
    assert with_database(path, find) == drawn


def test_what_was_never_drawn_is_not_found(tmp_path: Path) -> None:
    async def work(database: Database) -> Completion | None:
        return Journal(database).find(b"unknown")

    assert with_database(tmp_path / "run.db", work) is None


def test_a_completion_is_on_disk_when_record_returns(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    async def work(database: Database) -> int:
        journal = Journal(database)
        await journal.record([(b"k", 0, Completion("four"))], journal.source("t", REQUEST), REQUEST, 0.1)
        with closing(sqlite3.connect(path)) as stranger:
            [(count,)] = stranger.execute("SELECT COUNT(*) FROM calls WHERE text = 'four'")
            return int(count)

    assert with_database(path, work) == 1


def test_thousands_of_records_at_once_all_return_and_all_are_there(tmp_path: Path) -> None:
    async def work(database: Database) -> int:
        journal = Journal(database)
        source = journal.source("t", REQUEST)
        rows = ([(b"%d" % i, 0, Completion(str(i)))] for i in range(5000))
        await asyncio.gather(*(journal.record(row, source, REQUEST, 0.1) for row in rows))
        return int(database.read("SELECT COUNT(*) FROM calls")[0][0])

    assert with_database(tmp_path / "run.db", work) == 5000


def test_the_first_completion_under_a_key_stays(tmp_path: Path) -> None:
    async def work(database: Database) -> Completion | None:
        journal = Journal(database)
        for text in ("first", "second"):
            await journal.record([(b"k", 0, Completion(text))], 1, REQUEST, 0.1)
        return journal.find(b"k")

    found = with_database(tmp_path / "run.db", work)
    assert found is not None
    assert found.text == "first"


def test_the_messages_stand_once_beside_the_draws_of_one_call(tmp_path: Path) -> None:
    async def work(database: Database) -> list[tuple[Any, ...]]:
        rows = [(b"%d" % i, i, Completion(str(i))) for i in range(3)]
        await Journal(database).record(rows, 1, REQUEST, 0.1)
        return database.read("SELECT sample, request FROM calls ORDER BY id")

    asked = '[{"role":"user","content":"What is 2 + 2?"}]'
    assert with_database(tmp_path / "run.db", work) == [(0, asked), (1, None), (2, None)]


def test_teacher_prompt_and_sampling_have_one_number_also_in_the_next_process(tmp_path: Path) -> None:
    other = Request(REQUEST.messages, str, Sampling(temperature=0.6), prompt=REQUEST.prompt)

    async def work(database: Database) -> list[int]:
        journal = Journal(database)
        numbers = [journal.source(*pair) for pair in (("a", REQUEST), ("b", REQUEST), ("a", other), ("a", REQUEST))]
        await database.committed()
        return numbers

    assert with_database(tmp_path / "run.db", work) == [1, 2, 3, 1]
    assert with_database(tmp_path / "run.db", work) == [1, 2, 3, 1]


def test_what_the_file_cannot_hold_is_heard_by_everyone_who_waits_and_hangs_nobody(tmp_path: Path) -> None:
    completion = Completion("a", usage=Usage(2**70))

    async def work(database: Database) -> list[Any]:
        journal = Journal(database)

        async def record(key: bytes, drawn: Completion) -> None:
            await journal.record([(key, 0, drawn)], 1, REQUEST, 0.1)

        together = record(b"good", Completion("fine")), record(b"bad", completion)
        found = await asyncio.gather(*together, return_exceptions=True)
        return [*found, *await asyncio.gather(record(b"later", Completion("x")), return_exceptions=True)]

    outcomes = with_database(tmp_path / "run.db", work)
    assert [type(outcome) for outcome in outcomes] == [OverflowError] * 3


def test_rows_that_wait_for_a_commit_are_written_when_the_file_is_closed(tmp_path: Path) -> None:
    path = tmp_path / "run.db"

    async def work(database: Database) -> None:
        journal = Journal(database)
        assert [journal.source(f"t{number}", REQUEST) for number in range(3)] == [1, 2, 3]

    with_database(path, work)
    with closing(sqlite3.connect(path)) as stranger:
        assert stranger.execute("SELECT teacher FROM sources ORDER BY id").fetchall() == [("t0",), ("t1",), ("t2",)]


def test_a_file_that_is_no_database_is_a_damaged_folder_and_the_cure_is_named(tmp_path: Path) -> None:
    (tmp_path / "run.db").write_bytes(b"no database at all, but longer than a header of one hundred bytes " * 9)
    with pytest.raises(RunFolderError, match=r"damaged.*\.recover"):
        Database(tmp_path / "run.db")


def test_a_file_of_another_version_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "run.db"
    with closing(sqlite3.connect(path)) as stranger:
        stranger.execute("PRAGMA user_version = 99")
    with pytest.raises(RunFolderError, match=r"schema version 99.*new folder"):
        Database(path)


def test_reading_after_the_file_was_closed_says_where_to_read(tmp_path: Path) -> None:
    database = Database(tmp_path / "run.db")
    database.close()
    with pytest.raises(ConfigError, match=r"closed: read a stage inside of its `with Run"):
        database.read("SELECT 1")
