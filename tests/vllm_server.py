"""A real vLLM server with the tiny teacher, for whoever has an environment that can run one (`make vllm-env`)."""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

PYTHON = os.environ.get("SYNTHKD_VLLM_PYTHON")
MODEL = Path(__file__).parents[1] / "synthkd" / "teachers" / "tiny" / "model"
MARKS = [
    pytest.mark.vllm,
    pytest.mark.skipif(not PYTHON, reason="SYNTHKD_VLLM_PYTHON names no environment with vLLM"),
]


@contextmanager
def serving(folder: Path) -> Iterator[str]:
    """The URL of a server that lives as long as the block; its log is in the folder."""
    assert PYTHON
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    log = folder / "log"
    command = [PYTHON, "-m", "vllm.entrypoints.openai.api_server", "--model", str(MODEL), "--served-model-name", "tiny"]
    command += ["--host", "127.0.0.1", "--port", str(port), "--dtype", "bfloat16", "--enforce-eager"]
    environment = {**os.environ, "VLLM_CPU_KVCACHE_SPACE": "1", "VLLM_NO_USAGE_STATS": "1", "HF_HUB_OFFLINE": "1"}
    environment.pop("PYTHONPATH", None)
    with log.open("w") as output:
        process = subprocess.Popen(command, stdout=output, stderr=output, env=environment, start_new_session=True)
    try:
        _wait_for(f"http://127.0.0.1:{port}/health", process, log)
        yield f"http://127.0.0.1:{port}/v1"
    finally:
        process.terminate()
        process.wait(30)


def _wait_for(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 300
    while time.monotonic() < deadline:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            urllib.request.urlopen(url, timeout=2)
            return
        except OSError:
            time.sleep(1)
    pytest.fail(f"vLLM did not answer within 300 s: {log.read_text()[-3000:]}")
