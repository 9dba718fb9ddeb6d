"""The commands and their names: the only place where the command line is put together."""

from __future__ import annotations

from typing import Annotated

import typer

from synthkd.cli import console, doctor, estimate, evaluate, prompts, report, run, train
from synthkd.cli.failures import Command
from synthkd.cli.options import PipelineCommand

app = typer.Typer(
    name="synthkd",
    rich_markup_mode=None,  # half of the start, and it reads [train] in a help text as markup
    pretty_exceptions_enable=False,
    add_completion=False,
    no_args_is_help=True,
)


def _version(wanted: bool) -> None:
    if wanted:
        version()
        raise typer.Exit


@app.callback()
def synthkd(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Black-box distillation of large language models: from seeds to a measured student.

    \b
    Start here:
      synthkd doctor                        what is installed, which keys are set
      synthkd run pipelines/quickstart.py   a pipeline, from its file
      synthkd estimate mine.py              what it will cost, from a pilot of a few records
      synthkd report runs/quickstart        what became of it
    """


app.command("run", cls=PipelineCommand)(run.run)
app.command("estimate", cls=PipelineCommand)(estimate.estimate)
app.command("report", cls=Command)(report.report)
app.add_typer(prompts.app, name="prompts", help="Look at prompts, and at what they render to.")
app.add_typer(train.app, name="train", help="Train a student on what a run has saved.")
app.command("eval", cls=Command)(evaluate.evaluate)
app.command("doctor", cls=Command)(doctor.doctor)


@app.command("version", cls=Command)
def version() -> None:
    """Show the version."""
    console.say(doctor.own_version())
