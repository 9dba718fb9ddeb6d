"""Limits on money, calls and tokens: never passed, always resumable, and nothing in flight is thrown away."""

from __future__ import annotations

import asyncio
import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from loopback import Loopback, Served

from synthkd.budget import Budget, Spent
from synthkd.errors import BudgetExceeded, ConfigError
from synthkd.message import Message
from synthkd.prices import Price
from synthkd.record import Instruction
from synthkd.report import read_report
from synthkd.request import Completion, Limits, Request, Sampling, Usage
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher
from synthkd.testing import FunctionTeacher

PRICE = Price(1.0, 4.0)


def teacher(price: Price | None = PRICE, identity: str = "t") -> FunctionTeacher:
    return FunctionTeacher(lambda request: "x", identity, limits=Limits(identity), price=price)


def request(max_tokens: int | None = 100, text: str = "hi") -> Request[str]:
    return Request((Message("user", text),), str, Sampling(max_tokens=max_tokens))


def completion(prompt: int = 10, new: int = 20, cached: int = 0) -> Completion:
    return Completion("x", usage=Usage(prompt, new, cached_tokens=cached))


@dataclass(frozen=True)
class Doing:
    """One call of the property test: what it asks, what it takes of it, and how it ends."""

    n: int
    max_tokens: int
    share: float
    turns: int
    end: str


doings = st.builds(
    Doing,
    n=st.integers(1, 3),
    max_tokens=st.integers(1, 400),
    share=st.floats(0, 1),
    turns=st.integers(0, 5),
    end=st.sampled_from(["answered"] * 6 + ["short", "failed", "cancelled", "cancelled early"]),
)


async def work(budget: Budget, player: FunctionTeacher, doing: Doing, watch: Any) -> None:
    asked = request(doing.max_tokens)
    with await budget.reserve(player, asked, doing.n) as reserved:
        watch()
        for _ in range(doing.turns):
            await asyncio.sleep(0)
        if doing.end == "failed":
            raise ValueError
        got = doing.n - (doing.end == "short")
        new = int(doing.share * doing.max_tokens)
        reserved.settle([completion(int(doing.share * 66) if not i else 0, new) for i in range(got)])
    watch()


@settings(max_examples=150, deadline=None)
@given(
    st.lists(doings, max_size=30),
    st.none() | st.integers(0, 40),
    st.none() | st.integers(0, 8000),
    st.none() | st.floats(0, 0.02),
    st.randoms(use_true_random=False),
)
def test_however_calls_interleave_no_limit_is_passed_and_all_that_is_reserved_comes_back(
    plan: list[Doing], calls: int | None, tokens: int | None, cost: float | None, rng: random.Random
) -> None:
    async def main() -> None:
        budget, player = Budget(cost, calls, tokens), teacher()

        def watch() -> None:
            for spent, limit in zip(budget.spent, (cost, calls, tokens), strict=True):
                assert limit is None or spent <= limit

        started = []
        for doing in plan:
            started.append(asyncio.create_task(work(budget, player, doing, watch)))
            if doing.end == "cancelled early":
                started[-1].cancel()
            for _ in range(rng.randrange(3)):
                await asyncio.sleep(0)
            if doing.end == "cancelled":
                rng.choice(started).cancel()
        done = await asyncio.wait_for(asyncio.gather(*started, return_exceptions=True), 5)
        watch()
        assert budget.reserved == (0.0, 0, 0)
        assert {type(one) for one in done} <= {type(None), ValueError, BudgetExceeded, asyncio.CancelledError}
        if not budget.limited:
            assert BudgetExceeded not in {type(one) for one in done}

    asyncio.run(main())


def test_a_call_that_does_not_fit_waits_for_what_the_calls_in_flight_leave_over() -> None:
    async def main() -> list[str]:
        budget, player, told = Budget(max_tokens=400), teacher(), []

        async def one(name: str, held: asyncio.Event) -> None:
            with await budget.reserve(player, request(100), 1) as reserved:  # 182 tokens at most
                told.append(f"{name} begins")
                await held.wait()
                reserved.settle([completion(10, 20)])
            told.append(f"{name} ends")

        events = [asyncio.Event() for _ in range(3)]
        began = [asyncio.create_task(one(name, event)) for name, event in zip("abc", events, strict=True)]
        await asyncio.sleep(0.01)
        assert told == ["a begins", "b begins"]
        events[1].set()
        await asyncio.sleep(0.01)
        assert told[2:] == ["b ends", "c begins"]
        for event in events:
            event.set()
        await asyncio.gather(*began)
        return told

    assert asyncio.run(main())[-2:] == ["a ends", "c ends"]


