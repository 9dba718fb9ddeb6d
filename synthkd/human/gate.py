"""The human gate: the only place where records are put before a person, and decisions are read back.

A gate's folder holds two files. `rows.jsonl` has what is to be looked at, whole, one row a record; synthkd alone writes
it. `decisions.csv` is for the person: a spreadsheet opens it, and its columns `decision`, `comment` and `edit` are
filled in. Invariant: a line that stands in `decisions.csv` is never changed or taken out by a run; rows are only added.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar

import orjson

from synthkd.ask import Ask
from synthkd.errors import AwaitingReview, ConfigError, DataError, RecordError
from synthkd.human import sheet
from synthkd.message import Message
from synthkd.record import Record
from synthkd.stage import Stage

if TYPE_CHECKING:
    from synthkd.run import Run

R = TypeVar("R", bound=Record)

_WORDS = ("accept", "reject", "edit")
_LINEAGE = ("parents", "meta")
_BATCH = 500
"""Rows that are held before they are written."""


def review(
    run: Run,
    records: Stage[R] | Sequence[R],
    *,
    name: str = "review",
    folder: str | Path | None = None,
    show: Sequence[str] = (),
    edit: str | None = None,
    undecided: Literal["wait", "drop", "keep"] = "wait",
) -> Stage[R]:
    """Put records before a person, and go on with those that were accepted.

    Rows that are new are added to the gate's files. A decision belongs to a record's id: a record that has changed
    since is asked for anew. Rejected records stand in the stage's rejects as "rejected by a human", with the comment.
    A comment on an accepted record becomes its `meta["feedback"]`.

    Args:
        run: the run that goes through the gate.
        records: what is reviewed.
        name: of the stage, and of the gate's folder; a second gate of a run needs another one.
        folder: where the gate's files are; by default a folder of that name in the run's.
        show: fields, entries of `meta` or `instruction` that the person sees; by default its fields that say something.
        edit: the text field that the person may write anew; the earlier text stands in `meta["earlier"]`.
        undecided: `wait`: stop the run until all are decided. `drop`: go on without them ("not reviewed"). `keep`: go
            on with them as they are.

    Raises:
        AwaitingReview: some are undecided; fill in `decisions.csv` and run the same command again.
        DataError: `decisions.csv` cannot be read, with the number of the line.
        ConfigError: a field that the records do not have.
    """
    if not isinstance(records, Sequence):  # which is read twice
        raise ConfigError(f"review() takes a stage or a list of records, and got a {type(records).__name__}")
    gate = Gate(Path(folder) if folder is not None else run.folder / name, tuple(show), edit, undecided)
    gate.write(records)
    return run.map(gate, records, name=name)


@dataclass(frozen=True, slots=True)
class Decision:
    """What a person said of one record."""

    word: Literal["", "accept", "reject", "edit"] = ""
    comment: str = ""
    edit: str = ""


@dataclass(frozen=True)
class Gate:
    """A gate's folder, and the strategy that lets records through; `review` is what a pipeline calls."""

    folder: Path
    show: tuple[str, ...] = ()
    edit: str | None = None
    undecided: Literal["wait", "drop", "keep"] = "wait"
    _decided: dict[str, Decision] = field(default_factory=dict, init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.undecided not in ("wait", "drop", "keep"):
            raise ConfigError(f"review(undecided={self.undecided!r}): expected wait, drop or keep")

    @property
    def rows_file(self) -> Path:
        """What there is to look at."""
        return self.folder / "rows.jsonl"

    @property
    def decisions_file(self) -> Path:
        """What the person fills in."""
        return self.folder / "decisions.csv"

    def write(self, records: Iterable[Record]) -> int:
        """Add the rows that are not there yet, and read the decisions.

        Returns:
            how many of the records are undecided.

        Raises:
            AwaitingReview: there are any, and the gate waits.
        """
        shown = sheet.Shown(self.rows_file)
        decided = self.decisions()
        pending: set[str] = set()
        added: dict[str, dict[str, str]] = {}
        for record in records:
            try:
                id = record.id
            except RecordError:  # the stage rejects it, with its reason
                continue
            if decided.get(id, Decision()).word:
                continue
            pending.add(id)
            if id in decided or id in added:
                continue
            added[id] = self._row(record)
            if id not in shown.ids:
                shown.add(id, added[id])
            if len(added) == _BATCH:
                self._add(shown, added)
                decided.update(dict.fromkeys(added, Decision()))
                added.clear()
        self._add(shown, added)
        self._decided.clear()
        self._decided.update(decided)
        if pending and self.undecided == "wait":
            raise AwaitingReview(
                f"{len(pending)} records wait for a decision in {self.decisions_file}: write accept, reject"
                f"{' or edit' if self.edit else ''} into the column 'decision', save it as CSV (UTF-8), and run the "
                "same command again"
            )
        return len(pending)

    def decisions(self) -> dict[str, Decision]:
        """Every row of `decisions.csv` by its record's id, the undecided ones included.

        Raises:
            DataError: a line that cannot be read, with its number.
        """
        known = sheet.Shown(self.rows_file).ids
        found: dict[str, Decision] = {}
        lines: dict[str, int] = {}
        for line, cells in sheet.read(self.decisions_file):
            where = f"{self.decisions_file}, line {line}"
            id = cells["id"].strip()
            if id not in known:
                raise DataError(f"{where}: the id {id!r} is of no row that was written here; put back what stood there")
            if id in found:
                raise DataError(f"{where}: {id} stands in line {lines[id]} already; take one of the two out")
            found[id], lines[id] = self._decision(where, cells), line
        return found

    def decide(self, id: str, word: Literal["", "accept", "reject", "edit"], comment: str = "", edit: str = "") -> None:
        """Write one decision, as a person would; for the viewer and for programs.

        Raises:
            DataError: no row has this id.
            ConfigError: a decision that the gate does not take.
        """
        cells = {"id": id, "decision": word, "comment": comment, "edit": edit}
        try:
            self._decision("decide()", cells)
        except DataError as error:
            raise ConfigError(str(error)) from None
        sheet.replace(self.decisions_file, id, cells)

    def check(self, record: Record) -> None:
        """Refuse a field that is not there."""
        if self.edit is not None and not isinstance(getattr(record, self.edit, None), str):
            raise ConfigError(
                f"review(edit={self.edit!r}): a {type(record).__name__} has no text of this name; its fields are "
                f"{', '.join(_fields(record))}"
            )

    async def __call__(self, record: R, ask: Ask) -> Sequence[R]:
        decision = self._decided.get(record.id, Decision())
        if not decision.word:
            if self.undecided == "keep":
                return [record]
            raise RecordError(f"{self.decisions_file} has no decision on it", reason="not reviewed")
        if decision.word == "reject":
            raise RecordError(decision.comment or "without a comment", reason="rejected by a human")
        meta = dict(record.meta)
        changed: dict[str, Any] = {}
        if decision.comment:
            meta["feedback"] = decision.comment
        if decision.edit and self.edit is not None and decision.edit != getattr(record, self.edit):
            changed[self.edit] = decision.edit
            meta["earlier"] = [getattr(record, self.edit)]
        if meta == record.meta and not changed:
            return [record]
        return [record.model_copy(update={**changed, "meta": meta, "parents": (record.id,)})]

    def _add(self, shown: sheet.Shown, added: Mapping[str, Mapping[str, str]]) -> None:
        shown.flush()  # first: what stands in the decisions is known to be a row
        if added:
            sheet.append(self.decisions_file, added)

    def _row(self, record: Record) -> dict[str, str]:
        self.check(record)
        offered = record.variables()
        unknown = [name for name in self.show if name not in offered]
        if unknown:
            raise ConfigError(
                f"review(show=...): a {type(record).__name__} has no {unknown[0]!r}; there are "
                f"{', '.join(name for name in offered if name not in _LINEAGE)}"
            )
        fields = type(record).model_fields
        names = self.show or [name for name in _fields(record) if offered[name] != fields[name].default]
        return {name if name not in sheet.OWN else f"{name} (shown)": _text(offered[name]) for name in names}

    def _decision(self, where: str, cells: Mapping[str, str]) -> Decision:
        word, comment, edit = (
            cells["decision"].strip().lower(),
            cells["comment"].strip(),
            cells["edit"].replace("\r\n", "\n"),
        )
        words = _WORDS if self.edit is not None else _WORDS[:2]
        if word not in ("", *words):
            raise DataError(f"{where}: the decision is {cells['decision']!r}; expected {', '.join(words)} or nothing")
        if edit.strip() and self.edit is None:
            raise DataError(f"{where}: holds an edit, and this gate takes none; review(..., edit='completion') does")
        if edit.strip() and word in ("", "reject"):
            raise DataError(
                f"{where}: holds an edit, and its decision is {word or 'left open'}; write edit, or clear it"
            )
        if word == "edit" and not edit.strip():
            raise DataError(f"{where}: the decision is edit, and the column 'edit' is empty; write the new text there")
        return Decision(word, comment, edit if edit.strip() else "")  # type: ignore[arg-type]


def _fields(record: Record) -> list[str]:
    return [name for name in type(record).model_fields if name not in _LINEAGE]


def _text(value: Any) -> str:
    """A field as a person reads it."""
    if isinstance(value, str):
        return value
    if isinstance(value, tuple) and value and all(isinstance(one, Message) for one in value):
        return "\n\n".join(f"{turn.role}: {turn.text}" for turn in value)
    if isinstance(value, tuple) and all(isinstance(one, str) for one in value):
        return "\n\n".join(f"[{number}]\n{one}" for number, one in enumerate(value, 1))
    return orjson.dumps(value, default=str, option=orjson.OPT_NON_STR_KEYS).decode()
