"""Judging: scores by rubric, comparison and permutation are what the judge said, wherever a text was shown."""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd import filters
from synthkd.errors import ConfigError, PromptError, TeacherError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Candidates, Demonstration, Document, Instruction, Ranking
from synthkd.request import Completion, Policy, Request, Sampling
from synthkd.run import Run
from synthkd.strategies import Judge, Rank, Rating, Score
from synthkd.strategies.feedback.listwise import repaired, windows
from synthkd.strategies.feedback.question import orders
from synthkd.testing import FunctionTeacher, SchemaTeacher

Start = Callable[..., Run]
WARM = Sampling(temperature=0.7)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    opened: list[Run] = []

    def run(judge: Any) -> Run:
        opened.append(Run(tmp_path / f"run{len(opened)}", judge=FunctionTeacher(judge, "judge"), quiet=True))
        return opened[-1]

    yield run
    for each in opened:
        each.close()


def calls(run: Run) -> list[Request[Any]]:
    judge = run.roles["judge"]
    assert isinstance(judge, FunctionTeacher)
    return judge.calls


def told(request: Request[Any]) -> str:
    return request.messages[-1].text


def merit(text: str) -> int:
    """What a fair judge sees in a text: how often it says `a`."""
    return text.count("a")


def answers(request: Request[Any]) -> list[str]:
    return re.findall(r"\[(?:Answer )?\d+\]\n(.*)", told(request))


def fair(request: Request[Any]) -> str:
    """A judge who sees the merit of a text and not its place."""
    match request.prompt.partition("@")[0]:
        case "feedback/joint":
            return json.dumps(
                {"ratings": [{"reason": f"of {text}", "score": merit(text)} for text in answers(request)]}
            )
        case "feedback/compare":
            first, second = re.findall(r"\[(?:First|Second) answer\]\n(.*)", told(request))
            apart = merit(first) - merit(second)
            return json.dumps({"reason": "r", "better": "first" if apart > 0 else "second" if apart < 0 else "tie"})
        case "feedback/order":
            numbered = sorted(enumerate(answers(request), 1), key=lambda pair: -merit(pair[1]))
            return json.dumps({"order": [number for number, _ in numbered]})
    text = re.findall(r"\[(?:Answer|Text)\]\n(.*)", told(request))[0]
    return json.dumps({"reason": f"of {text}", "score": merit(text)})


GIVEN = Candidates(prompt="Say a.", completions=("aa", "aaaa", "a", "aaa", "aa"), meta={"topic": "letters"})
ORDER = ("aaaa", "aaa", "aa", "a")


@pytest.mark.parametrize(
    ("how", "scores", "asked"),
    [
        ("each", (4, 3, 2, 1), 4),
        ("joint", (4, 3, 2, 1), 1),
        ("pairwise", (1, 2 / 3, 1 / 3, 0), 12),
        ("listwise", (1, 2 / 3, 1 / 3, 0), 1),
    ],
)
def test_every_way_puts_the_distinct_candidates_in_the_judge_s_order(
    start: Start, how: Any, scores: tuple[float, ...], asked: int
) -> None:
    run = start(fair)
    [row] = run.map(Judge(how=how), [GIVEN])
    assert isinstance(row, Ranking)
    assert (row.completions, row.parents, row.prompt) == (ORDER, (GIVEN.id,), "Say a.")
    assert row.scores == pytest.approx(scores)
    assert row.meta["topic"] == "letters"
    assert len(calls(run)) == asked
    if how in ("each", "joint"):
        assert row.meta["feedback"] == [f"of {text}" for text in ORDER]
    assert row.meta.get("agreement") == (1.0 if how == "pairwise" else None)


def stubborn(request: Request[Any]) -> str:
    """A judge who always prefers what is shown first."""
    match request.prompt.partition("@")[0]:
        case "feedback/joint":
            count = len(answers(request))
            return json.dumps({"ratings": [{"reason": "", "score": count - place} for place in range(count)]})
        case "feedback/compare":
            return json.dumps({"reason": "", "better": "first"})
    return json.dumps({"order": list(range(1, len(answers(request)) + 1))})


