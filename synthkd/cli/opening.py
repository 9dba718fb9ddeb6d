"""A run on the command line: the only place that makes teachers of specifications, opens a run with them, and says how
to resume it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from synthkd.cli import console
from synthkd.cli.arguments import pairs
from synthkd.errors import ConfigError, LedgerError, RunError, RunLocked

if TYPE_CHECKING:
    from synthkd.request import Teacher
    from synthkd.run import Run

SPEC = "SPEC"


def players(roles: Mapping[str, str | Teacher | None]) -> dict[str, Teacher]:
    """Teachers by role; roles with the same specification share one, so that a model is loaded once.

    Raises:
        ConfigError: a specification cannot be read, or its key is not set; the error's note names the role.
    """
    from synthkd.teachers import teacher_from

    made: dict[str, Teacher] = {}
    found: dict[str, Teacher] = {}
    for role, player in roles.items():
        if isinstance(player, str):
            if player not in made:
                try:
                    made[player] = teacher_from(player)
                except ConfigError as error:
                    error.add_note(f"This was for the role {role!r}.")
                    raise
            player = made[player]
        if player is not None:
            found[role] = player
    return found


def priced(roles: Mapping[str, Teacher], texts: Sequence[str] | None) -> None:
    """Give teachers the prices that `ROLE=IN,OUT[,CACHED]` texts say, in US dollars per million tokens.

    Raises:
        ConfigError: a text says no price, or nobody plays the role.
    """
    from synthkd.prices import Price

    for role, text in pairs(texts, "--price", "teacher=0.4,1.6").items():
        try:
            price = Price(*(float(part) for part in text.split(",")))
        except (ValueError, TypeError):
            raise ConfigError(
                f"--price {role}={text}: expected two or three numbers, US dollars per million tokens of prompts, "
                f"completions and cached prompts, such as --price {role}=0.4,1.6"
            ) from None
        if role not in roles:
            raise ConfigError(f"--price {role}={text}: nobody plays this role; roles: {', '.join(roles) or 'none'}.")
        roles[role].price = price  # type: ignore[attr-defined]  # every teacher that can be named here has one


def limited(roles: Mapping[str, Teacher], limits: Mapping[str, int | None]) -> None:
    """Set `max_in_flight`, `rpm` and `tpm`, where given, for every endpoint that is called over the network."""
    given = {name: limit for name, limit in limits.items() if limit is not None}
    for teacher in roles.values():
        for one in getattr(teacher, "members", (teacher,)):
            if given and one.limits.adaptive:
                one.limits = replace(one.limits, **given)  # type: ignore[misc]  # where it adapts, it can be set


@contextmanager
def opened(
    folder: Path,
    roles: Mapping[str, Teacher],
    about: Mapping[str, Any],
    seed: int = 0,
    quiet: bool = False,
    kind: type[Run] | None = None,
    **more: Any,
) -> Iterator[Run]:
    """A run; what stops it says how to resume."""
    from synthkd.folder import resume_hint
    from synthkd.run import Run

    kind = kind or Run
    rest = dict(roles)
    teacher, judge, student = (rest.pop(role, None) for role in ("teacher", "judge", "student"))
    try:
        with kind(
            folder,
            teacher=teacher,
            judge=judge,
            student=student,
            roles=rest,
            seed=seed,
            about=about,
            quiet=quiet,
            **more,
        ) as run:
            yield run
    except (RunLocked, LedgerError):
        raise
    except RunError as error:
        if (folder / "run.db").exists():
            error.add_note(resume_hint(folder))
        raise
    except KeyboardInterrupt:
        if quiet:  # else the run itself has said so
            console.remark(resume_hint(folder))
        raise
