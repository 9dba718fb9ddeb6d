"""Assembly: pairs, ratings, mixtures, markup, weights; as functions and in a run with its ledger."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import orjson
import pyarrow.parquet
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from synthkd import Run
from synthkd.assemble import (
    Best,
    ByOrder,
    Contrast,
    Markup,
    Pairs,
    Rate,
    Span,
    Weigh,
    composed,
    curriculum,
    distribution,
    mix,
    pairs,
    shares,
    soften,
    tag,
    thinking,
)
from synthkd.errors import ConfigError, DataError, RecordError
from synthkd.filters import first
from synthkd.message import Image, Message
from synthkd.record import (
    Candidates,
    Demonstration,
    Instruction,
    Labelled,
    Masked,
    Preference,
    Ranking,
    Rated,
    Record,
)
from synthkd.request import Completion
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher

LONG = "wort " * 200_000
RANKINGS = st.lists(st.tuples(st.sampled_from("abcdé"), st.integers(-2, 2)), min_size=1, max_size=5).map(
    lambda scored: Ranking(
        prompt="p",
        completions=tuple(text for text, _ in scored),
        scores=tuple(sorted((float(score) for _, score in scored), reverse=True)),
    )
)


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    with Run(tmp_path / "run", quiet=True) as opened:
        yield opened


def ranking(*scores: float, prompt: str = "p") -> Ranking:
    return Ranking(prompt=prompt, completions=tuple(f"t{k}" for k in range(len(scores))), scores=scores)


def sided(found: Iterable[Preference]) -> list[tuple[str, str]]:
    return [(pair.chosen, pair.rejected) for pair in found]


class TestPairs:
    @pytest.mark.parametrize(
        ("how", "margin", "expected"),
        [
            ("best_worst", 0, [("t0", "t3")]),
            ("all", 0, [("t0", "t1"), ("t0", "t2"), ("t0", "t3"), ("t1", "t3"), ("t2", "t3")]),
            ("all", 2, [("t0", "t3"), ("t1", "t3"), ("t2", "t3")]),
            ("adjacent", 0, [("t0", "t1"), ("t1", "t3"), ("t2", "t3")]),
            ("best_worst", 9, []),
        ],
    )
    def test_each_way_gives_its_pairs(self, how: Any, margin: float, expected: list[tuple[str, str]]) -> None:
        assert sided(pairs(ranking(5, 4, 4, 1), how, margin)) == expected

    @given(RANKINGS, st.sampled_from(["best_worst", "best_random", "all", "adjacent"]), st.integers(0, 3))
    def test_no_pair_is_equal_or_below_the_margin(self, record: Ranking, how: Any, margin: int) -> None:
        found = pairs(record, how, margin, Random(1))
        for pair in found:
            assert pair.score_chosen is not None
            assert pair.score_rejected is not None
            assert pair.score_chosen > pair.score_rejected
            assert pair.score_chosen - pair.score_rejected >= margin
            assert pair.chosen != pair.rejected
        scored = list(zip(record.completions, record.scores, strict=True))
        could = [(a, b) for a, b in itertools.combinations(scored, 2) if a[0] != b[0] and a[1] - b[1] >= max(margin, 1)]
        assert len(found) == len(could) if how == "all" else len(found) <= len(could)

    def test_the_random_one_is_any_that_is_worse_and_the_same_in_a_replay(self, run: Run, tmp_path: Path) -> None:
        records = [ranking(3, 3, 2, 1, prompt=f"p{i}") for i in range(60)]
        found = sided(run.map(Pairs("best_random"), records))
        assert set(found) == {("t0", "t2"), ("t0", "t3")}
        run.close()
        with Run(tmp_path / "run", quiet=True) as again:
            assert sided(again.map(Pairs("best_random"), records)) == found

    def test_ties_stand_in_the_ledger(self, run: Run) -> None:
        same = Ranking(prompt="x", completions=("a", "a"), scores=(2, 1))
        stage = run.map(Pairs(margin=1), [ranking(1, 1), ranking(2, 1.5), ranking(3), same, ranking(2, 1)])
        assert stage.ledger.rejected == {"tie": 4}
        assert [pair.score_chosen for pair in stage] == [2.0]

    def test_wrong_arguments_are_heard_at_once(self) -> None:
        with pytest.raises(ConfigError, match="expected one of best_worst, best_random, all, adjacent"):
            Pairs("worst")  # type: ignore[arg-type]
        for margin in (-1, float("nan")):
            with pytest.raises(ConfigError, match="expected 0 or more"):
                Pairs(margin=margin)
        with pytest.raises(ConfigError, match="bad no greater than good"):
            Rate(1, bad=2)

    def test_the_best_is_a_demonstration_and_each_may_be_rated(self, run: Run) -> None:
        records = [ranking(5, 3, 1), ranking(3, 3)]
        best = run.map(Best(at_least=4), records)
        assert [(r.completion, r.meta) for r in best] == [("t0", {"score": 5.0})]
        assert best.ledger.rejected == {"below threshold": 1}
        rated = run.map(Rate(4, bad=2), records)
        assert [(r.completion, r.label) for r in rated] == [("t0", True), ("t2", False)]
        assert rated.ledger.rejected == {"between thresholds": 1}
        assert [r.label for r in run.map(Rate(3), records)] == [True, True, False, True, True]

    def test_an_order_by_construction_is_a_ranking(self, run: Run) -> None:
        several = Candidates(prompt="p", completions=("strong", "weak", "é" * 5))
        assert [r.scores for r in run.map(ByOrder(), [several])] == [(2.0, 1.0, 0.0)]
        assert run.map(ByOrder(best_first=False), [several])[0].completions == ("é" * 5, "weak", "strong")

    def test_two_sets_are_contrasted_by_their_prompt(self, run: Run) -> None:
        talk = (Message("system", "s"), Message("user", ("see", Image("https://a.org/b.png"))))
        good = [Demonstration(prompt=p, completion="good") for p in ("a", talk, "alone", "same")]
        bad = [
            Demonstration(prompt="a", completion="bad"),
            Demonstration(prompt="a", completion="later"),
            Demonstration(prompt=talk, completion="seen"),
            Demonstration(prompt="same", completion="good"),
        ]
        stage = run.map(Contrast(bad), good)
        assert sided(stage) == [("good", "bad"), ("good", "seen")]
        assert stage[0].parents == (good[0].id, bad[0].id)
        assert stage.ledger.rejected == {"no counterpart": 1, "same text": 1}

    def test_a_very_long_text_and_no_text_are_texts(self, run: Run) -> None:
        record = Ranking(prompt="p", completions=(LONG, ""), scores=(1, 0))
        assert sided(run.map(Pairs(), [record])) == [(LONG, "")]
        assert list(run.map(Pairs(), [])) == []


def records(name: str, n: int) -> list[Instruction]:
    return [Instruction(prompt=f"{name}{k}") for k in range(n)]


class TestMix:
    def test_shares_are_exact_and_each_says_where_it_is_from(self) -> None:
        found = mix({"math": (records("m", 50), 2), "code": (records("c", 50), 1)}, n=31, seed=3)
        assert found.quotas == {"math": 21, "code": 10}
        assert Counter(r.meta["mixture"] for r in found) == found.quotas
        assert len(list(found)) == len(found) == 31
        taken = [r.instruction for r in found]
        assert len(set(taken)) == 31
        assert taken == [r.instruction for r in found]  # walked again, drawn again

    @given(
        st.dictionaries(st.sampled_from("abcd"), st.tuples(st.integers(1, 30), st.floats(0.01, 100)), min_size=1),
        st.floats(0.01, 0.99),
    )
    def test_without_n_it_is_as_large_as_no_record_twice_allows(
        self, sources: dict[str, tuple[int, float]], share: float
    ) -> None:
        given_records = {name: (records(name, size), weight) for name, (size, weight) in sources.items()}
        found = mix(given_records, replay=(records("r", 10), share))
        taken = list(found)
        assert len({r.instruction for r in taken}) == len(taken) == sum(found.quotas.values())
        whole = sum(weight for _, weight in sources.values())
        for name, (size, weight) in sources.items():
            assert found.quotas[name] <= size
            assert abs(found.quotas[name] - weight / whole * (1 - share) * len(taken)) < 1 + 1e-6

    def test_every_record_of_a_source_is_drawn_equally_often(self) -> None:
        counts = Counter(r.instruction for seed in range(400) for r in mix({"a": (records("a", 5), 1)}, n=2, seed=seed))
        assert set(counts) == {f"a{k}" for k in range(5)}
        assert all(120 <= count <= 200 for count in counts.values())  # 160 expected

    def test_replay_is_a_share_of_the_whole(self) -> None:
        found = mix({"new": (records("n", 90), 1)}, n=100, replay=(records("g", 10), 0.1))
        assert found.quotas == {"new": 90, "replay": 10}

    def test_sources_are_spread_over_the_whole_or_come_in_turn(self) -> None:
        sources = {"a": (records("a", 50), 1), "b": (records("b", 50), 1)}
        spread = [r.meta["mixture"] for r in mix(sources, seed=1)]
        assert 10 < spread[:50].count("a") < 40
        assert [r.meta["mixture"] for r in mix(sources, in_turn=True)] == ["a"] * 50 + ["b"] * 50

    def test_a_small_source_is_gone_through_again_where_that_is_allowed(self) -> None:
        sources = {"a": (records("a", 3), 1), "b": (records("b", 30), 1)}
        with pytest.raises(ConfigError, match="the share of 'a' is 10 of 20 records, and it has 3"):
            mix(sources, n=20)
        counts = Counter(r.instruction for r in mix(sources, n=20, repeat=True) if r.meta["mixture"] == "a")
        assert sorted(counts.values()) == [3, 3, 4]

    def test_a_source_without_a_length_gives_its_first_records(self) -> None:
        found = mix({"a": (iter(records("a", 9)), 1)}, n=4)
        assert [r.instruction for r in found] == ["a0", "a1", "a2", "a3"]
        with pytest.raises(DataError, match="'a' gave 9 records of its share of 10"):
            list(mix({"a": (iter(records("a", 9)), 1)}, n=10))

    def test_it_is_lazy_and_holds_one_record_of_each_source(self) -> None:
        read: list[int] = []

        class Far(list[Instruction]):
            def __len__(self) -> int:
                return 10**9

            def __iter__(self) -> Iterator[Instruction]:
                for k in itertools.count():
                    read.append(k)
                    yield Instruction(prompt=str(k))

        walk = iter(mix({"far": (Far(), 1)}, n=10**9))
        assert [next(walk).instruction for _ in range(5)] == ["0", "1", "2", "3", "4"]
        assert len(read) <= 6

    @pytest.mark.parametrize(
        ("sources", "options", "problem"),
        [
            ({}, {}, "needs sources"),
            ({"a": (records("a", 2), 0)}, {}, "weight of 'a' is 0"),
            ({"a": (records("a", 2), float("nan"))}, {}, "weight of 'a' is nan"),
            ({"a": ([], 1)}, {}, "'a' has no records"),
            ({"a": (iter(()), 1)}, {}, "n=None"),
            ({"a": (records("a", 2), 1)}, {"n": 0}, "at least one record"),
            ({"a": (records("a", 2), 1)}, {"replay": (records("r", 2), 1)}, "between 0 and 1"),
            ({"replay": (records("a", 2), 1)}, {"replay": (records("r", 2), 0.5)}, "no other source 'replay'"),
        ],
    )
    def test_what_makes_no_sense_is_refused(self, sources: Any, options: Any, problem: str) -> None:
        with pytest.raises(ConfigError, match=problem):
            mix(sources, **options)

    def test_a_run_keeps_a_mixture_with_the_provenance_of_its_sources(self, tmp_path: Path) -> None:
        teacher = FunctionTeacher(lambda request: "yes", "test/model")
        with Run(tmp_path / "run", teacher=teacher, quiet=True) as run:
            answered = run.map(Answer(), records("q", 6))
            old = [Demonstration(prompt="old", completion="o")]
            found = mix({"new": (answered, 1)}, n=4, replay=(old, 0.25))
            kept = run.filter(first(len(found)), found, name="mixture")
            folder = run.save(kept)
            assert kept.ledger.records_out == 4
        [file] = folder.glob("data/*.parquet")
        told = [
            (orjson.loads(r["meta"])["mixture"], r["teacher"]) for r in pyarrow.parquet.read_table(file).to_pylist()
        ]
        assert Counter(told) == {("new", "test/model"): 3, ("replay", None): 1}


class TestCurriculum:
    @given(st.lists(st.integers(-3, 3), min_size=1, max_size=30), st.booleans(), st.integers(1, 7))
    def test_records_come_in_order_and_equal_ones_as_they_were(
        self, hard: list[int], hardest_first: bool, window: int
    ) -> None:
        given_records = [Instruction(prompt=str(k), meta={"hard": h}) for k, h in enumerate(hard)]
        found = list(curriculum(given_records, "hard", hardest_first=hardest_first, window=window))
        assert found == sorted(given_records, key=lambda r: r.meta["hard"], reverse=hardest_first)  # type: ignore[arg-type,return-value]

    def test_a_stage_is_ordered_and_kept(self, run: Run) -> None:
        stage = run.map(Best(), [ranking(k % 3, prompt=str(k)) for k in range(7)])
        ordered = run.filter(first(7), curriculum(stage, "score", window=2))
        assert [r.meta["score"] for r in ordered] == [0, 0, 0, 1, 1, 2, 2]

    def test_a_record_without_a_value_is_named(self) -> None:
        with pytest.raises(DataError, match="has no hard to be ordered by"):
            list(curriculum([Instruction(prompt="p", meta={"hard": None})], "hard"))
        with pytest.raises(ConfigError, match="window=0"):
            curriculum([], "hard", window=0)


def first_of(run: Run, strategy: Any, record: Record) -> Any:
    [found] = run.map(strategy, [record])
    return found


class TestMarkup:
    @given(st.lists(st.tuples(st.text(alphabet="ab é", max_size=5), st.booleans()), max_size=5))
    def test_masked_spans_are_where_they_are_said_to_be(self, parts: list[tuple[str, bool]]) -> None:
        text, masked = composed([tag("x", said, loss=loss) for said, loss in parts])
        assert text == "".join(f"<x>{said}</x>" for said, _ in parts)
        assert [text[a:b] for a, b in masked] == [f"<x>{said}</x>" for said, loss in parts if not loss]
        Masked(prompt="p", completion=text, masked=masked)

    def test_reflection_tokens_and_a_passage_without_loss(self, run: Run) -> None:
        def reflected(record: Demonstration) -> list[str | Span]:
            passage = str(record.meta["passage"])
            return ["[Retrieve]", tag("p", passage, loss=False), Span(record.completion, "[Relevant]", "[Utility:5]")]

        record = Demonstration(
            prompt="Capital?", completion="Paris.", reasoning="r", weight=0.5, meta={"passage": "Paris is é."}
        )
        found = first_of(run, Markup(reflected), record)
        assert found.completion == "[Retrieve]<p>Paris is é.</p>[Relevant]Paris.[Utility:5]"
        assert [found.completion[a:b] for a, b in found.masked] == ["<p>Paris is é.</p>"]
        assert (found.reasoning, found.weight, found.parents) == (None, 0.5, (record.id,))

    def test_thinking_is_the_reasoning_between_tags(self, run: Run) -> None:
        record = Demonstration(prompt="p", completion="7", reasoning="3 + 4")
        assert first_of(run, Markup(thinking), record).completion == "<think>\n3 + 4\n</think>\n\n7"
        assert composed(thinking(Demonstration(prompt="p", completion="7"))) == ("7", ())

    def test_a_text_that_holds_the_tag_is_rejected(self, run: Run) -> None:
        records = [Demonstration(prompt="p", completion="a </think> b", reasoning="r")]
        stage = run.map(Markup(thinking), records)
        assert stage.ledger.rejected == {"tag in the text": 1}
        asked = [Demonstration(prompt="[good] p", completion="c"), Demonstration(prompt="p", completion="c")]
        assert run.map(Markup(condition="[good] "), asked).ledger.rejected == {"tag in the text": 1}

    def test_a_condition_stands_before_the_last_user_turn(self, run: Run) -> None:
        markup = Markup(condition=lambda record: "[good] " if record.weight > 0.5 else "[poor] ")
        assert first_of(run, markup, Demonstration(prompt="p", completion="c", reasoning="r")).prompt == "[good] p"
        image = Image("https://a.org/b.png")
        talk = (Message("user", "a"), Message("assistant", "b"), Message("user", (image, "c")))
        found = first_of(run, markup, Demonstration(prompt=talk, completion="c", weight=0.1))
        assert found.prompt == (*talk[:2], Message("user", ("[poor] ", image, "c")))
        masked = Masked(prompt="p", completion="abc", masked=((0, 1),))
        assert first_of(run, markup, masked).masked == ((0, 1),)
        alone = Demonstration(prompt=(Message("system", "s"),), completion="c")
        assert run.map(markup, [alone]).ledger.rejected == {"no user turn": 1}

    def test_masked_spans_outside_of_the_completion_are_refused(self) -> None:
        for masked in (((0, 9),), ((2, 1),), ((2, 3), (0, 1)), ((-1, 1),)):
            with pytest.raises(ValidationError, match="not in order within 3 characters"):
                Masked(prompt="p", completion="abc", masked=masked)

    def test_markup_that_does_nothing_is_refused(self) -> None:
        with pytest.raises(ConfigError, match="changes nothing"):
            Markup()


class TestWeights:
    def test_a_weight_is_a_value_or_that_of_a_kind(self, run: Run) -> None:
        by_value = [Demonstration(prompt=str(k), completion="c", meta={"pass": p}) for k, p in enumerate((0.5, 2, -1))]
        stage = run.map(Weigh("pass"), by_value)
        assert ([r.weight for r in stage], stage.ledger.rejected) == ([0.5, 2.0], {"no weight": 1})
        kinds = [Demonstration(prompt=k, completion="c", meta={"from": k}) for k in ("gpt-4", "gpt-3.5", "human")]
        classes = {"gpt-4": 1.0, "gpt-3.5": 0.1}
        assert [r.weight for r in run.map(Weigh("from", classes, default=0.0), kinds)] == [1.0, 0.1, 0.0]
        assert run.map(Weigh("from", classes), kinds).ledger.rejected == {"no weight": 1}
        assert [r.weight for r in run.map(Weigh(lambda record: 3), kinds[:1])] == [3.0]

    def test_a_record_without_weight_is_refused_before_anything(self, run: Run) -> None:
        with pytest.raises(ConfigError, match="a Rated has no weight"):
            run.map(Weigh("label"), [Rated(prompt="p", completion="c", label=True)])
        with pytest.raises(ConfigError, match="weight -1 makes no sense"):
            Weigh("a", {"b": -1})

    @given(st.dictionaries(st.text(max_size=3), st.floats(0, 1e6), max_size=5))
    def test_shares_add_up_to_one(self, numbers: dict[str, float]) -> None:
        if not sum(numbers.values()) > 1e-9:
            return
        found = shares(numbers)
        assert sum(found.values()) == pytest.approx(1)
        assert list(found.values()) == sorted(found.values(), reverse=True)
        assert set(found) == set(numbers)

    def test_votes_become_a_soft_label(self) -> None:
        assert shares(["yes", "no", "yes", "yes"]) == {"yes": 0.75, "no": 0.25}
        for nothing in ([], {"a": 0.0}, {"a": -1.0, "b": 2.0}):
            with pytest.raises(RecordError, match="no votes"):
                shares(nothing)  # type: ignore[arg-type]

    def test_labels_of_one_text_are_softened(self) -> None:
        several = [
            Labelled(text="t", label="pos"),
            Labelled(text="t", label="neg", soft_label={"neg": 3, "pos": 1}, weight=2.0),
        ]
        found = soften(several)
        assert (found.label, found.soft_label) == ("neg", {"neg": 0.5, "pos": 0.5})
        assert found.parents == tuple(r.id for r in several)
        with pytest.raises(RecordError, match="not of one text"):
            soften([several[0], Labelled(text="u", label="pos")])
        with pytest.raises(RecordError, match="no votes"):
            soften([])


def place(token: str, *others: tuple[str, float]) -> dict[str, Any]:
    tops = [{"token": text, "logprob": value} for text, value in others]
    return {"token": token, "logprob": -0.5, "top_logprobs": tops}


class TestDistribution:
    RECORD = Instruction(prompt="p", meta={"gold": "x"})

    def test_what_was_thought_is_left_out_and_the_end_is_kept(self) -> None:
        told = (
            place("<think>"),
            place("hm</think>\n"),
            place("He", ("It", -2.0), ("He", -0.5)),
            place(" é"),
            place("<end>"),
        )
        found = distribution(self.RECORD, Completion("He é", logprobs=told))
        assert (found.completion, found.tokens, found.meta) == ("He é", ("He", " é", "<end>"), {"gold": "x"})
        assert (found.top_tokens[0], found.top_logprobs[0]) == (("He", "It"), (-0.5, -2.0))
        assert found.top_tokens[1:] == ((" é",), ("<end>",))

    @pytest.mark.parametrize(
        "completion",
        [Completion("a"), Completion("a", logprobs=(place("b"),)), Completion("b", logprobs=(place("ab"),))],
    )
    def test_a_completion_without_its_own_tokens_is_rejected(self, completion: Completion) -> None:
        with pytest.raises(RecordError, match="log-probabilities of") as caught:
            distribution(self.RECORD, completion)
        assert caught.value.reason == "no log-probabilities"
