"""Combinators: one after another, one of several, again and again, by several teachers; lineage and replays hold."""

import asyncio
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from strategy_runs import last, opened, replays

from synthkd.ask import Ask
from synthkd.errors import ConfigError, PromptError, RecordError, TeacherUnavailable, UnknownTeacher
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Instruction, Ranking, Record
from synthkd.request import Completion, Request
from synthkd.strategies import Answer, Ensemble, Generate, Ordered, Repeat, Route, Sample, SelfConsistency, Swap, chain
from synthkd.strategies.branching import Branch

PLAIN = Prompt("labeling/answer", str)
FIRST = Instruction(prompt="a", meta={"topic": "t", "level": 2})


def rewritten(record: Instruction, reply: str) -> Instruction:
    return Instruction(prompt=reply)


def split(record: Instruction, reply: str) -> list[Instruction]:
    return [Instruction(prompt=part) for part in reply.split()]


class Wanting(Generate[Any, Any, Any]):
    """One that refuses every record before it is asked for."""

    def check(self, record: Record) -> None:
        raise PromptError("checked")


WANTING = Wanting(PLAIN, rewritten)


def chained(*strategies: Any) -> Any:
    return chain(*strategies)


# One after another.


def test_each_strategy_of_a_chain_works_on_what_the_one_before_it_gave(tmp_path: Path) -> None:
    strategy = chain(Generate(PLAIN, split), Answer())
    with opened(tmp_path, lambda request: "b c" if last(request) == "a" else last(request).upper()) as run:
        rows = list(run.map(strategy, [FIRST]))
    assert [(row.prompt, row.completion) for row in rows] == [("b", "B"), ("c", "C")]
    between = [Instruction(prompt=prompt, meta=FIRST.meta).id for prompt in "bc"]
    assert [row.parents for row in rows] == [(FIRST.id, parent) for parent in between]
    assert [row.meta for row in rows] == [FIRST.meta] * 2


def test_an_output_that_a_later_strategy_rejects_is_counted_and_all_of_them_reject_the_record(tmp_path: Path) -> None:
    def say(request: Request[Any]) -> str:
        return {"a": "b c", "x": "c c", "b": "B"}.get(last(request), "")

    with opened(tmp_path, say) as run:
        stage = run.map(chain(Generate(PLAIN, split), Answer()), [FIRST, Instruction(prompt="x")])
        assert [row.completion for row in stage] == ["B"]
        assert stage.ledger.dropped == {"empty reply": 1}
        assert stage.ledger.rejected == {"empty reply": 1}


def test_what_runs_side_by_side_in_a_chain_has_chances_of_its_own_that_replay(tmp_path: Path) -> None:
    pool = tuple(str(n) for n in range(50))

    async def slow(request: Request[Any]) -> str:
        await asyncio.sleep(Random().random() / 200)  # replies arrive in any order
        return "b c d e" if len(last(request)) == 1 else last(request)

    strategy = chain(Generate(PLAIN, split), Swap(Answer(), pool))
    records: list[Record] = [Instruction(prompt=letter) for letter in "pqrstu"]
    folders = [tmp_path / "one", tmp_path / "two"]
    one, two = (replays(folder, strategy, records, slow) for folder in folders)
    assert [row.completion for row in one] == [row.completion for row in two]
    assert len({row.privileged_context for row in one}) > 8


def test_a_chain_of_candidates_and_votes_and_of_bare_functions(tmp_path: Path) -> None:
    async def shouted(record: Demonstration, ask: Ask) -> Sequence[Demonstration]:
        return [Demonstration(prompt=record.prompt, completion=record.completion.upper())]

    with opened(tmp_path, lambda _: "the answer is 4") as run:
        [row] = run.map(chain(Sample(3), SelfConsistency(), shouted), [FIRST])
        assert row.completion == "THE ANSWER IS 4"
        assert row.parents[0] == FIRST.id


def test_a_chain_checks_its_first_strategy_and_needs_one(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "a") as run, pytest.raises(PromptError, match="checked"):
        run.map(chained(WANTING, Answer()), [FIRST])
    with pytest.raises(ConfigError, match="at least one"):
        chain()


def test_a_teacher_who_is_gone_stops_the_run_from_inside_of_a_chain(tmp_path: Path) -> None:
    def say(request: Request[Any]) -> str:
        if last(request) == "c":
            raise TeacherUnavailable("401")
        return "b c"

    with opened(tmp_path, say) as run, pytest.raises(TeacherUnavailable):
        run.map(chain(Generate(PLAIN, split), Answer()), [FIRST])


# One of several.


def named(name: str) -> Swap[Any, Any]:
    return Swap(Answer(), name)


