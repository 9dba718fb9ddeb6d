"""What the tests of strategies share: runs with function teachers, and what was asked in them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from synthkd.record import Record
from synthkd.request import Request
from synthkd.run import Run
from synthkd.stage import Stage
from synthkd.testing import FunctionTeacher

Say = Callable[[Request[Any]], Any]


def opened(folder: Path, teacher: Say | None = None, **roles: Say) -> Run:
    """A run whose roles are played by functions."""
    players = {role: FunctionTeacher(say, role) for role, say in roles.items()}
    return Run(folder, teacher=FunctionTeacher(teacher) if teacher else None, roles=players, quiet=True)


def asked(run: Run, role: str = "teacher") -> list[Request[Any]]:
    """Every request that a role was asked, in order."""
    player = run.roles[role]
    assert isinstance(player, FunctionTeacher)
    return player.calls


def last(request: Request[Any]) -> str:
    """The text of its last turn."""
    return request.messages[-1].text


def settled(stage: Stage[Any]) -> None:
    """Its ledger adds up: each input gave something, or stands in the rejects."""
    ledger = stage.ledger
    assert ledger.records_out == len(stage)
    inputs = {parent for row in stage for parent in row.parents[:1]}
    rejected = {reject.id for reject in stage.rejects}
    assert not inputs & rejected
    assert len(inputs) + sum(ledger.rejected.values()) == ledger.records_in


def replays(folder: Path, strategy: Any, records: list[Record], teacher: Say | None = None, **roles: Say) -> list[Any]:
    """The rows of two runs in one folder, which are the same, and the second of which asked nobody."""
    rows = []
    for number in range(2):
        with opened(folder, teacher, **roles) as run:
            stage = run.map(strategy, records)
            settled(stage)
            rows.append([list(stage), stage.ledger, [(one.id, one.reason) for one in stage.rejects]])
            if number:
                assert [len(asked(run, role)) for role in run.roles] == [0] * len(run.roles)
    assert rows[0] == rows[1]
    found: list[Any] = rows[0][0]
    return found
