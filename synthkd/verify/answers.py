r"""Final answers: the only place that finds the answer in a text and decides whether two answers are the same.

Invariant: no text makes these functions fail or run long. An answer that cannot be read is `None`, and two answers that
cannot be shown to be equal are not equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from fractions import Fraction

_NUMBER = (
    r"[-+]?[$€£]?[-+]?(?:[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[0-9]+)?(?:\.[0-9]+|(?<=[0-9])\.?)(?:[eE][-+]?[0-9]{1,3}\b)?"
)
_A_NUMBER = re.compile(rf"(?<![A-Za-z0-9_/]){_NUMBER}(?:\s?/\s?[0-9]+)?%?")
_SAID = re.compile(
    r"\banswer(?:\s{1,4}to\s{1,4}[^.\n:]{1,80}?)?[*_]{0,2}\s{0,4}(?:\bis\b|:|=)\s{0,4}:?[*_]{0,2}\s{0,4}", re.IGNORECASE
)
_HASHES = re.compile(r"(?<!#)####(?!#)[ \t]*(\S.*)$", re.MULTILINE)
_FIELD = re.compile(
    r'"(?:final_)?answer"\s{0,8}:\s{0,8}("(?:[^"\\\n]|\\.){0,2000}"|[^\s",}\]][^,}\]\n]{0,2000})', re.IGNORECASE
)
_BRACES = re.compile(r"\\(?:boxed|fbox)\s{0,4}\{|\\.|[{}]", re.DOTALL)
_SENTENCE_END = re.compile(r"[.!?;](?=\s|$)|\n|\s(?:because|since|which|so)\s", re.IGNORECASE)
_FIRST_WORD = re.compile(r"\s*[A-Za-z]{2,}\s")
_DELIMITED = re.compile(r"\$\$(.+?)\$\$|\\\[(.+?)\\\]|\\\((.+?)\\\)|\$([^$\n]*[^$\s])\$", re.DOTALL)
_WRAPPING = (("__", "__"), ("$$", "$$"), ("$", "$"), ("`", "`"), ('"', '"'), ("\\(", "\\)"), ("\\[", "\\]"))


def final_answer(text: str) -> str | None:
    r"""The answer that a text ends with, as it is written there; `None` where there is none.

    The last one of `\boxed{...}`, `#### ...`, "the answer is ...", "Answer: ..." and a JSON field `answer`; where the
    text has none of them, its last number.
    """
    found = marked_answer(text)
    if found is not None:
        return found
    return _last_number(text)


def marked_answer(text: str) -> str | None:
    """Like `final_answer`, but only an answer that the text marks as such: a lone number does not count."""
    for _, begin, end, said in sorted(_marks(text), reverse=True):
        found = text[begin:end]
        if answer := _bare(_sentence(found) if said else _unquoted(found)):
            return answer
    return None


def exact(answer: str, gold: str) -> bool:
    r"""Whether two answers are the same number, or else the same words.

    Of numbers, thousands' commas, currency, percent signs, units ("5 km", `5\text{ cm}`: not compared, only left out)
    and trailing zeros do not count, and fractions have their value (`\frac{1}{2}`, `1/2`, `0.5`). Of words, letter case
    and white space do not count. A `\boxed{}` around either is left out.
    """
    return value(answer) == value(gold)


def value(answer: str) -> Fraction | str:
    r"""What `exact` compares: a number, or else words; `7`, `7.0`, `$7`, "7 km" and `\boxed{7}` have one value."""
    plain = _unboxed(answer)
    found = number(plain)
    return _words(plain) if found is None else found


def matches(answer: str, gold: str) -> bool:
    r"""Whether two answers are the same, as mathematics too: `exact`, else equality by math-verify.

    An answer in prose is only compared exactly. Symbolic comparison runs in a process of its own, so it works in any
    thread; it blocks for some milliseconds, and at most 5 seconds, after which the answer counts as wrong. From an
    event loop, call it with `asyncio.to_thread` where others wait.

    Raises:
        MissingExtra: math-verify is needed for this pair, and is not installed.
    """
    if exact(answer, gold):
        return True
    if _is_whole(answer) and _is_whole(gold):  # by far the most frequent pair, and exact has said all there is to say
        return False
    if not (_is_expression(answer) and _is_expression(gold)):
        return False
    from synthkd.verify.symbolic import equal

    return equal(_without_units(answer), _without_units(gold))


def number(text: str) -> Fraction | None:
    """The value of a text that is one number with or without currency, percent sign and unit; else `None`."""
    if len(text) > 200:
        return None
    plain = _without_units(text)
    for sign in ("\\$", "$", "€", "£", "\\%", "%", "\\!", "\\,", "\\ "):
        plain = plain.replace(sign, "")
    plain = plain.replace("{,}", ",").replace("−", "-").strip().rstrip(".").strip()
    if parts := _FRACTION.fullmatch(plain):
        sign, above, below = (
            parts["sign"],
            parts["a"] or parts["c"] or parts["e"],
            parts["b"] or parts["d"] or parts["f"],
        )
        return Fraction(int(f"{sign}{above}"), int(below)) if int(below) else None
    found = _PLAIN.fullmatch(plain)
    return Fraction(plain.replace(",", "").replace(" ", "").rstrip(".")) if found else None


_FRACTION = re.compile(
    r"(?P<sign>[-+]?)\s?(?:(?P<a>[0-9]+)\s?/\s?(?P<b>[0-9]+)"
    r"|\\[dt]?frac\{(?P<c>[0-9]+)\}\{(?P<d>[0-9]+)\}|\\[dt]?frac(?P<e>[0-9])(?P<f>[0-9]))"
)
_PLAIN = re.compile(r"[-+]?\s?(?:(?:[0-9]{1,3}(?:,[0-9]{3})+|[0-9]+)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]{1,3})?")
_TEXT_COMMAND = re.compile(r"\\(?:text|mathrm|mbox|textbf|mathbf|operatorname)\s?\{([^{}]*)\}")
_DEGREES = re.compile(r"\^\{?\\circ\}?|°")
_UNIT = re.compile(
    r"(?<=[0-9}%)])(?:[\s~]+[A-Za-z]{2,}(?:[\s/]+[A-Za-z]{2,}){0,3}|(?:km|cm|mm|kg|mg|ml|lb|lbs|hrs?|mins?|mph|kph))"
    r"(?:\s?/\s?[A-Za-z]+)?(?:\^?\{?[23²³]\}?)?[\s.]*$"
)
_NO_UNIT = re.compile(
    r"\b(?:hundred|thousand|[mbt]r?illion|dozen|half|and|or|to|times|more|less|than|plus|minus|mod|pi|sqrt|log|ln"
    r"|sin|cos|tan|exp|over|if|then|not)\b",
    re.IGNORECASE,
)
_COMMAND = re.compile(r"\\[A-Za-z]+")
_FUNCTION = re.compile(
    r"\b(?:and|or|sqrt|sin|cos|tan|sec|csc|cot|arcsin|arccos|arctan|log|ln|exp|pi|inf|max|min|mod)\b"
)
_WORD = re.compile(r"[A-Za-z]{3,}")


def _marks(text: str) -> Iterator[tuple[int, int, int, bool]]:
    """Each marked answer: where the mark begins, where it begins and ends itself, and whether it is in a sentence."""
    yield from _boxed(text)
    end = len(text.rstrip())
    for match in _HASHES.finditer(text):
        # "#### Step 2" is a heading of Markdown: only the last line may hold anything, others a number
        if match.end() >= end or number(match[1]) is not None:
            yield match.start(), match.start(1), match.end(), False
    for match in _SAID.finditer(text):
        yield match.start(), match.end(), match.end() + 1000, True
    for match in _FIELD.finditer(text):
        yield match.start(), match.start(1), match.end(), False


def _boxed(text: str) -> Iterator[tuple[int, int, int, bool]]:
    r"""Each `\boxed{}` whose braces are closed, in one pass."""
    open_braces: list[tuple[int, int] | None] = []
    for match in _BRACES.finditer(text):
        token = match[0]
        if token == "}":
            began = open_braces.pop() if open_braces else None
            if began is not None:
                yield *began, match.start(), False
        elif token == "{":
            open_braces.append(None)
        elif token.endswith("{") and len(token) > 2:
            open_braces.append((match.start(), match.end()))


def _unboxed(text: str) -> str:
    r"""What is in the `\boxed{}` that is the whole text; any other text as it is."""
    bare = _bare(text)
    if bare.startswith(("\\boxed", "\\fbox")):
        for start, begin, end, _ in _boxed(bare):
            if start == 0 and end + 1 == len(bare):
                return bare[begin:end]
    return text


def _sentence(rest: str) -> str:
    """The text up to the end of its sentence; an answer set in mathematics is taken whole."""
    if formula := _DELIMITED.match(rest):
        return next(group for group in formula.groups() if group is not None)
    end = _SENTENCE_END.search(rest)
    said = rest[: end.start()] if end else rest
    if len(said.split()) > 3 and _FIRST_WORD.match(said) and (last := _last_number(said)):
        return last  # "that Natalia sold 72 clips"
    return said


def _last_number(text: str) -> str | None:
    numbers = [match[0] for match in _A_NUMBER.finditer(text) if any(c.isdigit() for c in match[0])]
    return numbers[-1].rstrip(".,") if numbers else None


def _unquoted(value: str) -> str:
    """A JSON string's text; anything else as it is."""
    if value.startswith('"'):
        try:
            return str(json.loads(value))
        except ValueError:
            return value.strip('"')
    return value


