"""The filter that runs programs."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import boxed

from synthkd import Run
from synthkd.errors import ConfigError, DataError
from synthkd.filters import programs
from synthkd.record import Candidates, Demonstration, Record
from synthkd.testing import FunctionTeacher
from synthkd.verify import Limits, Sandbox
from synthkd.verify.sandbox.aside import places

pytestmark = boxed

GOOD = "```python\ndef square(n):\n    return n * n\n```"
TESTS = "assert square(3) == 9"
SLOW = GOOD.replace("    return", "    import time; time.sleep(0.3)\n    return")


def answers(*completions: str, **meta: str) -> list[Demonstration]:
    return [Demonstration(prompt=f"Square {n}.", completion=c, meta=dict(meta)) for n, c in enumerate(completions)]


def test_verdicts_come_in_order_also_where_the_first_program_is_slow() -> None:
    texts = [SLOW, GOOD.replace("n * n", "n"), "I cannot.", GOOD, GOOD.replace("return", "while 1: pass #")]
    rule = programs(tests="tests", sandbox=Sandbox(limits=Limits(seconds=1)))
    records = answers(*texts, tests=TESTS)
    assert list(rule(records)) == [None, "tests failed", "no program", None, "timed out"]


def test_programs_run_side_by_side_and_few_records_are_held() -> None:
    rule = programs(tests="tests")
    read: list[Record] = []

    def records() -> Iterator[Record]:
        for record in answers(*[SLOW.replace("0.3", "0.5")] * 6, tests=TESTS):
            read.append(record)
            yield record

    began = time.monotonic()
    verdicts = rule(records())
    assert next(verdicts) is None
    assert len(read) <= places() + 1
    assert list(verdicts) == [None] * 5
    assert time.monotonic() - began < 6 * 0.5


def test_a_known_answer_is_compared_with_what_is_printed() -> None:
    texts = ["```python\nprint(6 * 7)\n```", "```python\nprint(6 * 8)\n```", "```python\npass\n```"]
    records = answers(*texts, answer="6 * 7 = 42\n#### 42")
    assert list(programs(gold="answer")(records)) == [None, "wrong answer", "no answer"]
    assert list(programs(gold=lambda record: 48)(records)) == ["wrong answer", None, "no answer"]


def test_without_tests_and_answer_a_program_must_run() -> None:
    assert list(programs()(answers(GOOD, "```python\n1 / 0\n```"))) == [None, "program failed"]


def test_completions_of_a_prompt_of_code_are_put_after_it() -> None:
    check = "def check(candidate):\n    assert candidate(3) == 9"
    record = Demonstration(
        prompt="def square(n):\n", completion="    return n * n\n", meta={"test": check, "entry_point": "square"}
    )
    rule = programs(tests="test", entry="entry_point", of=lambda one: one.prompt + one.completion)
    assert list(rule([record])) == [None]


def test_of_several_completions_all_must_pass() -> None:
    both = Candidates(prompt="Square.", completions=(GOOD, GOOD.replace("n * n", "n")), meta={"tests": TESTS})
    assert list(programs(tests="tests")([both])) == ["tests failed"]


def test_the_ledger_counts_by_reason_and_a_second_run_says_the_same(tmp_path: Path) -> None:
    records = answers(GOOD, "no code", GOOD.replace("n * n", "größer"), GOOD + " ", tests=TESTS)
    ledgers = []
    for _ in range(2):
        with Run(tmp_path / "run", teacher=FunctionTeacher(lambda request: "x"), quiet=True) as run:
            kept = run.filter(programs(tests="tests"), records)
            assert [record.id for record in kept] == [records[0].id, records[3].id]
            ledgers.append(str(kept.ledger))
    assert ledgers[0] == ledgers[1]
    assert "no program" in ledgers[0]
    assert "tests failed" in ledgers[0]


def test_an_interrupt_is_heard_between_two_programs(tmp_path: Path) -> None:
    rule = programs(tests="tests")
    records = answers(*(f"{SLOW}\n{n}" for n in range(40)), tests=TESTS)  # 6 seconds or more
    interrupt = threading.Timer(0.8, signal.pthread_kill, [threading.main_thread().ident, signal.SIGINT])
    began = time.monotonic()
    interrupt.start()
    with pytest.raises(KeyboardInterrupt), Run(tmp_path / "run", quiet=True) as run:
        run.filter(rule, records)
    assert time.monotonic() - began < 3


def test_nothing_in_gives_nothing_out() -> None:
    assert list(programs(tests="tests")([])) == []


@pytest.mark.parametrize(("meta", "said"), [({}, "no such entry"), ({"tests": 3}, "expected Python code")])
def test_a_record_without_tests_is_named(meta: dict[str, int], said: str) -> None:
    record = Demonstration(prompt="Square.", completion=GOOD, meta=dict(meta))
    with pytest.raises(DataError, match=f"{record.id}.*{said}"):
        list(programs(tests="tests")([record]))


def test_a_record_without_a_known_answer_is_named() -> None:
    with pytest.raises(DataError, match="known answer"):
        list(programs(gold="answer")(answers("```python\nprint(1)\n```", answer="")))


def test_tests_and_an_answer_together_are_refused() -> None:
    with pytest.raises(ConfigError, match="both given"):
        programs(tests="tests", gold="answer")


def test_without_a_sandbox_it_is_refused_before_it_sees_a_record(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("synthkd.verify.sandbox._tried", lambda *_: "none: apt-get install bubblewrap")
    with pytest.raises(ConfigError, match="apt-get install bubblewrap"):
        programs(tests="tests")
