"""Programs: the only place that drops completions for what their programs do when they are run.

Invariant: no program is run but in a sandbox that was tried before the filter was made. A few run side by side, and the
verdicts come in the records' order; a record is held no longer than its program runs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from synthkd.errors import ConfigError, DataError
from synthkd.filters.parts import By, Of, checked_of, texts_of, value_of
from synthkd.record import Record
from synthkd.verify.answers import exact, marked_answer
from synthkd.verify.programs import Verdict, passes, prints, program_of, runs
from synthkd.verify.sandbox import Sandbox
from synthkd.verify.sandbox.aside import in_order

if TYPE_CHECKING:
    from synthkd.filters.rules import Filter


def programs(
    *,
    tests: By | None = None,
    gold: By | None = None,
    entry: By | None = None,
    by: Callable[[str, str], bool] = exact,
    find: Callable[[str], str | None] | None = None,
    of: Of = "completion",
    sandbox: Sandbox | None = None,
) -> Filter[Any]:
    """Keep the completions whose program passes its tests, or prints the known answer, or (with neither) runs at all.

    The reasons are those of `verify.passes`, `verify.prints` and `verify.runs`: "no program", "program failed",
    "tests failed", "wrong answer", "timed out" and the like. Where a record has several completions, all must pass.

    Args:
        tests: The field or entry of `meta` that holds the tests, in a form that `verify.passes` takes, or a function.
        gold: The same for the known answer, for programs that print it. Of a whole solution (`... #### 72`), the
            answer marked in it is taken.
        entry: The same for the name of the function that is tested, where tests are a `check(candidate)`.
        by: From the printed and the known answer to whether they are the same: `exact` or `matches`.
        find: From a text to its program; by default `verify.program_of`, which prefers one that defines `entry`.
        of: Which text is judged; see `Of`. For completions that go on with code of the prompt, a function that puts
            both together.
        sandbox: Where programs run, and with what limits.

    Raises:
        ConfigError: Both `tests` and `gold` are given, or there is no sandbox on this machine.
        DataError: While filtering, a record without tests or known answer, or with tests of no such form.
        RunError: While filtering, where the sandbox does not start any more.
    """
    checked_of(of, "programs")
    if tests is not None and gold is not None:
        raise ConfigError(
            "programs(): tests and gold are both given; a program passes tests or prints an answer. For both: "
            "every(programs(tests=...), programs(gold=...))."
        )
    sandbox = sandbox or Sandbox()
    sandbox.ready()
    return _Programs(of, tests, gold, entry, by, find, sandbox)


@dataclass(frozen=True)
class _Programs:
    of: Of
    tests: By | None
    gold: By | None
    entry: By | None
    by: Callable[[str, str], bool]
    find: Callable[[str], str | None] | None
    sandbox: Sandbox

    def __call__(self, records: Iterable[Record], /) -> Iterator[str | None]:
        return in_order(self._reason, records)

    def _reason(self, record: Record) -> str | None:
        entry = None if self.entry is None else value_of(record, self.entry, "programs")
        verdicts = (self._verdict(record, text, entry) for text in texts_of(record, self.of, "programs"))
        return next((verdict.reason for verdict in verdicts if not verdict), None)

    def _verdict(self, record: Record, text: str, entry: str | None) -> Verdict:
        found = program_of(text, defines=entry) if self.find is None else self.find(text)
        if self.gold is not None:
            return prints(found, self._known(record, self.gold), by=self.by, sandbox=self.sandbox)
        if self.tests is None:
            return runs(found, sandbox=self.sandbox)
        try:
            return passes(found, value_of(record, self.tests, "programs"), entry=entry, sandbox=self.sandbox)
        except ConfigError as error:
            raise DataError(f"Record {record.id}: {error}") from error

    def _known(self, record: Record, gold: By) -> str:
        value = value_of(record, gold, "programs")
        if not isinstance(value, str | int | float) or isinstance(value, bool) or value == "":
            raise DataError(
                f"Record {record.id}: programs() looks for the known answer in {gold!r}, and finds {value!r}; "
                "expected text or a number."
            )
        return marked_answer(str(value)) or str(value)
