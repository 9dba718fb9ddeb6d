"""Generate, the styles of rationale, and what a teacher sees of a conversation."""

from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, Field
from strategy_runs import asked, last, opened, replays

from synthkd.errors import ConfigError, PromptError, RecordError
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Document, Instruction, Record
from synthkd.request import Completion, Request
from synthkd.strategies import Answer, Generate, ProgramOfThought, Rationale, Sample, Think
from synthkd.testing import SchemaTeacher


class Questions(BaseModel):
    items: list[str] = Field(description="Questions that the passage answers.")


@pytest.fixture
def about(tmp_path: Path) -> Prompt[Questions]:
    path = tmp_path / "about.jinja"
    path.write_text("{# variables: text; source: this test #}{% block user %}Ask about: {{ text }}{% endblock %}")
    return Prompt(path, Questions)


def each(record: Document, reply: Questions) -> list[Instruction]:
    return [Instruction(prompt=item, meta={"number": n}) for n, item in enumerate(reply.items)]


def test_one_call_becomes_many_records_of_their_own_with_lineage(about: Prompt[Questions], tmp_path: Path) -> None:
    passage = Document(text="Bees dance.", meta={"topic": "bees", "number": 9})
    with opened(tmp_path / "run", lambda _: '{"items": ["Who?", "Why?"]}') as run:
        rows = list(run.map(Generate(about, each), [passage]))
        assert len(asked(run)) == 1
    assert [row.prompt for row in rows] == ["Who?", "Why?"]
    assert {row.parents for row in rows} == {(passage.id,)}
    assert [row.meta for row in rows] == [{"topic": "bees", "number": 0}, {"topic": "bees", "number": 1}]


def test_one_record_may_come_of_a_reply_and_several_replies_may_be_drawn(tmp_path: Path) -> None:
    class Topic(Instruction):
        level: int

    prompt = Prompt("labeling/answer", str)
    strategy = Generate(prompt, lambda record, reply: Instruction(prompt=f"{reply}?"), n=3)
    numbers = iter(range(3))
    [*rows] = replays(tmp_path, strategy, [Topic(prompt="a", level=2)], lambda _: str(next(numbers)))
    assert [(row.prompt, row.meta) for row in rows] == [(f"{n}?", {"level": 2}) for n in range(3)]


def test_a_reply_that_is_turned_down_is_counted_and_the_others_stay(tmp_path: Path) -> None:
    def only_long(record: Instruction, reply: str) -> Instruction:
        if len(reply) < 3:
            raise RecordError("too short", reason="too short")
        return Instruction(prompt=reply)

    said = iter(["a", "long enough", "", "b", "b"])
    strategy = Generate(Prompt("labeling/answer", str), only_long, n=2)
    with opened(tmp_path, lambda _: next(said)) as run:
        stage = run.map(strategy, [Instruction(prompt="x")])
        assert (len(stage), stage.ledger.dropped) == (1, {"too short": 1})
        stage = run.map(strategy, [Instruction(prompt="y")])
        assert stage.ledger.rejected == {"too short": 1}


def test_a_reply_with_no_items_rejects_its_record(about: Prompt[Questions], tmp_path: Path) -> None:
    with opened(tmp_path / "run", lambda _: '{"items": []}') as run:
        assert run.map(Generate(about, each), [Document(text="a")]).ledger.rejected == {"no output": 1}
    with opened(tmp_path / "other", lambda _: "what?") as run:
        assert run.map(Generate(about, each), [Document(text="a")]).ledger.rejected == {"unreadable reply": 1}


def test_a_template_that_wants_something_else_is_refused_before_anything_is_paid(
    about: Prompt[Questions], tmp_path: Path
) -> None:
    with opened(tmp_path / "run", lambda _: "a") as run:
        with pytest.raises(PromptError, match="wants 'text'"):
            run.map(Generate(about, each), [Instruction(prompt="a")])
        assert asked(run) == []
    with pytest.raises(ConfigError, match="n=0"):
        Generate(about, each, n=0)


@pytest.mark.parametrize("text", ["", "漢字 🦊", "x" * 1_000_000])
def test_any_text_may_be_asked_about(about: Prompt[Questions], tmp_path: Path, text: str) -> None:
    rows = replays(tmp_path / "run", Generate(about, each), [Document(text=text)], lambda _: '{"items": ["Who?"]}')
    assert len(rows) == 1


# Styles of a rationale.


