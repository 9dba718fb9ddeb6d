"""Programs in a sandbox: what they may use, what becomes of them."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import boxed

from synthkd.errors import ConfigError
from synthkd.verify import Limits, Sandbox, aside
from synthkd.verify.sandbox.aside import in_order, places


@boxed
def test_a_program_reads_its_input_and_its_files_and_prints() -> None:
    outcome = Sandbox().run(
        "import sys; print(input(), open('data/ö.txt').read()); print('x', file=sys.stderr); sys.exit(3)",
        stdin="größer\n",
        files={"data/ö.txt": "日本"},
    )
    assert (outcome.status, outcome.exit_code) == ("failed", 3)
    assert (outcome.stdout, outcome.stderr) == ("größer 日本\n", "x\n")


@boxed
def test_a_program_and_its_input_may_be_very_long() -> None:
    code = "import sys; print(len(sys.stdin.read())) #" + "é" * 1_000_000
    assert Sandbox().run(code, stdin="a" * 1_000_000).stdout == "1000000\n"


@boxed
@pytest.mark.parametrize(
    ("program", "status", "code"),
    [
        ("", "ok", 0),
        ("def", "failed", 1),
        ("exit()", "ok", 0),
        ("import os; os.abort()", "failed", 134),
        ("\ud800", "failed", 1),
        ("x = bytearray(900 * 2**20)", "memory", 1),
        ("import time; time.sleep(20)", "timeout", None),
        ("while True: print('x' * 1000)", "output", None),
    ],
)
def test_what_became_of_a_program_is_told(program: str, status: str, code: int | None) -> None:
    outcome = Sandbox(limits=Limits(seconds=2)).run(program)
    assert (outcome.status, outcome.exit_code) == (status, code)


@boxed
def test_a_program_may_use_threads_processes_and_installed_packages() -> None:
    program = (
        "import asyncio, multiprocessing, numpy, subprocess, sys, threading\n"
        "def square(x): return x * x\n"
        "if __name__ == '__main__':\n"
        "    thread = threading.Thread(target=print, args=('thread',)); thread.start(); thread.join()\n"
        "    with multiprocessing.Pool(2) as pool: print(pool.map(square, [2, 3]))\n"
        "    print(subprocess.run([sys.executable, '-c', 'print(5)'], capture_output=True, text=True).stdout.strip())\n"
        "    asyncio.run(asyncio.sleep(0)); print(numpy.arange(3).sum())\n"
    )
    assert Sandbox().run(program).stdout == "thread\n[4, 9]\n5\n3\n"


@boxed
def test_installed_packages_are_seen_only_where_they_may() -> None:
    program = "import json, sys\ntry:\n    import pytest; print('seen')\nexcept ImportError: print('not seen')"
    assert Sandbox().run(program).stdout == "seen\n"
    assert Sandbox(packages=False).run(program).stdout == "not seen\n"


@boxed
def test_another_interpreter_and_further_files_can_be_named(tmp_path: Path) -> None:
    (tmp_path / "words.txt").write_text("apple")
    (tmp_path / "words.txt").chmod(0o666)
    tmp_path.chmod(0o777)  # begun by root, a program reads what everybody may
    named = Sandbox(python=sys._base_executable, readable=(str(tmp_path),))  # type: ignore[attr-defined]
    words = str(tmp_path / "words.txt")
    assert named.run(f"import sys; print(sys.prefix, open({words!r}).read())").stdout == f"{sys.base_prefix} apple\n"
    outcome = named.run(f"open({words!r}, 'a')")
    assert "Read-only file system" in outcome.stderr


@boxed
def test_a_small_program_takes_well_under_a_second() -> None:
    Sandbox().ready()
    began = time.monotonic()
    for _ in range(5):
        Sandbox().run("print(1)")
    assert (time.monotonic() - began) / 5 < 0.5  # 20 to 40 ms on a machine that does little else


@boxed
def test_the_same_program_prints_the_same_set_in_each_run() -> None:
    program = "print({str(n) for n in range(20)})"
    assert Sandbox().run(program).stdout == Sandbox().run(program).stdout


@boxed
def test_a_coroutine_that_is_cancelled_has_its_program_killed() -> None:
    async def cancelled() -> float:
        waiting = asyncio.create_task(aside(Sandbox(limits=Limits(seconds=30)).run, "import time; time.sleep(20)"))
        await asyncio.sleep(0.5)
        waiting.cancel()
        began = time.monotonic()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        every_place = threading.Barrier(places())  # passed when as many wait there as may work at a time
        await asyncio.gather(*(aside(every_place.wait, 15) for _ in range(places())))
        return time.monotonic() - began

    Sandbox().ready()
    assert asyncio.run(cancelled()) < 2


@boxed
def test_programs_beside_a_loop_leave_it_free() -> None:
    async def ticks() -> tuple[int, int]:
        count = 0
        programs = asyncio.gather(*(aside(Sandbox().run, "import time; time.sleep(0.2)") for _ in range(2 * places())))
        while not programs.done():
            count += 1
            await asyncio.sleep(0.01)
        return count, len(await programs)

    count, done = asyncio.run(ticks())
    assert count > 10
    assert done == 2 * places()


def test_results_come_in_order_and_little_is_read_ahead() -> None:
    read: list[int] = []

    def items() -> Iterator[int]:
        for n in range(50):
            read.append(n)
            yield n

    slow_first = in_order(lambda n: (time.sleep(0.1 if n == 0 else 0), n)[1], items())
    assert next(slow_first) == 0
    assert len(read) <= places() + 1
    assert list(slow_first) == list(range(1, 50))


def test_a_consumer_that_stops_ends_the_work_that_was_begun() -> None:
    stopped = threading.Event()

    def work(n: int) -> int:
        if n:
            from synthkd.verify.sandbox.aside import stopping

            if stopping().wait(10):
                stopped.set()
        return n

    results = in_order(work, range(100))
    assert next(results) == 0
    results.close()  # type: ignore[attr-defined]
    assert stopped.is_set()


@pytest.mark.parametrize(
    "wrong",
    [
        {"seconds": 0},
        {"seconds": float("nan")},
        {"seconds": True},
        {"memory_mb": 1},
        {"processes": 0},
        {"processes": 1.5},
        {"output_kb": -1},
        {"disk_mb": "64"},
    ],
)
def test_a_limit_that_limits_nothing_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        Limits(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize("name", ["../x", "/etc/x", "main.py", "./main.py", "", ".", "a/../../x", "a\0b"])
def test_a_file_that_would_lie_elsewhere_is_refused(name: str) -> None:
    with pytest.raises(ConfigError, match="no name for a file"):
        Sandbox().run("", files={name: "x"})


@pytest.mark.parametrize("path", ["relative", "/no/such/path", "/", "/tmp/..", "/proc"])
def test_a_path_that_cannot_be_shown_is_refused(path: str) -> None:
    with pytest.raises(ConfigError, match="absolute path"):
        Sandbox(readable=(path,))


@boxed
def test_an_interpreter_that_does_not_run_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not run"):
        Sandbox(python="/no/such/python").ready()
