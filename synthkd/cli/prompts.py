"""`synthkd prompts`: the only place that shows templates, and what they render to, before anything is paid for."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer

from synthkd.cli import console
from synthkd.cli.arguments import pairs
from synthkd.cli.failures import Command
from synthkd.errors import DataError

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)

Name = Annotated[
    str, typer.Argument(metavar="NAME", help="A built-in prompt (labeling/answer), or the path of a .jinja file.")
]


@app.command("list", cls=Command)
def list_() -> None:
    """List the built-in prompts with their variables and sources."""
    from synthkd.prompt import Prompt
    from synthkd.templates import builtin_names

    rows = []
    for name in builtin_names():
        prompt = Prompt(name, str)
        rows.append((name, ", ".join(prompt.variables), prompt.source))
    console.table(("name", "variables", "source"), rows)


@app.command("show", cls=Command)
def show(name: Name) -> None:
    """Show a template as its file has it: the start for one of your own.

    \b
    Example:
      synthkd prompts show feedback/rate > mine.jinja
    """
    from synthkd.prompt import Prompt

    prompt = Prompt(name, str)
    console.remark(f"{prompt.path} ({prompt.label})")
    console.say(prompt.text.rstrip("\n"))


@app.command("render", cls=Command)
def render(
    name: Name,
    value: Annotated[
        list[str] | None,
        typer.Option(
            "-v", metavar="NAME=VALUE", help="A variable's value, a list or an object as JSON; may be repeated."
        ),
    ] = None,
    record: Annotated[
        str | None,
        typer.Option(
            metavar="FILE[:ROW]", help="Take the variables from a row of a file or a saved dataset; else the first."
        ),
    ] = None,
    field: Annotated[
        list[str] | None,
        typer.Option(metavar="FIELD=COLUMN", help="Where the row has another name for a field: prompt=question."),
    ] = None,
) -> None:
    """Print the messages that a template gives, as a teacher would see them.

    A prompt whose reply is typed is sent with the reply's JSON schema beside it, or in its last message where the
    teacher does not enforce schemas.

    \b
    Examples:
      synthkd prompts render labeling/answer -v instruction="What is 2 + 3?"
      synthkd prompts render mine.jinja --record seeds.jsonl:12 -v answer=5
    """
    from synthkd.prompt import Prompt

    prompt = Prompt(name, str)
    texts = pairs(value, "-v", "instruction='What is 2 + 3?'")
    given = {name: _value(text) for name, text in texts.items()}
    columns = pairs(field, "--field", "prompt=question")
    offered = {**(_record(record, columns) if record else {}), **given}
    fields = {**given, **{name: offered[name] for name in prompt.variables if name in offered}}
    for message in prompt.render(**fields).messages:
        console.say(f"[{message.role}]")
        console.say(message.text)
        for image in message.images:
            console.say(f"[image {image.url}]")
        console.say()


def _value(text: str) -> Any:
    """JSON where the text is a list or an object, else the text itself."""
    import orjson

    if text.startswith(("[", "{")):
        try:
            return orjson.loads(text)
        except orjson.JSONDecodeError:
            pass
    return text


def _record(place: str, columns: Mapping[str, str]) -> Mapping[str, Any]:
    """What a template may use of one row: its columns, and what it offers as an instruction."""
    from itertools import islice

    from synthkd import Instruction
    from synthkd.data import read
    from synthkd.data.opening import open_source

    path, _, number = place.rpartition(":")
    if not path or not number.isdecimal() or Path(place).exists():
        path, number = place, "1"
    found = next(islice(open_source(path, "train").scan(), max(int(number), 1) - 1, None), None)
    if found is None or number == "0":
        raise DataError(f"--record {place}: {path} has no row {number}; rows are counted from 1.")
    row = dict(found[1])
    try:
        instruction = read([row], Instruction, fields=columns)[0].variables()
    except DataError:
        if columns:
            raise
        instruction = {}  # nothing in it is called a prompt: its columns are all there is
    return {**row, **instruction}
