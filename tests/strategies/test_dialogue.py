"""Dialogue: each speaker sees its own side, the rule ends it, and the target's turns are what is learnt."""

from __future__ import annotations

import json
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Conversation, Document, Instruction
from synthkd.request import Request
from synthkd.run import Run
from synthkd.strategies import Dialogue, SelfChat, Speaker, Utterance
from synthkd.strategies.dialogue.speaker import Said, alternating, from_side
from synthkd.testing import FunctionTeacher, SchemaTeacher

QUESTION = Instruction(prompt="Why is the sky blue?", meta={"topic": "light"})


def talking(request: Request[Any]) -> str:
    """Says who it is and how many messages it was shown."""
    who = "U" if request.prompt.startswith("dialogue/user") else "A"
    return f"{who}{len(request.messages)}"


def mapped(folder: Path, strategy: Any, teacher: Any, *records: Any, **roles: Any) -> tuple[list[Conversation], Any]:
    with Run(folder, teacher=teacher, roles=roles, quiet=True) as run:
        stage = run.map(strategy, list(records or (QUESTION,)))
        return list(stage), stage.ledger


def said(row: Conversation) -> list[tuple[str, str]]:
    return [(message.role, message.text) for message in row.messages]


Template = Callable[..., Prompt[Any]]


@pytest.fixture
def template(tmp_path: Path) -> Template:
    def make(name: str, body: str, variables: str = "", reply: Any = str) -> Prompt[Any]:
        path = tmp_path / f"{name}.jinja"
        path.write_text(f"{{# variables: {variables}; source: this test #}}{body}")
        return Prompt(path, reply)

    return make


def cue(text: str, system: str = "") -> str:
    return f"{{% block system %}}{system}{{% endblock %}}{{% block user %}}{text}{{% endblock %}}"


def test_a_prompt_opens_and_the_answers_are_the_target(tmp_path: Path) -> None:
    found = []
    for _ in range(2):
        teacher = FunctionTeacher(talking)
        rows, ledger = mapped(tmp_path / "run", Dialogue(rounds=3), teacher)
        found.append((rows, len(teacher.calls)))
    assert found[0][0] == found[1][0]
    assert [calls for _, calls in found] == [5, 0]
    [row] = found[0][0]
    turns = ["Why is the sky blue?", "A2", "U3", "A4", "U5", "A6"]
    assert said(row) == list(zip(["user", "assistant"] * 3, turns, strict=True))
    assert (row.parents, row.meta, row.tools) == ((QUESTION.id,), {"topic": "light"}, ())
    assert ledger.rejected == {}


def test_each_speaker_sees_its_own_turns_as_the_assistant_s(tmp_path: Path) -> None:
    teacher = FunctionTeacher(talking)
    mapped(tmp_path / "run", Dialogue(rounds=2), teacher)
    assistant, user, _ = teacher.calls
    assert [(m.role, m.text) for m in assistant.messages[1:]] == [("user", QUESTION.instruction)]
    assert [(m.role, m.text) for m in user.messages[1:]] == [("assistant", QUESTION.instruction), ("user", "A2")]
    assert QUESTION.instruction in user.messages[0].text


def test_roles_may_be_played_by_different_teachers(tmp_path: Path) -> None:
    person = FunctionTeacher(lambda _: "person", "person")
    speakers = (
        Speaker("user", Prompt("dialogue/user", str), role="person"),
        Speaker("assistant", Prompt("dialogue/assistant", str)),
    )
    [row], _ = mapped(tmp_path / "run", Dialogue(speakers, rounds=2), FunctionTeacher(talking), person=person)
    assert [text for _, text in said(row)][1:] == ["A2", "person", "A4"]
    assert len(person.calls) == 1


