"""The human gate: rows go out once, decisions are never overwritten, and a record passes only as it was decided."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from synthkd import human
from synthkd.errors import AwaitingReview, ConfigError, DataError
from synthkd.human import Decision, Gate
from synthkd.message import Message
from synthkd.record import Candidates, Demonstration, Instruction, Record
from synthkd.run import Run
from synthkd.testing import FunctionTeacher

Start = Callable[[], Run]
ROWS = [Demonstration(prompt=f"Question {n}?", completion=f"Answer {n}.") for n in range(3)]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Opens the same run's folder anew."""
    opened: list[Run] = []

    def run() -> Run:
        if opened:
            opened[-1].close()
        opened.append(Run(tmp_path / "run", teacher=FunctionTeacher(lambda _: "x"), quiet=True))
        return opened[-1]

    yield run
    opened[-1].close()


def sheet(folder: Path) -> list[dict[str, str]]:
    text = (folder / "decisions.csv").read_bytes().decode("utf-8-sig")
    return list(csv.DictReader(io.StringIO(text, newline="")))


def fill(folder: Path, *decisions: tuple[str, ...], delimiter: str = ",", encoding: str = "utf-8-sig") -> None:
    """What a person and a spreadsheet do: (decision, comment, edit) row by row, and the whole file saved anew."""
    rows = sheet(folder)
    for row, said in zip(rows, decisions, strict=False):
        row.update(zip(("decision", "comment", "edit"), said, strict=False))
    with (folder / "decisions.csv").open("w", encoding=encoding, newline="") as file:
        writer = csv.DictWriter(file, rows[0], delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)


def waiting(tmp_path: Path, records: list[Record], **options: object) -> Gate:
    gate = Gate(tmp_path / "gate", **options)  # type: ignore[arg-type]
    with pytest.raises(AwaitingReview):
        gate.write(records)
    return gate


def test_a_run_stops_until_all_are_decided_and_goes_on_where_it_was(start: Start, tmp_path: Path) -> None:
    folder = tmp_path / "run" / "review"
    with pytest.raises(
        AwaitingReview, match=r"3 records wait for a decision in .*decisions\.csv: write accept, reject"
    ):
        human.review(start(), ROWS)
    assert [(row["id"], row["decision"], row["completion"]) for row in sheet(folder)] == [
        (record.id, "", record.completion) for record in ROWS
    ]
    assert list(sheet(folder)[0]) == ["id", "decision", "comment", "edit", "prompt", "completion"]
    fill(folder, ("accept",), ("Reject ", "too short"))
    with pytest.raises(AwaitingReview, match="1 records wait"):
        human.review(start(), ROWS)
    fill(folder, ("accept",), ("reject", "too short"), ("accept",))
    stage = human.review(start(), ROWS)
    assert [record.id for record in stage] == [ROWS[0].id, ROWS[2].id]
    assert stage.ledger.rejected == {"rejected by a human": 1}
    assert [reject.detail for reject in stage.rejects] == ["too short"]


@pytest.mark.parametrize(("undecided", "kept"), [("drop", 1), ("keep", 3)])
def test_a_run_goes_on_without_the_undecided_or_with_them(start: Start, undecided: str, kept: int) -> None:
    run = start()
    stage = human.review(run, ROWS, undecided=undecided)  # type: ignore[arg-type]
    assert len(stage) == (0 if undecided == "drop" else 3)
    fill(run.folder / "review", ("accept",))
    stage = human.review(start(), ROWS, undecided=undecided)  # type: ignore[arg-type]
    assert len(stage) == kept
    assert stage.ledger.rejected == ({"not reviewed": 2} if undecided == "drop" else {})


def test_an_edit_changes_the_record_and_keeps_what_it_was(start: Start) -> None:
    run = start()
    human.review(run, ROWS, edit="completion", undecided="drop")
    fill(run.folder / "review", ("edit", "", "Better.\r\nMuch."), ("accept", "Well said."), ("accept", "", "Other."))
    first, second, third = human.review(start(), ROWS, edit="completion")
    assert (first.completion, first.meta, first.parents) == (
        "Better.\nMuch.",
        {"earlier": ["Answer 0."]},
        (ROWS[0].id,),
    )
    assert (second.completion, second.meta) == ("Answer 1.", {"feedback": "Well said."})
    assert third.completion == "Other."


