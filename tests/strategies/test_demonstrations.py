"""Demonstrations in context: drawn by the record, within a budget, and never the record itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_runs import asked, last, opened, replays

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Instruction, Record
from synthkd.strategies import Answer, Generate, Rationale, Sample, Shots, Swap
from synthkd.strategies.demonstrations import about

POOL = [Demonstration(prompt=f"q{n}", completion=f"a{n}", reasoning=f"r{n}") for n in range(8)]
QUESTION = Instruction(prompt="question", meta={"topic": "t"})
IMITATE = Prompt("expansion/imitate", str)


def shown(messages: tuple[Message, ...]) -> list[str]:
    return [turn.text for turn in messages if turn.role == "assistant"]


def test_examples_are_turns_before_the_conversation(tmp_path: Path) -> None:
    talk = (Message("system", "Be."), Message("user", "Hi"), Message("assistant", "Ho"), Message("user", "So?"))
    with opened(tmp_path, lambda _: "x") as run:
        [row] = run.map(Shots(Answer(), POOL[:2], k=2, shuffle=False), [Instruction(prompt=talk)])
        assert asked(run)[0].messages == (
            talk[0],
            Message("user", "q0"),
            Message("assistant", "a0"),
            Message("user", "q1"),
            Message("assistant", "a1"),
            *talk[1:],
        )
        assert row.prompt == talk
        assert row.meta == {"shots": [POOL[0].id, POOL[1].id]}


def test_they_are_drawn_anew_for_each_record_and_the_same_again(tmp_path: Path) -> None:
    records: list[Record] = [Instruction(prompt=f"question {n}") for n in range(40)]
    rows = replays(tmp_path, Shots(Answer(), POOL, k=3), records, lambda request: " ".join(shown(request.messages)))
    draws = [tuple(row.completion.split()) for row in rows]
    assert all(len(set(draw)) == 3 for draw in draws)
    assert len(set(draws)) > 20
    assert any(list(draw) != sorted(draw) for draw in draws)


def test_without_shuffling_they_keep_the_pool_s_order(tmp_path: Path) -> None:
    records = [Instruction(prompt=f"question {n}") for n in range(20)]
    with opened(tmp_path, lambda _: "x") as run:
        run.map(Shots(Answer(), POOL, k=4, shuffle=False), records)
        for request in asked(run):
            assert shown(request.messages) == sorted(shown(request.messages))


def test_several_pools_give_so_many_each_and_a_short_one_all_it_has(tmp_path: Path) -> None:
    grown = [Demonstration(prompt="g", completion="grown")]
    with opened(tmp_path, lambda _: "x") as run:
        run.map(Shots(Answer(), (POOL, grown, []), k=(3, 2, 2)), [QUESTION])
        said = shown(asked(run)[0].messages)
        assert len(said) == 4
        assert said.count("grown") == 1


def test_a_pool_may_grow_between_two_maps_and_may_depend_on_the_record(tmp_path: Path) -> None:
    grown: list[Demonstration] = []
    strategy = Shots(Answer(), lambda record: grown if "t" in record.meta.values() else POOL, k=2)
    with opened(tmp_path, lambda _: "x") as run:
        assert run.map(strategy, [QUESTION])[0].meta["shots"] == []
        grown += run.map(Answer(), [Instruction(prompt="z")])
        assert run.map(strategy, [QUESTION])[0].meta["shots"] == [grown[0].id]


def test_a_stage_is_a_pool(tmp_path: Path) -> None:
    with opened(tmp_path, lambda request: last(request) + "!") as run:
        pool = run.map(Answer(), [Instruction(prompt=f"p{n}") for n in range(4)])
        run.map(Shots(Answer(), pool, k=2), [QUESTION])
        assert set(shown(asked(run)[-1].messages)) <= {f"p{n}!" for n in range(4)}


def test_a_record_is_no_example_of_itself(tmp_path: Path) -> None:
    records = [Instruction(prompt=shot.prompt) for shot in POOL]
    with opened(tmp_path, lambda _: "x") as run:
        run.map(Shots(Answer(), POOL, k=7), records)
        for request in asked(run):
            assert last(request).replace("q", "a") not in shown(request.messages)
            assert len(shown(request.messages)) == 7


@settings(deadline=None, derandomize=True, max_examples=60)
@given(st.lists(st.integers(0, 60), max_size=8), st.integers(1, 80))
def test_what_is_shown_never_passes_the_budget_and_leaves_nothing_out_that_fits(sizes: list[int], budget: int) -> None:
    pool: list[Record] = [Demonstration(prompt="", completion="x" * size) for size in sizes]
    fitting = {id(shot) for shot in Shots(Answer(), [], budget=budget, count=len)._fitting(pool)}
    costs = {id(shot): size + len("\n") for shot, size in zip(pool, sizes, strict=True)}
    used = sum(costs[shot] for shot in fitting)
    assert used <= budget
    assert all(used + costs[left_out] > budget for left_out in costs.keys() - fitting)


def test_the_budget_counts_a_fourth_of_the_characters_or_what_a_function_says(tmp_path: Path) -> None:
    assert [about(text) for text in ("", "a", "abcd", "abcde")] == [0, 1, 1, 2]
    long = Demonstration(prompt="long", completion="x" * 1_000_000)
    with opened(tmp_path, lambda _: "x") as run:
        run.map(Shots(Answer(), [long, *POOL[:2]], k=3, budget=100), [QUESTION])
        assert sorted(shown(asked(run)[0].messages)) == ["a0", "a1"]
        run.map(Shots(Answer(), POOL, k=8, budget=3, count=lambda text: 1), [QUESTION])
        assert len(shown(asked(run)[1].messages)) == 3


def test_an_example_of_a_typed_reply_has_its_form(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: '{"reasoning": "r", "answer": "a"}') as run:
        [row] = run.map(Shots(Rationale(), POOL[:1]), [QUESTION])
        assert shown(asked(run)[0].messages) == ['{"reasoning":"r0","answer":"a0"}']
        assert row.reasoning == "r"
        run.map(Shots(Rationale(), POOL[:1], answer=lambda shot: shot.completion.upper()), [QUESTION])
        assert shown(asked(run)[1].messages) == ["A0"]


def test_a_template_takes_them_as_a_variable_and_the_outputs_are_as_if_it_had_not(tmp_path: Path) -> None:
    strategy = Shots(
        Generate(IMITATE, lambda record, reply: Instruction(prompt=reply)),
        [Instruction(prompt=f"Name {n} trees.", meta={"level": n}) for n in range(5)],
        k=2,
        variable="examples",
    )
    with opened(tmp_path / "run", lambda _: "Name a bird.") as run:
        [row] = run.map(strategy, [QUESTION])
        assert "trees." in last(asked(run)[0])
        assert row.parents == (QUESTION.id,)
        assert row.meta.keys() == {"topic", "shots"}
        with pytest.raises(PromptError, match="wants 'examples'"):
            run.map(strategy.strategy, [QUESTION])


def test_examples_in_a_template_have_fields_meta_and_instruction(tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(
        "{# variables: shots, instruction; source: this test #}{% block user %}{% for s in shots %}"
        "{{ s.instruction }}={{ s.completion }} ({{ s.level }});{% endfor %} {{ instruction }}{% endblock %}"
    )
    pool = [Demonstration(prompt="q", completion="a", meta={"level": 3})]
    with opened(tmp_path / "run", lambda _: "x") as run:
        run.map(Shots(Answer(prompt=Prompt(path, str)), pool, variable="shots"), [QUESTION])
        assert last(asked(run)[0]) == "q=a (3); question"


def test_they_go_with_a_swap_and_with_several_draws(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "x") as run:
        [row] = run.map(Shots(Swap(Sample(2), "Be brief.", at="system"), POOL, k=1), [QUESTION])
        assert [turn.role for turn in asked(run)[0].messages] == ["system", "user", "assistant", "user"]
        assert row.meta.keys() == {"topic", "shots", "privileged_context"}


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Shots(Answer(), POOL, k=0), "k=0"),
        (lambda: Shots(Answer(), (POOL,), k=()), "at least one example"),
        (lambda: Shots(Answer(), POOL, k=(1, 2)), "a tuple of 2 pools"),
        (lambda: Shots(Answer(), (POOL,), k=(1, 2)), "was given 1"),
        (lambda: Shots(Answer(), "text"), "expected a sequence of records"),
        (lambda: Shots(Answer(), POOL, budget=0), "budget=0"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


@pytest.mark.parametrize(
    ("pool", "said"),
    [(["text"], "holds a str"), ([QUESTION], "it has no completion"), ([Record()], "it has no prompt")],
)
def test_a_pool_that_cannot_be_shown_stops_the_run_with_a_cure(tmp_path: Path, pool: Any, said: str) -> None:
    with opened(tmp_path, lambda _: "x") as run, pytest.raises(ConfigError, match=said):
        run.map(Shots(Answer(), pool), [Instruction(prompt="a")])


def test_a_pool_is_not_written_into_the_run_s_description() -> None:
    assert "q0" not in repr(Shots(Answer(), POOL))


def test_no_records_and_unicode(tmp_path: Path) -> None:
    assert replays(tmp_path / "a", Shots(Answer(), POOL), [], lambda _: "x") == []
    pool = [Demonstration(prompt="漢字 {{ x }}", completion="🦊")]
    rows = replays(tmp_path / "b", Shots(Answer(), pool), [QUESTION], lambda request: shown(request.messages)[0])
    assert rows[0].completion == "🦊"
