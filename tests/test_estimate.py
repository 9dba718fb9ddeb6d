"""What a pilot says a run will take: it holds, it costs nothing twice, and it leaves no dataset behind."""

from __future__ import annotations

import asyncio
import json
import random
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest
from loopback import Loopback, Served

from synthkd import training
from synthkd.ask import Ask
from synthkd.errors import BudgetExceeded, ConfigError, RecordError
from synthkd.estimate import Pilot, estimate
from synthkd.extrapolate import Estimate, Source, total
from synthkd.filters import each, every, length, novelty
from synthkd.human import review
from synthkd.message import Message
from synthkd.prices import Price
from synthkd.record import Instruction
from synthkd.request import Completion, Request, Usage
from synthkd.run import Run
from synthkd.strategies import Answer, Sample, SelfInstruct
from synthkd.teachers import OpenAITeacher
from synthkd.testing import FunctionTeacher

Serve = Callable[..., Loopback]


def seeds(n: int) -> list[Instruction]:
    return [Instruction(prompt=f"question {i}") for i in range(n)]


def worded(request: Request[Any]) -> Completion:
    """As many tokens as the prompt and chance say, the same in every process."""
    text = request.messages[-1].content
    rng = random.Random(text)
    return Completion(
        f"{text} {rng.random()}", finish_reason="stop", usage=Usage(rng.randrange(5, 50), rng.randrange(99))
    )


PRICE = Price(1.0, 4.0)


def teacher(answer: Callable[[Request[Any]], Any] = worded, price: Price | None = PRICE) -> FunctionTeacher:
    return FunctionTeacher(answer, price=price)


async def fork(record: Instruction, ask: Ask) -> Sequence[Instruction]:
    """Nothing, one or several records, two calls."""
    number = int(record.instruction.split()[1])
    first, second = (Request((Message("user", f"{record.instruction} {part}"),), str) for part in "ab")
    await asyncio.gather(ask(first), ask(second))
    if number % 4 == 3:
        raise RecordError("every fourth", reason="fourth")
    return [Instruction(prompt=f"{record.instruction} fork {i}") for i in range(number % 4)]


def forking(run: Run, n: int = 40) -> None:
    forks = run.map(fork, seeds(n))
    kept = run.filter(each(lambda record: "fork 1" not in record.instruction, "a second fork"), forks)
    run.map(Sample(3), kept)


def piloted(folder: Path, pipeline: Callable[..., object], pilot: int, **options: Any) -> Estimate:
    roles = {"teacher": options.pop("teacher", None) or teacher()}
    with Pilot(folder, pilot=pilot, quiet=True, **roles) as run:
        return estimate(run, pipeline, options)


def test_a_pilot_of_everything_tells_exactly_what_the_run_takes(tmp_path: Path) -> None:
    found = piloted(tmp_path / "run", forking, pilot=40)
    with Run(tmp_path / "other", teacher=teacher(), quiet=True) as run:
        forking(run)
        counters = run.counters
    whole = found.total
    for expected, value in (
        (counters.calls, whole.calls),
        (counters.prompt_tokens, whole.prompt_tokens),
        (counters.completion_tokens, whole.completion_tokens),
        (pytest.approx(counters.cost), whole.cost),
    ):
        assert value is not None
        assert (value.low, value.expected, value.high) == (expected,) * 3
    assert [(stage.name, stage.records.expected) for stage in found.stages] == [("fork", 40), ("sample", 20)]
    assert (found.pilot, found.of, found.paid_calls) == (40, 40, counters.calls)