def test_a_changed_row_is_asked_for_anew_and_the_old_decision_stays(start: Start) -> None:
    run = start()
    human.review(run, ROWS, undecided="drop")
    fill(run.folder / "review", *[("accept",)] * 3)
    changed = [ROWS[0], ROWS[1].model_copy(update={"completion": "Another."}), ROWS[2]]
    with pytest.raises(AwaitingReview, match="1 records wait"):
        human.review(start(), changed)
    rows = sheet(run.folder / "review")
    assert [row["decision"] for row in rows] == ["accept", "accept", "accept", ""]
    assert rows[3]["completion"] == "Another."
    assert len((run.folder / "review" / "rows.jsonl").read_text().splitlines()) == 4


def test_running_again_adds_nothing(start: Start) -> None:
    run = start()
    human.review(run, ROWS, undecided="drop")
    before = {path.name: path.read_bytes() for path in (run.folder / "review").iterdir()}
    stage = human.review(start(), ROWS, undecided="drop")
    assert {path.name: path.read_bytes() for path in (run.folder / "review").iterdir()} == before
    assert stage.ledger.rejected == {"not reviewed": 3}


@pytest.mark.parametrize(("delimiter", "encoding"), [(",", "utf-8"), (";", "utf-8-sig"), ("\t", "utf-8")])
def test_what_spreadsheets_make_of_the_file_is_read_and_added_to_in_its_form(
    tmp_path: Path, delimiter: str, encoding: str
) -> None:
    gate = waiting(tmp_path, ROWS[:2])
    fill(gate.folder, ("accept",), ("reject", 'schlecht; naïf, "so"'), delimiter=delimiter, encoding=encoding)
    body = gate.decisions_file.read_bytes().rstrip()  # some leave out the last end of line
    gate.decisions_file.write_bytes(body)
    with pytest.raises(AwaitingReview, match="1 records wait"):
        gate.write(ROWS)
    assert gate.decisions_file.read_bytes().startswith(body)
    assert gate.decisions() == {
        ROWS[0].id: Decision("accept"),
        ROWS[1].id: Decision("reject", 'schlecht; naïf, "so"'),
        ROWS[2].id: Decision(),
    }


def test_texts_that_a_spreadsheet_would_run_or_cut_are_shown_harmless_and_are_whole_in_the_rows(tmp_path: Path) -> None:
    texts = ['=HYPERLINK("http://x")', "- a list", "x" * 1_000_000, "多\r\n行 🙂", 'a "quoted", text']
    records: list[Record] = [Demonstration(prompt="p", completion=text) for text in texts]
    gate = waiting(tmp_path, records)
    shown = [row["completion"] for row in sheet(gate.folder)]
    assert [text[:2] for text in shown[:2]] == ["'=", "'-"]
    assert len(shown[2]) < 32_767
    assert shown[3:] == texts[3:]
    whole = [json.loads(line)["completion"] for line in (gate.folder / "rows.jsonl").read_text().split("\n") if line]
    assert whole == texts
    assert len(gate.decisions()) == 5


def test_what_is_shown_is_what_was_asked_for_or_all_that_the_record_has(tmp_path: Path) -> None:
    talk = Candidates(
        prompt=(Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "So?")),
        completions=("a", "b"),
        meta={"score": 3},
    )
    gate = waiting(tmp_path, [talk])
    [row] = sheet(gate.folder)
    assert row["prompt"] == "user: Hi\n\nassistant: Yo\n\nuser: So?"
    assert row["completions"] == "[1]\na\n\n[2]\nb"
    chosen = Gate(tmp_path / "other", show=("instruction", "score"), undecided="drop")
    assert chosen.write([talk]) == 1
    assert list(sheet(chosen.folder)[0].values()) == [talk.id, "", "", "", "So?", "3"]
    with pytest.raises(ConfigError, match="has no 'scor'; there are score, prompt"):
        Gate(tmp_path / "third", show=("scor",)).write([talk])
    with pytest.raises(ConfigError, match="has no text of this name; its fields are prompt, completions"):
        Gate(tmp_path / "third", edit="completions").write([talk])