@pytest.mark.parametrize(
    ("reply", "texts"),
    [("[END]", ["A2"]), ("Thanks. [END] bye", ["A2"]), ("More?", ["A2", "More?", "A4", "More?", "A6"])],
)
def test_a_marker_ends_it_and_the_last_turn_is_the_target_s(tmp_path: Path, reply: str, texts: list[str]) -> None:
    teacher = FunctionTeacher(lambda r: reply if r.prompt.startswith("dialogue/user") else talking(r))
    [row], _ = mapped(tmp_path / "run", Dialogue(rounds=3), teacher)
    assert [text for _, text in said(row)][1:] == texts


def test_a_function_of_the_turns_ends_it(tmp_path: Path) -> None:
    dialogue = Dialogue(rounds=9, stop=lambda turns: sum(len(turn.text) for turn in turns) > 26)
    teacher = FunctionTeacher(talking)
    [row], _ = mapped(tmp_path / "run", dialogue, teacher)
    assert len(row.messages) == 4
    assert len(teacher.calls) == 4  # the last one, the user's, is left out


def test_a_typed_reply_may_end_it_and_its_other_fields_are_kept(tmp_path: Path, template: Template) -> None:
    class Rated(Utterance):
        rating: int

    def answer(request: Request[Any]) -> str:
        if request.reply is not Rated:
            return talking(request)
        return json.dumps({"text": "fine", "end": len(request.messages) > 4, "rating": len(request.messages)})

    peer = Speaker("peer", template("peer", cue("", "Rate it."), reply=Rated))
    dialogue = Dialogue((peer, Speaker("assistant", Prompt("dialogue/assistant", str))), rounds=9, opens="peer")
    [row], _ = mapped(tmp_path / "run", dialogue, FunctionTeacher(answer))
    assert [text for _, text in said(row)][1:] == ["A2", "fine", "A4"]
    assert [turn.get("rating") for turn in row.meta["turns"]] == [None, None, 3, None, 5]  # type: ignore[union-attr]


def test_several_others_have_their_names_and_one_speaker_may_come_twice(tmp_path: Path, template: Template) -> None:
    seen: dict[str, list[tuple[str, str]]] = {}

    def answer(request: Request[Any]) -> str:
        name = request.messages[0].text
        seen.setdefault(name, [(m.role, m.text) for m in request.messages[1:]])
        return f"<{name}>"

    speakers = (
        Speaker("centre", template("answer", cue("Answer {{ instruction }}", "first"), "instruction")),
        Speaker("left", template("left", cue("", "left"))),
        Speaker("right", template("right", cue("", "right"))),
        Speaker("centre", template("revise", cue("Revise.", "second"))),
    )
    dialogue = Dialogue(speakers, rounds=1, opens=None, target="left")
    [row], _ = mapped(tmp_path / "run", dialogue, FunctionTeacher(answer))
    assert seen["first"] == [("user", "Answer Why is the sky blue?")]
    assert seen["left"] == [("user", "<first>")]
    assert seen["right"] == [("user", "centre: <first>\n\nleft: <left>")]
    assert seen["second"] == [("assistant", "<first>"), ("user", "left: <left>\n\nright: <right>\n\nRevise.")]
    assert said(row) == [("user", "<first>"), ("assistant", "<left>")]


def test_a_debate_s_conclusion_alone_is_learnt(tmp_path: Path, template: Template) -> None:
    body = cue("{% for one in transcript %}{{ one.speaker }} said {{ one.text }}. {% endfor %}Conclude.")
    sides = [
        Speaker(side, template(side, cue(f"Speak {side}, turn {{{{ turn }}}}."), "turn")) for side in ("pro", "con")
    ]
    dialogue = Dialogue(
        tuple(sides),
        rounds=2,
        opens=None,
        closing=Speaker("pro", template("end", body, "transcript"), sees=lambda turns: turns[-1:]),
    )
    teacher = FunctionTeacher(lambda request: f"{len(teacher.calls)}: {request.messages[-1].text[-20:]}")
    [row], _ = mapped(tmp_path / "run", dialogue, teacher)
    assert len(teacher.calls) == 5
    assert [role for role, _ in said(row)] == ["user", "assistant"]
    assert row.messages[0].text == QUESTION.instruction
    assert [turn["speaker"] for turn in row.meta["transcript"]] == ["pro", "con"] * 2  # type: ignore[index,call-overload,union-attr]
    assert teacher.calls[3].messages[-1].text.endswith("Speak con, turn 2.")
    shown = "\n".join(message.text for message in teacher.calls[4].messages)
    assert "con said 4:" in shown
    assert "pro said" not in shown  # it sees the last turn only


