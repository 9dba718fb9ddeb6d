"""Attempts to break a sandbox's limits. Each fails, and each would succeed without the limit that it is about."""

from __future__ import annotations

import secrets
import time

import pytest
from boxes import FORKS, all_commands, boxed, tried

from synthkd.verify import Limits, Sandbox

pytestmark = boxed


@pytest.mark.parametrize("most", [4, 12])
def test_only_so_many_processes_begin(most: int) -> None:
    born = int(Sandbox(limits=Limits(processes=most)).run(FORKS).stdout)
    assert most - 3 <= born < most


def test_processes_that_start_processes_stay_within_the_limit_together() -> None:
    program = """
import os, time
made = 0
for generation in range(3):  # 2 ** 3 at the most
    try:
        os.fork()
        made += 1
    except OSError:
        break
os.write(1, b".")
time.sleep(1)
os._exit(0)
"""
    outcome = Sandbox(limits=Limits(processes=4)).run(program)
    assert 1 <= outcome.stdout.count(".") <= 4


def test_no_process_takes_more_memory_than_its_limit() -> None:
    outcome = Sandbox(limits=Limits(memory_mb=128)).run("x = bytearray(300 * 2**20)\nprint(len(x))")
    assert (outcome.status, outcome.stdout) == ("memory", "")


def test_processes_have_one_limit_on_memory_together() -> None:
    program = """
import os, time
for _ in range(5):
    if os.fork() == 0:
        held = bytearray(b"x") * (100 * 2**20)
        time.sleep(2)
        os._exit(0)
time.sleep(2.5)
print("held")
"""
    outcome = Sandbox(limits=Limits(memory_mb=256)).run(program)
    assert (outcome.status, outcome.stdout) == ("memory", "")


def test_files_in_memory_are_limited() -> None:
    outcome = tried(
        """
def write(folder, files, size):
    for number in range(files):
        with open(f"{folder}/{number}", "wb") as file:
            file.write(bytes(size))

attempt("one file", lambda: write("/tmp/box", 1, 40 * 2**20))
attempt("several files", lambda: write("/tmp/box", 10, 4 * 2**20))
attempt("shared memory", lambda: write("/dev/shm", 1, 2 * 2**20))
attempt("a memory file", lambda: os.memfd_create("x"))
attempt("a shared segment", lambda: libc.shmget(0, 4096, 0o1600))
attempt("a message queue", lambda: libc.msgget(0, 0o1600))
""",
        Limits(disk_mb=16),
    )
    assert outcome.stdout.count("failed") == 6


def test_files_without_content_count_as_memory() -> None:
    program = "import os\nfor number in range(150_000): os.close(os.open(f'/tmp/{number}', os.O_CREAT))\nprint('made')"
    outcome = Sandbox(limits=Limits(memory_mb=64)).run(program)
    assert (outcome.status, outcome.stdout) == ("memory", "")


def test_endless_output_is_cut() -> None:
    program = "import sys\nfor _ in range(500): sys.stdout.write('x' * 100_000)"  # 50 MB, if nobody stops it
    began = time.monotonic()
    outcome = Sandbox(limits=Limits(output_kb=64)).run(program)
    assert outcome.status == "output"
    assert len(outcome.stdout) == 64 * 1024
    assert time.monotonic() - began < 5
    both = "import sys\nfor _ in range(50): print('x' * 1000); print('y' * 1000, file=sys.stderr)"
    assert Sandbox(limits=Limits(output_kb=64)).run(both).status == "output"


@pytest.mark.parametrize(
    "program",
    [
        "import time; time.sleep(20)",
        "while True: pass",
        "import signal, time\nfor n in (1, 2, 15, 24): signal.signal(n, signal.SIG_IGN)\ntime.sleep(20)",
        "import os, time\nif os.fork(): os.close(1); os.close(2)\ntime.sleep(3)",
    ],
)
def test_time_ends_also_for_those_who_do_not_want_to(program: str) -> None:
    began = time.monotonic()
    assert Sandbox(limits=Limits(seconds=0.5)).run(program).status == "timeout"
    assert time.monotonic() - began < 2.5


@pytest.mark.parametrize("ending", ["os._exit(0)", "time.sleep(20)"])
def test_nothing_of_a_program_runs_when_it_has_ended(ending: str) -> None:
    token = secrets.token_hex(8)
    program = f"""
import os, sys, time
if os.fork() == 0:
    os.setsid()
    if os.fork() == 0:
        os.closerange(0, 20)
        os.execv(sys.executable, [sys.executable, "-c", "import time; time.sleep(3) # {token}"])
    os._exit(0)
time.sleep(0.3)
{ending}
"""
    Sandbox(limits=Limits(seconds=1)).run(program)
    assert token not in all_commands()


def test_each_limit_of_the_system_is_set() -> None:
    names = ["AS", "CPU", "FSIZE", "NOFILE", "CORE"]
    program = f"import resource as r\nfor n in {names}: print(r.getrlimit(getattr(r, 'RLIMIT_' + n)))"
    limits = Limits(seconds=7, memory_mb=300, disk_mb=5)
    most = [300 * 2**20, 8, 5 * 2**20, 128, 0]
    assert Sandbox(limits=limits).run(program).stdout == "".join(f"({n}, {n})\n" for n in most)
