"""Every strategy that is exported, ready to run: an instance, the records it takes, and what its teachers answer."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import Any

import orjson
from strategy_inputs import (
    META,
    candidates,
    demonstration,
    document,
    examples,
    instruction,
    labelled,
    ordinary,
    preference,
    prompt_of,
    ranking,
    topic,
)

from synthkd import assemble as a
from synthkd import strategies as s
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Document, Record
from synthkd.request import Completion, Request, Sampling
from synthkd.strategies.curation.textbooks import ExerciseList
from synthkd.tools import function

Made = Callable[[str, int], Record]


@dataclass(frozen=True)
class Case:
    """One strategy.

    Args:
        make: the instance.
        record: of a text and a number.
        answers: of the teachers, by prompt or reply type, where the schema alone does not do.
    """

    make: Callable[[], Any]
    record: Made
    answers: dict[Any, Any] = field(default_factory=dict)


def look_up(word: str) -> str:
    """Look up a word."""
    if not word:
        raise LookupError("no word")
    return word.upper()


def native(request: Request[Any]) -> Completion:
    if request.messages[-1].role == "tool":
        return Completion("It is 7.", finish_reason="stop")
    call = {"id": "1", "function": {"name": "look_up", "arguments": '{"word": "quay"}'}}
    return Completion("", finish_reason="tool_calls", tool_calls=(call,))


def react(request: Request[Any]) -> str:
    ended = "Observation" in request.messages[-1].text
    turn = {"thought": "so", "tool": None if ended else "look_up", "arguments": {} if ended else {"word": "quay"}}
    return orjson.dumps({**turn, "answer": "7" if ended else None}).decode()


def said(value: Any) -> Callable[[Request[Any]], str]:
    return lambda request: value if isinstance(value, str) else orjson.dumps(value).decode()


class Room:
    """Done with the second action."""

    def __init__(self, record: Any) -> None:
        self.taken = 0

    async def reset(self, record: Any) -> str:
        return f"A room. {record.instruction}"

    async def step(self, action: str) -> s.Observation:
        self.taken += 1
        return s.Observation(f"after {action}", 0.5, done=self.taken == 2)


async def right(completion: str, known: Any) -> bool:
    return "7" in completion


async def reward(record: Candidates, text: str) -> float | None:
    return None if text == "7" else float(len(text) % 5)


def lengths(things: list[Any]) -> list[float]:
    return [float(len(str(thing)) % 97) for thing in things]


SEVEN = {"labeling/answer": said("Count: the answer is 7.")}
CALL = {"instruction": "What does quay mean?", "tool": "look_up", "arguments": '{"word": "quay"}'}
QUOTED = {"items": [{"question": "How old?", "answer": "Old.", "quote": "the quay is old"}]}
MARKED = {"marks": [{"after": "quay", "tool": "look_up", "arguments": {"word": "quay"}}]}
CHAT = {"turns": [{"speaker": "person", "text": "Hi"}, {"speaker": "assistant", "text": "Hello"}]}
TOOLS = (function(look_up),)
SHOWN = tuple(Demonstration(prompt=f"Example {number}?", completion=f"{number}", meta=META) for number in range(5))
POOL = ("Be kind.", "Be brief.", "Be exact.")
GOOD = {"good": "it is good", "bad": "it is bad", "odd": "it is neither"}
WARM = Sampling(temperature=0.7)
ANSWERED = Prompt("labeling/answer", str)
WORSE = [Demonstration(prompt=prompt_of(ordinary(number), number), completion="Eh.") for number in range(6)]

TABLE: dict[str, Case] = {
    "Act": Case(lambda: s.Act(TOOLS), instruction, {"acting/native": native}),
    "Act, react": Case(lambda: s.Act(TOOLS, "react"), instruction, {"acting/react": react}),
    "Act, branches": Case(lambda: s.Act(TOOLS, branches=2, budget=9), instruction, {"acting/native": native}),
    "Annotate": Case(lambda: s.Annotate(TOOLS, draws=2), document, {"acting/annotate": said(MARKED)}),
    "Annotate, scored": Case(lambda: s.Annotate(TOOLS, least=-5.0), document, {"acting/annotate": said(MARKED)}),
    "Answer": Case(s.Answer, instruction),
    "AskAbout": Case(s.AskAbout, document, {"curation/ask_about": said(QUOTED)}),
    "AskAbout, alone": Case(lambda: s.AskAbout(passage=False), document, {"curation/ask_about": said(QUOTED)}),
    "Best": Case(lambda: a.Best(at_least=1.0), ranking),
    "Brainstorm": Case(lambda: s.Brainstorm("subtopic", 3), topic),
    "ByOrder": Case(lambda: a.ByOrder(best_first=False), candidates),
    "Choose": Case(lambda: s.Choose(POOL, clamp=0.1), candidates, {"feedback/choose": said("A")}),
    "Choose, hard": Case(lambda: s.Choose(soft=False), preference),
    "Choose, weighed": Case(lambda: s.Choose(rationale=Prompt("feedback/weigh", str)), preference),
    "Classify": Case(lambda: s.Classify(GOOD, repeats=3), instruction),
    "Classify, hard": Case(lambda: s.Classify(GOOD, soft=False), labelled),
    "Contrast": Case(lambda: a.Contrast(WORSE), demonstration),
    "Correct": Case(s.Correct, candidates),
    "Correct, verify": Case(lambda: s.Correct(verify=right, most=1), candidates),
    "Demonstrate": Case(lambda: s.Demonstrate(3, hints=POOL), examples),
    "Dialogue": Case(s.Dialogue, instruction),
    "Dialogue, notes": Case(
        lambda: s.Dialogue(
            (
                s.Speaker("a", Prompt("dialogue/user", s.Utterance), memory=Prompt("dialogue/remember", str)),
                s.Speaker(
                    "b", Prompt("dialogue/assistant", str), "student", draws=2, score=lambda _, text: len(text) % 7
                ),
                s.Speaker("c", Prompt("dialogue/assistant", str), "judge", sees=lambda turns: turns[-2:]),
            ),
            target="b",
            opens="a",
            closing=s.Speaker("d", Prompt("dialogue/assistant", str)),
        ),
        instruction,
    ),
    "Dialogue, unopened": Case(lambda: s.Dialogue(opens=None, rounds=2), topic),
    "Difficulty": Case(lambda: s.Difficulty(4, than="teacher"), instruction, SEVEN),
    "Ensemble": Case(lambda: s.Ensemble(s.Sample(2), ("teacher", "student", "judge")), instruction),
    "Evolve": Case(lambda: s.Evolve(rounds=3), instruction, {"expansion/equal": said({"reason": "", "equal": False})}),
    "Evolve, last": Case(lambda: s.Evolve(rounds=2, keep="last", eliminate=()), instruction),
    "Exercises": Case(s.Exercises, document),
    "Exercises, code": Case(lambda: s.Exercises(prompt=Prompt("curation/code_exercises", ExerciseList)), topic),
    "ForLabel": Case(lambda: s.ForLabel(4, examples=POOL, examples_k=2), labelled),
    "ForLabel, seeds": Case(lambda: s.ForLabel(4), topic),
    "FromCode": Case(lambda: s.FromCode(kinds=POOL, good=POOL), document),
    "FromSeed": Case(s.FromSeed, topic),
    "FromTools": Case(lambda: s.FromTools(2), topic, {"curation/from_tools": said({"items": [CALL, CALL]})}),
    "Generate": Case(
        lambda: s.Generate(ANSWERED, lambda record, text: [Document(text=text), Document(text=text.upper())], n=3),
        instruction,
    ),
    "IFD": Case(s.IFD, demonstration),
    "IFD, losses": Case(lambda: s.IFD(of="loss"), ranking),
    "Instances": Case(s.Instances, instruction),
    "IsClassification": Case(s.IsClassification, instruction),
    "Judge": Case(s.Judge, candidates),
    "Judge, aspects": Case(lambda: s.Judge(aspects=GOOD, repeats=2, sampling=WARM, scale=(0, 3)), candidates),
    "Judge, joint": Case(lambda: s.Judge(how="joint", repeats=2), candidates),
    "Judge, listwise": Case(lambda: s.Judge(how="listwise", repeats=2, window=3, stride=1), candidates),
    "Judge, pairwise": Case(lambda: s.Judge(how="pairwise"), candidates),
    "Judge, soft": Case(lambda: s.Judge(soft=True), candidates),
    "LabelProbability": Case(lambda: s.LabelProbability(ANSWERED), demonstration),
    "LabelProbability, drawn": Case(lambda: s.LabelProbability(ANSWERED, top=5), demonstration),
    "Loss": Case(s.Loss, demonstration),
    "Loss, several": Case(s.Loss, preference),
    "Markup": Case(lambda: a.Markup(a.thinking, "GOOD "), demonstration),
    "Markup, masked": Case(
        lambda: a.Markup(lambda one: [a.tag("quote", one.instruction, loss=False), one.completion], lambda one: "* "),
        demonstration,
    ),
    "Ordered": Case(lambda: s.Ordered({"hint": s.Swap(s.Answer(), POOL), "own": s.Answer()}), instruction),
    "Pairs": Case(lambda: a.Pairs("best_random"), ranking),
    "Paraphrase": Case(s.Paraphrase, instruction),
    "Paraphrase, texts": Case(lambda: s.Paraphrase(2), labelled),
    "Play": Case(lambda: s.Play(Room, 3, "Be quick."), instruction),
    "ProgramOfThought": Case(s.ProgramOfThought, instruction),
    "QueryLikelihood": Case(s.QueryLikelihood, document),
    "Rank": Case(s.Rank, candidates),
    "Rate": Case(lambda: a.Rate(2.5, 1.0), ranking),
    "Rationale": Case(s.Rationale, instruction),
    "Repeat": Case(lambda: s.Repeat(s.Evolve(rounds=1, eliminate=()), 3, every=True), instruction),
    "ReverseIFD": Case(s.ReverseIFD, demonstration),
    "Revise": Case(s.Revise, demonstration),
    "Revise, given": Case(lambda: s.Revise(given="feedback", keep="all", rounds=2), demonstration),
    "Revise, principles": Case(lambda: s.Revise(POOL, rounds=4), instruction),
    "RevisedPair": Case(
        s.RevisedPair, demonstration, {s.Critique: lambda _: s.Critique(critique="Too long.", fault=True)}
    ),
    "Rewarded": Case(lambda: s.Rewarded(reward), candidates),
    "Route": Case(lambda: s.Route({"a": s.Answer(), "b": s.Rationale()}, {"a": 1, "b": 2}), instruction),
    "Route, named": Case(lambda: s.Route({"open": s.Answer(), "b": s.Rationale()}, "kind"), instruction),
    "Sample": Case(lambda: s.Sample(3, roles=("teacher", "student")), instruction),
    "Sample, each once": Case(lambda: s.Sample(1, roles=("teacher", "student", "judge")), instruction),
    "Score": Case(s.Score, demonstration),
    "Score, aspects": Case(lambda: s.Score(aspects=GOOD), document),
    "Score, soft": Case(lambda: s.Score(soft=True), labelled),
    "Scored": Case(lambda: s.Scored(lengths), candidates),
    "SelfChat": Case(s.SelfChat, instruction, {"dialogue/script": said(CHAT)}),
    "SelfConsistency": Case(s.SelfConsistency, candidates),
    "SelfInstruct": Case(lambda: s.SelfInstruct(3, hints=POOL), examples),
    "SelfInstruct, plain": Case(lambda: s.SelfInstruct(prompt=Prompt("expansion/imitate", str)), examples),
    "SelfReward": Case(s.SelfReward, candidates),
    "Shots": Case(lambda: s.Shots(s.Answer(), SHOWN, k=2, budget=40), instruction),
    "Shots, variable": Case(
        lambda: s.Shots(s.SelfInstruct(prompt=Prompt("expansion/imitate", str)), SHOWN, variable="shots"), examples
    ),
    "Swap": Case(lambda: s.Swap(s.Swap(s.Answer(), POOL, at="system", weights=(1, 2, 0)), of="hint"), instruction),
    "Swap, shown": Case(
        lambda: s.Swap(s.Sample(2), "7", prompt=Prompt("labeling/gold", str), at="before", erase=False), instruction
    ),
    "Textbook": Case(s.Textbook, topic),
    "Think": Case(s.Think, instruction, {"labeling/think": said("<think>so</think>\nIt is 7.")}),
    "TopK": Case(lambda: s.TopK(5), instruction),
    "Verified": Case(lambda: s.Verified(s.Answer(), hint=Prompt("labeling/gold", str)), instruction, SEVEN),
    "Verified, several": Case(lambda: s.Verified(s.Sample(2), verify=right, most=2, tries=2), instruction, SEVEN),
    "Weigh": Case(lambda: a.Weigh("kind", {"open": 0.5}, default=1.0), labelled),
    "Weigh, a value": Case(lambda: a.Weigh("part"), demonstration),
    "chain": Case(lambda: s.chain(s.Paraphrase(2), s.Sample(2), s.Judge()), instruction),
}
if find_spec("bm25s"):
    from synthkd.retrieval import BM25

    FOUND = [Document(text=f"The {name} is old and has {name}s.") for name in ("quay", "pier", "mole", "dock", "jetty")]
    TABLE |= {
        "Retrieve": Case(lambda: s.Retrieve(BM25(FOUND), k={0: 0.1, 2: 0.9}), instruction),
        "Retrieve, gold": Case(
            lambda: s.Retrieve(BM25(FOUND), into="prompt", gold=lambda _: FOUND[1].id, p=0.5), demonstration
        ),
    }
