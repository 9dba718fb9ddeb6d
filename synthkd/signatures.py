"""What a strategy or a filter takes: the only place that looks at its signature and its annotations.

Invariant: what is refused here could not have worked on any record; what says nothing of itself is let through.
"""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

from synthkd.errors import ConfigError, SynthKDError
from synthkd.record import Record

_EACH = "A function of one record that says True or False becomes a filter with synthkd.filters.each(...)"


def check_strategy(strategy: Any, record: Record) -> None:
    """Refuse what is no strategy, and what takes another kind of record; and let it check itself.

    Raises:
        ConfigError: with what was given, what it should be, and what to do.
    """
    _no_class(strategy, "map")
    if not _takes(strategy, 2):
        cure = "A filter goes to run.filter(...)" if _takes(strategy, 1) else "Write `async def f(record, ask)`"
        raise ConfigError(f"run.map was given {_shown(strategy)}, which does not take (record, ask). {cure}.")
    if _is_sync(strategy):
        raise ConfigError(f"run.map was given {_shown(strategy)}, which is no async function. Write `async def`.")
    try:
        if (check := getattr(strategy, "check", None)) is not None:
            check(record)
    except SynthKDError:  # which knows better what is amiss
        raise
    except Exception:
        _check_kind(strategy, record)
        raise
    _check_kind(strategy, record)


def _check_kind(strategy: Any, record: Record) -> None:
    kinds = _kinds(strategy)
    if kinds and not any(kind.model_fields.keys() <= type(record).model_fields.keys() for kind in kinds):
        wanted = " or ".join(dict.fromkeys(kind.__name__ for kind in kinds))
        raise ConfigError(
            f"{_shown(strategy)} takes {wanted}, and the first record is a {type(record).__name__}. Map what makes one "
            "of the other before it, or give it another stage."
        )


def verdicts(rule: Any, records: Iterable[Record]) -> Iterator[str | None]:
    """What a filter says of the records.

    Raises:
        ConfigError: it is no filter.
    """
    _no_class(rule, "filter")
    if not _takes(rule, 1):
        cure = "A strategy goes to run.map(...)" if _takes(rule, 2) else _EACH
        raise ConfigError(f"run.filter was given {_shown(rule)}, which does not take (records). {cure}.")
    try:
        return iter(rule(records))
    except (AttributeError, TypeError) as error:
        if not inspect.isfunction(rule):
            raise
        raise ConfigError(
            f"run.filter was given {_shown(rule)}, which fails on an iterable of records ({error}). A filter is given "
            f"all of them and gives one verdict each. {_EACH}."
        ) from error


def _no_class(given: Any, method: str) -> None:
    if isinstance(given, type):
        raise ConfigError(f"run.{method} was given the class {given.__name__}. Write {given.__name__}(...).")


def _takes(given: Any, count: int) -> bool:
    """Whether it can be called with so many arguments; what does not tell may."""
    if not callable(given):
        return False
    try:
        inspect.signature(given).bind(*range(count))
    except ValueError:  # a builtin without a signature
        return True
    except TypeError:
        return False
    return True


def _is_sync(strategy: Any) -> bool:
    """Whether it is a plain `def` that says it gives records at once; one without annotations may give an awaitable."""
    if not inspect.isfunction(strategy) or inspect.iscoroutinefunction(strategy):
        return False
    return inspect.isgeneratorfunction(strategy) or get_origin(_hints(strategy).get("return")) in (list, tuple)


def _kinds(strategy: Any) -> tuple[type[Record], ...]:
    """The kinds of record that a strategy says it takes; empty where it does not say, or takes any."""
    function: Callable[..., Any] = strategy if inspect.isfunction(strategy) else type(strategy).__call__
    names = [name for name in inspect.signature(function).parameters if name != "self"]
    return _records(_hints(function).get(names[0])) if names else ()


def _hints(function: Callable[..., Any]) -> dict[str, Any]:
    try:
        return get_type_hints(function)
    except Exception:  # a name that is known to type checkers alone
        return {}


def _records(annotation: Any) -> tuple[type[Record], ...]:
    if isinstance(annotation, TypeVar):
        return _records(annotation.__bound__) if annotation.__bound__ else ()
    if get_origin(annotation) in (Union, types.UnionType):
        found = [_records(one) for one in get_args(annotation)]
        return tuple(kind for kinds in found for kind in kinds) if all(found) else ()
    return (annotation,) if isinstance(annotation, type) and issubclass(annotation, Record) else ()


def _shown(given: Any) -> str:
    return f"{getattr(given, '__name__', None) or repr(given)[:80]}"
