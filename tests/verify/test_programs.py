"""Programs found in texts, and judged by what they do."""

from __future__ import annotations

import asyncio
import gzip
import json
import os
from pathlib import Path
from typing import Any

import pytest
from boxes import boxed
from hypothesis import given
from hypothesis import strategies as st

from synthkd.errors import ConfigError
from synthkd.verify import Limits, Sandbox, aside, passes, prints, program_of, runs
from synthkd.verify.fences import Block, blocks
from synthkd.verify.sandbox.aside import in_order

NINE = "assert square(3) == 9"
CASE = "import unittest\nclass T(unittest.TestCase):\n    def test(self): self.assertEqual(square(3), {})"
THREAD = "import threading, time\nthreading.Thread(target=time.sleep, args=(9,)).start()\n"
SQUARE = "def square(n):\n    return n * n\n"


@pytest.mark.parametrize(
    ("text", "program"),
    [
        ("Here:\n```python\nprint(1)\n```\nDone.", "print(1)\n"),
        ("```py\nprint(1)\n```", "print(1)\n"),
        ("~~~\nprint(1)\n~~~", "print(1)\n"),
        ("````python\n```\n````", "```\n"),
        ("1. So:\n   ```python\n   if x:\n       y()\n   ```", "if x:\n    y()\n"),
        ("```python\ndef f(): pass\n```\nFor example:\n```python\nprint(f())\n```\n```\n1\n```", "def f(): pass\n"),
        ("A draft:\n```python\ndef f(): 1\n```\nBetter:\n```python\ndef f(): 2\n```", "def f(): 2\n"),
        ("```bash\npip install x\n```\n```\nx = 1\n```", "x = 1\n"),
        ("def f(n):\n    return n", "def f(n):\n    return n"),
        ("    return n + 1", None),
        ("The answer is 42.", None),
        ("```bash\npip install x\n```", None),
        ("```python\nprint(1)", None),
        ("```python\n\n```", None),
        ("", None),
    ],
)
def test_the_program_in_a_text_is_found(text: str, program: str | None) -> None:
    assert program_of(text) == program


def test_the_block_that_defines_what_is_asked_for_is_taken() -> None:
    text = "```python\ndef square(n): ...\n```\n```python\ndef helper(n): ...\n```"
    assert program_of(text, defines="square") == "def square(n): ...\n"
    assert program_of(text, defines="cube") == "def helper(n): ...\n"


@given(st.text(alphabet="`~ \npython=1x", max_size=60))
def test_no_text_makes_it_fail_and_a_program_is_part_of_its_text(text: str) -> None:
    found = program_of(text)
    assert found is None or all(line in text for line in found.split("\n"))


@given(
    st.text(alphabet=st.characters(exclude_characters="`~\r", exclude_categories=["Cs"]), min_size=1).map("x{}".format)
)
def test_what_is_fenced_is_found_as_it_was(code: str) -> None:
    assert blocks(f"text\n```python\n{code}\n```\n") == ([Block("python", code + "\n")], False)


def test_a_very_long_text_is_read_at_once() -> None:
    assert program_of("word " * 200_000) is None
    assert program_of("`" * 1_000_000) is None
    assert program_of("```python\nx = 1\n```\n" * 50_000) == "x = 1\n"


@boxed
@pytest.mark.parametrize(
    ("program", "tests", "reason"),
    [
        (SQUARE, NINE, None),
        (SQUARE, [NINE, "assert square(-1) == 1"], None),
        (SQUARE, "def check(candidate):\n    assert candidate(3) == 9", None),
        (SQUARE, "from solution import square\ndef test_it():\n    assert square(3) == 9", None),
        (SQUARE, CASE.format(9), None),
        ("print('größer')\n" + SQUARE, NINE, None),
        ("if __name__ == '__main__': raise ValueError\n" + SQUARE, NINE, None),
        (THREAD + SQUARE, NINE, None),
        (SQUARE, "assert square(3) == 8", "tests failed"),
        (SQUARE, "def check(candidate):\n    assert candidate(3) == 8", "tests failed"),
        (SQUARE, "def test_it():\n    assert square(3) == 8", "tests failed"),
        (SQUARE, CASE.format(8), "tests failed"),
        (SQUARE, "assert cube(3) == 27", "tests failed"),
        ("def square(n): exit()", NINE, "tests failed"),
        ("import os\ndef square(n): os._exit(0)", NINE, "tests failed"),
        ("exit()\n" + SQUARE, NINE, "program failed"),
        ("import os; os._exit(0)\n" + SQUARE, "assert square(3) == 8", "program failed"),
        ("import sys\nprint('passed'); print('passed', file=sys.stderr); exit(0)", "assert False", "program failed"),
        ("def square(n:", NINE, "program failed"),
        (SQUARE, "assert square(3) ==", "unreadable tests"),
        (SQUARE, "", "no tests"),
        (SQUARE, "# nothing", "no tests"),
        (SQUARE, "def check_it():\n    assert square(3) == 8", "no tests"),
        (SQUARE, [], "no tests"),
        ("def square(n):\n    while True: pass", NINE, "timed out"),
        ("def square(n): return bytearray(900 * 2**20)", NINE, "out of memory"),
        ("def square(n):\n    for _ in range(1000): print('x' * 1000)", NINE, "too much output"),
        (None, NINE, "no program"),
    ],
)  # fmt: skip
def test_a_program_passes_what_it_should_and_nothing_else(program: str | None, tests: Any, reason: str | None) -> None:
    verdict = passes(program, tests, entry="square", sandbox=Sandbox(limits=Limits(seconds=2)))
    assert verdict.reason == reason
    assert bool(verdict) == (reason is None)
    assert verdict.outcome is None or not any(len(word) == 32 for word in verdict.outcome.stderr.split())