def test_notes_are_seen_by_their_own_speaker_only(tmp_path: Path, template: Template) -> None:
    def answer(request: Request[Any]) -> str:
        if request.prompt.startswith("dialogue/remember"):
            return f"SECRET{sum('SECRET' in m.text for m in request.messages)}"
        return talking(request)

    prompt = template("user", cue("", "You are a person. {{ memory }}"), "memory")
    user = Speaker("user", prompt, memory=Prompt("dialogue/remember", str))
    dialogue = Dialogue((user, Speaker("assistant", Prompt("dialogue/assistant", str))), rounds=3)
    found = []
    for _ in range(2):
        teacher = FunctionTeacher(answer)
        rows, _ = mapped(tmp_path / "run", dialogue, teacher)
        found.append(rows)
        if teacher.calls:
            mine = [r for r in teacher.calls if r.prompt.startswith("user@")]
            others = [r for r in teacher.calls if r.prompt.startswith("dialogue/assistant")]
            assert [r.messages[0].text for r in mine] == ["You are a person.", "You are a person. SECRET0"]
            assert not any("SECRET" in m.text for r in others for m in r.messages)
    assert found[0] == found[1]
    assert not any("SECRET" in text for _, text in said(found[0][0]))


def test_the_best_of_several_draws_is_said_and_the_choice_replays(tmp_path: Path) -> None:
    draws = iter("abcdefgh")
    times = []

    def score(shown: tuple[Message, ...], text: str) -> float:
        times.append(text)
        return ord(text[-1]) if len(times) <= 4 else -ord(text[-1])

    best = Speaker("assistant", Prompt("dialogue/assistant", str), draws=4, score=score)
    dialogue = Dialogue((Speaker("user", Prompt("dialogue/user", str)), best), rounds=1)
    for _ in range(2):
        [row], _ = mapped(tmp_path / "run", dialogue, FunctionTeacher(lambda _: next(draws)))
        assert row.messages[-1].text == "d"
    assert len(times) == 4


def test_an_earlier_conversation_and_its_system_turn_and_pictures_go_on(tmp_path: Path) -> None:
    picture = Image("https://example.org/sky.png")
    prompt = (
        Message("system", "Speak like a sailor."),
        Message("user", "Ahoy"),
        Message("assistant", "Ahoy!"),
        Message("user", ("What is this?", picture)),
    )
    teacher = FunctionTeacher(talking)
    [row], _ = mapped(tmp_path / "run", Dialogue(rounds=2), teacher, Instruction(prompt=prompt))
    assert row.messages[:4] == prompt
    assert [text for _, text in said(row)][4:] == ["A4", "U5", "A6"]
    assert teacher.calls[0].messages[0].text.startswith("Speak like a sailor.\n\nYou are a helpful assistant.")
    assert "sailor" not in teacher.calls[1].messages[0].text
    assert teacher.calls[0].messages[-1].images == (picture,)


def test_records_without_a_prompt_may_be_talked_about(tmp_path: Path, template: Template) -> None:
    user = Speaker("user", template("ask", cue("Ask about: {{ text }}"), "text"))
    dialogue = Dialogue((user, Speaker("assistant", Prompt("dialogue/assistant", str))), rounds=1, opens=None)
    [row], _ = mapped(tmp_path / "run", dialogue, FunctionTeacher(lambda r: r.messages[-1].text), Document(text="日本"))
    assert said(row) == [("user", "Ask about: 日本"), ("assistant", "Ask about: 日本")]
    with pytest.raises(ConfigError, match="a Document has no prompt"):
        mapped(tmp_path / "b", Dialogue(), FunctionTeacher(talking), Document(text="x", meta={"instruction": "x"}))
    with pytest.raises(PromptError, match="'instruction'"):
        mapped(tmp_path / "c", Dialogue(), FunctionTeacher(talking), Document(text="x"))


