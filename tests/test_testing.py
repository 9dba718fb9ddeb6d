"""The teacher that answers by schema keeps to it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, Field

from synthkd.message import Message
from synthkd.record import Instruction
from synthkd.request import Request
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.testing import SchemaTeacher


class Inner(BaseModel):
    kind: Literal["a", "b"]
    share: float = Field(gt=0, lt=1)


class Whole(BaseModel):
    score: int = Field(ge=1, le=5)
    most: int = Field(le=-3)
    text: str = Field(min_length=40, max_length=60)
    inner: list[Inner] = Field(min_length=3, max_length=4)
    pair: tuple[int, str]
    maybe: str | None
    by_name: dict[str, Annotated[int, Field(ge=7)]]
    flag: bool


def ask(teacher: SchemaTeacher, text: str, reply: type = Whole, n: int = 1) -> list[str]:
    request = Request((Message("user", text),), reply, prompt="expansion/imitate@1234")
    return [completion.text for completion in asyncio.run(teacher.generate(request, n))]


def test_typed_replies_satisfy_their_schema_and_follow_the_prompt() -> None:
    said = [ask(SchemaTeacher(), f"question {number}")[0] for number in range(50)]
    assert len({Whole.model_validate_json(text).model_dump_json() for text in said}) == 50
    assert said == [ask(SchemaTeacher(), f"question {number}")[0] for number in range(50)]


def test_draws_of_one_request_differ_and_texts_are_words() -> None:
    drawn = ask(SchemaTeacher(), "q", str, n=3)
    assert len(set(drawn)) == 3
    assert all(len(text.split()) == 8 for text in drawn)


def test_a_type_or_a_prompt_may_have_an_answer_of_its_own() -> None:
    own = Inner(kind="a", share=0.25)
    assert Inner.model_validate_json(ask(SchemaTeacher({Inner: lambda request: own}), "q", Inner)[0]) == own
    assert ask(SchemaTeacher({"expansion/imitate": lambda request: "mine"}), "q", str) == ["mine"]


def test_it_serves_a_run(tmp_path: Path) -> None:
    with Run(tmp_path / "run", teacher=SchemaTeacher(), quiet=True) as run:
        stage = run.map(Answer(), [Instruction(prompt=f"q{n}") for n in range(5)])
        assert len({record.completion for record in stage}) == 5