@pytest.mark.parametrize("how", ["joint", "pairwise", "listwise"])
def test_a_judge_who_sees_only_places_sees_no_difference(start: Start, how: Any) -> None:
    strategy = Judge(how=how, repeats=1 if how == "pairwise" else 4)
    [row] = start(stubborn).map(strategy, [GIVEN])
    assert len(set(row.scores)) == 1
    assert row.meta.get("agreement") == (0.0 if how == "pairwise" else None)


def test_a_referee_in_both_orders_is_two_joint_verdicts(start: Start) -> None:
    run = start(fair)
    [row] = run.map(Judge(how="joint", repeats=2, scale=(1, 10)), [Candidates(prompt="p", completions=("a" * 3, "a"))])
    assert (row.completions, row.scores) == (("aaa", "a"), (3, 1))
    assert sorted(answers(call) for call in calls(run)) == [["a", "aaa"], ["aaa", "a"]]


def test_the_score_is_the_mean_over_aspects_and_each_of_them_is_kept(start: Start) -> None:
    def judge(request: Request[Any]) -> str:
        text = answers(request)
        mark = 5 if "kind?" in told(request) else 2
        return json.dumps({"ratings": [{"reason": one, "score": mark} for one in text]})

    run = start(judge)
    aspects = {"kind": "Is it kind?", "true": "Is it true?"}
    [row] = run.map(Judge(how="joint", aspects=aspects), [Candidates(prompt="p", completions=("x", "y"))])
    assert row.scores == (3.5, 3.5)
    assert row.meta["scores"] == [{"kind": 5.0, "true": 2.0}] * 2
    assert row.meta["feedback"] == [f"kind: {text}\n\ntrue: {text}" for text in row.completions]
    assert len(calls(run)) == 2


def test_a_demonstration_keeps_what_it_is_and_gets_a_score_that_filters_find(start: Start) -> None:
    class Sum(Demonstration):
        gold: int

    records = [Sum(prompt="p", completion="a" * n, gold=n, meta={"topic": "t"}) for n in (1, 3)]
    run = start(fair)
    scored = run.map(Score(), records)
    first = scored[0]
    assert isinstance(first, Sum)
    assert (first.gold, first.parents) == (1, (records[0].id,))
    assert first.meta == {"topic": "t", "score": 1.0, "feedback": "of a"}
    assert [row.gold for row in run.filter(filters.score("score", at_least=2), scored)] == [3]


def test_repeats_are_averaged_and_need_a_temperature(start: Start) -> None:
    marks = iter([5, 2, 2])

    def judge(_: Request[Any]) -> str:
        return json.dumps({"reason": "r", "score": next(marks)})

    strategy = Score(repeats=3, scale=(0, 5), sampling=WARM)
    [row] = start(judge).map(strategy, [Demonstration(prompt="p", completion="c")])
    assert row.meta["score"] == 3.0
    assert row.meta["feedback"] == "r\n\nr\n\nr"
    for build in (lambda: Score(repeats=3), lambda: Judge(repeats=2, how="pairwise")):
        with pytest.raises(ConfigError, match="asks for the same verdict again"):
            build()


def test_instructions_and_documents_are_judged_themselves(start: Start) -> None:
    seen: list[str] = []

    def judge(request: Request[Any]) -> str:
        seen.append(told(request))
        return json.dumps({"reason": "r", "score": 4})

    run = start(judge)
    [text] = run.map(Score(rubric="Is it of use for teaching?"), [Document(text="def f(): ...")])
    [asked] = run.map(Score(), [Instruction(prompt="Write a poem.")])
    assert (text.meta["score"], asked.meta["score"]) == (4.0, 4.0)
    assert "Is it of use for teaching?" in seen[0]
    assert "[Text]\ndef f(): ..." in seen[0]
    assert "[Instruction]" not in seen[0]
    assert "[Instruction]\nWrite a poem." in seen[1]
    assert "[Answer]" not in seen[1]


