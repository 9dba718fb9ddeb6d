"""`synthkd report`: the only place that lays out on the terminal what became of a run."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkd.cli import console

if TYPE_CHECKING:
    from synthkd.report import RejectReport, RunReport, StageReport


def report(
    run: Annotated[Path, typer.Argument(metavar="RUN", help="The run's folder, such as runs/quickstart.")],
    as_json: Annotated[bool, typer.Option("--json", help="The same as JSON, for programs.")] = False,
    rejects: Annotated[
        int | None,
        typer.Option(metavar="N", min=0, help="Show N rejects of each stage and reason, with message and record."),
    ] = None,
) -> None:
    """Say what became of a run: its stages, its calls, and what was rejected and why.

    It reads the run's file and changes nothing: it may be asked while the run is at work, and after it was killed.

    \b
    Examples:
      synthkd report runs/quickstart
      synthkd report runs/quickstart --rejects 3
      synthkd report runs/quickstart --json | jq .stages
    """
    from synthkd.report import read_report

    found = read_report(run, 1 if rejects is None else rejects)
    if as_json:
        import orjson

        console.say(orjson.dumps(found.asdict(), option=orjson.OPT_INDENT_2).decode())
        return
    _heading(run, found)
    stage_table(found.stages)
    _calls(found)
    if rejects:
        _rejects_in_full(found.rejects)
    else:
        _rejects(found)


def stage_table(stages: Sequence[StageReport]) -> None:
    """A line for each stage with its ledger."""
    if not stages:
        console.say("no stage has begun")
        return
    rows = []
    for stage in stages:
        why = [f"{count:,} {reason}" for reason, count in stage.rejected.items()]
        why += [f"(draws dropped: {count:,} {reason})" for reason, count in stage.dropped.items()]
        name = stage.name if stage.complete else f"{stage.name} (unfinished)"
        time = "" if stage.seconds is None else f"{stage.seconds:,.1f} s"
        rejected = sum(stage.rejected.values())
        rows.append((name, stage.input, stage.records_in, stage.records_out, rejected, ", ".join(why), time))
    console.table(("stage", "from", "in#", "out#", "rejected#", "why", "time#"), rows)


def _heading(run: Path, found: RunReport) -> None:
    console.say(f"run        {run}")
    described = {name: found.run.get(name) for name in ("pipeline", "options", "opened", "seed")}
    for name, value in described.items():
        if value not in (None, {}):
            shown = ", ".join(f"{key}={held}" for key, held in value.items()) if isinstance(value, dict) else value
            console.say(f"{name:<11}{shown}")
    for role, identity in (found.run.get("roles") or {}).items():
        console.say(f"{role:<11}{identity}")
    console.say()


def _calls(found: RunReport) -> None:
    if not found.calls:
        console.say("no completion has been drawn")
        return
    columns = (
        "teacher",
        "prompt",
        "sampling",
        "completions#",
        "tokens in#",
        "out#",
        "reasoning#",
        "cached#",
        "s/call#",
        "cost#",
    )
    rows: list[tuple[object, ...]] = [
        (
            call.teacher,
            call.prompt,
            call.sampling if call.sampling != "{}" else "",
            call.completions,
            call.prompt_tokens,
            call.completion_tokens,
            call.reasoning_tokens or "",
            call.cached_tokens or "",
            "" if call.seconds is None else f"{call.seconds:.2f}",
            dollars(call.cost),
        )
        for call in found.calls
    ]
    if len(rows) > 1:
        sums = [
            sum(getattr(call, name) for call in found.calls)
            for name in ("completions", "prompt_tokens", "completion_tokens")
        ]
        known = [call.cost for call in found.calls if call.cost is not None]
        whole = dollars(sum(known) if len(known) == len(found.calls) else None)
        rows.append(("all", "", "", *sums, "", "", "", whole))
    console.table(columns, rows)


def dollars(cost: float | None) -> str:
    """An amount of money; one that nobody knows is said to be unknown."""
    return "unknown" if cost is None else f"${cost:,.2f}" if cost >= 100 or not cost else f"${cost:,.4f}"


def _rejects(found: RunReport) -> None:
    """One line for each stage and reason, with an example."""
    examples = {(reject.stage, reject.reason): reject for reject in found.rejects}
    rows = []
    for stage in found.stages:
        for reason, count in stage.rejected.items():
            reject = examples.get((stage.name, reason))
            example = (
                "" if reject is None else console.short(reject.detail if reject.detail != reason else _text(reject))
            )
            rows.append((stage.name, reason, count, example))
    if rows:
        console.table(("rejected in", "why", "records#", "for example"), rows)
        console.say("--rejects N shows N of each with the record")


def _rejects_in_full(rejects: Sequence[RejectReport]) -> None:
    import orjson

    for reject in rejects:
        console.say(f"{reject.stage}: {reject.reason}, record {reject.id}")
        console.say(f"  {reject.detail}")
        for name, value in reject.body.items():
            if value not in (None, [], {}, ""):
                text = value if isinstance(value, str) else orjson.dumps(value).decode()
                console.say(f"  {name}: {console.short(text, 1000)}")
        console.say()


def _text(reject: RejectReport) -> str:
    """The record's prompt, or whatever it has."""
    prompt = reject.body.get("prompt", reject.body)
    if isinstance(prompt, list):
        prompt = prompt[-1].get("content", prompt) if isinstance(prompt[-1], dict) else prompt
    return str(prompt)
