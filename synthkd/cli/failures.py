"""How a command ends: the only place where an exception becomes words on the terminal and an exit code.

    2    ConfigError: fix the command, the file or the code; one sentence
    1    any other SynthKDError: the run stopped, and the same command resumes it; one sentence
    1    any other exception: a bug, with the traceback of the user's own frames
    130  Ctrl-C

Invariant: values of variables are never shown, because one of them may be a key.
"""

from __future__ import annotations

import errno
import os
import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from synthkd.cli import console
from synthkd.errors import ConfigError, SynthKDError

_MACHINERY = ("synthkd", "typer", "asyncio", "concurrent.futures")


class Command(TyperCommand):
    """A command whose failures are reported by this module."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command's function."""
        with reported():
            return super().invoke(ctx)


@contextmanager
def reported() -> Iterator[None]:
    """Turn what escapes into words and an exit code."""
    try:
        yield
    except typer.Exit:
        raise
    except KeyboardInterrupt:
        raise typer.Exit(130) from None
    except SynthKDError as error:
        console.complain(error)
        raise typer.Exit(2 if isinstance(error, ConfigError) else 1) from None
    except Exception as error:
        if isinstance(error, OSError) and error.errno == errno.EPIPE:  # the reader has seen enough: typer ends quietly
            raise
        console.remark(_traceback(error).rstrip())
        raise typer.Exit(1) from None


def _traceback(error: Exception) -> str:
    """Python's own traceback, without the frames between the command line and the user's code."""
    told = traceback.TracebackException.from_exception(error)
    pending, seen = [told], set()
    while pending:
        one = pending.pop()
        if id(one) in seen:
            continue
        seen.add(id(one))
        # A syntax error names its file and line itself.
        syntax = getattr(one, "filename", None) is not None
        one.stack = traceback.StackSummary.from_list([] if syntax else _telling(one.stack))
        pending += [other for other in (one.__cause__, one.__context__, *(one.exceptions or ())) if other is not None]
    return "".join(told.format())


def _telling(frames: traceback.StackSummary) -> list[traceback.FrameSummary]:
    """The user's frames, and whatever comes after the last of them: that is where it broke."""
    specs = [find_spec(name) for name in _MACHINERY]
    folders = [Path(spec.origin).parent for spec in specs if spec is not None and spec.origin]
    hidden = ("<frozen ", *(f"{folder}{os.sep}" for folder in folders))
    own = [place for place, frame in enumerate(frames) if not frame.filename.startswith(hidden)]
    if not own:
        return list(frames)
    return [frame for place, frame in enumerate(frames) if place in own or place > own[-1]]