def test_a_record_s_own_rubric_and_reference_are_shown_unless_the_judge_has_a_rubric(start: Start) -> None:
    run = start(fair)
    talk = (Message("user", "Hi"), Message("assistant", "Yo"), Message("user", "Say a."))
    row = Demonstration(prompt=talk, completion="a", meta={"rubric": "Only vowels.", "reference": "aeiou"})
    run.map(Score(), [row])
    run.map(Score(rubric="Mine."), [row])
    own, mine = map(told, calls(run))
    assert "Only vowels." in own
    assert "aeiou" in own
    assert "user: Hi\n\nassistant: Yo" in own
    assert "Mine." in mine
    assert "Only vowels." not in mine


def test_what_rank_asks_can_be_asked_again_for_nothing(start: Start) -> None:
    run = start(lambda request: json.dumps({"reason": "", "score": min(5, len(told(request).split("[Answer]")[1]))}))
    run.map(Rank(), [GIVEN])
    before = len(calls(run))
    [row] = run.map(Judge(prompt=Prompt("feedback/rate", Rating)), [GIVEN])
    assert len(calls(run)) == before
    assert len(row.completions) == 4


@pytest.mark.parametrize("how", ["each", "joint", "pairwise", "listwise"])
def test_replies_nobody_can_read_abstain_and_the_ledger_adds_up(start: Start, how: Any) -> None:
    stage = start(lambda _: "I cannot say.").map(Judge(how=how, policy=Policy(repairs=0)), [GIVEN, GIVEN])
    assert stage.ledger.rejected == {"judge abstained": 2}
    asked = {"each": 4, "joint": 1, "pairwise": 12, "listwise": 1}[how]
    assert stage.ledger.dropped == {"verdict unreadable reply": 2 * asked}


def test_a_text_takes_part_only_where_every_aspect_was_heard(start: Start) -> None:
    def judge(request: Request[Any]) -> str:
        broken = "[Answer]\naaa\n" in told(request) + "\n" and "second" in told(request)
        return "?" if broken else fair(request)

    strategy = Judge(aspects={"one": "The first.", "two": "The second."}, policy=Policy(repairs=0))
    stage = start(judge).map(strategy, [GIVEN])
    assert stage[0].completions == ("aaaa", "aa", "a")
    assert stage.ledger.dropped == {"verdict unreadable reply": 1}


def test_one_verdict_too_few_and_one_beyond_the_scale_are_unreadable(start: Start) -> None:
    for ratings in ([{"reason": "", "score": 1}] * 3, [{"reason": "", "score": 6}] * 4):
        run = start(lambda _, said=ratings: json.dumps({"ratings": said}))
        stage = run.map(Judge(how="joint", policy=Policy(repairs=0)), [GIVEN])
        assert stage.ledger.rejected == {"judge abstained": 1}


def test_candidates_that_are_one_text_are_scored_but_not_compared(start: Start) -> None:
    same = [Candidates(prompt="p", completions=("aa", "aa"))]
    run = start(fair)
    assert run.map(Judge(), same)[0].scores == (2,)
    assert run.map(Judge(how="joint"), same)[0].scores == (2,)
    asked = len(calls(run))
    for how in ("pairwise", "listwise"):
        assert run.map(Judge(how=how), same).ledger.rejected == {"tie": 1}  # type: ignore[arg-type]
    assert len(calls(run)) == asked


def test_reasonings_follow_their_completions(start: Start) -> None:
    given_row = Candidates(prompt="p", completions=("a", "aa"), reasonings=("short", None))
    [row] = start(fair).map(Judge(), [given_row])
    assert (row.completions, row.meta["reasonings"]) == (("aa", "a"), [None, "short"])