def test_a_pilot_s_calls_are_not_paid_for_again_and_it_saves_nothing(tmp_path: Path) -> None:
    player = teacher()

    def pipeline(run: Run) -> None:
        run.save(run.map(Answer(), seeds(50)))

    found = piloted(tmp_path / "run", pipeline, pilot=8, teacher=player)
    assert (len(player.calls), found.paid_calls) == (8, 8)
    assert found.paid == pytest.approx(
        sum((10**-6) * (u.prompt_tokens + 4 * u.completion_tokens) for u in used(player))
    )
    assert found.stages[0].calls.expected == 50
    assert not (tmp_path / "run" / "dataset").exists()
    assert piloted(tmp_path / "run", pipeline, pilot=8, teacher=player).paid_calls == 0
    with Run(tmp_path / "run", teacher=player, quiet=True) as run:
        pipeline(run)
    assert len(player.calls) == 50
    assert (tmp_path / "run" / "dataset").exists()


def used(player: FunctionTeacher) -> list[Usage]:
    return [worded(request).usage for request in player.calls]


def test_fan_out_rejects_and_filters_are_extrapolated_through_the_stages(tmp_path: Path) -> None:
    found = piloted(tmp_path / "run", lambda run: forking(run, 400), pilot=40)
    first, second = found.stages
    assert (first.records.expected, first.calls.expected, first.calls.low) == (400, 800, 800)
    assert second.records.expected == 200
    assert second.calls.expected == 600
    assert second.calls.low < 600 < second.calls.high
    assert found.total.calls.expected == 1400


def test_a_pilot_of_eight_gives_a_range_that_holds_the_truth_also_where_lengths_are_skewed() -> None:
    rng, held = random.Random(5), 0
    for _ in range(400):
        everyone = [rng.lognormvariate(5, 0.5) for _ in range(500)]
        source = Source([str(i) for i in range(8)], 500)
        found = total({(0, str(i)): everyone[i] for i in range(8)}, [source])
        held += found.low <= sum(everyone) <= found.high
    assert held / 400 > 0.85  # 0.95 if they were not


def test_strategies_filters_and_names_stand_in_the_pilot_s_folder_as_they_will_in_the_run_s(tmp_path: Path) -> None:
    def stages(run: Run) -> list[tuple[str, str]]:
        forking(run)
        return run._database.read("SELECT name, strategy FROM stages ORDER BY number")  # type: ignore[return-value]

    with (
        Pilot(tmp_path / "pilot", teacher=teacher(), quiet=True) as pilot,
        Run(tmp_path / "run", teacher=teacher(), quiet=True) as run,
    ):
        assert stages(pilot) == stages(run)


def test_a_source_that_is_no_list_is_counted_and_one_made_of_rows_is_not_cut(tmp_path: Path) -> None:
    asked: Counter[str] = Counter()

    def answer(request: Request[Any]) -> str:
        asked[request.messages[-1].content.split()[0]] += 1
        return "x"

    def pipeline(run: Run) -> None:
        def stream() -> Iterator[Instruction]:
            yield from seeds(30)

        rows = run.map(Sample(2), stream())
        again = [
            Instruction(prompt=f"again {i} {row.id}", parents=(row.id,))
            for row in rows
            for i in range(len(row.completions))
        ]
        run.map(Answer(), again)
        run.map(Answer(), seeds(30), name="once more")

    found = piloted(tmp_path / "run", pipeline, pilot=3, teacher=teacher(answer))
    assert asked == {"question": 2 * 3 + 3, "again": 2 * 3}
    assert [stage.records.expected for stage in found.stages] == [30, 60, 30]
    assert [stage.calls.expected for stage in found.stages] == [60, 60, 30]


def test_sources_of_different_size_are_each_extrapolated_by_their_own(tmp_path: Path) -> None:
    def pipeline(run: Run) -> None:
        run.map(Answer(), seeds(100))
        run.map(Answer(), [Instruction(prompt=f"other {i}") for i in range(5)])

    found = piloted(tmp_path / "run", pipeline, pilot=4)
    assert [stage.calls.expected for stage in found.stages] == [100, 5]
    assert (found.pilot, found.of) == (4, 100)


