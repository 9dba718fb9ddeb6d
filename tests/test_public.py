"""The public names: those that are announced are there, and importing them costs next to nothing."""

import json
import subprocess
import sys
from importlib import import_module

import pytest

import synthkd

HEAVY = ("torch", "transformers", "trl", "datasets", "pyarrow", "pandas", "numpy", "openai", "ray", "vllm", "starlette")
LATE = ("jinja2", "pydantic", "aiohttp", "rich", "typer", "sqlite3", "asyncio", "tenacity", "json_repair")


def loaded_by(code: str) -> set[str]:
    """Top-level modules that a fresh interpreter holds after running some code."""
    script = f"{code}\nimport sys, json\nprint(json.dumps([name.partition('.')[0] for name in sys.modules]))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, timeout=60)
    return set(json.loads(done.stdout.splitlines()[-1]))


def test_the_announced_names_are_sorted_and_are_those_that_can_be_imported() -> None:
    assert synthkd.__all__ == sorted(synthkd.__all__)
    assert set(synthkd.__all__) == set(synthkd._HOMES)
    for name in synthkd.__all__:
        assert getattr(synthkd, name).__module__ == f"synthkd.{synthkd._HOMES[name]}"


def test_a_star_import_gives_the_announced_names_and_no_other() -> None:
    found: dict[str, object] = {}
    exec("from synthkd import *", found)  # the only way to write it inside a function
    assert sorted(found.keys() - {"__builtins__"}) == synthkd.__all__


def test_every_public_name_and_module_stands_in_dir() -> None:
    assert dir(synthkd) == sorted([*synthkd.__all__, *synthkd._MODULES])


@pytest.mark.parametrize("name", synthkd._MODULES)
def test_a_public_module_is_an_attribute_without_being_imported_first(name: str) -> None:
    assert getattr(synthkd, name) is import_module(f"synthkd.{name}")


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'synthkd' has no attribute 'Pipeline'"):
        synthkd.Pipeline  # noqa: B018


@pytest.mark.parametrize(
    "module", ["strategies", "filters", "human", "teachers", "errors", "testing", "tools", "scoring", "retrieval"]
)
def test_what_a_package_announces_is_there(module: str) -> None:
    package = import_module(f"synthkd.{module}")
    names = getattr(package, "__all__", [])
    assert len(names) == len(set(names))
    for name in names:
        assert hasattr(package, name), name


def test_importing_the_package_loads_nothing_but_itself() -> None:
    assert loaded_by("import synthkd").isdisjoint(HEAVY + LATE)


def test_using_every_public_name_loads_nothing_heavy() -> None:
    code = "import synthkd\nfor name in synthkd.__all__: getattr(synthkd, name)"
    assert loaded_by(code).isdisjoint(HEAVY)


def test_a_whole_run_with_strategies_and_teachers_loads_nothing_heavy(tmp_path_factory: pytest.TempPathFactory) -> None:
    folder = tmp_path_factory.mktemp("runs") / "run"
    code = f"""
from synthkd import Instruction, Run
from synthkd.strategies import Rank, Sample
from synthkd.teachers import OpenAITeacher
from synthkd.testing import FunctionTeacher
OpenAITeacher("m", base_url="http://127.0.0.1:9/v1")
with Run({str(folder)!r}, teacher=FunctionTeacher(lambda request: "x"), quiet=True) as run:
    assert len(run.map(Sample(2), [Instruction(prompt="a")])) == 1
"""
    assert loaded_by(code).isdisjoint(HEAVY)