def _bare(text: str) -> str:
    """Without white space, full stop, emphasis and mathematics' delimiters around it."""
    before = None
    while before != text:
        before = text
        text = text.strip(" \t\r\n*").rstrip(".,;:!")
        for start, end in _WRAPPING:
            if len(text) > len(start) + len(end) and text.startswith(start) and text.endswith(end):
                inside = text[len(start) : -len(end)]
                text = inside if start not in inside else text
    return "" if all(c in "*_$`\"'.[](){}" for c in text) else text


def _without_units(text: str) -> str:
    """Without units, degrees and LaTeX's text commands at the end; what is no unit stays."""
    plain = _DEGREES.sub("", _TEXT_COMMAND.sub(r" \1", _bare(text))).strip()
    found = _UNIT.search(plain)
    if found and not _NO_UNIT.search(found[0]):
        return plain[: found.start()].strip()
    return plain


def _words(text: str) -> str:
    plain = " ".join(_TEXT_COMMAND.sub(r"\1", _bare(text) or text).casefold().split())
    return plain[1:-1] if re.fullmatch(r"\([a-z]\)", plain) else plain


def _is_whole(text: str) -> bool:
    """Whether a text is a whole number; a percentage may be meant as its hundredth."""
    value = number(text)
    return value is not None and value.denominator == 1 and "%" not in text


def _is_expression(text: str) -> bool:
    """Whether a text is worth reading as mathematics. Words are not: as products of letters, "evil" equals "live"."""
    if len(text) > 300 or not any(c.isdigit() or c in "\\+-*/^=<>" for c in text):
        return False
    return _WORD.search(_FUNCTION.sub(" ", _COMMAND.sub(" ", _without_units(text)))) is None
