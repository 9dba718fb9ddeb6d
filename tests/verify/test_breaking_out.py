"""Attempts to break out of a sandbox. Each fails, and each would succeed without the guard that it is about."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import re
import secrets
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from boxes import CAPABILITIES, TRY, boxed, read, tried

from synthkd.verify import Limits, Sandbox
from synthkd.verify.sandbox import seccomp, start

pytestmark = boxed


@pytest.fixture
def common() -> Iterator[Path]:
    """A folder that everybody may read and write, unlike pytest's own, so that only the sandbox keeps it."""
    folder = Path(tempfile.mkdtemp(dir="/var/tmp"))
    folder.chmod(0o777)
    yield folder
    shutil.rmtree(folder)


def test_no_key_of_the_environment_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-hunter2")
    outcome = Sandbox().run(
        "import glob, os, subprocess, sys\n"
        "print(dict(os.environ))\n"
        "for path in glob.glob('/proc/*/environ'):\n"
        "    print(open(path, 'rb').read())\n"
        "print(subprocess.run([sys.executable, '-c', 'import os; print(dict(os.environ))'], capture_output=True))\n"
    )
    assert outcome.status == "ok"
    assert "hunter2" not in outcome.stdout + outcome.stderr
    assert "PYTHONHASHSEED" in outcome.stdout


def test_no_file_of_the_machine_is_seen(common: Path) -> None:
    secret = common / "secret.txt"
    secret.write_text("hunter2")
    secret.chmod(0o644)
    paths = [str(secret), __file__, "/etc/passwd", "/etc/shadow", "/proc/1/environ", "/proc/self/mounts", "/sys/kernel"]
    paths += [str(Path.home() / ".bashrc"), "/dev/tty", "/dev/mem", "/var/run/docker.sock", "/usr/bin/env", "/bin/sh"]
    outcome = tried(f"for path in {paths!r}: attempt(path, lambda: (open(path, 'rb').read(10), os.stat(path)))")
    assert outcome.stdout.count("failed") == len(paths)


def test_nothing_outside_of_its_folder_is_written(common: Path) -> None:
    places = [
        "/x",
        "/etc/x",
        "/dev/x",
        "/usr/lib/x",
        f"{os.__file__}.x",
        os.__file__,
        sys.executable,
        str(common / "x"),
    ]
    places += [str(Path(pytest.__file__).parent / "x"), "/usr/x", "/lib/x"]
    tried(f"for path in {places!r}: attempt(path, lambda: open(path, 'ab').write(b'x'))")
    assert not (common / "x").exists()
    assert Sandbox().run("open('x', 'w').write('x'); open('/tmp/x', 'w').write('x')").status == "ok"
    assert Sandbox().run("import os; print(os.path.exists('x'), os.path.exists('/tmp/x'))").stdout == "False False\n"


def test_a_link_leads_to_nothing_outside(common: Path) -> None:
    secret = common / "secret.txt"
    secret.write_text("hunter2")
    secret.chmod(0o666)
    tried(
        f"os.symlink({str(secret)!r}, 'one'); os.symlink('../../..' * 9 + {str(secret)!r}, '/tmp/two')\n"
        "os.symlink('/proc/1/root', 'three'); os.symlink('/', 'four')\n"
        f"for path in ('one', '/tmp/two', 'three' + {str(secret)!r}, 'four' + {str(secret)!r}):\n"
        "    attempt(path, lambda: open(path).read())\n"
        "    attempt(path, lambda: open(path, 'r+').write('changed'))\n"
        f"attempt('hard link', lambda: os.link({str(secret)!r}, 'five'))\n"
        f"attempt('rename', lambda: os.rename('main.py', {str(common / 'main.py')!r}))\n"
    )
    assert secret.read_text() == "hunter2"
    assert os.listdir(common) == ["secret.txt"]