@pytest.mark.parametrize(
    ("damage", "complaint"),
    [
        (lambda text: text.replace(ROWS[1].id, "0123"), r"line 3: the id '0123' is of no row"),
        (
            lambda text: text.replace(f"{ROWS[1].id},", f"{ROWS[1].id},maybe"),
            r"line 3: the decision is 'maybe'; expected",
        ),
        (
            lambda text: text.replace(f"{ROWS[1].id},", f"{ROWS[1].id},edit"),
            r"line 3: the decision is 'edit'; expected",
        ),
        (
            lambda text: text.replace(f"{ROWS[1].id},,,", f"{ROWS[1].id},accept,,x"),
            r"line 3: holds an edit, and this gate",
        ),
        (lambda text: text.replace("Answer 1.", '"Answer 1.'), r"line 3: "),
        (lambda text: text.replace("Answer 1.", "Answer, 1, 2, 3, 4"), r"line 3: has \d+ cells for \d+ columns"),
        (lambda text: text.replace(ROWS[2].id, ROWS[1].id), r"line 4: .* stands in line 3 already"),
        (lambda text: text.replace("decision", "verdict"), r"line 1: expected the columns id, decision"),
    ],
)
def test_a_damaged_file_is_an_error_with_the_number_of_the_line(
    tmp_path: Path, damage: Callable[[str], str], complaint: str
) -> None:
    gate = waiting(tmp_path, list(ROWS))
    body = damage(gate.decisions_file.read_text(encoding="utf-8-sig"))
    gate.decisions_file.write_text(body, newline="")
    before = gate.decisions_file.read_bytes()
    with pytest.raises(DataError, match=complaint):
        gate.write(list(ROWS))
    assert gate.decisions_file.read_bytes() == before


def test_an_edit_must_be_meant(tmp_path: Path) -> None:
    for said, complaint in [
        (("reject", "", "text"), "holds an edit, and its decision is reject"),
        (("", "", "text"), "holds an edit, and its decision is left open"),
        (("edit", "", " "), "column 'edit' is empty"),
    ]:
        gate = Gate(tmp_path / said[0] / "gate", edit="completion", undecided="drop")
        gate.write(ROWS)
        fill(gate.folder, said)
        with pytest.raises(DataError, match=f"line 2: .*{complaint}"):
            gate.decisions()


def test_another_encoding_is_named(tmp_path: Path) -> None:
    gate = waiting(tmp_path, [*ROWS, Demonstration(prompt="Où ?", completion="Là.")])
    fill(gate.folder, encoding="cp1252")
    with pytest.raises(DataError, match=r"line 5: is no UTF-8; save it as 'CSV UTF-8'"):
        gate.decisions()


def test_a_row_that_was_half_written_is_written_again(tmp_path: Path) -> None:
    gate = waiting(tmp_path, list(ROWS))
    rows = gate.rows_file.read_bytes()
    gate.rows_file.write_bytes(rows[:-20])
    lines = gate.decisions_file.read_bytes().splitlines(keepends=True)
    gate.decisions_file.write_bytes(b"".join(lines[:3]))
    with pytest.raises(AwaitingReview, match="3 records"):
        gate.write(ROWS)
    assert gate.rows_file.read_bytes() == rows
    assert len(gate.decisions()) == 3
    gate.rows_file.write_bytes(b"{}\n" + rows)
    with pytest.raises(DataError, match=r"rows\.jsonl, line 1: is no row"):
        gate.decisions()


def test_a_decision_written_by_a_program_stands_beside_those_of_a_person(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate", edit="completion", undecided="drop")
    gate.write(ROWS)
    fill(gate.folder, ("accept", "mine"), delimiter=";")
    gate.decide(ROWS[1].id, "edit", edit="x" * 200_000)
    assert gate.decisions() == {
        ROWS[0].id: Decision("accept", "mine"),
        ROWS[1].id: Decision("edit", "", "x" * 200_000),
        ROWS[2].id: Decision(),
    }
    with pytest.raises(DataError, match="no row has the id '77'"):
        gate.decide("77", "accept")
    with pytest.raises(ConfigError, match="the decision is 'perhaps'"):
        gate.decide(ROWS[1].id, "perhaps")  # type: ignore[arg-type]


def test_nothing_to_review_is_nothing_to_wait_for(start: Start) -> None:
    run = start()
    assert len(human.review(run, [])) == 0
    assert not (run.folder / "review").exists()


def test_many_rows_are_written_in_their_order_and_equal_ones_once(tmp_path: Path) -> None:
    records = [Instruction(prompt=f"{n % 1200}") for n in range(1300)]
    gate = Gate(tmp_path / "gate", undecided="drop")
    assert gate.write(records) == 1200
    assert [row["prompt"] for row in sheet(gate.folder)] == [str(n) for n in range(1200)]


def test_wrong_arguments_are_refused(start: Start) -> None:
    run = start()
    with pytest.raises(ConfigError, match="expected wait, drop or keep"):
        human.review(run, ROWS, undecided="go")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="takes a stage or a list of records, and got a generator"):
        human.review(run, (row for row in ROWS))  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="a Demonstration has no text of this name"):
        human.review(run, ROWS, edit="weight")
