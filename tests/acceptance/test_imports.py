"""What importing and constructing synthkd does to the machine around it: nothing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Loopback

NO_NETWORK = """
import sys
sys.modules["uvloop"] = None  # the interpreter's audit hook sees no sockets that uvloop opens
seen = []
WATCHED = ("socket.connect", "socket.sendto", "socket.sendmsg", "socket.bind", "socket.getaddrinfo", "socket.gethostby",
           "urllib.Request", "http.client.connect", "ftplib.connect", "smtplib.connect")
def watch(event, args):
    if event.startswith(WATCHED):
        seen.append((event, args[1:]))
sys.addaudithook(watch)
"""
EVERYTHING = """
import pkgutil, importlib, synthkd
for module in pkgutil.walk_packages(synthkd.__path__, "synthkd."):
    if not module.name.endswith("__main__"):
        try:
            importlib.import_module(module.name)
        except ImportError as error:
            assert (error.name or "").split(".")[0] in EXTRAS, (module.name, error)
"""
EXTRAS = "EXTRAS = {'torch', 'transformers', 'trl', 'peft', 'accelerate', 'safetensors', 'math_verify', 'matplotlib'}\n"
A_RUN = """
import sys
from synthkd import Instruction, Run
from synthkd.strategies import Answer, Sample
from synthkd.teachers import OpenAITeacher
with Run(sys.argv[1], teacher=OpenAITeacher("m", base_url=sys.argv[2]), quiet=True) as run:
    stage = run.map(Answer(), [Instruction(prompt=str(i)) for i in range(5)])
    assert [row.completion for row in stage] == [f"answer 0 to: {i}" for i in range(5)]
    print("ran")
"""


def python(code: str, *arguments: str) -> str:
    """Run code in a fresh interpreter; what it prints."""
    quiet = {name: value for name, value in os.environ.items() if not name.startswith(("HF_", "TRANSFORMERS_"))}
    command = [sys.executable, "-X", "faulthandler", "-c", code, *arguments]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=quiet)
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_import_and_construction_touch_no_network(tmp_path: Path) -> None:
    construct = """
from synthkd import Instruction, Prompt, Run
from synthkd.strategies import Answer, Rank, Rationale, Sample, SelfConsistency
from synthkd.teachers import OpenAITeacher, teacher_from
import synthkd.data, synthkd.card, synthkd.report, synthkd.cli, synthkd.teachers.endpoint
teacher = OpenAITeacher("gpt-4.1-mini", api_key="sk-none")
teacher_from("openai:m@http://127.0.0.1:9/v1")
for strategy in (Answer, Rank, Rationale, Sample, SelfConsistency):
    strategy()
with Run(sys.argv[1], teacher=teacher, quiet=True) as run:
    run.map(Answer(), [])
print(seen)
"""
    assert python(NO_NETWORK + construct, str(tmp_path)) == "[]"


def test_a_run_talks_to_its_endpoint_and_to_nobody_else(serve: Callable[..., Loopback], tmp_path: Path) -> None:
    server = serve()
    told = """
import datasets  # what saving needs, which has been known to phone home
with Run(sys.argv[1], teacher=OpenAITeacher("m", base_url=sys.argv[2]), quiet=True) as run:
    run.save(run.map(Answer(), [Instruction(prompt="0")]))
print(sorted({(event, *args) for event, args in seen}))
"""
    assert python(NO_NETWORK + A_RUN + told, str(tmp_path), server.url).splitlines() == [
        "ran",
        str([("socket.connect", ("127.0.0.1", server.port))]),
    ]


def test_the_first_names_are_there_at_once_and_pull_in_no_heavy_library() -> None:
    code = """
import sys, synthkd
from synthkd import Instruction, Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher
heavy = "torch transformers datasets pyarrow pandas numpy openai trl ray rich typer huggingface_hub aiohttp"
print(sorted(set(heavy.split()) & set(sys.modules)))
"""
    assert python(code) == "[]"


@pytest.mark.parametrize("loop", ["with uvloop", "without uvloop"])
def test_every_module_imports_and_a_run_works_without_what_only_posix_has(
    serve: Callable[..., Loopback], tmp_path: Path, loop: str
) -> None:
    # The standard library itself needs these on POSIX: it is loaded before they are taken away.
    blocked = """
import sys, asyncio, multiprocessing, subprocess, socket, tempfile, shutil, getpass, concurrent.futures, pathlib
for name in ("fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog", "curses", "readline"):
    sys.modules[name] = None
"""
    if loop == "without uvloop":
        blocked += 'sys.modules["uvloop"] = None\n'
    assert python(blocked + A_RUN, str(tmp_path), serve().url) == "ran"


def test_no_module_of_synthkd_needs_what_only_posix_has() -> None:
    watched = """
import builtins, sys
POSIX = {"fcntl", "termios", "tty", "pty", "pwd", "grp", "resource", "syslog", "curses", "readline", "uvloop"}
real = builtins.__import__
def importing(name, globals=None, *rest):
    if name.split(".")[0] in POSIX and (globals or {}).get("__name__", "").split(".")[0] == "synthkd":
        raise ImportError(f"{globals['__name__']} imports {name}", name=name)
    return real(name, globals, *rest)
builtins.__import__ = importing
"""
    assert int(python(EXTRAS + watched + EVERYTHING + "print(len(sys.modules))")) > 100
