"""The error tree: every error has one addressee, and the picture in the module's docstring is the truth."""

import inspect

import pytest

from synthkd import errors

ERRORS = {
    name: kind
    for name, kind in inspect.getmembers(errors, inspect.isclass)
    if issubclass(kind, BaseException) and kind.__module__ == errors.__name__
}
ADDRESSEES = (errors.ConfigError, errors.RecordError, errors.RunError)


def test_the_tree_in_the_docstring_is_the_tree_of_classes() -> None:
    drawn: dict[str, str] = {}
    path: list[tuple[int, str]] = []
    for line in (errors.__doc__ or "").splitlines():
        name = line.split()[0] if line.split() else ""
        if line.startswith("    ") and name in ERRORS:
            depth = len(line) - len(line.lstrip())
            path = [place for place in path if place[0] < depth]
            drawn[name] = path[-1][1] if path else "Exception"
            path.append((depth, name))
    assert drawn == {name: kind.__base__.__name__ for name, kind in ERRORS.items() if kind.__base__}


def test_every_error_has_exactly_one_addressee() -> None:
    for kind in ERRORS.values():
        if kind is not errors.SynthKDError:
            assert sum(issubclass(kind, addressee) for addressee in ADDRESSEES) == 1, kind


def test_each_way_to_lose_a_record_is_counted_under_a_word_of_its_own() -> None:
    kinds = [kind for kind in ERRORS.values() if issubclass(kind, errors.RecordError) and kind is not errors.Transient]
    assert len({kind.reason for kind in kinds}) == len(kinds)
    assert errors.Transient.reason == errors.TeacherError.reason


def test_a_strategy_s_own_reason_stays_with_its_error_and_changes_no_other() -> None:
    assert errors.RecordError("the scores are equal", reason="tie").reason == "tie"
    assert errors.RecordError("something else").reason == "rejected"


def test_a_missing_extra_names_the_command_that_installs_it() -> None:
    with pytest.raises(errors.ConfigError, match=r"torch is not installed.*pip install 'synthkd\[train\]'"):
        raise errors.MissingExtra("torch", "train")
