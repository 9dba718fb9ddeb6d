"""Context swap: the teacher sees what the training prompt omits, and the record keeps both."""

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_runs import asked, last, opened, replays

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Instruction, Record
from synthkd.request import Request
from synthkd.strategies import Answer, Generate, Rationale, Sample, SelfConsistency, Swap, chain
from synthkd.strategies.labeling.swapping import drawn

QUESTION = Instruction(prompt="What is 2 + 2?", meta={"answer": "4", "facts": ["2 is even", "4 is even"]})
REASONED = '{"reasoning": "two and two", "answer": "4"}'
POOL = ("Be kind.", "Be brief.", "Be exact.", "Be bold.")


def test_an_affix_is_put_behind_the_instruction_and_kept_beside_the_student_s_prompt(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "4") as run:
        [row] = run.map(Swap(Answer(), "(a rude answer)"), [QUESTION])
        assert asked(run)[0].messages == (Message("user", "What is 2 + 2?\n\n(a rude answer)"),)
        assert row == Demonstration(
            parents=(QUESTION.id,),
            prompt="What is 2 + 2?",
            completion="4",
            privileged_context="(a rude answer)",
            meta=QUESTION.meta,
        )


@pytest.mark.parametrize(
    ("at", "messages"),
    [
        ("before", (Message("user", "Hint.\n\nWhat is 2 + 2?"),)),
        ("after", (Message("user", "What is 2 + 2?\n\nHint."),)),
        ("system", (Message("system", "Hint."), Message("user", "What is 2 + 2?"))),
    ],
)
def test_the_place_is_chosen(tmp_path: Path, at: Any, messages: tuple[Message, ...]) -> None:
    with opened(tmp_path, lambda _: "4") as run:
        run.map(Swap(Answer(), "Hint.", at=at), [QUESTION])
        assert asked(run)[0].messages == messages


def test_a_template_s_own_system_message_stays_before_what_is_added(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: REASONED) as run:
        [row] = run.map(Swap(Rationale(), "Be brief.", at="system"), [QUESTION])
        assert asked(run)[0].messages[0].text == "You reason carefully and show your work.\n\nBe brief."
        assert (row.reasoning, row.privileged_context) == ("two and two", "Be brief.")


def test_what_is_shown_comes_from_a_field_or_from_an_entry_of_meta(tmp_path: Path) -> None:
    class Sum(Instruction):
        hint: str

    with opened(tmp_path, lambda _: "4") as run:
        run.map(Swap(Answer(), of="hint"), [Sum(prompt="a", hint="count your fingers")])
        [row] = run.map(Swap(Answer(), of="facts", prompt=Prompt("labeling/knowledge", str)), [QUESTION])
        assert last(asked(run)[0]) == "a\n\ncount your fingers"
        assert "- 2 is even\n- 4 is even\n" in last(asked(run)[1])
        assert row.privileged_context is not None
        assert row.privileged_context.startswith("What is known about this:\n- 2 is even")


def test_a_gold_answer_is_worded_by_a_template_and_never_reaches_the_student(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: REASONED) as run:
        [row] = run.map(Swap(Rationale(), of="answer", prompt=Prompt("labeling/gold", str)), [QUESTION])
        assert "the correct final answer is 4" in last(asked(run)[0])
        assert row.prompt == "What is 2 + 2?"


@pytest.mark.parametrize("name", ["hint", "gold", "principles", "target", "knowledge"])
def test_each_built_in_wording_holds_what_is_shown(tmp_path: Path, name: str) -> None:
    with opened(tmp_path, lambda _: "4") as run:
        swap = Swap(Answer(), ("first thing", "second thing"), k=2, prompt=Prompt(f"labeling/{name}", str))
        run.map(swap, [QUESTION])
        assert {"first thing", "second thing"} <= {
            t for t in ("first thing", "second thing") if t in last(asked(run)[0])
        }


