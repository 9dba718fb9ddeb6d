"""`synthkd eval`: the only place that measures from the command line how many problems each model solves."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from synthkd.cli import console
from synthkd.cli.arguments import pairs
from synthkd.cli.opening import SPEC, opened, players
from synthkd.teachers import FORMS


def evaluate(
    problems: Annotated[
        str, typer.Argument(metavar="PROBLEMS", help="Held-out problems: .jsonl, .json, .csv, .parquet, or a dataset.")
    ],
    student: Annotated[str, typer.Option(metavar=SPEC, help=f"Who is measured: {FORMS}.")],
    gold: Annotated[str, typer.Option(metavar="COLUMN", help="The column with the right answers.")],
    out: Annotated[Path, typer.Option(metavar="RUN", help="The folder in which the answers are kept.")],
    teacher: Annotated[str | None, typer.Option(metavar=SPEC, help="Its teacher, measured beside it.")] = None,
    base: Annotated[str | None, typer.Option(metavar=SPEC, help="What it was before training.")] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Where a column has another name: prompt=question."),
    ] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="Use only the first N problems.")] = None,
    max_tokens: Annotated[int | None, typer.Option(metavar="N", help="The most tokens of one answer.")] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress.")] = False,
) -> None:
    """Count how many problems a student solves, beside its teacher and what it was before.

    Each is asked the problem as it stands, greedily; a problem without a usable answer counts as wrong. The same
    command again asks only what is owed.

    \b
    Example:
      synthkd eval gsm8k_test.jsonl --field prompt=question --gold answer --out runs/gsm8k-eval \\
        --student local:students/x --base local:Qwen/Qwen3-0.6B --teacher openai:gpt-4.1-mini
    """
    from synthkd import Instruction, Sampling, data
    from synthkd.evaluation import accuracy
    from synthkd.strategies import Answer

    fields = {f"meta.{gold}": gold, **pairs(field, "--field", "prompt=question")}
    asked = data.read(problems, Instruction, fields=fields, limit=limit)
    models = players({"teacher": teacher, "base": base, "student": student})
    about = {"pipeline": "synthkd eval", "options": {"problems": problems, "gold": gold, "limit": limit}}
    with opened(out, models, about, quiet=quiet) as run:
        strategy = Answer(sampling=Sampling(temperature=0.0, max_tokens=max_tokens))
        found = accuracy(run, asked, models, gold=gold, strategy=strategy)
    rows = []
    for name, one in found.items():
        low, high = one.interval
        rows.append(
            (name, models[name].identity, one.correct, one.total, f"{one.share:.1%}", f"{low:.1%} to {high:.1%}")
        )
    console.table(("model", "is", "right#", "of#", "accuracy#", "95 % interval"), rows)
    console.say(f"answers  synthkd report {out}")
