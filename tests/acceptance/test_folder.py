"""A run folder that cannot be written, is full, or is damaged: a clear error, and nothing lost that was committed."""

from __future__ import annotations

import json
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from loopback import Call, Loopback, Served

from synthkd.errors import RunFolderError
from synthkd.record import Instruction
from synthkd.run import Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher

Serve = Callable[..., Loopback]
WORDS = 2_000
"""Words of an answer: about 12 kB."""


def wordy(call: Call) -> list[str]:
    return [f"{call.prompt} " + "words " * WORDS]


def answered(folder: Path, server: Loopback, records: int = 100) -> int:
    """Run, and give the number of rows."""
    prompts = (Instruction(prompt=str(i)) for i in range(records))
    with Run(folder, teacher=OpenAITeacher("m", base_url=server.url), records_in_flight=8, quiet=True) as run:
        return len(run.map(Answer(), prompts))


def journaled(folder: Path) -> list[str]:
    """The prompts whose answers are on disk."""
    with closing(sqlite3.connect(folder / "run.db")) as database:
        return [json.loads(request)[0]["content"] for (request,) in database.execute("SELECT request FROM calls")]


def mount(*arguments: str) -> None:
    done = subprocess.run(["mount", *arguments], capture_output=True, text=True)
    if done.returncode:
        pytest.skip(f"mount: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 600 kB."""
    if os.name != "posix" or os.geteuid() != 0 or not shutil.which("mount"):
        pytest.skip("only root may mount")
    disk = tmp_path / "disk"
    disk.mkdir()
    mount("-t", "tmpfs", "-o", "size=600k", "tmpfs", str(disk))
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_said_as_such_and_with_space_again_only_the_rest_is_asked(
    serve: Serve, small_disk: Path
) -> None:
    server, folder = serve(wordy), small_disk / "run"
    with pytest.raises(RunFolderError, match=r"run\.db.*full.*Free space.*same command") as caught:
        answered(folder, server)
    assert str(folder) in str(caught.value)
    mount("-o", "remount,size=60m", str(small_disk))
    kept = journaled(folder)
    assert 5 < len(kept) < 100
    server.forget()
    assert answered(folder, server) == 100
    assert sorted([*kept, *server.prompts], key=int) == [str(i) for i in range(100)]


def test_a_file_that_may_not_grow_ends_the_run_at_once_without_noise_and_keeps_what_was_committed(
    serve: Serve, tmp_path: Path
) -> None:
    resource = pytest.importorskip("resource")
    server, folder = serve(wordy), tmp_path / "run"
    program = f"""
import resource, sys
from synthkd import Instruction, Run
from synthkd.strategies import Answer
from synthkd.teachers import OpenAITeacher
resource.setrlimit(resource.RLIMIT_FSIZE, (400_000, resource.RLIM_INFINITY))
with Run({str(folder)!r}, teacher=OpenAITeacher("m", base_url={server.url!r}), records_in_flight=8) as run:
    run.map(Answer(), [Instruction(prompt=str(i)) for i in range(100)])
"""
    assert resource.RLIMIT_FSIZE
    done = subprocess.run([sys.executable, "-X", "dev", "-c", program], capture_output=True, text=True, timeout=60)
    assert done.returncode == 1
    last = done.stderr.strip().splitlines()[-1]
    assert last.startswith(f"synthkd.errors.RunFolderError: {folder / 'run.db'}: ")
    assert "same command" in last
    for noise in ("Unclosed", "ResourceWarning", "never retrieved", "Exception in callback", "Exception ignored"):
        assert noise not in done.stderr
    kept = journaled(folder)
    assert 5 < len(kept) < 100
    server.forget()
    assert answered(folder, server) == 100
    assert sorted([*kept, *server.prompts], key=int) == [str(i) for i in range(100)]


def test_a_folder_that_is_read_only_is_refused_and_unharmed(serve: Serve, small_disk: Path) -> None:
    server, folder = serve(), small_disk / "run"
    assert answered(folder, server, 5) == 5
    mount("-o", "remount,ro", str(small_disk))
    server.forget()
    for place in (folder, small_disk / "new"):
        with pytest.raises(RunFolderError, match=rf"{place} cannot be written: Read-only.*Choose a folder"):
            answered(place, server, 5)
    mount("-o", "remount,rw", str(small_disk))
    assert answered(folder, server, 5) == 5
    assert server.calls == []


def test_a_place_that_cannot_be_a_folder_is_refused_with_its_name(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    (tmp_path / "file").write_text("mine")
    for place in (tmp_path / "file", tmp_path / "file" / "run"):
        with pytest.raises(RunFolderError, match=f"{place} cannot be written"):
            answered(place, server)
    assert (tmp_path / "file").read_text() == "mine"
    assert server.calls == []


@pytest.mark.parametrize("damage", ["garbage", "overwritten", "cut", "another version"])
def test_a_damaged_file_is_said_to_be_damaged_and_is_left_as_it_is(serve: Serve, tmp_path: Path, damage: str) -> None:
    server, folder = serve(wordy), tmp_path / "run"
    assert answered(folder, server, 30) == 30
    file = folder / "run.db"
    whole = file.read_bytes()
    broken = {
        "garbage": b"not a database " * 1000,
        "overwritten": whole[:8192] + b"\xff" * (len(whole) - 8192),
        "cut": whole[: len(whole) // 3],
        "another version": whole[:60] + (99).to_bytes(4, "big") + whole[64:],
    }[damage]
    file.write_bytes(broken)
    server.forget()
    cure = "schema version 99" if damage == "another version" else "The file is damaged.*recover"
    with pytest.raises(RunFolderError, match=rf"run\.db.*{cure}.*new folder"):
        answered(folder, server, 30)
    assert server.calls == []
    if damage == "garbage":
        assert file.read_bytes() == broken
    file.write_bytes(whole)  # as from a backup
    for name in ("run.db-wal", "run.db-shm"):
        (folder / name).unlink(missing_ok=True)
    assert answered(folder, server, 30) == 30
    assert server.calls == []


def test_another_program_may_read_the_file_while_the_run_writes_it(serve: Serve, tmp_path: Path) -> None:
    readers: list[sqlite3.Connection] = []
    counts: list[int] = []

    def watched(call: Call) -> Served:
        if not readers:
            readers.append(sqlite3.connect(tmp_path / "run.db", check_same_thread=False))
            readers[0].execute("BEGIN")
        counts.append(readers[0].execute("SELECT COUNT(*) FROM calls").fetchone()[0])
        return Served(call.echo)

    server = serve(watched)
    assert answered(tmp_path, server, 50) == 50
    readers[0].close()
    assert set(counts) == {0}, "a reader's own view, and no error"
    assert len(journaled(tmp_path)) == 50