def test_a_judge_who_fails_for_good_rejects_the_record(start: Start) -> None:
    def judge(_: Request[Any]) -> str:
        raise TeacherError("400: too long")

    assert start(judge).map(Judge(), [GIVEN]).ledger.rejected == {"teacher error": 1}


@pytest.mark.parametrize("how", ["each", "joint", "pairwise", "listwise"])
def test_a_replay_asks_nothing_and_gives_the_same(tmp_path: Path, how: Any) -> None:
    records = [
        Candidates(prompt=f"p{n} é🙂", completions=("多", "b" * n, "c", "d\n" * n, "e" * 1000)) for n in range(1, 20)
    ]
    strategy = Judge(how=how, aspects={"x": "x", "y": "y"}, repeats=3, sampling=WARM, window=3, stride=1)
    found: list[list[Ranking]] = []
    asked: list[int] = []
    for _ in range(2):
        judge = SchemaTeacher()
        with Run(tmp_path / "run", judge=judge, quiet=True) as run:
            found.append(list(run.map(strategy, records)))
            asked.append(len(judge.calls))
    assert found[0] == found[1]
    assert asked[0] > 0
    assert asked[1] == 0


@pytest.mark.parametrize("how", ["each", "joint", "pairwise", "listwise"])
def test_a_very_long_text_and_no_text_at_all_pass(start: Start, how: Any) -> None:
    run = start(fair)
    long = Candidates(prompt="p" * 1_000_000, completions=("a " + "b" * 1_000_000, "aa"))
    assert run.map(Judge(how=how), [long])[0].completions[0] == "aa"
    assert len(run.map(Judge(how=how), [])) == 0


# Windows and permutations


def test_the_best_of_many_is_carried_to_the_front_window_by_window(start: Start) -> None:
    texts = ["a" * n for n in Random(3).sample(range(1, 101), 100)]
    run = start(fair)
    [row] = run.map(Judge(how="listwise", window=20, stride=10), [Candidates(prompt="q", completions=tuple(texts))])
    assert [merit(text) for text in row.completions[:10]] == list(range(100, 90, -1))
    assert len(calls(run)) == 9
    assert {len(answers(call)) for call in calls(run)} == {20}
    assert row.scores[0] == 1.0
    assert row.scores[-1] == 0.0


def test_a_permutation_is_repaired_and_said_so_and_one_without_numbers_abstains(start: Start) -> None:
    def judge(request: Request[Any]) -> str:
        best = answers(request).index("aaaa") + 1
        return json.dumps({"order": [best, best, 99]})

    stage = start(judge).map(Judge(how="listwise"), [GIVEN])
    assert stage[0].completions[0] == "aaaa"
    assert sorted(stage[0].completions) == sorted(ORDER)
    assert stage.ledger.dropped == {"permutation repaired": 1}
    stage = start(lambda _: '{"order": [77]}').map(Judge(how="listwise"), [GIVEN])
    assert stage.ledger.rejected == {"judge abstained": 1}
    assert stage.ledger.dropped == {"verdict without an order": 1}


@given(st.lists(st.integers(-3, 12)), st.integers(1, 9))
def test_a_repaired_order_is_a_permutation_that_keeps_what_was_said(order: list[int], count: int) -> None:
    whole = repaired(order, count)
    said = [number for number in dict.fromkeys(order) if 1 <= number <= count]
    if not said:
        assert whole == []
    else:
        assert sorted(whole) == list(range(1, count + 1))
        assert whole[: len(said)] == said


@given(st.integers(1, 200), st.integers(2, 30), st.data())
def test_windows_cover_every_place_overlap_and_end_at_the_front(count: int, window: int, data: st.DataObject) -> None:
    stride = data.draw(st.integers(1, window - 1))
    found = list(windows(count, window, stride))
    assert {place for places in found for place in places} == set(range(count))
    assert found[-1].start == 0
    assert found[0].stop == count
    for later, earlier in pairwise(found):
        assert earlier.stop > later.start > earlier.start
    assert all(len(places) == min(window, count) for places in found)