def test_the_run_is_stopped_only_when_nothing_is_in_flight_and_then_everybody_hears_it() -> None:
    async def main() -> None:
        budget, player, release = Budget(max_calls=1), teacher(), asyncio.Event()

        async def one() -> None:
            with await budget.reserve(player, request(), 1) as reserved:
                await release.wait()
                reserved.settle([completion()])

        first, *others = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(0.01)
        assert not any(other.done() for other in others)
        release.set()
        await first
        for other in others:
            with pytest.raises(BudgetExceeded, match=r"the limit of 1 calls is reached: 1 are spent.*--max-calls"):
                await other
        with pytest.raises(BudgetExceeded):  # and whoever comes later
            await budget.reserve(player, request(), 1)

    asyncio.run(main())


def test_waiters_are_served_in_the_order_in_which_they_came() -> None:
    async def main() -> list[int]:
        budget, player, order = Budget(max_calls=30), teacher(), []

        async def one(number: int, n: int) -> None:
            with await budget.reserve(player, request(), n) as reserved:
                order.append(number)
                await asyncio.sleep(0.001)
                reserved.settle([completion()])

        await asyncio.gather(*(one(number, n) for number, n in enumerate([20, 20, 1, 1])))
        return order

    assert asyncio.run(main()) == [0, 1, 2, 3]


@pytest.mark.parametrize(
    ("budget", "said"),
    [
        (Budget(max_cost=0.0001), r"0\.0001 US dollars .* 0 are spent .* up to 0\.000482 more.*max_tokens.*--max-cost"),
        (Budget(max_calls=0), r"0 calls is reached: 0 are spent .* up to 1 more\. Everything paid for is kept"),
        (Budget(max_tokens=150), r"150 tokens .* up to 182 more.*--max-tokens"),
    ],
)
def test_the_message_says_limit_what_is_spent_what_is_next_and_the_cure(budget: Budget, said: str) -> None:
    with pytest.raises(BudgetExceeded, match=said):
        asyncio.run(budget.reserve(teacher(), request(), 1))  # type: ignore[arg-type]


def settled(budget: Budget, player: FunctionTeacher, completions: Sequence[Completion]) -> list[float | None]:
    async def main() -> list[float | None]:
        with await budget.reserve(player, request(), len(completions)) as reserved:
            return reserved.settle(completions)

    return asyncio.run(main())


def test_costs_are_told_for_each_completion_and_unknown_ones_stay_unknown() -> None:
    budget = Budget()
    assert settled(budget, teacher(), [completion(10, 20), completion(0, 5)]) == [9e-05, 2e-05]
    assert settled(budget, teacher(None), [completion(10, 20)]) == [None]
    assert budget.spent == (pytest.approx(1.1e-4), 3, 65)


def test_where_nothing_sets_max_tokens_the_guess_learns_from_what_is_seen() -> None:
    async def reserved(budget: Budget) -> int:
        with await budget.reserve(teacher(), request(None), 1):
            return budget.reserved[2]

    budget = Budget(max_tokens=10**6)
    assert asyncio.run(reserved(budget)) == 82 + 4096
    settled(budget, teacher(), [completion(1, 10)] * 40)
    assert asyncio.run(reserved(budget)) == 82 + 512
    settled(budget, teacher(), [completion(1, 5000)])
    assert asyncio.run(reserved(budget)) == 82 + 10000


def test_the_teacher_s_own_limit_of_new_tokens_counts_too() -> None:
    async def main() -> int:
        budget = Budget(max_tokens=10**6)
        player = FunctionTeacher(lambda request: "x", sampling=Sampling(max_tokens=7))
        with await budget.reserve(player, request(None), 2):
            return budget.reserved[2]

    assert asyncio.run(main()) == 82 + 14


def test_what_earlier_processes_spent_counts() -> None:
    budget = Budget(max_cost=1.0)
    before = [Spent("t", 3, 100, 50, 30, 0.25), Spent("t", 1, 1000, 500, 500, None), Spent("gone", 2, 10, 10, 5, 0.5)]
    budget.resume(before, {"teacher": teacher()})
    assert budget.spent == (pytest.approx(0.25 + 0.003 + 0.5), 6, 1670)


def test_limited_money_and_an_unknown_price_do_not_go_together() -> None:
    budget = Budget(max_cost=1.0)
    with pytest.raises(ConfigError, match=r"no price is known for t \(role 'judge'\).*price=Price.*--price judge="):
        budget.check({"teacher": teacher(), "judge": teacher(None)})
    with pytest.raises(ConfigError, match="2 calls of gone, and nobody knows what they cost"):
        budget.resume([Spent("gone", 2, 10, 10, 5, None)], {"teacher": teacher()})
    Budget(max_calls=1).check({"teacher": teacher(None)})


def test_a_negative_limit_is_refused() -> None:
    for name in ("max_cost", "max_calls", "max_tokens"):
        with pytest.raises(ConfigError, match=f"{name}=-1"):
            Budget(**{name: -1})


def seeds(n: int) -> list[Instruction]:
    return [Instruction(prompt=f"question {i}") for i in range(n)]


