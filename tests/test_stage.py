"""A stage: rows on disk in input order, a ledger that adds up, and rejects with their reasons."""

import asyncio
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from synthkd.database import Database
from synthkd.errors import LedgerError, RecordError
from synthkd.record import Demonstration, Instruction, Record
from synthkd.stage import Ledger, Reject, Stage
from synthkd.writer import StageWriter


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    opened = Database(tmp_path / "run.db")
    yield opened
    opened.close()


Write = Callable[[StageWriter], None]
NOTHING: Counter[str] = Counter()


def write(database: Database, work: Write, number: int = 1) -> Stage[Any]:
    async def main() -> Stage[Any]:
        writer = StageWriter(database, number, f"stage-{number}", "strategy", "list")
        writer.begin()
        work(writer)
        await writer.finish(0.5)
        return Stage(database, number, writer.name, writer.kinds)

    return asyncio.run(main())


def seed(text: object) -> Instruction:
    return Instruction(prompt=str(text))


def answer(record: Instruction, text: object) -> Demonstration:
    return Demonstration(prompt=record.prompt, completion=str(text))


@pytest.fixture
def long(database: Database) -> Stage[Any]:
    """1201 inputs that finish in another order than they came: every third one rejected, the others with three rows."""

    def work(writer: StageWriter) -> None:
        for position in sorted(range(1201), key=lambda number: number * 7919 % 1201):
            record = seed(position)
            if position % 3 == 2:
                writer.reject(position, record, RecordError(f"no {position}", reason="odd"), NOTHING)
            else:
                writer.accept(position, record, [answer(record, text) for text in "abc"], (1,), NOTHING)

    return write(database, work)


def test_rows_stand_in_input_order_however_they_finished(long: Stage[Any]) -> None:
    wanted = [(str(n), text) for n in range(1201) if n % 3 != 2 for text in "abc"]
    assert [(row.prompt, row.completion) for row in long] == wanted
    assert len(long) == len(wanted) == 2403


def test_a_stage_is_a_sequence(long: Stage[Any]) -> None:
    assert (long[0].prompt, long[1].completion, long[3].prompt) == ("0", "b", "1")
    assert long[-1] == long[2402]
    assert [row.prompt for row in long[2:8:2]] == ["0", "1", "3"]
    assert long[2403:] == []
    assert long[5] in long
    for index in (2403, -2404):
        with pytest.raises(IndexError, match=f"has 2403 rows, no row {index}"):
            long[index]


def test_rejects_come_in_input_order_with_reason_message_and_content(long: Stage[Any]) -> None:
    rejects = list(long.rejects)
    assert [reject.body["prompt"] for reject in rejects] == [str(n) for n in range(2, 1201, 3)]
    assert rejects[0] == Reject(seed(2).id, "odd", "no 2", {"parents": [], "meta": {}, "prompt": "2"})


def test_the_ledger_counts_what_came_in_what_came_out_and_why_the_rest_did_not(long: Stage[Any]) -> None:
    assert long.ledger == Ledger(1201, 2403, {"odd": 400}, {})
    assert repr(long) == "Stage('stage-1': 1201 in, 2403 out, 400 rejected (400 odd))"


def test_an_output_becomes_a_child_of_its_input_once(database: Database) -> None:
    record = seed("a")
    own = answer(record, "own").model_copy(update={"parents": ("f" * 20,)})
    linked = answer(record, "linked").model_copy(update={"parents": ("f" * 20, record.id)})
    stage = write(database, lambda writer: writer.accept(0, record, [own, linked, record], (), NOTHING))
    assert [row.parents for row in stage] == [(record.id, "f" * 20), ("f" * 20, record.id), ()]


def test_rows_remember_which_calls_went_into_them(database: Database) -> None:
    def work(writer: StageWriter) -> None:
        writer.accept(0, seed("a"), [seed("x"), seed("y")], (2, 5), NOTHING)
        writer.accept(1, seed("b"), [seed("z")], (), NOTHING)

    assert [numbers for _, numbers in write(database, work).items()] == [(2, 5), (2, 5), ()]


def test_an_input_that_gave_nothing_is_a_reject_called_no_output(database: Database) -> None:
    stage = write(database, lambda writer: writer.accept(0, seed("a"), [], (), NOTHING))
    assert stage.ledger == Ledger(1, 0, {"no output": 1}, {})


def test_lost_draws_are_counted_beside_the_records(database: Database) -> None:
    def work(writer: StageWriter) -> None:
        writer.accept(0, seed("a"), [seed("x")], (), Counter({"refused": 2}))
        writer.reject(1, seed("b"), RecordError("no", reason="tie"), Counter({"refused": 1, "truncated": 1}))

    stage = write(database, work)
    assert stage.ledger == Ledger(2, 1, {"tie": 1}, {"refused": 3, "truncated": 1})
    assert str(stage.ledger) == "2 in, 1 out, 1 rejected (1 tie), draws dropped: 3 refused, 1 truncated"


def test_records_of_several_kinds_come_back_as_what_they_were(database: Database) -> None:
    class Word(Record):
        text: str
        tags: tuple[str, ...] = ("x",)

    given = [seed("a"), answer(seed("a"), "b"), Word(text="c", tags=("x", "y"))]
    stage = write(database, lambda writer: writer.accept(0, given[0], given, (), NOTHING))
    rows = list(stage)
    assert [type(row) for row in rows] == [Instruction, Demonstration, Word]
    assert [row.id for row in rows] == [record.id for record in given]


def test_beginning_a_stage_clears_what_an_earlier_process_left_there_and_behind(database: Database) -> None:
    def work(writer: StageWriter) -> None:
        writer.accept(0, seed("a"), [seed("x")], (), NOTHING)
        writer.reject(1, seed("b"), RecordError("no"), NOTHING)

    for number in (1, 2, 3):
        write(database, work, number)
    stage = write(database, lambda writer: writer.accept(0, seed("c"), [seed("z")], (), NOTHING), 2)
    assert [row.prompt for row in stage] == ["z"]
    assert database.read("SELECT number, complete FROM stages") == [(1, 1), (2, 1)]
    assert database.read("SELECT stage, COUNT(*) FROM ledger GROUP BY stage") == [(1, 2), (2, 1)]
    assert database.read("SELECT stage, COUNT(*) FROM rows GROUP BY stage") == [(1, 1), (2, 1)]


def lose_a_row(database: Database) -> None:
    database.put("DELETE FROM rows WHERE stage = ? AND k = ?", (1, 1))


def lose_a_line(database: Database) -> None:
    database.put("DELETE FROM ledger WHERE stage = ? AND position = ?", (1, 1))


def lose_a_reason(database: Database) -> None:
    database.put("UPDATE ledger SET reason = NULL WHERE stage = ? AND position = ?", (1, 1))


def gain_a_reason(database: Database) -> None:
    database.put("UPDATE ledger SET reason = 'x' WHERE stage = ? AND position = ?", (1, 0))


@pytest.mark.parametrize("damage", [lose_a_row, lose_a_line, lose_a_reason, gain_a_reason])
def test_a_stage_whose_rows_and_rejects_do_not_add_up_fails_loudly(
    database: Database, damage: Callable[[Database], None]
) -> None:
    def work(writer: StageWriter) -> None:
        writer.accept(0, seed("a"), [seed("x"), seed("y")], (), NOTHING)
        writer.reject(1, seed("b"), RecordError("no"), NOTHING)
        damage(database)

    with pytest.raises(LedgerError, match="2 records came in"):
        write(database, work)