def test_a_template_alone_takes_what_the_record_has(tmp_path: Path) -> None:
    path = tmp_path / "score.jinja"
    path.write_text("{# variables: score; source: this test #}{% block user %}Worth {{ score }} of 5.{% endblock %}")
    swap = Swap(Answer(), prompt=Prompt(path, str))
    with opened(tmp_path / "run", lambda _: "4") as run:
        run.map(swap, [Instruction(prompt="a", meta={"score": 2})])
        assert last(asked(run)[0]) == "a\n\nWorth 2 of 5."
        with pytest.raises(PromptError, match="wants 'score'"):
            run.map(swap, [QUESTION])
        assert len(asked(run)) == 1


def test_texts_are_drawn_from_the_pool_by_the_record_and_the_same_ones_again(tmp_path: Path) -> None:
    records: list[Record] = [Instruction(prompt=f"question {n}") for n in range(60)]
    rows = replays(tmp_path, Swap(Answer(), POOL, k=2, at="system"), records, lambda _: "a")
    shown = [tuple((row.privileged_context or "").split("\n\n")) for row in rows]
    assert all(len(set(pair)) == 2 and set(pair) <= set(POOL) for pair in shown)
    assert len(set(shown)) > 8


def test_weights_say_how_often_a_text_is_drawn(tmp_path: Path) -> None:
    records = [Instruction(prompt=f"question {n}") for n in range(400)]
    with opened(tmp_path, lambda _: "a") as run:
        rows = run.map(Swap(Answer(), ("often", "seldom", "never"), weights=(0.8, 0.2, 0)), records)
        counts = Counter(row.privileged_context for row in rows)
    assert set(counts) == {"often", "seldom"}
    assert 280 < counts["often"] < 360


@settings(deadline=None, derandomize=True)
@given(st.lists(st.floats(0, 10), min_size=1, max_size=8), st.integers(1, 10), st.integers())
def test_a_weighted_draw_repeats_nothing_and_takes_all_that_have_a_weight(
    weights: list[float], k: int, seed: int
) -> None:
    pool = [str(n) for n in range(len(weights))]
    found = drawn(Random(seed), pool, k, weights)
    possible = {text for text, weight in zip(pool, weights, strict=True) if weight}
    assert len(set(found)) == len(found) == min(k, len(possible))
    assert set(found) <= possible


def test_a_pool_may_depend_on_the_record_and_an_empty_one_shows_nothing(tmp_path: Path) -> None:
    def messages(record: Instruction) -> str | None:
        return "Show the sum." if "+" in record.instruction else None

    with opened(tmp_path, lambda _: "a") as run:
        rows = run.map(Swap(Answer(), messages, at="system"), [QUESTION, Instruction(prompt="Why?")])
        assert [row.privileged_context for row in rows] == ["Show the sum.", None]
        assert asked(run)[1].messages == (Message("user", "Why?"),)


def test_swaps_nest_and_the_record_keeps_all_that_was_shown(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "a") as run:
        strategy = Swap(Swap(Answer(), "Be brief.", at="system"), of="answer")
        [row] = run.map(strategy, [QUESTION])
        assert asked(run)[0].messages == (Message("system", "Be brief."), Message("user", "What is 2 + 2?\n\n4"))
        assert row.privileged_context == "Be brief.\n\n4"


def test_candidates_keep_it_in_meta_until_they_are_a_demonstration_again(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "The answer is 4.") as run:
        [several] = run.map(Swap(Sample(3), "Hint."), [QUESTION])
        assert isinstance(several, Candidates)
        assert several.meta["privileged_context"] == "Hint."
        [row] = run.map(SelfConsistency(), [several])
        assert (row.privileged_context, row.meta) == ("Hint.", QUESTION.meta)