def journaled(folder: Path) -> tuple[int, int, float | None]:
    """Calls, tokens and cost that are on disk."""
    found = read_report(folder, examples=0).calls
    cost = sum(call.cost or 0.0 for call in found)
    return sum(c.completions for c in found), sum(c.prompt_tokens + c.completion_tokens for c in found), cost


@pytest.mark.parametrize(
    ("limits", "answered"),
    [({"max_calls": 17}, 17), ({"max_tokens": 17 * 6 + 120}, None), ({"max_cost": 17 * 6e-6 + 130e-6}, None)],
    ids=["calls", "tokens", "cost"],
)
def test_a_limited_run_stops_at_its_limit_loses_nothing_and_is_resumed_by_a_higher_one(
    serve: Callable[..., Loopback], tmp_path: Path, limits: dict[str, Any], answered: int | None
) -> None:
    server = serve(lambda call: Served("two words", delay=call.rng.uniform(0.001, 0.01)))
    strategy = Answer(sampling=Sampling(max_tokens=30))

    def whole(**limits: Any) -> int:
        player = OpenAITeacher("m", base_url=server.url, max_in_flight=8, price=Price(1.0, 1.0))
        with Run(tmp_path / "run", teacher=player, quiet=True, **limits) as run:
            return len(run.map(strategy, seeds(60)))

    with pytest.raises(BudgetExceeded, match=r"is reached: .* are spent in this folder.*kept"):
        whole(**limits)
    calls, tokens, cost = journaled(tmp_path / "run")
    assert calls == len(server.calls) == (answered or calls)  # what was paid for is all on disk
    assert 10 < calls < 60
    spent = {"max_calls": calls, "max_tokens": tokens, "max_cost": cost}
    assert all(spent[name] <= limit for name, limit in limits.items())

    with pytest.raises(BudgetExceeded):  # the same command again: the limit is the folder's
        whole(**limits)
    assert len(server.calls) == calls
    assert whole(**{name: 100 * limit for name, limit in limits.items()}) == 60
    assert len(server.calls) == 60
    assert whole(max_calls=0) == 60  # a replay costs nothing


def test_failed_calls_are_tried_again_within_the_limit_and_count_once(
    serve: Callable[..., Loopback], tmp_path: Path
) -> None:
    server = serve(lambda call: Served(status=503) if call.attempt == 1 and call.rng.random() < 0.3 else call.echo)
    player = OpenAITeacher("m", base_url=server.url)
    with Run(tmp_path / "run", teacher=player, max_calls=40, quiet=True) as run:
        assert len(run.map(Answer(), seeds(40))) == 40
    assert len(server.calls) > 40
    assert journaled(tmp_path / "run")[0] == 40


def test_money_is_limited_before_anything_is_paid_only_where_prices_are_known(
    serve: Callable[..., Loopback], tmp_path: Path
) -> None:
    server = serve()
    player = OpenAITeacher("m", base_url=server.url)
    with pytest.raises(ConfigError, match="no price is known"):
        Run(tmp_path / "run", teacher=player, max_cost=1.0, quiet=True)
    assert not (tmp_path / "run").exists()
    with (
        Run(tmp_path / "run", teacher=teacher(), max_cost=1.0, quiet=True) as run,
        pytest.raises(ConfigError, match="role 'student'"),
    ):
        run.map(Answer(), seeds(1), student=player)
    assert not server.calls


def test_a_folder_whose_costs_nobody_knows_is_left_as_it_was(tmp_path: Path) -> None:
    with Run(tmp_path / "run", teacher=teacher(None, "gone"), quiet=True) as run:
        run.map(Answer(), seeds(2))
    for _ in range(2):  # the folder is given back each time
        with pytest.raises(ConfigError, match="2 calls of gone, and nobody knows what they cost"):
            Run(tmp_path / "run", teacher=teacher(), max_cost=1.0, quiet=True)


def test_report_and_card_tell_what_each_teacher_cost_and_what_nobody_knows(tmp_path: Path) -> None:
    def paid(name: str, price: Price | None) -> FunctionTeacher:
        return FunctionTeacher(lambda request: completion(1000, 500), name, price=price)

    with Run(tmp_path / "run", teacher=paid("known", PRICE), judge=paid("unknown", None), quiet=True) as run:
        answers = run.map(Answer(), seeds(2))
        run.map(Answer(), seeds(2), teacher=run.roles["judge"])
        run.save(answers)
        assert run.counters.cost == pytest.approx(0.006)
    assert {call.teacher: call.cost for call in read_report(run.folder).calls} == {
        "known": pytest.approx(0.006),
        "unknown": None,
    }
    card = (run.folder / "dataset" / "README.md").read_text()
    assert "| teacher | 2,000 | 1,000 | 0.0060 USD |" in card
    assert "| judge | 2,000 | 1,000 | unknown |" in card
    calls = json.loads((run.folder / "report.json").read_bytes())["calls"]
    assert [call["cost"] for call in calls] == [pytest.approx(0.006), None]
