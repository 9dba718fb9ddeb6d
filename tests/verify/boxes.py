"""What tests of sandboxes share: a mark that leaves them out where bubblewrap cannot work at all."""

from __future__ import annotations

import shutil
import subprocess

import pytest


def _works() -> bool:
    path = shutil.which("bwrap")
    if path is None:
        return False
    # any namespace at all: whether synthkd's own guards hold is for the tests to say, not a reason to leave them out
    tried = subprocess.run([path, "--ro-bind", "/", "/", "--unshare-pid", "--unshare-net", "true"], capture_output=True)
    return tried.returncode == 0


boxed = pytest.mark.skipif(not _works(), reason="needs bubblewrap that may make namespaces: apt-get install bubblewrap")
