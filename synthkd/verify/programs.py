"""Programs: the only place that finds a program in a text and decides whether it does what it should.

Invariants: no program is run anywhere but in a `Sandbox`. A program passes tests only where they were run to their end,
and tests that check nothing pass nothing. Reasons are few and fixed, because the ledger counts by them.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from synthkd.errors import ConfigError
from synthkd.verify import harness
from synthkd.verify.answers import exact, final_answer
from synthkd.verify.fences import blocks
from synthkd.verify.sandbox import Outcome, Sandbox, Status

Reason = Literal[
    "no program",
    "program failed",
    "tests failed",
    "unreadable tests",
    "no tests",
    "no answer",
    "wrong answer",
    "timed out",
    "out of memory",
    "too much output",
]
Tests = str | Sequence[str] | Sequence[Sequence[str]] | Sequence[Mapping[str, str]]
"""What a program is tested by: Python code, as one text or as lines of it; or pairs of standard input and output."""

_PYTHON = ("python", "py", "python3")
_DEFINES = re.compile(r"^(?:async[ \t]+def|def|class)[ \t]+(\w+)", re.MULTILINE)
_BEGINS = re.compile(
    r"^(?:(?:async )?def |class |import |from \w[\w.]* import |print\(|@\w|\w+ ?(?:: ?\w+ ?)?= ?\S)", re.MULTILINE
)
_CHECK = re.compile(r"^def check\(", re.MULTILINE)
_CHECKED = re.compile(r"^check\(", re.MULTILINE)
_AT_LIMIT: dict[Status, Reason] = {"timeout": "timed out", "memory": "out of memory", "output": "too much output"}


@dataclass(frozen=True, slots=True)
class Verdict:
    """What running a program showed; true where it did what it should."""

    reason: Reason | None
    """Why not; `None` where it did."""
    outcome: Outcome | None = None
    """Of the run that decided; `None` where nothing was run. Its `stderr` tells a teacher what went wrong."""

    def __bool__(self) -> bool:
        return self.reason is None


def program_of(text: str, *, defines: str | None = None) -> str | None:
    """The Python program in a completion; `None` where it has none.

    Of its fenced blocks in Python (or else in no named language) the last one that defines a function or class, or
    else the last one. A text without any fence is the program where a line of it begins like Python. A fence that is
    left open is a completion that was cut, and what stands in it no program.

    Args:
        text: The completion.
        defines: The function or class that the program must define; the last block that does is taken, if any does.
    """
    found, left_open = blocks(text)
    full = [block for block in found if block.code.strip()]
    codes = [block.code for block in full if block.language in _PYTHON]
    codes = codes or [block.code for block in full if not block.language]
    if codes:
        named = [code for code in codes if defines and defines in _DEFINES.findall(code)]
        return (named or [code for code in codes if _DEFINES.search(code)] or codes)[-1]
    if left_open or found or not _BEGINS.search(text):
        return None
    return text


def passes(program: str | None, tests: Tests, *, entry: str | None = None, sandbox: Sandbox | None = None) -> Verdict:
    """Whether a program passes unit tests, in a sandbox. From a coroutine: `await aside(passes, program, tests)`.

    Tests are code that is run after the program, in its names: plain asserts; or a `check(candidate)` as HumanEval has
    it, which is given the program's `entry`; or functions `test...()` and unittest's cases, which are called; they may
    also import from `solution`. Or they are pairs of standard input and expected output (`("3\\n", "9\\n")`, or
    mappings with `input` and `output`), for each of which the program is run; white space at the ends of lines does
    not count.

    Args:
        program: Its code; `None` has not passed.
        tests: See above.
        entry: The name of the function that `check` is given.
        sandbox: Where it runs; each run has its limits.

    Returns:
        A verdict that is true where all tests are passed.

    Raises:
        ConfigError: There is no sandbox, or the tests have no such form.
        RunError: The sandbox does not start any more.

    Reference: Chen et al. 2021, Evaluating Large Language Models Trained on Code, arXiv:2107.03374.
    """
    together = _code(tests)
    pairs = [] if together is not None else _pairs(tests)
    if together is not None and _CHECK.search(together) and not _CHECKED.search(together) and not entry:
        raise ConfigError("The tests define check(candidate) and do not call it: say which function with entry=NAME.")
    if program is None:
        return Verdict("no program")
    sandbox = sandbox or Sandbox()
    if together is not None:
        return _tested(program, together, entry, sandbox)
    if not pairs:
        return Verdict("no tests")
    for given, expected in pairs:
        outcome = sandbox.run(program, stdin=given)
        verdict = _ended(outcome)
        if verdict and _lines(outcome.stdout) != _lines(expected):
            verdict = Verdict("tests failed", outcome)
        if not verdict:
            return verdict
    return verdict


def prints(
    program: str | None,
    gold: str | float,
    *,
    by: Callable[[str, str], bool] = exact,
    sandbox: Sandbox | None = None,
) -> Verdict:
    """Whether the last line that a program prints is the known answer, or ends with it (program of thought).

    Args:
        program: Its code; `None` has no answer.
        gold: The known answer, alone.
        by: From the printed and the known answer to whether they are the same: `exact` or `matches`.
        sandbox: Where it runs.

    Raises:
        ConfigError: There is no sandbox.
        RunError: The sandbox does not start any more.

    Reference: Chen et al. 2022, Program of Thoughts Prompting, arXiv:2211.12588.
    """
    if program is None:
        return Verdict("no program")
    outcome = (sandbox or Sandbox()).run(program)
    verdict = _ended(outcome)
    if not verdict:
        return verdict
    lines = _lines(outcome.stdout)
    if not lines:
        return Verdict("no answer", outcome)
    known, said = str(gold), lines[-1].strip()
    if by(said, known) or ((found := final_answer(said)) is not None and by(found, known)):
        return verdict
    return Verdict("wrong answer", outcome)


def runs(program: str | None, *, sandbox: Sandbox | None = None) -> Verdict:
    """Whether a program runs to its end with exit code 0."""
    return Verdict("no program") if program is None else _ended((sandbox or Sandbox()).run(program))


def _tested(program: str, tests: str, entry: str | None, sandbox: Sandbox) -> Verdict:
    mark = secrets.token_hex(16)
    # by standard input, so that the program finds no file with its tests
    told = json.dumps({"mark": mark, "tests": tests, "entry": entry or ""})
    outcome = sandbox.run(harness.TEXT, stdin=told, files={harness.PROGRAM: program})
    came = set(re.findall(rf"{mark}(\w+)\n", outcome.stderr))
    outcome = replace(outcome, stderr=re.sub(rf"{mark}\w+\n", "", outcome.stderr))
    if outcome.status in _AT_LIMIT:
        return Verdict(_AT_LIMIT[outcome.status], outcome)
    if harness.READABLE not in came:
        return Verdict("unreadable tests", outcome)
    if harness.LOADED not in came:
        return Verdict("program failed", outcome)
    if harness.PASSED not in came or outcome.exit_code != 0:
        return Verdict("tests failed", outcome)
    return Verdict(None if harness.CALLED in came else "no tests", outcome)


def _ended(outcome: Outcome) -> Verdict:
    if outcome.status in _AT_LIMIT:
        return Verdict(_AT_LIMIT[outcome.status], outcome)
    return Verdict(None if outcome.status == "ok" else "program failed", outcome)


def _code(tests: Any) -> str | None:
    """Tests that are code, as one text; `None` for others."""
    if isinstance(tests, str):
        return tests
    if isinstance(tests, Sequence) and tests and all(isinstance(line, str) for line in tests):
        return "\n".join(tests)
    return None


def _pairs(tests: Any) -> list[tuple[str, str]]:
    found = []
    for pair in tests if isinstance(tests, Sequence) else [tests]:
        if isinstance(pair, Mapping):
            pair = (pair.get("input"), pair.get("output"))
        if not isinstance(pair, Sequence) or len(pair) != 2 or not all(isinstance(one, str) for one in pair):
            raise ConfigError(
                f"Tests are {str(pair)[:80]!r}; expected Python code, or pairs of standard input and output such as "
                "[('3\\n', '9\\n')] or [{'input': '3\\n', 'output': '9\\n'}]."
            )
        found.append((pair[0], pair[1]))
    return found


def _lines(text: str) -> list[str]:
    """Lines without white space at their ends, and without empty ones at the text's end."""
    return [line.rstrip() for line in text.rstrip().split("\n")] if text.strip() else []
