"""Pipelines from files: the only place that imports a user's file and fits texts of the command line to its parameters.

A pipeline file holds a function `pipeline` whose first parameter is a `Run`; the others, with their types and
defaults, are its options. `ROLES` beside it, where there is one, says who plays which role unless the command line says
otherwise::

    ROLES = {"teacher": "tiny"}          # a specification, or a teacher such as OpenAITeacher("gpt-4.1-mini")

    def pipeline(run: Run, seeds: Path, rounds: int = 2, limit: int | None = None) -> None: ...

Invariant: every option is checked before the run's folder is made and before a teacher is paid.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cached_property
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import TYPE_CHECKING, Any, get_type_hints

from synthkd.cli.arguments import pairs
from synthkd.errors import ConfigError
from synthkd.teachers.endpoint import public_value

if TYPE_CHECKING:
    from synthkd.request import Teacher

_JSON = tuple("[{-0123456789")
"""How a text starts that may be a JSON value where it is no plain one: `["a", "b"]`, or the 2 of `Literal[1, 2]`."""
_FORM = "def pipeline(run: Run, ...) -> None"


@dataclass(frozen=True)
class Parameter:
    """One option of a pipeline."""

    name: str
    annotation: Any
    default: Any
    """`inspect.Parameter.empty` where a value must be given."""

    def __str__(self) -> str:
        shown = str(self.default) if isinstance(self.default, Path) else repr(self.default)
        return f"{self.name}: {self.kind}" + ("" if self.required else f" = {shown}")

    @property
    def kind(self) -> str:
        """The type as one writes it."""
        return inspect.formatannotation(self.annotation).replace("pathlib._local.", "").replace("pathlib.", "")

    @property
    def required(self) -> bool:
        """Whether there is no default."""
        return self.default is inspect.Parameter.empty

    def value(self, text: str) -> Any:
        """The text as this parameter's type; a list or a dict is written as JSON.

        Raises:
            ValueError: it is none.
            ConfigError: the type is not one that a text can be read as.
        """
        from pydantic import PydanticSchemaGenerationError, PydanticUserError, TypeAdapter, ValidationError

        try:
            adapter: TypeAdapter[Any] = TypeAdapter(self.annotation)
        except (PydanticSchemaGenerationError, PydanticUserError):
            raise ConfigError(
                f"{self} cannot be given on the command line: no text can be read as this type."
            ) from None
        try:
            return adapter.validate_strings(text)
        except ValidationError:
            if not text.startswith(_JSON):
                raise
            with suppress(ValidationError):
                return adapter.validate_json(text)
            raise


@dataclass(frozen=True)
class Pipeline:
    """A pipeline as its file has it."""

    path: Path
    function: Callable[..., object]
    parameters: tuple[Parameter, ...]
    roles: Mapping[str, str | Teacher]
    """The file's own `ROLES`."""

    @property
    def about(self) -> str:
        """What the file and the function say of themselves."""
        said = (self.function.__globals__.get("__doc__"), self.function.__doc__)
        return "\n\n".join(inspect.cleandoc(text) for text in said if text)

    @cached_property
    def _known(self) -> dict[str, Parameter]:
        return {parameter.name: parameter for parameter in self.parameters}

    def options(self, named: Mapping[str, str | None], texts: Sequence[str]) -> dict[str, Any]:
        """The arguments of the function.

        Args:
            named: values of options that the command line has by name, such as `--seeds`; None where not given.
            texts: the `name=value` texts of `-p`.

        Raises:
            ConfigError: an option is unknown, given twice, missing, or not of its type.
        """
        given = {name: (text, f"--{name} {text}") for name, text in named.items() if text is not None}
        for name, text in pairs(texts, "-p", "rounds=3").items():
            name = name.replace("-", "_")
            written = f"-p {name}={public_value(name, text)}"
            if name in given:
                raise ConfigError(f"{written}: {name} is given twice, also as {given[name][1]}. Give it once.")
            given[name] = (text, written)
        values = {name: self._value(name, text, written) for name, (text, written) in given.items()}
        missing = [parameter for parameter in self.parameters if parameter.required and parameter.name not in values]
        if missing:
            cure = " ".join(_written(parameter.name) for parameter in missing)
            names = ", ".join(parameter.name for parameter in missing)
            raise ConfigError(f"{self.path.name} needs a value for {names}: add {cure}. {self._takes()}")
        return values

    def described(self, options: Mapping[str, Any]) -> dict[str, Any]:
        """The options with the defaults of those that are not given, as plain values for the run's description.

        No key is among them: the description is a file.
        """
        from pydantic_core import to_jsonable_python

        every = {parameter.name: options.get(parameter.name, parameter.default) for parameter in self.parameters}
        plain = {name: to_jsonable_python(value, fallback=repr) for name, value in every.items()}
        return {name: public_value(name, value) if isinstance(value, str) else value for name, value in plain.items()}

    def _value(self, name: str, text: str, written: str) -> Any:
        parameter = self._known.get(name)
        if parameter is None:
            close = get_close_matches(name, self._known, 1)
            hint = f" Did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{written}: the pipeline has no parameter {name!r}.{hint} {self._takes()}")
        try:
            return parameter.value(text)
        except ValueError as error:
            why = f" ({error.errors()[0]['msg']})" if hasattr(error, "errors") else ""
            shown = public_value(name, text)
            raise ConfigError(f"{written}: {shown!r} is no {parameter.kind}{why}. {self._takes()}") from None

    def _takes(self) -> str:
        if not self.parameters:
            return f"{self.path.name} takes no options."
        listed = "".join(f"\n  {parameter}" for parameter in self.parameters)
        return f"{self.path.name} takes:{listed}"


