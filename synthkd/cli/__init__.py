"""The command line: the only place that reads arguments and writes to the terminal for a person.

Invariant: importing it, and asking it for help, loads typer and nothing heavier; what a command needs is imported when
the command runs.
"""

from __future__ import annotations

import contextlib
import io
import sys

__all__ = ["main"]


def main() -> None:
    """The entry point `synthkd`, also behind `python -m synthkd.cli`."""
    from synthkd.cli.app import app

    sys.argv[0] = "synthkd"  # what a run repeats when it says how to resume
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(AttributeError, io.UnsupportedOperation):
            stream.reconfigure(errors="replace")  # type: ignore[union-attr]  # a record's text never breaks the terminal
    app(prog_name="synthkd")
