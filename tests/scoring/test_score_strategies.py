"""Strategies that write scores: the numbers are right by hand, a replay asks nothing, and records pass as they came."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import (
    Candidates,
    Demonstration,
    Distribution,
    Document,
    Instruction,
    Preference,
    Ranking,
    Steps,
)
from synthkd.request import Completion, Policy
from synthkd.run import Run
from synthkd.strategies import (
    IFD,
    LabelProbability,
    Loss,
    QueryLikelihood,
    ReverseIFD,
    Scored,
    TopK,
)
from synthkd.strategies.distribution import _spelling
from synthkd.testing import FunctionTeacher


class Reader(FunctionTeacher):
    """Scores words: one that stands in the prompt has a probability of 1/2, another of 1/8."""

    def __init__(self) -> None:
        super().__init__(lambda _: "x")
        self.scored: list[tuple[tuple[Message, ...], str]] = []

    async def score(self, messages: Sequence[Message], completion: str) -> list[float]:
        self.scored.append((tuple(messages), completion))
        known = " ".join(turn.text for turn in messages).split()
        return [math.log(1 / 2 if word in known else 1 / 8) for word in completion.split()]


KNOWN, NEW = math.log(2), math.log(8)
SUM = Demonstration(prompt="two and two", completion="two and two are four", meta={"topic": "sums"})


def mapped(folder: Path, strategy: Any, *records: Any, **roles: Any) -> list[Any]:
    with Run(folder, quiet=True, roles=roles or {"student": Reader()}) as run:
        return list(run.map(strategy, records))


# --- losses -----------------------------------------------------------------------------------------------------------


def test_a_loss_is_the_mean_over_the_tokens_and_the_record_passes_as_it_came(tmp_path: Path) -> None:
    [found] = mapped(tmp_path, Loss(), SUM)
    assert found.meta["loss"] == pytest.approx((3 * KNOWN + 2 * NEW) / 5)
    assert found == SUM.model_copy(update={"parents": (SUM.id,), "meta": {**SUM.meta, "loss": found.meta["loss"]}})


@pytest.mark.parametrize(
    ("record", "losses"),
    [
        (Candidates(prompt="a", completions=("a", "b", "a b")), [KNOWN, NEW, (KNOWN + NEW) / 2]),
        (Ranking(prompt="a", completions=("b", "a"), scores=(1, 0)), [NEW, KNOWN]),
        (Preference(prompt="a", chosen="a", rejected="b"), [KNOWN, NEW]),
    ],
)
def test_each_of_several_completions_has_its_own(tmp_path: Path, record: Any, losses: list[float]) -> None:
    [found] = mapped(tmp_path, Loss(name="nll"), record)
    assert found.meta["nll"] == pytest.approx(losses)


def test_ifd_is_the_perplexity_with_the_prompt_over_that_without(tmp_path: Path) -> None:
    student = Reader()
    useless = Demonstration(prompt="hello", completion="two and two")
    found = mapped(tmp_path, IFD(), SUM, useless, student=student)
    assert found[0].meta["ifd"] == pytest.approx(math.exp(3 / 5 * (KNOWN - NEW)))
    assert found[1].meta["ifd"] == pytest.approx(1.0)
    assert {messages for messages, _ in student.scored} == {SUM.messages, useless.messages, (Message("user", ""),)}
    [ratio] = mapped(tmp_path / "b", IFD(of="loss", name="x"), SUM)
    assert ratio.meta["x"] == pytest.approx((3 * KNOWN + 2 * NEW) / 5 / NEW)


def test_reverse_ifd_asks_for_the_instruction_by_its_answer(tmp_path: Path) -> None:
    student = Reader()
    [found] = mapped(tmp_path, ReverseIFD(), SUM, student=student)
    assert found.meta["r_ifd"] == pytest.approx(math.exp(KNOWN - NEW))
    assert {completion for _, completion in student.scored} == {"two and two"}
    [asked] = [messages for messages, _ in student.scored if messages[0].text]
    assert "two and two are four" in asked[0].text


def test_a_query_is_more_likely_after_the_document_that_it_is_about(tmp_path: Path) -> None:
    found = mapped(
        tmp_path,
        QueryLikelihood(),
        Instruction(prompt="cats eat", meta={"documents": [{"text": "cats eat fish"}, {"text": "dogs"}]}),
        Instruction(prompt="cats", meta={"documents": ["fish"]}),
        Instruction(prompt="cats", meta={"documents": []}),
    )
    likelihoods = [record.meta["query_likelihood"] for record in found]
    assert likelihoods == [pytest.approx([-KNOWN, -NEW]), pytest.approx([-NEW]), []]
    document = Document(text="cats eat", meta={"asked": "cats sleep"})
    [one] = mapped(tmp_path / "b", QueryLikelihood("text", "asked", name="q"), document)
    assert one.meta["q"] == pytest.approx(-(KNOWN + NEW) / 2)


def test_what_has_no_tokens_is_rejected_and_the_ledger_adds_up(tmp_path: Path) -> None:
    with Run(tmp_path, quiet=True, student=Reader()) as run:
        stage = run.map(Loss(), [SUM, Demonstration(prompt="a", completion="")])
        assert stage.ledger.rejected == {"nothing to score": 1}
        assert (stage.ledger.records_in, stage.ledger.records_out) == (2, 1)


@pytest.mark.parametrize("strategy", [Loss(), IFD(), ReverseIFD(), QueryLikelihood("completion")], ids=repr)
def test_a_replay_scores_nothing_again_whatever_the_text(tmp_path: Path, strategy: Any) -> None:
    long = Demonstration(prompt="猫 🐈", completion="apples " * 143_000)
    rows = []
    for again in (False, True):
        student = Reader()
        rows.append(mapped(tmp_path, strategy, SUM, long, student=student))
        assert bool(student.scored) is not again
    assert rows[0] == rows[1]
    assert len(rows[0]) == 2
    assert mapped(tmp_path / "empty", strategy) == []


def test_numbers_that_json_does_not_have_are_the_same_in_a_replay(tmp_path: Path) -> None:
    class Masked(Reader):
        async def score(self, messages: Sequence[Message], completion: str) -> list[float]:
            return [-0.5, -math.inf]

    found = []
    for _ in range(2):
        with Run(tmp_path / "run", student=Masked(), quiet=True) as run:
            assert run.map(Loss(), [SUM]).ledger.rejected == {"teacher error": 1}
            found.append(run.map(Scored(lambda things: [math.nan for _ in things]), [SUM])[0].meta["score"])
    assert found == [None, None]


def test_what_cannot_be_scored_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    student = Reader()
    steps = Steps(prompt="a", completions=("b",), labels=(True,))
    for number, record in enumerate((Instruction(prompt="a"), Document(text="a"), steps)):
        for strategy in (Loss(), IFD(), ReverseIFD()):
            with pytest.raises(ConfigError, match="has none: answer it first"):
                mapped(tmp_path / f"{number}{type(strategy).__name__}", strategy, record, student=student)
    with pytest.raises(ConfigError, match="neither a text nor a list"):
        mapped(tmp_path / "a", QueryLikelihood(), SUM, student=student)
    with pytest.raises(ConfigError, match="has no such text"):
        mapped(tmp_path / "b", QueryLikelihood("completion", "topics"), SUM, student=student)
    with pytest.raises(PromptError, match="answer"):
        mapped(tmp_path / "c", ReverseIFD(Prompt("feedback/rate", str)), SUM, student=student)
    assert not student.scored
    for ratio in (IFD, ReverseIFD):
        with pytest.raises(ConfigError, match="'perplexity' or 'loss'"):
            ratio(of="ppl")  # type: ignore[call-arg, arg-type]


# --- labels -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def yes_or_no(tmp_path: Path) -> Prompt[str]:
    path = tmp_path / "yes.jinja"
    path.write_text(
        "{# variables: instruction; source: none #}{% block user %}Yes or no: {{ instruction }}{% endblock %}"
    )
    return Prompt(path, str)


def test_labels_scored_as_texts_share_their_probability(tmp_path: Path, yes_or_no: Prompt[str]) -> None:
    records = [Instruction(prompt="is it Yes ?"), Instruction(prompt="is it ?")]
    found = mapped(tmp_path / "run", LabelProbability(yes_or_no, ("No", "Maybe so")), *records, judge=Reader())
    assert found[0].meta["probabilities"] == pytest.approx({"No": 8 / 9, "Maybe so": 1 / 9})
    assert found[0].prompt == "is it Yes ?"


def places(*tops: dict[str, float]) -> tuple[dict[str, Any], ...]:
    return tuple(
        {
            "token": next(iter(top)),
            "logprob": math.log(next(iter(top.values()))),
            "top_logprobs": [{"token": token, "logprob": math.log(p)} for token, p in top.items()],
        }
        for top in tops
    )


def telling(**tops: float) -> FunctionTeacher:
    return FunctionTeacher(lambda _: Completion("x", finish_reason="length", logprobs=places(tops)), "judge")


def test_labels_are_found_among_the_likeliest_tokens(tmp_path: Path, yes_or_no: Prompt[str]) -> None:
    judge = telling(**{" Yes": 0.3, "yes": 0.1, "Y": 0.1, "N": 0.1, "No": 0.1, "Hm": 0.2})
    [found] = mapped(tmp_path / "run", LabelProbability(yes_or_no, top=20), SUM, judge=judge)
    assert found.meta["probabilities"] == pytest.approx({"Yes": 5 / 7, "No": 2 / 7})
    [request] = judge.calls
    assert (request.sampling.max_tokens, request.sampling.logprobs, request.sampling.temperature) == (1, 20, 0.0)
    [one] = mapped(tmp_path / "b", LabelProbability(yes_or_no, ("A", "AB"), top=2), SUM, judge=telling(A=0.4, B=0.4))
    assert one.meta["probabilities"] == {"A": 1.0, "AB": 0.0}


def test_a_record_without_any_label_is_rejected_and_a_mute_server_stops_the_run(
    tmp_path: Path, yes_or_no: Prompt[str]
) -> None:
    with Run(tmp_path / "run", quiet=True, roles={"judge": telling(Hm=0.9)}) as run:
        assert run.map(LabelProbability(yes_or_no, top=2), [SUM]).ledger.rejected == {"no label": 1}
    with Run(tmp_path / "ended", quiet=True, roles={"judge": FunctionTeacher(lambda _: Completion(""))}) as run:
        assert run.map(LabelProbability(yes_or_no, top=2), [SUM]).ledger.rejected == {"no label": 1}
    with pytest.raises(ConfigError, match="tells no log-probabilities"):
        mapped(tmp_path / "b", LabelProbability(yes_or_no, top=2), SUM, judge=FunctionTeacher(lambda _: "Yes"))
    with pytest.raises(ConfigError, match="cannot score texts"):
        mapped(tmp_path / "c", LabelProbability(yes_or_no), SUM, judge=FunctionTeacher(lambda _: "Yes"))
    for labels in ((), ("Yes",), ("Yes", "yes "), ("Yes", "")):
        with pytest.raises(ConfigError, match="at least two different"):
            LabelProbability(yes_or_no, labels)
    with pytest.raises(ConfigError, match="top=0"):
        LabelProbability(yes_or_no, top=0)


# --- distributions ----------------------------------------------------------------------------------------------------


def test_the_likeliest_tokens_of_each_place_are_kept_without_thinking_and_turn_end(tmp_path: Path) -> None:
    told = places({"<think>": 1.0}, {"four": 1.0}, {"</think>": 0.9}, {"\n": 1.0}, {"It": 0.5, "Is": 0.25, "A": 0.2})
    told += places({" is": 0.9, " was": 0.1}, {" four": 0.5, " 4": 0.5}, {"<|end|>": 1.0})
    text = "<think>four</think>\nIt is four"
    teacher = FunctionTeacher(lambda _: Completion(text, finish_reason="stop", logprobs=told))
    for again in (False, True):
        [found] = mapped(tmp_path, TopK(2), Instruction(prompt="2 + 2?", meta={"gold": 4}), teacher=teacher)
        assert len(teacher.calls) == 1, again
    assert isinstance(found, Distribution)
    assert found.completion == "It is four"
    assert found.tokens == ("It", " is", " four")
    assert found.top_tokens == (("It", "Is"), (" is", " was"), (" four", " 4"))
    assert found.top_logprobs[0] == pytest.approx((math.log(0.5), math.log(0.25)))
    assert found.meta == {"gold": 4}
    assert teacher.calls[0].sampling.logprobs == 2


def test_pieces_of_characters_are_matched_by_their_bytes_where_the_server_tells_them() -> None:
    whole = "ab 猫".encode()
    told = [{"token": "�", "bytes": [byte]} for byte in b"x" + whole]
    assert _spelling(told, "ab 猫", alone=False) == told[1:]
    bare = [{"token": "�"} for _ in whole]
    assert _spelling(bare, "ab 猫", alone=True) == bare


def test_tokens_that_do_not_spell_the_answer_behind_a_thinking_block_are_rejected(tmp_path: Path) -> None:
    text = "<think>hm</think>猫"
    told = places({"<think>": 1.0}, {"hm</think>": 1.0}, {"�": 1.0}, {"�": 1.0})
    with Run(tmp_path, quiet=True, teacher=FunctionTeacher(lambda _: Completion(text, logprobs=told))) as run:
        assert run.map(TopK(1), [SUM]).ledger.rejected == {"tokens differ": 1}


@given(st.lists(st.text(max_size=3), max_size=4), st.lists(st.text(min_size=1, max_size=3), min_size=1, max_size=5))
def test_the_tokens_found_spell_the_text(before: list[str], own: list[str]) -> None:
    told = [{"token": token} for token in (*before, *own, "<|end|>")]
    found = [place["token"] for place in _spelling(told, "".join(own), alone=False)]
    assert "".join(own) in "".join(found)
    assert len(found) <= len(before) + len(own)


def test_a_teacher_that_tells_no_likeliest_tokens_stops_the_run(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="returns `top_logprobs`"):
        mapped(tmp_path, TopK(), SUM, teacher=FunctionTeacher(lambda _: "four"))
    with pytest.raises(ConfigError, match="at least one token"):
        TopK(0)


@pytest.mark.train
def test_a_model_on_this_machine_gives_distributions_and_scores(tmp_path: Path) -> None:
    from tiny_models import save_model

    from synthkd.request import Sampling
    from synthkd.teachers import LocalTeacher

    model = LocalTeacher(save_model(tmp_path / "model"), sampling=Sampling(max_tokens=8, temperature=0.0))
    keep = TopK(5, policy=Policy(truncated="keep", empty="keep"))
    with Run(tmp_path / "run", teacher=model, student=model, quiet=True) as run:
        [found] = kept = run.map(keep, [Instruction(prompt="Say hello")])
        [scored] = run.map(Loss(), kept)
    assert all(len(place) == 5 for place in found.top_tokens)
    assert all(place[0] == token for place, token in zip(found.top_tokens, found.tokens, strict=True))
    assert scored.meta["loss"] > 0


# --- scorers ----------------------------------------------------------------------------------------------------------


def lengths(things: list[Any]) -> list[float]:
    CALLS.append(len(things))
    time.sleep(0.02)  # as a model would
    return [float(len(completion)) for _, completion in things]


CALLS: list[int] = []


def test_a_scorer_is_given_many_records_at_a_time_and_each_gets_its_own(tmp_path: Path) -> None:
    CALLS.clear()
    records = [Demonstration(prompt="p", completion="x" * n) for n in range(1, 301)]
    found = mapped(tmp_path, Scored(lengths, "length"), *records)
    assert [record.meta["length"] for record in found] == [float(n) for n in range(1, 301)]
    assert sum(CALLS) == 300
    assert len(CALLS) < 20
    assert mapped(tmp_path, Scored(lengths, "length"), *records) == found
    assert sum(CALLS) == 300
    [many] = mapped(tmp_path / "b", Scored(lengths), Candidates(prompt="p", completions=("a", "bb")))
    assert many.meta["score"] == [1.0, 2.0]
    [own] = mapped(tmp_path / "c", Scored(lengths, of=lambda record: (0, record.text)), Document(text="abc"))
    assert own.meta["score"] == 3.0


def test_a_scorer_that_fails_stops_the_run_with_its_own_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="0 scores for 1 things"):
        mapped(tmp_path / "a", Scored(lambda things: []), SUM)
    with pytest.raises(ZeroDivisionError):
        mapped(tmp_path / "b", Scored(lambda things: [1 / 0]), SUM, SUM)
    with pytest.raises(ConfigError, match="answer it first"):
        mapped(tmp_path / "c", Scored(lengths), Document(text="a"))
