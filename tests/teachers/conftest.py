"""What tests of teachers may use."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest
from batch_server import BatchServer
from batch_stage import Batches
from loopback import Behaviour


@pytest.fixture
def batches() -> Iterator[Batches]:
    """Starts servers with a batch API that end with the test."""
    with ExitStack() as stack:

        def start(behaviour: Behaviour = lambda call: call.echo, **options: Any) -> BatchServer:
            return stack.enter_context(BatchServer(behaviour, **options))

        yield start
