"""Spans: each is a piece of its document, nothing of the text is lost, and long texts take no longer than they must."""

import time
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from synthkd.errors import ConfigError
from synthkd.record import Document
from synthkd.seeds import chunks, snippets

UNITS = ["characters", "words", "sentences", "lines"]
TEXT = st.text(st.sampled_from("ab Ä木。.!?\n\t\u2003\"'")) | st.text()


def cut(text: str, *args: Any, **more: Any) -> list[str]:
    return [one.text for one in chunks(Document(text=text), *args, **more)]


@settings(deadline=None, derandomize=True)
@given(TEXT, st.integers(1, 7), st.sampled_from(UNITS), st.data())
def test_a_chunk_stands_in_its_text_and_no_letter_is_lost(text: str, size: int, of: Any, data: st.DataObject) -> None:
    overlap = data.draw(st.integers(0, size - 1))
    document = Document(text=text, title="t", meta={"a": 1})
    covered: set[int] = set()
    starts = []
    for one in chunks(document, size, of, overlap=overlap):
        start, end = one.meta["start"], one.meta["end"]
        assert isinstance(start, int)
        assert isinstance(end, int)
        assert one.text == text[start:end]
        assert one.text.strip()
        assert (one.parents, one.title, one.meta["a"]) == ((document.id,), "t", 1)
        assert of != "characters" or len(one.text) <= size
        covered.update(range(start, end))
        starts.append(start)
    assert starts == sorted(set(starts))
    assert {place for place, letter in enumerate(text) if not letter.isspace()} <= covered


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("It rained. We stayed! Why? Because…  Well.", ["It rained.", "We stayed!", "Why?", "Because…", "Well."]),
        ("Dr. Smith met J. R. Jones at 3.5 p.m. sharp.", ["Dr. Smith met J. R. Jones at 3.5 p.m. sharp."]),
        ('"Go!" she said. "Now."', ['"Go!" she said.', '"Now."']),
        ("これは本です。それはペンです！終わり", ["これは本です。", "それはペンです！", "終わり"]),
        ("A heading\n\nA line\nthat goes on.", ["A heading", "A line\nthat goes on."]),
        ("Use e.g. oak. élan counts. Élan too.", ["Use e.g. oak. élan counts.", "Élan too."]),
        ("", []),
        (" \n ", []),
    ],
)
def test_sentences_end_where_a_reader_would_end_them(text: str, found: list[str]) -> None:
    assert cut(text, 1, "sentences") == found


def test_chunks_overlap_by_as_many_units_as_was_asked() -> None:
    assert cut("a b c d e", 3, overlap=1) == ["a b c", "c d e"]
    assert cut("a b c d e f", 3, overlap=2) == ["a b c", "b c d", "c d e", "d e f"]
    assert cut("a\n\nb\nc", 2, "lines") == ["a\n\nb", "c"]
    assert cut("一二三 four", 2) == ["一二", "三 four"]


def test_characters_are_cut_between_words_where_that_is_near() -> None:
    assert cut("the quick brown fox", 12, "characters") == ["the quick", "brown fox"]
    assert cut("the quick brown fox", 12, "characters", overlap=6) == ["the quick", "quick brown", "brown fox"]
    assert cut("a " + "x" * 25, 10, "characters") == ["a xxxxxxxx", "x" * 10, "x" * 7]


def test_units_may_come_from_a_tokenizer() -> None:
    """Offsets as fast tokenizers give them, with empty ones for their special tokens."""
    assert cut("unbelievable", 2, lambda text: [(0, 0), (0, 2), (2, 9), (9, 12), (0, 0)]) == ["unbelieva", "ble"]


def test_many_documents_are_read_as_they_are_needed_and_keep_their_kind() -> None:
    class Page(Document):
        number: int

    def endless() -> Any:
        number = 0
        while True:
            number += 1
            yield Page(text=f"page {number}", number=number)

    one = next(chunks(endless(), 1, "lines"))
    assert isinstance(one, Page)
    assert (one.number, next(snippets(endless())).number) == (1, 1)


@pytest.mark.parametrize("of", UNITS)
@pytest.mark.parametrize("piece", ["a. ", ".", " ", "\n", "x", "\n ", '."', "木。", "x\n"])
def test_a_million_characters_take_no_longer_than_they_must(of: Any, piece: str) -> None:
    document = Document(text=piece * (1_000_000 // len(piece)))
    began = time.monotonic()
    for _ in chunks(document, 100, of, overlap=20):
        pass
    assert time.monotonic() - began < 10


@settings(deadline=None, derandomize=True)
@given(st.lists(st.sampled_from(["", " ", "a = 1", "    return b", "木"])), st.integers(1, 9), st.data())
def test_a_snippet_is_a_run_of_lines_within_its_bounds(lines: list[str], n: int, data: st.DataObject) -> None:
    least = data.draw(st.integers(1, 4))
    most = data.draw(st.integers(least, 6))
    document = Document(text="\n".join(lines))
    found = list(snippets(document, n, lines=(least, most)))
    assert found == list(snippets([document], n, lines=(least, most)))
    for one in found:
        first, last = one.meta["first_line"], one.meta["last_line"]
        assert isinstance(first, int)
        assert isinstance(last, int)
        assert least <= last - first + 1 <= most
        assert one.text == "\n".join(lines[first - 1 : last])
        assert lines[first - 1].strip()
        assert one.parents == (document.id,)
    assert len({one.meta["first_line"] for one in found}) == len(found)
    while lines and not lines[-1].strip():
        lines.pop()
    assert not lines or len(lines) < least or found or least > 1


def test_snippets_begin_anywhere_have_all_lengths_and_hang_on_nothing_but_document_and_seed() -> None:
    documents = [Document(text="\n".join(f"line {n} of {d}" for n in range(40))) for d in range(200)]
    found = list(snippets(documents, seed=1))
    assert {one.text.count("\n") + 1 for one in found} == set(range(1, 16))
    assert len({one.meta["first_line"] for one in found}) > 30
    assert list(snippets(reversed(documents), seed=1)) == found[::-1]
    assert list(snippets(documents, seed=2)) != found
    assert len(list(snippets(documents[0], 99))) == 40


@pytest.mark.parametrize("wrong", [(0, "words", 0), (3, "words", 3), (3, "words", -1), (3, "tokens", 0)])
def test_chunks_that_cannot_be_are_refused_at_once(wrong: Any) -> None:
    size, of, overlap = wrong
    with pytest.raises(ConfigError, match=r"chunks\("):
        chunks(Document(text="a"), size, of, overlap=overlap)


@pytest.mark.parametrize("wrong", [{"n": 0}, {"lines": (0, 3)}, {"lines": (4, 3)}])
def test_snippets_that_cannot_be_are_refused_at_once(wrong: Any) -> None:
    with pytest.raises(ConfigError, match=r"snippets\("):
        snippets(Document(text="a"), **wrong)
