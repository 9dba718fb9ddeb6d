"""`synthkd run`: the only place that gives a pipeline its run and its options.

The same command again resumes: a run's folder holds every call that was paid for.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from synthkd.cli import console
from synthkd.cli.arguments import pairs
from synthkd.cli.failures import Command, reported
from synthkd.cli.opening import FORMS, SPEC, opened, players
from synthkd.cli.pipeline import Pipeline, load
from synthkd.errors import UnknownTeacher


class RunCommand(Command):
    """`synthkd run`, whose help also tells the options of the pipeline that it is given."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """Remember what stands on the command line, for the help."""
        ctx.meta["synthkd.args"] = list(args)
        return super().parse_args(ctx, args)

    def get_help(self, ctx: Any) -> str:
        """The command's help, and that of the pipeline's file where one is named."""
        text = super().get_help(ctx)
        named = (Path(arg) for arg in ctx.meta.get("synthkd.args", ()) if arg.endswith(".py"))
        path = next((path for path in named if path.is_file()), None)
        if path is None:
            return text
        with reported():
            return f"{text}\n\n{described(load(path))}"


def described(pipeline: Pipeline) -> str:
    """What a pipeline does and takes."""
    lines = [f"Pipeline {pipeline.path}:"]
    if pipeline.about:
        lines += ["", *(f"  {line}".rstrip() for line in pipeline.about.splitlines())]
    lines += ["", "Options of the pipeline (-p NAME=VALUE; seeds and limit also as --seeds, --limit):"]
    lines += [f"  {parameter}{'  [required]' if parameter.required else ''}" for parameter in pipeline.parameters]
    if not pipeline.parameters:
        lines.append("  none")
    if pipeline.roles:
        lines += ["", "Who plays which role, unless the command line says otherwise:"]
        lines += [
            f"  {role}: {player if isinstance(player, str) else player.identity}"
            for role, player in pipeline.roles.items()
        ]
    return "\n".join(lines)


def run(
    file: Annotated[
        Path, typer.Argument(metavar="FILE.py", help="The pipeline: a file with `def pipeline(run, ...)`.")
    ],
    teacher: Annotated[str | None, typer.Option(metavar=SPEC, help=f"Who answers: {FORMS}.")] = None,
    judge: Annotated[str | None, typer.Option(metavar=SPEC, help="Who compares and scores; else the teacher.")] = None,
    student: Annotated[str | None, typer.Option(metavar=SPEC, help="The model being trained.")] = None,
    role: Annotated[
        list[str] | None, typer.Option(metavar="NAME=SPEC", help="A teacher by a further name; may be repeated.")
    ] = None,
    seeds: Annotated[str | None, typer.Option(metavar="FILE", help="The pipeline's parameter `seeds`.")] = None,
    limit: Annotated[int | None, typer.Option(metavar="N", help="The pipeline's parameter `limit`.")] = None,
    option: Annotated[
        list[str] | None, typer.Option("-p", metavar="NAME=VALUE", help="Any other parameter; may be repeated.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FOLDER", help="The run's folder. [default: runs/NAME OF THE FILE]")
    ] = None,
    seed: Annotated[int, typer.Option(metavar="N", help="What every random choice derives from.")] = 0,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Say nothing but errors.")] = False,
) -> None:
    """Run a pipeline from its file, or resume it where it stopped.

    The same command again makes only the calls that are still owed. With FILE.py and --help, the options of that
    pipeline are shown too.

    \b
    Examples:
      synthkd run pipelines/quickstart.py
      synthkd run pipelines/quickstart.py --help
      synthkd run mine.py --teacher openai:gpt-4.1-mini --seeds seeds.jsonl -p rounds=3
      synthkd run mine.py --teacher openai:Qwen/Qwen3-8B@http://127.0.0.1:8000/v1 --out runs/qwen

    Keys are read from the environment: OPENAI_API_KEY for OpenAI, SYNTHKD_API_KEY for any other URL.
    """
    pipeline = load(file)
    options = pipeline.options({"seeds": seeds, "limit": None if limit is None else str(limit)}, option or ())
    specs = {
        "teacher": teacher,
        "judge": judge,
        "student": student,
        **pairs(role, "--role", "critic=openai:gpt-4.1-mini"),
    }
    roles = players({**pipeline.roles, **{name: spec for name, spec in specs.items() if spec is not None}})
    folder = out or Path("runs") / file.stem
    about = {"pipeline": str(pipeline.path), "options": pipeline.described(options)}
    try:
        with opened(folder, roles, about, seed, quiet) as the_run:
            pipeline.function(the_run, **options)
    except UnknownTeacher as error:
        error.add_note(f"On the command line: --teacher, --judge, --student SPEC or --role NAME=SPEC ({FORMS}).")
        raise
    if not quiet:
        _summary(folder)


def _summary(folder: Path) -> None:
    """A short table of the stages, and where things are."""
    from synthkd.cli.report import stage_table
    from synthkd.report import read_report

    found = read_report(folder, examples=0)
    stage_table(found.stages)
    console.say(f"run      {folder}")
    if (folder / "dataset").is_dir():
        console.say(f"dataset  {folder / 'dataset'}")
    console.say(f"more     synthkd report {folder}")
