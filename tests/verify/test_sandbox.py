"""Programs in a sandbox: what they may use, what becomes of them, and what happens where there is no sandbox."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import boxed

from synthkd.errors import ConfigError, RunError
from synthkd.verify import Limits, Sandbox, aside
from synthkd.verify import sandbox as package
from synthkd.verify.sandbox import bubblewrap, probe, seccomp, start
from synthkd.verify.sandbox.aside import in_order, places
from synthkd.verify.sandbox.bubblewrap import Bubblewrap


@pytest.fixture
def untried() -> Iterator[None]:
    """No sandbox of this test is another's."""
    package._tried.cache_clear()
    yield
    package._tried.cache_clear()


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
    assert (time.monotonic() - began) / 5 < 0.5  # 30 to 40 ms on a machine that does nothing else


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


def test_where_bubblewrap_is_not_installed_nothing_runs_and_the_cure_is_named(
    untried: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    with pytest.raises(ConfigError, match="apt-get install bubblewrap"):
        Sandbox().run(f"open({str(tmp_path / 'x')!r}, 'w')")
    assert not (tmp_path / "x").exists()


def test_where_bubblewrap_does_not_work_nothing_runs_and_the_cure_is_named(
    untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("synthkd.verify.sandbox.bubblewrap.found", lambda: "/bin/false")
    with pytest.raises(ConfigError, match="unprivileged_userns_clone"):
        Sandbox().run("")


def test_unsafe_runs_without_a_sandbox_and_warns(
    untried: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: None)
    monkeypatch.setenv("A_SECRET", "hunter2")
    box = Sandbox(unsafe=True, limits=Limits(seconds=1))
    with pytest.warns(RuntimeWarning, match="without a sandbox"):
        outcome = box.run("import os; print(open('a').read(), dict(os.environ))", files={"a": "here"})
    assert outcome.status == "ok"
    assert outcome.stdout.startswith("here")
    assert "hunter2" not in outcome.stdout
    with pytest.warns(RuntimeWarning):
        assert box.ready() == "nothing"
    with pytest.warns(RuntimeWarning):
        assert box.run("import time; time.sleep(3)").status == "timeout"


@boxed
def test_unsafe_is_still_a_sandbox_where_there_is_one() -> None:
    assert Sandbox(unsafe=True).ready() == "bubblewrap"


@boxed
@pytest.mark.parametrize(
    ("guard", "said"),
    [
        ("processes", "processes let"),
        ("network", "sockets to the outside"),
        ("filter", "sockets to the outside"),
        ("memory", "limit on memory"),
        ("files", "can see"),
    ],
)
def test_a_sandbox_with_a_guard_that_does_not_hold_is_refused(
    guard: str, said: str, untried: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if guard == "processes":
        _leave_out("NPROC", monkeypatch)
    elif guard == "memory":
        _leave_out("AS", monkeypatch)
    elif guard == "network":
        if not _has_route():
            pytest.skip("this machine has no network that a sandbox could keep away")
        whole = bubblewrap._namespaces
        monkeypatch.setattr(bubblewrap, "_namespaces", lambda root: [w for w in whole(root) if w != "--unshare-net"])
    elif guard == "filter":
        monkeypatch.setattr(seccomp, "program", lambda: seccomp._line(seccomp._RETURN, seccomp._ALLOW))
    else:
        monkeypatch.setattr(probe, "PROGRAM", probe.PROGRAM.replace("/etc/passwd", "/usr/lib"))
    with pytest.raises(ConfigError, match=said):
        Sandbox().ready()


def _leave_out(limit: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """The trial starts 40 processes at the most, each of which ends by itself after two seconds."""
    some = f'[pair for pair in limits.split(",") if not pair.startswith("{limit}=")]'
    monkeypatch.setattr(start, "TEXT", start.TEXT.replace('limits.split(",")', some))


def _has_route() -> bool:
    import socket

    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as one:
        try:
            one.connect(("192.0.2.1", 9))
        except OSError:
            return False
    return True


@boxed
def test_a_sandbox_that_fails_after_it_worked_stops_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen = Sandbox()._chosen()
    assert isinstance(chosen, Bubblewrap)
    monkeypatch.setattr(package, "_tried", lambda *_: Bubblewrap("/bin/false", chosen.python, True, ()))
    with pytest.raises(RunError, match="did not start"):
        Sandbox().run("")


def test_a_machine_whose_calls_are_not_known_has_no_filter() -> None:
    assert not seccomp.known("riscv64")
    assert seccomp.known("x86_64")
    assert seccomp.program("aarch64") != seccomp.program("x86_64")
    assert len(seccomp.program("aarch64")) % 8 == 0
