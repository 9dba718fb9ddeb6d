"""`synthkd train`: the only place that calls a training function from the command line."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from synthkd.cli import console
from synthkd.cli.failures import Command

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Dataset = Annotated[Path, typer.Argument(metavar="DATASET", help="What `run.save` wrote, such as runs/x/dataset.")]
Student = Annotated[str, typer.Option(metavar="PATH", help="The model to train: a folder, or an id on the Hub.")]
Out = Annotated[Path, typer.Option(metavar="DIR", help="Where the student goes; an earlier one there is replaced.")]
Epochs = Annotated[float | None, typer.Option(metavar="N", help="Passes over the dataset. [default: 1]")]
MaxSteps = Annotated[int | None, typer.Option(metavar="N", help="End after so many steps instead.")]
Batch = Annotated[int | None, typer.Option(metavar="N", help="Rows in memory at a time. [default: 8]")]
Accumulate = Annotated[int | None, typer.Option(metavar="N", help="Batches that make one step. [default: 1]")]
Length = Annotated[
    int | None, typer.Option(metavar="N", help="Tokens of a row; longer ones are left out. [default: 2048]")
]
Lora = Annotated[int | None, typer.Option(metavar="RANK", help="Train low-rank adapters only, and merge them.")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="What order and adapters are drawn from. [default: 0]")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")]
SftRate = Annotated[float | None, typer.Option(metavar="RATE", help="Highest rate. [default: 2e-5; LoRA 2e-4]")]
DpoRate = Annotated[float | None, typer.Option(metavar="RATE", help="Highest rate. [default: 1e-6; LoRA 1e-5]")]
Beta = Annotated[float | None, typer.Option(metavar="B", help="How closely it stays to where it began. [default: 0.1]")]


@app.command("sft", cls=Command)
def sft(
    dataset: Dataset,
    student: Student,
    out: Out,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    lr: SftRate = None,
    batch_size: Batch = None,
    accumulate: Accumulate = None,
    max_length: Length = None,
    lora: Lora = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Supervised fine-tuning on demonstrations.

    \b
    Example:
      synthkd train sft runs/x/dataset --student Qwen/Qwen3-0.6B --out students/x --epochs 2 --lora 16
    """
    from synthkd import training

    options = _given(
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=lr,
        batch_size=batch_size,
        accumulate=accumulate,
        max_length=max_length,
        lora=lora,
        seed=seed,
    )
    _told(training.sft(dataset, student, out, quiet=quiet, **options), quiet)


@app.command("dpo", cls=Command)
def dpo(
    dataset: Dataset,
    student: Student,
    out: Out,
    beta: Beta = None,
    epochs: Epochs = None,
    max_steps: MaxSteps = None,
    lr: DpoRate = None,
    batch_size: Batch = None,
    accumulate: Accumulate = None,
    max_length: Length = None,
    lora: Lora = None,
    seed: Seed = None,
    quiet: Quiet = False,
) -> None:
    """Direct preference optimisation on pairs.

    \b
    Example:
      synthkd train dpo runs/x/dataset --student students/x --out students/x-dpo --beta 0.1
    """
    from synthkd import training

    options = _given(
        beta=beta,
        epochs=epochs,
        max_steps=max_steps,
        learning_rate=lr,
        batch_size=batch_size,
        accumulate=accumulate,
        max_length=max_length,
        lora=lora,
        seed=seed,
    )
    _told(training.dpo(dataset, student, out, quiet=quiet, **options), quiet)


def _given(**options: Any) -> dict[str, Any]:
    """What the command line says; the rest is the training function's own default."""
    return {name: value for name, value in options.items() if value is not None}


def _told(student: Path, quiet: bool) -> None:
    if not quiet:
        console.say(f"student  {student}")
        console.say(f"next     synthkd eval PROBLEMS --gold FIELD --student local:{student} --out RUN")