def test_what_goes_wrong_rejects_the_record_and_the_ledger_adds_up(tmp_path: Path) -> None:
    def answer(request: Request[Any]) -> str:
        text = "".join(message.text for message in request.messages)
        return "" if "mute" in text else "[END]" if "shy" in text else "ok"

    records = [Instruction(prompt=text) for text in ("mute", "shy", "fine", "x" * 1_000_000)]
    rows, ledger = mapped(tmp_path / "run", Dialogue(rounds=1), FunctionTeacher(answer), *records)
    assert [len(row.messages[0].text) for row in rows] == [4, 1_000_000]
    assert ledger.rejected == {"empty reply": 1, "too short": 1}
    rows, ledger = mapped(tmp_path / "least", Dialogue(rounds=1, least=2), FunctionTeacher(answer), *records[2:3])
    assert (rows, ledger.rejected) == ([], {"too short": 1})
    with Run(tmp_path / "none", teacher=SchemaTeacher(), quiet=True) as run:
        assert len(run.map(Dialogue(), [])) == 0


@settings(deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.sampled_from("abc"), st.text(min_size=1))))
def test_a_side_alternates_and_loses_no_text(turns: list[tuple[str, str]]) -> None:
    found = alternating(from_side("a", [Said(name, text) for name, text in turns], several=False))
    assert all(one.role != other.role for one, other in pairwise(found))
    for role, mine in (("assistant", True), ("user", False)):
        wanted = "".join(text for name, text in turns if (name == "a") == mine)
        assert "".join(m.text for m in found if m.role == role).replace("\n\n", "") == wanted.replace("\n\n", "")


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        (lambda: Dialogue((Speaker("a", Prompt("dialogue/user", str)),)), "at least two"),
        (lambda: Dialogue(target="nobody"), "no such speaker"),
        (lambda: Dialogue(opens="nobody"), "no such speaker"),
        (lambda: Dialogue(opens="assistant"), "opens and is the target"),
        (lambda: Dialogue(rounds=0), "at least 1"),
        (lambda: Dialogue(stop=""), "at least 1"),
        (lambda: Speaker("a", Prompt("dialogue/user", str), draws=2), "a `score`"),
        (lambda: SelfChat(rounds=0), "at least one"),
    ],
)
def test_what_cannot_work_is_refused(refused: Callable[[], Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        refused()


# --- a whole conversation in one reply --------------------------------------------------------------------------------


def lines(*speakers: str) -> str:
    return json.dumps({"turns": [{"speaker": who, "text": f"{who} {n}"} for n, who in enumerate(speakers)]})


def test_a_script_is_read_as_a_conversation_that_ends_with_the_assistant(tmp_path: Path) -> None:
    for _ in range(2):
        teacher = FunctionTeacher(lambda _: lines("person", "assistant", "person", "assistant", "person"))
        [row], _ = mapped(tmp_path / "run", SelfChat(), teacher)
        assert [role for role, _ in said(row)] == ["user", "assistant"] * 2
        assert row.meta == {"topic": "light"}
    assert teacher.calls == []


@pytest.mark.parametrize("speakers", [("assistant", "person"), ("person", "person"), ("person",)])
def test_a_script_that_does_not_alternate_is_sent_back(tmp_path: Path, speakers: tuple[str, ...]) -> None:
    teacher = FunctionTeacher(lambda r: lines("person", "assistant") if len(r.messages) > 1 else lines(*speakers))
    [row], _ = mapped(tmp_path / "run", SelfChat(), teacher)
    assert len(row.messages) == 2
    assert len(teacher.calls) == 2