def test_a_student_may_see_what_was_shown_or_another_system_message(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "a") as run:
        [orca] = run.map(Swap(Answer(), "Explain it to a child.", at="system", erase=False), [QUESTION])
        assert orca.prompt == (Message("system", "Explain it to a child."), Message("user", "What is 2 + 2?"))
        assert orca.privileged_context is None
        swap = Swap(Answer(), "First recall, then reason.", at="system", student_system="You are helpful.")
        [orca2] = run.map(swap, [QUESTION])
        assert orca2.prompt == (Message("system", "You are helpful."), Message("user", "What is 2 + 2?"))
        assert orca2.privileged_context == "First recall, then reason."


def test_records_of_another_kind_keep_their_own_prompt_and_the_context_in_meta(tmp_path: Path) -> None:
    ask = Generate(Prompt("labeling/answer", str), lambda record, reply: Instruction(prompt=reply))
    with opened(tmp_path, lambda _: "Why?") as run:
        [row] = run.map(Swap(ask, "Ask something harder.", erase=True, student_system="Hi."), [QUESTION])
        assert (row.prompt, row.meta["privileged_context"]) == ("Why?", "Ask something harder.")


def test_a_repair_turn_still_shows_it(tmp_path: Path) -> None:
    said = iter(["no JSON", REASONED])
    with opened(tmp_path, lambda _: next(said)) as run:
        assert len(run.map(Swap(Rationale(), "Hint.", at="system"), [QUESTION])) == 1
        assert asked(run)[1].messages[0].text.endswith("Hint.")
        assert "cannot be used" in last(asked(run)[1])


def test_it_goes_into_every_call_of_a_chain(tmp_path: Path) -> None:
    strategy = Swap(chain(Answer(), Generate(Prompt("labeling/answer", str), _as_answer)), "Hint.")
    with opened(tmp_path, lambda _: "a") as run:
        run.map(strategy, [QUESTION])
        assert {last(request) for request in asked(run)} == {"What is 2 + 2?\n\nHint."}


def _as_answer(record: Demonstration, reply: str) -> Demonstration:
    return Demonstration(prompt=record.prompt, completion=reply + "!")


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Swap(Answer()), "nothing to show"),
        (lambda: Swap(Answer(), "a", of="b"), "the one or the other"),
        (lambda: Swap(Answer(), ()), "is empty"),
        (lambda: Swap(Answer(), "a", k=0), "k=0"),
        (lambda: Swap(Answer(), "a", at="behind"), "expected one of 'system', 'before', 'after'"),
        (lambda: Swap(Answer(), POOL, weights=(1, 2)), "a pool of as many texts"),
        (lambda: Swap(Answer(), ("a", "b"), weights=(0, 0)), "one must be above"),
        (lambda: Swap(Answer(), ("a", "b"), weights=(1, -1)), "none may be below 0"),
        (lambda: Swap(Answer(), "a", erase=False, student_system="b"), "either what was shown or another"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


def test_a_field_that_the_first_record_lacks_is_refused_and_a_later_one_rejects_its_record(tmp_path: Path) -> None:
    bare = Instruction(prompt="Why?")
    with opened(tmp_path, lambda _: "a") as run:
        with pytest.raises(ConfigError, match="no such field"):
            run.map(Swap(Answer(), of="answer"), [bare, QUESTION])
        assert asked(run) == []
        stage = run.map(Swap(Answer(), of="answer"), [QUESTION, bare])
        assert stage.ledger.rejected == {"no context": 1}


@pytest.mark.parametrize("text", ["ünïcödé 漢字 🦊", "{{ 7 * 7 }}", "x" * 1_000_000])
def test_any_text_is_shown_as_it_is(tmp_path: Path, text: str) -> None:
    record = Instruction(prompt="Why?", meta={"hint": text})
    [row] = replays(tmp_path, Swap(Answer(), of="hint"), [record], _behind)
    assert row.privileged_context == row.completion == text


def _behind(request: Request[Any]) -> str:
    return last(request).partition("\n\n")[2]


def test_no_records_give_no_rows(tmp_path: Path) -> None:
    assert replays(tmp_path, Swap(Answer(), "a"), [], lambda _: "a") == []
