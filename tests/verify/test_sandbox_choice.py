"""Which sandbox programs run in, and what happens where there is none, or none that holds."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import boxed

from synthkd.errors import ConfigError, RunError
from synthkd.verify import Limits, Sandbox
from synthkd.verify import sandbox as package
from synthkd.verify.sandbox import bubblewrap, probe, seccomp, start
from synthkd.verify.sandbox.bubblewrap import Bubblewrap


@pytest.fixture
def untried() -> Iterator[None]:
    """No sandbox of this test is another's."""
    package._tried.cache_clear()
    yield
    package._tried.cache_clear()


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
