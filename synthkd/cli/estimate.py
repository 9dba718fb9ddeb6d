"""`synthkd estimate`: the only place that shows what a run will take before it is paid for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from synthkd.cli import console
from synthkd.cli.options import (
    File,
    InFlight,
    JudgeSpec,
    Limit,
    MaxCalls,
    MaxCost,
    MaxTokens,
    Options,
    Out,
    Prices,
    Quiet,
    Roles,
    Rpm,
    Seed,
    Seeds,
    StudentSpec,
    TeacherSpec,
    Tpm,
    asked,
)
from synthkd.cli.report import dollars

if TYPE_CHECKING:
    from collections.abc import Callable

    from synthkd.extrapolate import Estimate, Range, StageEstimate


def estimate(
    file: File,
    teacher: TeacherSpec = None,
    judge: JudgeSpec = None,
    student: StudentSpec = None,
    role: Roles = None,
    seeds: Seeds = None,
    limit: Limit = None,
    option: Options = None,
    out: Out = None,
    pilot: Annotated[int, typer.Option(metavar="N", min=2, help="How many records of each source it takes.")] = 8,
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON, for programs.")] = False,
    max_cost: MaxCost = None,
    max_calls: MaxCalls = None,
    max_tokens: MaxTokens = None,
    price: Prices = None,
    max_in_flight: InFlight = None,
    rpm: Rpm = None,
    tpm: Tpm = None,
    seed: Seed = 0,
    quiet: Quiet = False,
) -> None:
    """Say what a run will take: calls, tokens, money and time of each stage, with a range.

    A pilot runs the pipeline on the first few records, saves no dataset and trains nothing. It is paid for like any
    run, and `synthkd run` with the same options does not pay for the same calls again.

    \b
    Examples:
      synthkd estimate mine.py --teacher openai:gpt-4.1-mini --seeds seeds.jsonl
      synthkd estimate mine.py --teacher openai:gpt-4.1-mini --seeds seeds.jsonl --pilot 30 --max-cost 0.10
    """
    from synthkd.estimate import Pilot
    from synthkd.estimate import estimate as estimated

    wanted = asked(
        file,
        specs={"teacher": teacher, "judge": judge, "student": student},
        role=role,
        price=price,
        pace={"max_in_flight": max_in_flight, "rpm": rpm, "tpm": tpm},
        named={"seeds": seeds, "limit": None if limit is None else str(limit)},
        option=option,
        out=out,
        seed=seed,
        quiet=quiet,
        limits={"max_cost": max_cost, "max_calls": max_calls, "max_tokens": max_tokens},
    )
    with wanted.opened(Pilot, pilot=pilot) as run:
        assert isinstance(run, Pilot)
        found = estimated(run, wanted.pipeline.function, wanted.options)
    if as_json:
        from dataclasses import asdict

        import orjson

        console.say(orjson.dumps(asdict(found), option=orjson.OPT_INDENT_2).decode())
    else:
        _show(found)


def _show(found: Estimate) -> None:
    """The table, and what it rests on."""
    rows = [_row(stage) for stage in found.stages]
    if len(rows) > 1:
        rows.append(("all", "", *_row(found.total)[2:]))
    console.table(("stage", "records#", "calls#", "tokens in#", "out#", "cost#", "time#"), rows)
    console.say(f"pilot    {found.pilot:,} of {found.of:,} records; in brackets, the 95 % interval by how they differ")
    price = "" if not found.paid_calls else f", {dollars(found.paid)}"
    console.say(f"paid     {found.paid_calls:,} calls{price}: in the journal, so the run does not make them again")
    console.say(
        "time     from what the endpoints' limits allow, if they stay as fast, to no more at once than the pilot"
    )
    if found.unfinished:
        console.say(f"ended    before the pipeline's last line: {found.unfinished}; what comes after is not in here")


def _row(stage: StageEstimate) -> tuple[str, ...]:
    cost = "unknown" if stage.cost is None else _within(stage.cost, dollars)
    time = _span(stage.seconds)
    counts = (stage.records, stage.calls, stage.prompt_tokens, stage.completion_tokens)
    return (stage.name, *(_within(count, _number) for count in counts), cost, time)


def _within(value: Range, shown: Callable[[float], str]) -> str:
    """For example `1,204 (1,100-1,310)`."""
    low, middle, high = shown(value.low), shown(value.expected), shown(value.high)
    return middle if low == high else f"{middle} ({low}-{high})"


def _span(value: Range) -> str:
    low, high = _duration(value.low), _duration(value.high)
    return low if low == high else f"{low} to {high}"


def _number(value: float) -> str:
    for size, unit in ((1e9, "B"), (1e6, "M")):
        if value >= size:
            return f"{value / size:,.2f}{unit}"
    return f"{value:,.0f}"


def _duration(seconds: float) -> str:
    if seconds < 10:
        return f"{seconds:.1f}s"
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}h{minutes:02}m" if hours else f"{minutes}m{rest:02}s" if minutes else f"{rest}s"