@given(st.integers(1, 8), st.integers(1, 30), st.integers())
def test_orders_put_everything_in_every_place_equally_often(count: int, times: int, seed: int) -> None:
    found = orders(Random(seed), count, times)
    assert found.total() == times
    places = Counter((place, one) for order in found.elements() for place, one in enumerate(order))
    assert all(sorted(order) == list(range(count)) for order in found)
    often = [places[place, one] for place in range(count) for one in range(count)]
    assert max(often) - min(often) <= 1


# Probabilities of digits


def digits(**chances: float) -> Completion:
    best = max(chances, key=lambda name: chances[name])
    top = [{"token": name[1:], "logprob": math.log(chance)} for name, chance in chances.items()]
    return Completion(best[1:], finish_reason="length", logprobs=({**top[0], "top_logprobs": top},))


def test_a_soft_score_is_the_mean_of_the_scale_under_the_digits_probabilities(start: Start) -> None:
    run = start(lambda _: digits(_4=0.6, _5=0.2, _1=0.2))
    [row] = run.map(Score(soft=True), [Demonstration(prompt="p", completion="c")])
    assert row.meta["score"] == pytest.approx(0.6 * 4 + 0.2 * 5 + 0.2 * 1)
    [sampling] = {(call.sampling.max_tokens, call.sampling.logprobs) for call in calls(run)}
    assert sampling == (1, 20)
    [ranked] = run.map(Judge(soft=True, scale=(0, 5)), [GIVEN])
    assert len(ranked.completions) == 4


def test_a_server_without_log_probabilities_is_an_error_with_its_cure(start: Start) -> None:
    with pytest.raises(ConfigError, match=r"no log-probabilities.*soft=False"):
        start(lambda _: "4").map(Score(soft=True), [Demonstration(prompt="p", completion="c")])


@pytest.mark.parametrize(
    ("wrong", "complaint"),
    [
        ({"how": "best"}, "expected each, joint, pairwise, listwise"),
        ({"scale": (5, 1)}, "the least and the greatest"),
        ({"repeats": 0}, "at least one"),
        ({"rubric": "r", "aspects": {"a": "b"}}, "either a rubric, or aspects"),
        ({"aspects": ("a", "b")}, "either a rubric, or aspects"),
        ({"soft": True, "scale": (1, 10)}, "within 0 to 9"),
        ({"soft": True, "how": "joint"}, "how='each'"),
        ({"window": 10, "stride": 10}, "1 <= stride < window"),
    ],
)
def test_arguments_that_do_not_fit_are_refused(wrong: dict[str, Any], complaint: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(complaint)):
        Judge(**wrong)


def test_a_template_of_one_s_own_is_checked_before_anybody_is_asked(start: Start, tmp_path: Path) -> None:
    path = tmp_path / "mine.jinja"
    path.write_text(
        "{# variables: answer, gold; source: this test #}{% block user %}{{ gold }}{{ answer }}{% endblock %}"
    )
    run = start(fair)
    with pytest.raises(PromptError, match="wants 'gold'"):
        run.map(Judge(prompt=Prompt(path, str)), [GIVEN])
    assert calls(run) == []


@settings(deadline=None, derandomize=True, max_examples=25)
@given(
    st.lists(st.text("ab", min_size=1, max_size=6), min_size=2, max_size=6, unique=True),
    st.sampled_from(["pairwise", "listwise"]),
)
def test_a_fair_judge_s_order_is_found_whatever_the_order_they_came_in(
    one_run: Run, texts: list[str], how: Any
) -> None:
    [row] = one_run.map(Judge(how=how), [Candidates(prompt="Say a.", completions=tuple(texts))])
    assert [merit(text) for text in row.completions] == sorted(map(merit, texts), reverse=True)
    assert all(0 <= score <= 1 for score in row.scores)


@pytest.fixture(scope="module")
def one_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    with Run(tmp_path_factory.mktemp("runs") / "shared", judge=FunctionTeacher(fair, "judge"), quiet=True) as run:
        yield run
