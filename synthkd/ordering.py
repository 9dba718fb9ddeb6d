"""Values as JSON in one order: the only place that knows where a set may hide, and in which order it is written.

Invariant: equal values are the same bytes in every process, though a set's own order differs from one to the next.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any, Literal, get_args, get_origin

import orjson
from pydantic import BaseModel
from pydantic_core import to_jsonable_python

from synthkd.message import Message

_LINEAGE = {"parents", "meta"}
_ORDERED = (str, int, float, bool, bytes, type(None), Message)
"""Types of which no value holds a set."""


def plain(record: BaseModel, **which: Any) -> dict[str, Any]:
    """A record's fields as JSON has them. A set is a list in one order, the same in every process.

    Args:
        record: the record.
        which: what `model_dump` takes, such as `include`.
    """
    found = record.model_dump(mode="json", **which)
    return _sorted_sets(record, found) if may_hold_sets(type(record)) else found


def _sorted_sets(value: Any, shown: Any) -> Any:
    """JSON with its sets sorted; `value` is what it was made of, which alone knows where they are."""
    match shown:
        case list() if isinstance(value, set | frozenset | list | tuple) and len(value) == len(shown):
            items = [_sorted_sets(*pair) for pair in zip(value, shown, strict=True)]
            return sorted(items, key=canonical) if isinstance(value, set | frozenset) else items
        case dict() if isinstance(value, dict) and len(value) == len(shown):
            pairs = zip(value.values(), shown.items(), strict=True)
            return {name: _sorted_sets(inner, own) for inner, (name, own) in pairs}
        case dict() if not isinstance(value, dict):
            return {name: _sorted_sets(getattr(value, name, None), own) for name, own in shown.items()}
    return shown


def canonical(value: Any) -> bytes:
    """JSON with sorted keys."""
    return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)


def in_order(value: Any) -> Any:
    """A set as a tuple in one order; anything else as it is."""
    if not isinstance(value, set | frozenset):
        return value
    return tuple(sorted(value, key=lambda one: canonical(_sorted_sets(one, to_jsonable_python(one, fallback=repr)))))


@lru_cache(maxsize=256)
def may_hold_sets(kind: type[BaseModel]) -> bool:
    """Whether a field of this kind of record may hold a set."""
    return any(_unordered(field.annotation) for name, field in kind.model_fields.items() if name not in _LINEAGE)


def _unordered(annotation: Any) -> bool:
    """Whether values of a type may hold a set, whose order differs from process to process."""
    if annotation in _ORDERED or get_origin(annotation) is Literal:
        return False
    inner = get_args(annotation)
    if get_origin(annotation) in (set, frozenset) or not inner:  # unknown classes and `Any` may hold anything
        return True
    return any(_unordered(one) for one in inner if one is not Ellipsis)