def test_no_network_is_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket(socket.AF_UNIX) as abstract:
        name = f"\0synthkd-{secrets.token_hex(8)}"
        abstract.bind(name)
        abstract.listen()
        port = server.getsockname()[1]
        outcome = tried(
            f"attempt('loopback', lambda: socket.create_connection(('127.0.0.1', {port}), timeout=1))\n"
            "attempt('outside', lambda: socket.create_connection(('192.0.2.1', 80), timeout=1))\n"
            "attempt('datagram', lambda: socket.socket(type=socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 9)))\n"
            "attempt('six', lambda: socket.create_connection(('2001:db8::1', 80), timeout=1))\n"
            "attempt('name', lambda: socket.getaddrinfo('example.com', 80))\n"
            f"attempt('abstract', lambda: socket.socket(socket.AF_UNIX).connect({name!r}))\n"
        )
    assert outcome.stdout.count("failed") == 6


def test_no_kind_of_socket_passes_the_network_by() -> None:
    # vsock (40) reaches a virtual machine's host from every network namespace
    outcome = tried("for family in (40, 16, 17, 38, 29, 44): attempt(family, lambda: socket.socket(family, 3, 0))")
    assert outcome.stdout.count("failed") == 6
    with_error = Sandbox().run("import socket\ntry: socket.socket(40, 1)\nexcept OSError as e: print(e.errno)")
    assert with_error.stdout == "97\n"


def test_no_privilege_is_left() -> None:
    outcome = tried(
        """
attempt("become root", lambda: os.setuid(0))
attempt("become somebody", lambda: os.setresuid(1234, 1234, 1234))
attempt("give away", lambda: os.chown("main.py", 1, 1))
attempt("a device", lambda: os.mknod("disk", 0o60666, os.makedev(254, 0)))
attempt("another root", lambda: os.chroot("/tmp"))
attempt("mount", lambda: libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))
attempt("writable again", lambda: libc.mount(b"none", b"/usr/lib", None, 0x1020, None))
attempt("unmount", lambda: libc.umount2(b"/tmp", 2))
attempt("new user namespace", lambda: libc.unshare(0x10000000))
attempt("new namespace by clone", lambda: libc.syscall(56, 0x10000011, 0, 0, 0, 0))
attempt("another's namespace", lambda: libc.setns(0, 0))
attempt("trace", lambda: libc.ptrace(0, 0, 0, 0))
attempt("keys", lambda: libc.syscall(250, 0, -3, 1))
attempt("the kernel's log", lambda: libc.klogctl(3, ctypes.create_string_buffer(99), 99))
attempt("io_uring", lambda: libc.syscall(425, 8, ctypes.create_string_buffer(200)))
attempt("the host's name", lambda: socket.sethostname("x"))
attempt("more processes", lambda: __import__("resource").setrlimit(6, (999, 999)))
attempt("a higher priority", lambda: os.nice(-5))
attempt("a terminal", lambda: os.open("/dev/tty", os.O_RDWR))
"""
    )
    assert outcome.stdout.count("failed") == 19


def test_calls_that_pass_the_namespaces_by_do_not_reach_the_kernel() -> None:
    names = "add_key bpf clone3 fsopen io_uring_enter io_uring_register io_uring_setup keyctl memfd_create memfd_secret"
    names += " mount mount_setattr move_mount open_by_handle_at open_tree perf_event_open pidfd_getfd pivot_root ptrace"
    names += " process_vm_readv process_vm_writev request_key setns syslog umount2 unshare userfaultfd"
    column = seccomp._MACHINES[platform.machine()][0]
    numbers = [435 if name == "clone3" else seccomp._DENIED[name][column] for name in names.split()]
    outcome = Sandbox().run(
        TRY
        + f"for number in {numbers}:\n    libc.syscall(number, -1, -1, -1, -1, -1, -1)\n    print(ctypes.get_errno())"
    )
    refused = [errno.ENOSYS if name == "clone3" else errno.EPERM for name in names.split()]
    assert list(map(int, outcome.stdout.split())) == refused


def test_it_is_nobody_of_this_machine() -> None:
    groups = os.getgroups()
    if os.geteuid() == 0:
        os.setgroups([*groups, 12])
    program = """
print(os.getuid(), os.getgid(), os.getgroups())
print(os.uname().nodename, os.getsid(0) > 0, libc.prctl(39, 0, 0, 0, 0), capabilities())
"""
    try:
        users, names = Sandbox().run(TRY + CAPABILITIES + program).stdout.splitlines()
    finally:
        if os.geteuid() == 0:
            os.setgroups(groups)
    assert re.fullmatch(r"(2\d{9}|65534) \1 \[\]", users)
    assert names == "box True 1 0"  # a session of its own, no new privileges by any file, no capabilities