def test_what_comes_after_the_dataset_is_left_out_and_said_to_be(tmp_path: Path) -> None:
    def pipeline(run: Run) -> None:
        dataset = run.save(run.map(Answer(), seeds(20)))
        training.sft(dataset, "no-such-student", run.folder / "student")

    found = piloted(tmp_path / "run", pipeline, pilot=4)
    assert found.stages[0].calls.expected == 20
    assert "training" in found.unfinished


def test_a_pipeline_s_own_failure_is_not_taken_for_the_end(tmp_path: Path) -> None:
    def pipeline(run: Run) -> None:
        run.save(run.map(Answer(), seeds(20)))
        raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        piloted(tmp_path / "run", pipeline, pilot=4)


def test_a_pipeline_without_records_cannot_be_piloted(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"maps over no records"):
        piloted(tmp_path / "run", lambda run: None, pilot=4)
    with pytest.raises(ConfigError, match="at least 2"):
        Pilot(tmp_path / "run", pilot=1)


def test_an_endless_source_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthkd.tracing._ENDLESS", 100)

    def endless() -> Iterator[Instruction]:
        number = 0
        while True:
            yield Instruction(prompt=str(number))
            number += 1

    with pytest.raises(ConfigError, match="do not end after 100"):
        piloted(tmp_path / "run", lambda run: run.map(Answer(), endless()), pilot=4)


def test_unknown_prices_are_said_to_be_unknown(tmp_path: Path) -> None:
    found = piloted(tmp_path / "run", forking, pilot=4, teacher=teacher(price=None))
    assert found.total.cost is None
    assert found.paid is None
    assert found.stages[0].cost is None


def test_time_is_said_from_the_endpoint_s_limit_to_the_pilot_s_own_pace(serve: Serve, tmp_path: Path) -> None:
    server = serve(lambda call: Served("x", delay=0.05))
    player = OpenAITeacher("m", base_url=server.url, max_in_flight=16)
    found = piloted(tmp_path / "run", lambda run: run.map(Answer(), seeds(320)), pilot=4, teacher=player)
    low, high = found.total.seconds.low, found.total.seconds.high
    assert low >= 0.8
    assert high == pytest.approx(4 * found.total.seconds.expected, rel=0.5)


def test_a_set_that_grows_takes_few_draws_and_is_extrapolated_by_their_yield(tmp_path: Path) -> None:
    def author(request: Request[Any]) -> Completion:
        said = json.dumps({"items": [f"{request.key('x', n).hex()} is one of eight" for n in range(8)]})
        return Completion(said, usage=Usage(100, 50))

    seeds = [Instruction(prompt=f"Human instruction {n}.") for n in range(100)]

    def grown(run: Run) -> None:
        kept = run.grow(SelfInstruct(), seeds, until=4000, rule=every(length(min_words=2, of="prompt"), novelty(0.95)))
        run.map(Answer(), kept)

    teacher = FunctionTeacher(author)
    with Pilot(tmp_path, pilot=5, teacher=teacher, quiet=True) as run:
        found = estimate(run, grown)
    assert found.paid_calls == 5 + 40
    by_name = {stage.name: stage for stage in found.stages}
    assert by_name["selfinstruct"].calls.expected == 500
    assert by_name["answer"].calls.expected == 4000
    with Run(tmp_path, teacher=teacher, quiet=True, max_calls=500) as run, pytest.raises(BudgetExceeded):
        grown(run)
    assert run.counters.replayed == 5


def test_a_pipeline_that_waits_for_people_is_estimated_up_to_there(tmp_path: Path) -> None:
    def reviewed(run: Run) -> None:
        answers = run.map(Answer(), [Instruction(prompt=f"q{n}") for n in range(30)])
        run.map(Answer(), review(run, answers))

    with Pilot(tmp_path, pilot=4, teacher=FunctionTeacher(lambda request: "x"), quiet=True) as run:
        found = estimate(run, reviewed)
    assert [stage.calls.expected for stage in found.stages] == [30]
    assert "people" in found.unfinished