def test_a_program_is_the_completion(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: '{"program": "print(2 + 2)\\n"}') as run:
        [row] = run.map(ProgramOfThought(), [Instruction(prompt="What is 2 + 2?")])
        assert (row.completion, row.reasoning) == ("print(2 + 2)", None)
        assert "What is 2 + 2?" in last(asked(run)[0])
    with opened(tmp_path / "empty", lambda _: '{"program": " "}') as run:
        stage = run.map(ProgramOfThought(), [Instruction(prompt="a")])
        assert stage.ledger.rejected == {"empty program": 1}


@pytest.mark.parametrize(
    "said", [Completion("4", reasoning="two and two"), "<think>two and two</think>4", "two and two</think>\n4"]
)
def test_a_thinking_block_is_kept_wherever_the_teacher_puts_it(tmp_path: Path, said: str | Completion) -> None:
    with opened(tmp_path, lambda _: said) as run:
        [row] = run.map(Think(), [Instruction(prompt="a")])
        assert (row.completion, row.reasoning) == ("4", "two and two")


def test_an_answer_without_thinking_is_none_to_learn_thinking_from(tmp_path: Path) -> None:
    said = iter(["4", "<think> </think>4"])
    with opened(tmp_path, lambda _: next(said)) as run:
        stage = run.map(Think(), [Instruction(prompt="a"), Instruction(prompt="b")])
        assert stage.ledger.rejected == {"no reasoning": 2}


@pytest.mark.parametrize("strategy", [Answer(), Think(), Rationale(), ProgramOfThought(), Sample(2)])
def test_every_style_replays_and_takes_any_text(tmp_path: Path, strategy: Any) -> None:
    teacher = SchemaTeacher({str: lambda _: "<think>hm</think>four"})
    records: list[Record] = [Instruction(prompt=text) for text in ("漢字 🦊", "{{ x }}", "x" * 1_000_000)]
    rows = replays(tmp_path / "some", strategy, records, teacher._by_schema)
    assert len(rows) == 3
    assert replays(tmp_path / "none", strategy, [], teacher._by_schema) == []


# Conversations.

TALK = (
    Message("system", "You are a pirate."),
    Message("user", "Hi"),
    Message("assistant", "Ahoy"),
    Message("user", "What is 2 + 2?"),
)


def test_a_teacher_sees_the_whole_conversation(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "4") as run:
        [row] = run.map(Answer(), [Instruction(prompt=TALK)])
        assert asked(run)[0].messages == row.prompt == TALK


def test_a_template_s_own_words_are_put_around_the_last_turn_alone(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: '{"reasoning": "r", "answer": "4"}') as run:
        run.map(Rationale(), [Instruction(prompt=TALK)])
        system, hi, ahoy, final = asked(run)[0].messages
        assert system.text == "You are a pirate.\n\nYou reason carefully and show your work."
        assert (hi, ahoy) == TALK[1:3]
        assert final.text.startswith("Work through this step by step")
        assert final.text.endswith("What is 2 + 2?")


def test_pictures_of_the_last_turn_are_sent(tmp_path: Path) -> None:
    picture = Image("https://example.org/cat.png")
    prompt = (Message("user", ("What is on this?", picture)),)
    with opened(tmp_path, lambda _: '{"reasoning": "r", "answer": "a cat"}') as run:
        run.map(Answer(prompt=Prompt("labeling/answer", str)), [Instruction(prompt=prompt)])
        run.map(Rationale(), [Instruction(prompt=prompt)])
        plain, worded = (request.messages[-1] for request in asked(run))
        assert plain.content == ("What is on this?", picture)
        assert worded.images == (picture,)
        assert worded.text.endswith("What is on this?")


def test_a_template_that_takes_the_whole_prompt_gets_no_turns_beside_it(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text("{# variables: prompt; source: this test #}{% block user %}{{ prompt | length }}{% endblock %}")
    with opened(tmp_path / "run", lambda _: "4") as run:
        run.map(Answer(prompt=Prompt(path, str)), [Instruction(prompt=TALK)])
        assert asked(run)[0].messages == (Message("user", "4"),)


def test_a_context_in_meta_becomes_the_field_of_the_demonstration(tmp_path: Path) -> None:
    record = Instruction(prompt="a", meta={"privileged_context": "a hint", "topic": "t"})
    [row] = replays(tmp_path, Answer(), [record], _four)
    assert isinstance(row, Demonstration)
    assert (row.privileged_context, row.meta) == ("a hint", {"topic": "t"})


def _four(_: Request[Any]) -> str:
    return "4"