CHOICES = {"easy": named("Be easy."), "hard": named("Be hard.")}


def test_weights_say_how_often_a_way_is_taken_and_a_replay_takes_the_same(tmp_path: Path) -> None:
    records: list[Record] = [Instruction(prompt=f"question {n}") for n in range(300)]
    rows = replays(tmp_path, Route(CHOICES, {"easy": 3, "hard": 1}), records, lambda _: "x")
    counts = Counter(row.meta["route"] for row in rows)
    assert 195 < counts["easy"] < 255
    assert all(row.privileged_context == f"Be {row.meta['route']}." for row in rows)
    assert set(Counter(row.meta["route"] for row in replays(tmp_path / "b", Route(CHOICES), records[:40], _x))) == {
        "easy",
        "hard",
    }


def _x(_: Request[Any]) -> str:
    return "x"


def test_a_field_or_a_rule_says_which_way_and_one_that_is_not_there_rejects_its_record(tmp_path: Path) -> None:
    records = [Instruction(prompt=str(n), meta={"kind": kind}) for n, kind in enumerate(["easy", "hard", "odd"])]
    with opened(tmp_path, _x) as run:
        stage = run.map(Route(CHOICES, "kind"), records)
        assert [row.meta["route"] for row in stage] == ["easy", "hard"]
        assert stage.ledger.rejected == {"no route": 1}
        assert "'odd'; there are 'easy', 'hard'" in next(iter(stage.rejects)).detail
        stage = run.map(Route(CHOICES, lambda record: "hard" if record.prompt > "0" else "easy"), records)
        assert [row.meta["route"] for row in stage] == ["easy", "hard", "hard"]


def test_routes_nest_under_marks_of_their_own(tmp_path: Path) -> None:
    with opened(tmp_path, _x) as run:
        inner = Route({"only": Answer()}, mark="inner")
        [row] = run.map(Route({"outer": inner}), [FIRST])
        assert (row.meta["route"], row.meta["inner"]) == ("outer", "only")