@pytest.mark.skipif(os.geteuid() != 0, reason="only root begins with capabilities")
def test_what_steps_down_from_root_has_no_more_than_it_needs_for_that(monkeypatch: pytest.MonkeyPatch) -> None:
    told = CAPABILITIES + "os.write(2, mark.encode() + b'%x ' % capabilities())\nif int(user):"
    monkeypatch.setattr(start, "TEXT", start.TEXT.replace("if int(user):", told))
    assert Sandbox(limits=Limits(memory_mb=200)).run("").stderr.startswith("c0 ")  # CAP_SETGID and CAP_SETUID


def test_shared_memory_of_the_machine_is_not_seen() -> None:
    libc = ctypes.CDLL(None)
    segment = libc.shmget(0, 4096, 0o1666)
    assert segment >= 0
    try:
        tried(f"libc.shmat.restype = ctypes.c_long; attempt('attach', lambda: libc.shmat({segment}, None, 0))")
    finally:
        libc.shmctl(segment, 0, None)


def test_no_process_of_the_sandbox_has_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    token = secrets.token_hex(8)
    monkeypatch.setenv("A_SECRET", token)
    running = threading.Thread(target=Sandbox().run, args=("import time; time.sleep(0.5)",))
    Sandbox().ready()
    running.start()
    time.sleep(0.3)
    found = [path.parent for path in Path("/proc").glob("[0-9]*/environ") if token in read(path)]
    boxes = [path.parent for path in Path("/proc").glob("[0-9]*/cmdline") if "bwrap" in read(path)]
    running.join()
    assert boxes
    assert not set(found) & set(boxes)


def test_only_its_own_processes_are_there_to_be_killed() -> None:
    with subprocess.Popen([sys.executable, "-c", "import time; time.sleep(3)"]) as bystander:
        tried(
            f"attempt('a process outside', lambda: os.kill({bystander.pid}, 9))\n"
            f"attempt('the tests', lambda: os.kill({os.getpid()}, 9))\n"
        )
        Sandbox().run("import os; os.kill(-1, 9)")
        assert bystander.poll() is None
        bystander.kill()


def test_no_descriptor_of_the_outside_is_open() -> None:
    program = """
import os
found = []
for number in range(256):
    try:
        os.fstat(number)
        found.append(number)
    except OSError:
        pass
print(found)
"""
    assert Sandbox().run(program).stdout == "[0, 1, 2]\n"


@pytest.mark.skipif(os.geteuid() != 0 or not shutil.which("setpriv"), reason="needs root, to become somebody else")
def test_the_same_holds_where_another_user_begins_it() -> None:
    become = ["setpriv", "--reuid", "65534", "--regid", "65534", "--clear-groups"]
    found = os.pathsep.join([str(Path(__file__).parents[2]), *sys.path[1:]])
    environment = {"PYTHONPATH": found, "PATH": os.environ["PATH"]}
    itself = "import subprocess, sys, pydantic; subprocess.run([sys.executable, '-c', ''], check=True)"
    for python in (sys.executable, "/usr/bin/python3"):  # the first may lie in root's home
        command = [*become, python, "-B"]
        if subprocess.run([*command, "-c", itself], capture_output=True, env=environment).returncode == 0:
            break
    else:
        pytest.skip("no interpreter that another user could start")
    if subprocess.run(
        [*become, "bwrap", "--ro-bind", "/", "/", "--unshare-all", "true"], capture_output=True
    ).returncode:
        pytest.skip("user namespaces are not allowed here")
    tests = [
        "-p",
        "no:cacheprovider",
        "--tb=short",
        "-k",
        "not time_ends and not endless",
        *map(str, Path(__file__).parent.glob("test_break*.py")),
    ]
    done = subprocess.run([*command, "-m", "pytest", *tests], capture_output=True, text=True, env=environment, cwd="/")
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[0].count(".") >= 20, done.stdout
