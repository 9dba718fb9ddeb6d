"""`synthkd doctor`: the only place that looks at the machine and at what is installed.

Invariant: of a key it is said whether it is set, never what it is.
"""

from __future__ import annotations

import os
import platform
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires, version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from synthkd.cli import console
from synthkd.errors import ConfigError, SynthKDError, TeacherError

if TYPE_CHECKING:
    from synthkd.request import Completion, Teacher

_VARIABLES = {
    "OPENAI_API_KEY": "the key for OpenAI, and for OPENAI_BASE_URL",
    "OPENAI_BASE_URL": "where openai:MODEL goes instead of OpenAI",
    "SYNTHKD_API_KEY": "the key for any other openai:MODEL@URL",
    "HF_TOKEN": "for private models and datasets on the Hub",
    "HTTPS_PROXY": "the way out, where there is only a proxy",
}
_PATIENCE = 120.0
"""Seconds that a teacher gets for its one answer, loading included."""


def doctor(
    teacher: Annotated[
        str | None,
        typer.Option(metavar="SPEC", help="Also ask this teacher one tiny question (64 tokens at most)."),
    ] = None,
) -> None:
    """Look at what is installed, which keys are set, and what the machine has.

    \b
    Examples:
      synthkd doctor
      synthkd doctor --teacher openai:gpt-4.1-mini
      synthkd doctor --teacher openai:Qwen/Qwen3-8B@http://127.0.0.1:8000/v1
    """
    _machine()
    healthy = _packages()
    console.table(
        ("variable", "is", "what for"),
        [(name, "set" if os.environ.get(name) else "not set", use) for name, use in _VARIABLES.items()],
    )
    if teacher is not None:
        _try(teacher)
    if not healthy:
        raise typer.Exit(1)


def own_version() -> str:
    """The installed version of synthkd."""
    try:
        return version("synthkd")
    except PackageNotFoundError:
        return f"unknown (not installed, running from {Path(__file__).parents[2]})"


def _machine() -> None:
    console.say(f"synthkd  {own_version()}")
    console.say(f"python   {platform.python_version()} on {platform.platform()}")
    console.say(f"cpu      {_cores()} cores{_memory()}")
    for line in _gpus() or ["none found"]:
        console.say(f"gpu      {line}")
    free = shutil.disk_usage(Path.cwd()).free
    console.say(f"disk     {free / 2**30:,.1f} GiB free in {Path.cwd()}")
    console.say()


def _cores() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _memory() -> str:
    try:
        return f", {os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:,.1f} GiB memory"
    except (AttributeError, OSError, ValueError):  # not on Windows
        return ""


def _gpus() -> list[str]:
    """What nvidia-smi says, which is quicker than asking torch."""
    command = shutil.which("nvidia-smi")
    if command is None:
        return []
    query = [command, "--query-gpu=name,memory.total", "--format=csv,noheader"]
    try:
        said = subprocess.run(query, capture_output=True, text=True, timeout=20, check=True).stdout
    except (OSError, subprocess.SubprocessError) as error:
        return [f"nvidia-smi failed: {console.short(str(error))}"]
    return [line.strip() for line in said.splitlines() if line.strip()]


def _packages() -> bool:
    """Tell what is installed; whether the core is complete."""
    needed = list(_requirements())
    if not needed:
        console.say("packages unknown: synthkd is not installed. In its folder: pip install -e '.[train,eval]'")
        return True
    rows, poor = [], set()
    for extra, name, wanted in needed:
        found, fits = _installed(name, wanted)
        rows.append((extra or "core", name, wanted, found if fits else f"{found}  <--"))
        if not fits:
            poor.add(extra)
    console.table(("for", "package", "needs", "has"), rows)
    for extra in sorted(poor):
        package = f"'synthkd[{extra}]'" if extra else "--upgrade synthkd"
        console.say(f"{extra or 'core'} is not complete: pip install {package}")
    return "" not in poor


def _requirements() -> Iterator[tuple[str, str, str]]:
    """Extra (empty for the core), name and versions of what is required on this platform; `dev` left out."""
    from packaging.requirements import Requirement

    try:
        lines = requires("synthkd") or []
    except PackageNotFoundError:
        return
    for line in lines:
        requirement = Requirement(line)
        extra = re.search(r"extra == ['\"]([\w-]+)['\"]", line)
        name = extra[1] if extra else ""
        if name != "dev" and (requirement.marker is None or requirement.marker.evaluate({"extra": name})):
            yield name, requirement.name, str(requirement.specifier)


def _installed(name: str, wanted: str) -> tuple[str, bool]:
    from packaging.specifiers import SpecifierSet

    try:
        found = version(name)
    except PackageNotFoundError:
        return "missing", False
    return found, SpecifierSet(wanted).contains(found, prereleases=True)


def _try(spec: str) -> None:
    """One tiny request, and what came of it."""
    import asyncio

    from synthkd.teachers import teacher_from
    from synthkd.teachers.endpoint import without_secrets

    batch, single = "openai-batch:", spec
    console.say(f"asking   {console.short(without_secrets(spec))}")
    if spec.startswith(batch):  # a batch may take a day
        single = "openai:" + spec.removeprefix(batch)
        console.say("         by a single request at the full price; a batch of one would be waited for")
    began = time.monotonic()
    try:
        teacher = teacher_from(single)
        completion = asyncio.run(_one_answer(teacher))
    except ConfigError:
        raise
    except SynthKDError as error:
        error.add_note(f"That took {time.monotonic() - began:.1f} s.")
        raise
    seconds = time.monotonic() - began
    usage = completion.usage
    console.say(f"is       {teacher.identity}" + (f" (answers as {completion.model})" if completion.model else ""))
    console.say(f"said     {console.short(completion.text) or '(no text)'}")
    if completion.reasoning:
        console.say(f"thought  {console.short(completion.reasoning)}")
    console.say(f"ended    {completion.finish_reason}, {usage.prompt_tokens} tokens in, {usage.completion_tokens} out")
    console.say(f"took     {seconds:.2f} s")


async def _one_answer(teacher: Teacher) -> Completion:
    import asyncio

    from synthkd.message import Message
    from synthkd.request import Request, Sampling

    request = Request((Message("user", "Reply with the one word: ready"),), str, Sampling(max_tokens=64))
    try:
        if (watch := getattr(teacher, "watch", None)) is not None:  # a server that is started tells how it goes
            watch(console.say)
        patience = _PATIENCE + getattr(teacher, "start_timeout", 0.0)
        async with asyncio.timeout(patience):
            found = await teacher.generate(request)
    except TimeoutError:
        raise TeacherError(f"{teacher.identity}: no answer within {patience:g} s.") from None
    finally:
        await teacher.aclose()
    if not found:
        raise TeacherError(f"{teacher.identity} answered without any choice.")
    return found[0]
