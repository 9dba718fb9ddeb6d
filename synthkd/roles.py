"""Roles and who plays them: the only place that takes what a user gives for a teacher.

Invariant: a role is played by a teacher, and a name that is a slip for another role's is refused.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from difflib import get_close_matches
from typing import Any

from synthkd.errors import ConfigError
from synthkd.request import Teacher

USUAL = ("teacher", "judge", "student")


def players(given: Mapping[str, Any], known: Iterable[str] = ()) -> dict[str, Teacher]:
    """The teachers by role; what is written as on the command line (`"tiny"`, `"openai:gpt-4.1-mini"`) is opened.

    Args:
        given: teachers, their specifications, or None for a role that nobody plays.
        known: roles that are played already.

    Raises:
        ConfigError: something else was given, a specification is wrong, or a role's name is nearly another's.
    """
    known = [*USUAL, *known]
    found: dict[str, Teacher] = {}
    for role, player in given.items():
        if close := [] if role in known else get_close_matches(role, known, 1, 0.8):
            raise ConfigError(f"a teacher was given for the role {role!r}. Did you mean {close[0]!r}?")
        if isinstance(player, str):
            from synthkd.teachers import teacher_from

            player = teacher_from(player)
        if player is None:
            continue
        if not isinstance(player, Teacher) or isinstance(player, type):
            raise ConfigError(
                f"role {role!r} was given {player.__name__ if isinstance(player, type) else type(player).__name__}, "
                "expected a teacher such as OpenAITeacher('gpt-4.1-mini'), or a text such as 'openai:gpt-4.1-mini' "
                "or 'tiny'"
            )
        found[role] = player
    return found