def load(path: Path) -> Pipeline:
    """Import a pipeline's file.

    Raises:
        ConfigError: no such file, or no usable `pipeline` in it.
        Exception: whatever the file itself raises.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file (looked from {Path.cwd()}); expected a Python file with `{_FORM}`.")
    if path.suffix != ".py":
        raise ConfigError(f"{path} is no Python file; expected a .py file with `{_FORM}`.")
    module = _imported(path.resolve())
    function = getattr(module, "pipeline", None)
    if not inspect.isfunction(function):
        raise ConfigError(f"{path} has no function named `pipeline`; expected `{_FORM}`, called with the run.")
    if inspect.iscoroutinefunction(function) or inspect.isgeneratorfunction(function):
        raise ConfigError(f"{path}: `pipeline` is async or a generator; expected a plain function: `{_FORM}`.")
    roles = getattr(module, "ROLES", {})
    if not isinstance(roles, Mapping):
        raise ConfigError(f'{path}: ROLES is {type(roles).__name__}, expected a dict such as {{"teacher": "tiny"}}.')
    return Pipeline(path, function, _parameters(path, function), roles)


def _imported(path: Path) -> ModuleType:
    """The file as a module; what lies beside it can be imported, as with `python FILE.py`."""
    name = f"pipeline_{path.stem}"  # never the name of a module that somebody else imports
    spec = spec_from_file_location(name, path)
    if spec is None or spec.loader is None:
        raise ConfigError(f"{path} cannot be imported as a Python file.")
    module = module_from_spec(spec)
    sys.modules[name] = module
    sys.path.insert(0, str(path.parent))
    spec.loader.exec_module(module)
    return module


def _parameters(path: Path, function: Callable[..., object]) -> tuple[Parameter, ...]:
    every = list(inspect.signature(function).parameters.values())
    if not every or every[0].kind not in (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD):
        raise ConfigError(f"{path}: `pipeline` has no parameter for the run; expected `{_FORM}`.")
    named = [p for p in every[1:] if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    written = {p.name: p.annotation for p in named if p.annotation is not p.empty}
    try:
        spelled = SimpleNamespace(__annotations__=written)
        hints = get_type_hints(spelled, globalns=function.__globals__, include_extras=True)
    except NameError as error:
        raise ConfigError(
            f"{path}: a type of `pipeline`'s parameters cannot be read: {error}. Import it outside of TYPE_CHECKING."
        ) from None
    return tuple(Parameter(p.name, hints.get(p.name, _guess(p.default)), p.default) for p in named)


def _guess(default: Any) -> Any:
    """The type of a parameter that names none: its default's, or text."""
    return str if default in (None, inspect.Parameter.empty) else type(default)


def _written(name: str) -> str:
    return {"seeds": "--seeds FILE", "limit": "--limit N"}.get(name, f"-p {name}=VALUE")