def test_a_route_checks_the_ways_that_a_record_may_go(tmp_path: Path) -> None:
    choices = {"2": Answer(), "3": WANTING}
    with opened(tmp_path, _x) as run:
        assert len(run.map(Route(choices, "level"), [FIRST])) == 1
        with pytest.raises(PromptError, match="checked"):
            run.map(Route(choices), [FIRST])
        with pytest.raises(ConfigError, match="no such field"):
            run.map(Route(choices, "kind"), [FIRST])


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: Route({}), "at least one strategy"),
        (lambda: Route(CHOICES, {"easy": 1.0}), "only one has 'hard'"),
        (lambda: Route(CHOICES, {"easy": 0.0, "hard": 0.0}), "one must be above"),
        (lambda: Route(CHOICES, {"easy": 1.0, "hard": -1.0}), "no weight may be below 0"),
        (lambda: Repeat(Answer(), 0), "rounds=0"),  # type: ignore[arg-type]
        (lambda: Ensemble(Answer(), ()), "expected a tuple"),
        (lambda: Ensemble(Answer(), "gpt"), "expected a tuple"),  # type: ignore[arg-type]
        (lambda: Ensemble(Answer(), ("a", "a")), "different roles"),
        (lambda: Ordered({"a": Answer()}), "an order needs two"),
    ],
)
def test_arguments_that_make_no_sense_are_refused(make: Callable[[], Any], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        make()


# Again and again.

LONGER: Generate[Instruction, str, Instruction] = Generate(PLAIN, rewritten)


def longer(request: Request[Any]) -> str:
    return last(request) + "+"


def test_a_strategy_is_repeated_on_its_own_output(tmp_path: Path) -> None:
    [row] = replays(tmp_path, Repeat(LONGER, rounds=3), [FIRST], longer)
    assert (row.prompt, row.meta["rounds"]) == ("a+++", 3)
    assert row.parents[0] == FIRST.id


def test_what_every_round_gave_may_be_kept(tmp_path: Path) -> None:
    with opened(tmp_path, longer) as run:
        rows = list(run.map(Repeat(LONGER, rounds=3, every=True), [FIRST]))
    assert [(row.prompt, row.meta["rounds"]) for row in rows] == [("a+", 1), ("a++", 2), ("a+++", 3)]
    assert rows[1].id in rows[2].parents


def test_a_rule_ends_the_loop_of_each_output_by_itself(tmp_path: Path) -> None:
    def say(request: Request[Any]) -> str:
        return "b ccc" if last(request) == "a" else longer(request)

    strategy = Repeat(Generate(PLAIN, split), rounds=9, until=lambda record: len(record.prompt) >= 3)
    with opened(tmp_path, say) as run:
        rows = list(run.map(strategy, [FIRST]))
        assert [(row.prompt, row.meta["rounds"]) for row in rows] == [("ccc", 1), ("b++", 3)]


def test_outputs_that_are_alike_each_go_on(tmp_path: Path) -> None:
    def say(request: Request[Any]) -> str:
        return "b b" if last(request) == "a" else longer(request)

    with opened(tmp_path, say) as run:
        assert [row.prompt for row in run.map(Repeat(Generate(PLAIN, split), rounds=2), [FIRST])] == ["b+", "b+"]


def test_a_later_round_that_fails_leaves_what_stands_and_a_first_one_rejects(tmp_path: Path) -> None:
    said = iter(["b", "c", "", ""])
    with opened(tmp_path, lambda _: next(said)) as run:
        stage = run.map(Repeat(LONGER, rounds=5), [FIRST])
        assert [(row.prompt, row.meta["rounds"]) for row in stage] == [("c", 2)]
        assert stage.ledger.dropped == {"empty reply": 1}
        assert run.map(Repeat(LONGER, rounds=5), [Instruction(prompt="z")]).ledger.rejected == {"empty reply": 1}


# By several teachers.


def test_an_ensemble_gives_what_each_role_says_and_names_it(tmp_path: Path) -> None:
    strategy = Ensemble(Swap(Answer(), tuple("abcdefghij")), ("gpt", "qwen"))
    with opened(tmp_path, gpt=lambda r: "g" + last(r), qwen=lambda r: "q" + last(r)) as run:
        one, two = run.map(strategy, [FIRST])
        assert (one.meta["role"], two.meta["role"]) == ("gpt", "qwen")
        assert (one.completion[0], two.completion[0]) == ("g", "q")
        assert one.privileged_context == two.privileged_context


def test_a_role_that_fails_is_counted_and_all_of_them_reject_the_record(tmp_path: Path) -> None:
    def some(request: Request[Any]) -> str:
        return "" if last(request) == "z" else "g"

    with opened(tmp_path, gpt=some, qwen=lambda _: Completion("", refusal="no")) as run:
        stage = run.map(Ensemble(Answer(), ("gpt", "qwen")), [FIRST, Instruction(prompt="z")])
        assert [row.meta["role"] for row in stage] == ["gpt"]
        assert stage.ledger.dropped == {"qwen refused": 1}
        assert stage.ledger.rejected == {"empty reply": 1}


def test_an_ensemble_may_stand_for_another_role_and_a_role_nobody_plays_is_named(tmp_path: Path) -> None:
    with opened(tmp_path, lambda _: "t", gpt=lambda _: "g") as run:
        [row] = run.map(Ensemble(Answer(role="student"), ("gpt",), of="student"), [FIRST])
        assert row.completion == "g"
        with pytest.raises(UnknownTeacher, match="'qwen'"):
            run.map(Ensemble(Answer(), ("gpt", "qwen")), [FIRST])


def test_an_ensemble_replays(tmp_path: Path) -> None:
    rows = replays(tmp_path, Ensemble(Sample(2), ("gpt", "qwen")), [FIRST], gpt=lambda _: "g", qwen=lambda _: "q")
    assert [row.completions for row in rows] == [("g", "g"), ("q", "q")]


def test_candidates_of_several_roles_say_whose_each_is(tmp_path: Path) -> None:
    said = iter(["g", ""])
    with opened(tmp_path, gpt=lambda _: next(said), qwen=lambda _: "q") as run:
        [row] = run.map(Sample(2, roles=("gpt", "qwen")), [FIRST])
        assert (row.completions, row.meta["roles"]) == (("g", "q", "q"), ["gpt", "qwen", "qwen"])


# In an order.

GOOD = tuple(f"good {n}" for n in range(9))
BAD = tuple(f"bad {n}" for n in range(9))


def test_an_order_is_a_ranking_without_a_judge_and_pools_are_drawn_alike(tmp_path: Path) -> None:
    strategy = Ordered({"good": Swap(Answer(), GOOD), "bad": Swap(Answer(), BAD)})
    records: list[Record] = [Instruction(prompt=f"question {n}", meta={"n": n}) for n in range(12)]
    rows = replays(tmp_path, strategy, records, lambda request: last(request).split("\n\n")[1])
    for n, row in enumerate(rows):
        assert isinstance(row, Ranking)
        best, worst = row.completions
        assert best == worst.replace("bad", "good")
        assert row.scores == (2.0, 1.0)
        assert row.meta == {"n": n, "sources": ["good", "bad"]}
    assert len({row.completions for row in rows}) > 4


def test_one_that_fails_or_says_what_a_better_one_said_takes_no_part(tmp_path: Path) -> None:
    def say(request: Request[Any]) -> str:
        asked_for = last(request)
        return "" if "empty" in asked_for else "same" if "same" in asked_for else asked_for

    ways = {"one": named("1 same"), "two": named("2 same"), "three": named("empty"), "four": Sample(2)}
    with opened(tmp_path, say) as run:
        stage = run.map(Ordered(ways), [FIRST])
        [row] = stage
        assert (row.completions, row.scores) == (("same", "a"), (4.0, 1.0))
        assert stage.ledger.dropped == {"two same text": 1, "three empty reply": 1}
        stage = run.map(Ordered({"one": ways["one"], "two": ways["two"]}), [FIRST])
        assert stage.ledger.rejected == {"too few completions": 1}


def test_an_order_of_other_records_is_a_mistake_in_the_program(tmp_path: Path) -> None:
    wrong: Any = {"one": LONGER, "two": LONGER}
    with opened(tmp_path, longer) as run, pytest.raises(ConfigError, match="given a Instruction"):
        run.map(Ordered(wrong), [FIRST])


# What holds for all.

EVERYTHING = [
    chain(LONGER, Answer()),
    Route(CHOICES),
    Repeat(LONGER, rounds=2),
    Ensemble(Answer(), ("teacher",)),
    Ordered({"one": named("1"), "two": named("2")}),
]


@pytest.mark.parametrize("strategy", EVERYTHING, ids=lambda one: type(one).__name__)
def test_no_records_unicode_and_a_very_long_text(tmp_path: Path, strategy: Any) -> None:
    assert replays(tmp_path / "none", strategy, [], longer) == []
    records: list[Record] = [Instruction(prompt=text) for text in ("漢字 🦊", "{{ x }}", "x" * 1_000_000)]
    assert len(replays(tmp_path / "some", strategy, records, longer)) == 3


@pytest.mark.parametrize("strategy", EVERYTHING, ids=lambda one: type(one).__name__)
def test_a_user_s_bug_in_a_part_stops_the_run_with_its_own_error(tmp_path: Path, strategy: Any) -> None:
    def broken(_: Request[Any]) -> str:
        raise ZeroDivisionError("mine")

    with opened(tmp_path, broken) as run, pytest.raises(ZeroDivisionError, match="mine"):
        run.map(strategy, [FIRST])


Shape = list[list[bool]]


@settings(deadline=None, derandomize=True, max_examples=40)
@given(st.lists(st.lists(st.booleans(), max_size=4), min_size=1, max_size=5))
def test_every_input_of_a_chain_gives_something_or_is_rejected_once(
    tmp_path_factory: pytest.TempPathFactory, shape: Shape
) -> None:
    async def spread(record: Instruction, ask: Ask) -> Sequence[Instruction]:
        fates = shape[int(record.instruction)]
        return [Instruction(prompt=f"{record.prompt}.{n}", meta={"ok": ok}) for n, ok in enumerate(fates)]

    async def judged(record: Instruction, ask: Ask) -> Sequence[Instruction]:
        if not record.meta["ok"]:
            raise RecordError("not this one", reason="no good")
        return [record]

    with opened(tmp_path_factory.mktemp("run")) as run:
        stage = run.map(chain(spread, judged), [Instruction(prompt=str(n)) for n in range(len(shape))])
        good = [sum(fates) for fates in shape]
        assert len(stage) == sum(good)
        reasons = Counter("no good" if fates else "no output" for fates in shape if not any(fates))
        assert stage.ledger.rejected == dict(reasons)
        assert stage.ledger.dropped.get("no good", 0) == sum(len(f) - sum(f) for f in shape if any(f))


def test_a_branch_shares_effects_counts_and_sources_with_the_ask_it_comes_from(tmp_path: Path) -> None:
    had: list[str] = []

    async def act() -> str:
        had.append("act")
        return str(len(had))

    async def strategy(record: Instruction, ask: Ask) -> Sequence[Candidates]:
        branch = Branch(Branch(ask, first=3), roles={"teacher": "judge"})
        said = await branch(PLAIN.fill(record))
        effects = [str(await one.effect("act", {}, act)) for one in (ask, branch, ask)]
        assert branch.sources is ask.sources
        assert branch.sources
        return [Candidates(prompt=record.prompt, completions=(said, *effects))]

    [row] = replays(tmp_path, strategy, [FIRST], lambda _: "teacher", judge=lambda _: "judge")
    assert row.completions == ("judge", "1", "2", "3")
