"""Who plays a role, and slips in the names of roles."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from synthkd.errors import ConfigError
from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher


def test_a_teacher_may_be_given_as_on_the_command_line(tmp_path: Path) -> None:
    with Run(
        tmp_path, teacher="openai:m@http://127.0.0.1:9/v1", roles={"other": "openai:n@http://127.0.0.1:9/v1"}
    ) as run:
        assert run.roles["teacher"] is run.roles["judge"]
        assert run.roles["other"].identity.endswith("#n")


@pytest.mark.parametrize("given", [{"techer": "tiny"}, {"Judge": FunctionTeacher(lambda request: "x")}])
def test_a_slip_in_a_role_s_name_is_refused(tmp_path: Path, given: Any) -> None:
    role = next(iter(given))
    with pytest.raises(ConfigError, match=f"role '{role}'. Did you mean"):
        Run(tmp_path / "a", roles=given, quiet=True)
    run = Run(tmp_path / "b", teacher=FunctionTeacher(lambda request: "x"), quiet=True)
    with run, pytest.raises(ConfigError, match=f"role '{role}'. Did you mean"):
        run.map(Answer(), [Instruction(prompt="a")], **given)
