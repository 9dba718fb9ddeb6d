"""What the tests of training share: a small student on disk, and records to learn from."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from synthkd.record import Demonstration, Preference


@pytest.fixture(scope="session")
def student(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from tiny_models import save_model

    return save_model(tmp_path_factory.mktemp("students") / "small", initializer_range=0.02)


@pytest.fixture(autouse=True)
def _one_thread() -> Iterator[None]:
    """Threads that wait for a core which another test holds make small steps a hundred times slower."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def told() -> list[Demonstration]:
    return [Demonstration(prompt=f"{i} and 1?", completion=f"It is {i + 1}.") for i in range(8)]


@pytest.fixture
def pairs() -> list[Preference]:
    return [Preference(prompt=f"{i} and 1?", chosen=f"It is {i + 1}.", rejected="No idea at all.") for i in range(8)]
