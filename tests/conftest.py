"""What every test may use."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest
from loopback import Behaviour, Loopback

if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:  # a shell's background job ignores what some tests send
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _nobody_s_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    """No test sees the keys, endpoints and proxies of whoever runs it."""
    for name in os.environ:
        if name.lower().endswith("_proxy") or name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "SYNTHKD_API_KEY"):
            monkeypatch.delenv(name)


@pytest.fixture
def serve() -> Iterator[Callable[..., Loopback]]:
    """Starts loopback servers that end with the test: `server = serve(behaviour)`."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = lambda call: call.echo, *, seed: int = 0) -> Loopback:
            return stack.enter_context(Loopback(behaviour, seed=seed))

        yield start