@boxed
@pytest.mark.parametrize(
    ("program", "reason"),
    [
        ("print(int(input()) ** 2)", None),
        ("print(int(input()) ** 2, end='  \\n\\n')", None),
        ("print(9)", "tests failed"),
        ("print('9 9')", "tests failed"),
        ("import sys; print(int(input()) ** 2); sys.exit(1)", "program failed"),
        ("pass", "tests failed"),
    ],
)
def test_a_program_passes_pairs_of_input_and_output(program: str, reason: str | None) -> None:
    assert passes(program, [("3\n", "9\n"), ("4\n", "16")]).reason == reason
    assert passes(program, [["3", "9"], ["4", "16\n"]]).reason == reason
    assert passes(program, [{"input": "3\n", "output": "9\n"}, {"input": "4\n", "output": "16\n"}]).reason == reason


@pytest.mark.parametrize("tests", [3, None, [3], [("1", 2)], [("1",)], {"input": "1"}, [{"in": "1", "out": "2"}]])
def test_tests_of_no_known_form_are_refused(tests: Any) -> None:
    with pytest.raises(ConfigError, match="pairs of standard input and output"):
        passes(SQUARE, tests)


def test_a_check_without_a_name_to_give_it_is_refused() -> None:
    with pytest.raises(ConfigError, match="entry=NAME"):
        passes(SQUARE, "def check(candidate):\n    assert candidate(3) == 9")


@boxed
def test_the_tests_lie_in_no_file_and_what_went_wrong_can_be_read() -> None:
    spy = "import os\nfor name in os.listdir('.'): assert '(7' + ')' not in open(name).read()\n" + SQUARE
    assert passes(spy, "assert square(7) == 49")
    verdict = passes("def square(n): return n", "assert square(7) == 49")
    assert verdict.outcome is not None
    assert "AssertionError" in verdict.outcome.stderr


@boxed
@pytest.mark.parametrize(
    ("program", "gold", "reason"),
    [
        ("print(6 * 7)", "42", None),
        ("print(6 * 7)", 42, None),
        ("print('working'); print(84 / 2)", "42", None),
        ("print('The answer is 42.')", "$42", None),
        ("print('größer')", "Größer", None),
        ("print(43)", "42", "wrong answer"),
        ("print(42); print(43)", "42", "wrong answer"),
        ("x = 42", "42", "no answer"),
        ("print(42); 1 / 0", "42", "program failed"),
        (None, "42", "no program"),
    ],
)
def test_a_printed_answer_is_compared_with_the_known_one(program: str | None, gold: str, reason: str | None) -> None:
    assert prints(program, gold).reason == reason


@boxed
def test_a_program_runs_or_does_not() -> None:
    assert runs("print(1)")
    assert runs("1 / 0").reason == "program failed"
    assert runs(None).reason == "no program"


@boxed
def test_several_drafts_are_judged_at_a_time_in_a_coroutine() -> None:
    drafts = [SQUARE.replace("n * n", f"n ** {power}") for power in (1, 2, 3)]

    async def verdicts() -> list[bool]:
        judged = await asyncio.gather(*(aside(passes, draft, "assert square(3) == 9") for draft in drafts))
        return [bool(verdict) for verdict in judged]

    assert asyncio.run(verdicts()) == [False, True, False]


@boxed
def test_all_solutions_of_human_eval_pass_and_none_that_gives_nothing() -> None:
    folder = os.environ.get("SYNTHKD_DATA")
    if not folder:
        pytest.skip("SYNTHKD_DATA does not name a folder with the published data sets")
    with gzip.open(Path(folder) / "HumanEval.jsonl.gz", "rt") as lines:
        rows = [json.loads(line) for line in lines]

    def verdicts(body: str | None) -> list[str | None]:
        def one(row: dict[str, str]) -> str | None:
            program = row["prompt"] + (row["canonical_solution"] if body is None else body)
            return passes(program, row["test"], entry=row["entry_point"]).reason

        return list(in_order(one, rows))

    assert verdicts(None) == [None] * 164
    assert verdicts("    return None\n") == ["tests failed"] * 164
