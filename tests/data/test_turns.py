"""Records with calls of tools and pictures, and records of every kind: saved, and read back as they were."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import datasets
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from synthkd import Run, data
from synthkd.errors import DataError
from synthkd.filters import first
from synthkd.message import Image, Message
from synthkd.record import (
    Candidates,
    Conversation,
    Demonstration,
    Distribution,
    Document,
    Instruction,
    Labelled,
    Masked,
    Preference,
    Ranking,
    Rated,
    Record,
    Steps,
)

datasets.disable_progress_bars()

CALL = {"id": "1", "type": "function", "function": {"name": "add", "arguments": '{"a":1,"b":[2.5,null]}'}}
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {"a": {}}}}}
CALLED = (
    Message("user", "1 + 2?"),
    Message("assistant", "", tool_calls=(CALL,)),
    Message("tool", "3", tool_call_id="1", name="add"),
    Message("assistant", "It is 3."),
)


def png(colour: str = "red") -> bytes:
    from PIL import Image as Pillow

    buffer = io.BytesIO()
    Pillow.new("RGB", (4, 4), colour).save(buffer, "PNG")
    return buffer.getvalue()


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "red.png"
    path.write_bytes(png())
    return path


def saved(records: list[Any], folder: Path) -> Path:
    return data.write([data.row(record) for record in records], folder, "# Records")


def loaded(folder: Path, cache: Path) -> datasets.Dataset:
    return datasets.load_dataset(str(folder), split="train", cache_dir=str(cache))


class TestTools:
    def test_calls_are_in_trls_form_and_no_turn_has_what_it_was_not_given(self, tmp_path: Path) -> None:
        records = [Conversation(messages=CALLED, tools=(TOOL,)), Conversation(messages=CALLED[:1])]
        folder = saved(records, tmp_path / "out")
        table = loaded(folder, tmp_path / "cache")
        call = {**CALL, "function": {"name": "add", "arguments": {"a": 1, "b": [2.5, None]}}}
        assert table[0]["messages"] == [
            {"role": "user", "content": "1 + 2?"},
            {"role": "assistant", "content": "", "tool_calls": [call]},
            {"role": "tool", "content": "3", "tool_call_id": "1", "name": "add"},
            {"role": "assistant", "content": "It is 3."},
        ]
        assert (json.loads(table[0]["tools"]), table[1]["tools"]) == ([TOOL], None)
        assert list(data.read(folder, Conversation)) == list(data.read(table, Conversation)) == records

    @pytest.mark.parametrize("text", ["no json", '{"a":1,"a":2}', "[1]", '{"a":123456789012345678901234567890}', ""])
    def test_arguments_that_no_object_holds_stay_text(self, text: str) -> None:
        call = {"function": {"name": "f", "arguments": text}}
        talk = Conversation(messages=(Message("user", "u"), Message("assistant", "", tool_calls=(call,))))
        assert data.row(talk)["messages"][1]["tool_calls"] == [call]
        assert data.read(data.to_dataset([talk]), Conversation)[0] == talk

    def test_messages_of_text_alone_keep_the_plain_form_until_one_of_the_dataset_holds_more(
        self, tmp_path: Path
    ) -> None:
        plain = [Instruction(prompt=f"q{i}") for i in range(1500)]
        feature = {"role": datasets.Value("string"), "content": datasets.Value("string")}
        assert data.to_dataset(plain).features["prompt"] == datasets.List(feature)
        records = [*plain, Instruction(prompt=CALLED[:3])]
        folder = saved(records, tmp_path / "out")
        table = loaded(folder, tmp_path / "cache")
        assert table.features["prompt"] == datasets.List(datasets.Json())
        assert table[0]["prompt"] == [{"role": "user", "content": "q0"}]
        assert table.features == data.to_dataset(records).features
        assert list(data.read(folder, Instruction)) == records


class TestPictures:
    def test_a_file_travels_as_its_bytes_and_an_address_stays_one(self, picture: Path, tmp_path: Path) -> None:
        records = [
            Instruction(prompt=(Message("user", ("Left: ", Image(str(picture), "low"), "Right?")),)),
            Instruction(prompt="no picture"),
            Instruction(prompt=(Message("system", "s"), Message("user", (Image("https://a.org/b.png"),)))),
        ]
        folder = saved(records, tmp_path / "out")
        table = loaded(folder, tmp_path / "cache")
        assert table.features["images"] == datasets.List(datasets.Image())
        parts = [{"type": "text", "text": "Left: "}, {"type": "image", "detail": "low"}, {"type": "text"}]
        assert table[0]["prompt"] == [{"role": "user", "content": [*parts[:2], {**parts[2], "text": "Right?"}]}]
        assert table[0]["images"][0].getpixel((0, 0)) == (255, 0, 0)
        assert (table[1]["images"], table[1]["prompt"]) == ([], [{"role": "user", "content": "no picture"}])
        raw = table.cast_column("images", datasets.List(datasets.Image(decode=False)))
        assert raw[2]["images"] == [{"bytes": None, "path": "https://a.org/b.png"}]
        assert list(data.read(folder, Instruction)) == list(data.read(table, Instruction)) == records
        picture.unlink()
        [_, moved, _] = data.read(folder, Instruction)[0].messages[0].content
        assert moved == Image("data:image/png;base64," + base64.b64encode(png()).decode(), "low")

    def test_a_picture_that_comes_after_a_thousand_rows_widens_the_ones_before(
        self, picture: Path, tmp_path: Path
    ) -> None:
        plain = [Demonstration(prompt=f"q{i}", completion="c") for i in range(1200)]
        seen = Demonstration(prompt=(Message("user", (Image(str(picture)), "What is it?")),), completion="red")
        folder = saved([*plain, seen], tmp_path / "out")
        assert list(data.read(folder, Demonstration)) == [*plain, seen]
        table = loaded(folder, tmp_path / "cache")
        assert (table[0]["images"], len(table[1200]["images"])) == ([], 1)

    def test_a_chunk_of_rows_is_closed_when_its_pictures_are_many(
        self, picture: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        import pyarrow.parquet

        monkeypatch.setattr("synthkd.data.saving._PICTURES", 2 * picture.stat().st_size)
        records = [Instruction(prompt=(Message("user", (Image(str(picture)), str(k))),)) for k in range(7)]
        [file] = saved(records, tmp_path / "out").rglob("*.parquet")
        assert pyarrow.parquet.ParquetFile(file).num_row_groups == 4
        assert list(data.read(tmp_path / "out", Instruction)) == records

    @pytest.mark.parametrize("form", ["path", "bytes", "pillow", "stored", "data"])
    def test_other_datasets_pictures_are_read_in_all_their_forms(self, form: str, picture: Path) -> None:
        from PIL import Image as Pillow

        address = "data:image/png;base64," + base64.b64encode(png()).decode()
        given: Any = {
            "path": str(picture),
            "bytes": png(),
            "pillow": Pillow.open(io.BytesIO(png())),
            "stored": {"bytes": png(), "path": None},
            "data": address,
        }[form]
        record = data.read([{"q": "What?", "image": given}], Instruction, fields={"prompt": "q", "images": "image"})[0]
        [message] = record.messages
        assert message.text == "What?"
        assert isinstance(message.content[0], Image)
        assert message.images[0].url.startswith(str(picture) if form == "path" else "data:image/png;base64,")

    def test_a_hub_datasets_pictures_fill_the_places_of_its_messages(self, picture: Path) -> None:
        turns = [{"role": "user", "content": [{"type": "text", "text": "What?"}, {"type": "image"}]}]
        table = datasets.Dataset.from_list(
            [{"messages": [*turns, {"role": "assistant", "content": [{"type": "text", "text": "Red."}]}]}]
        ).add_column("images", [[str(picture)]])
        table = table.cast_column("images", datasets.List(datasets.Image()))
        talk = data.read(table, Conversation)[0]
        assert talk.messages[0].content == ("What?", Image(str(picture)))
        assert data.read(table, Demonstration)[0].completion == "Red."

    def test_openais_form_is_read(self) -> None:
        part = {"type": "image_url", "image_url": {"url": "https://a.org/b.png", "detail": "high"}}
        row = {"messages": [{"role": "user", "content": [part, {"type": "text", "text": "What?"}]}]}
        assert data.read([row], Instruction)[0].messages[0].content == (Image("https://a.org/b.png", "high"), "What?")

    @pytest.mark.parametrize(
        ("row", "problem"),
        [
            ({"prompt": [{"role": "user", "content": [{"type": "image"}]}]}, "1 places for pictures and 0"),
            ({"prompt": [{"role": "user", "content": [{"type": "image"}]}], "images": ["a", "b"]}, "1 places .* and 2"),
            ({"prompt": [{"role": "user", "content": [{"type": "audio"}]}]}, "has the part .*audio"),
            ({"prompt": "p", "images": [3]}, "3 is no picture"),
        ],
    )
    def test_pictures_that_do_not_fit_are_errors(self, row: dict[str, Any], problem: str) -> None:
        with pytest.raises(DataError, match=problem):
            data.read([row], Instruction)

    def test_a_file_that_is_not_there_is_named(self) -> None:
        record = Instruction(prompt=(Message("user", (Image("/nowhere/cat.png"),)),))
        with pytest.raises(DataError, match=r"/nowhere/cat.png.*cannot be read"):
            data.row(record)

    def test_a_users_field_called_images_is_kept_beside_the_pictures(self, picture: Path) -> None:
        class Album(Instruction):
            images: tuple[str, ...] = ()

        album = Album(prompt=(Message("user", (Image(str(picture)), "?")),), images=("a", "b"))
        assert data.row(album)["images_"] == ["a", "b"]
        assert data.read(data.to_dataset([album]), Album)[0] == album


def test_a_run_keeps_and_saves_tools_and_pictures(picture: Path, tmp_path: Path) -> None:
    seen = Message("user", (Image(str(picture), "high"), "What?"))
    records = [Conversation(messages=(seen, *CALLED), tools=(TOOL,)), Conversation(messages=CALLED[:1])]
    with Run(tmp_path / "run", quiet=True) as run:
        folder = run.save(run.filter(first(2), records))
    assert list(data.read(folder, Conversation)) == records


TEXTS = st.text(max_size=12)
ADDRESSES = st.sampled_from(
    [
        "https://a.org/b.png",
        "data:image/png;base64,iVBORw0K",
        "data:image/jpeg;base64,/9j/4AAQ",
        "data:text/plain;base64,",
    ]
)
PICTURES = st.builds(Image, ADDRESSES, st.sampled_from([None, "auto", "low", "high"]))
CONTENTS = st.one_of(
    TEXTS,
    st.lists(st.one_of(TEXTS, PICTURES), min_size=1, max_size=4)
    .map(tuple)
    .filter(lambda parts: any(isinstance(part, Image) for part in parts)),
)
JSON_VALUES = st.recursive(
    st.one_of(
        st.none(), st.booleans(), st.integers(-(2**53), 2**53), st.floats(allow_nan=False, width=16), TEXTS
    ).filter(lambda value: value not in (float("inf"), float("-inf"))),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=5,
)
OBJECTS = st.dictionaries(TEXTS, JSON_VALUES, max_size=3)


def compact(value: Any) -> str:
    import orjson

    return orjson.dumps(value).decode()


CALLS = st.builds(
    lambda name, arguments, number: {
        "id": number,
        "type": "function",
        "function": {"name": name, "arguments": arguments},
    },
    TEXTS,
    st.one_of(OBJECTS.map(compact), TEXTS),
    TEXTS,
)
MESSAGES = st.one_of(
    st.builds(Message, st.sampled_from(["system", "user", "assistant"]), CONTENTS),
    st.builds(Message, st.just("assistant"), TEXTS, st.lists(CALLS, max_size=2).map(tuple)),
    st.builds(Message, st.just("tool"), TEXTS, st.just(()), st.none() | TEXTS, st.none() | TEXTS),
)


def as_one_text(turns: tuple[Message, ...]) -> Any:
    """A single user turn of text is the same prompt as its text, and is read as that."""
    return turns[0].content if len(turns) == 1 and turns[0] == Message("user", turns[0].text) else turns


TALKS = st.lists(MESSAGES, min_size=1, max_size=4).map(tuple)
PROMPTS = st.one_of(TEXTS, TALKS.map(as_one_text))
FLOATS = st.floats(allow_nan=False)
COMMON: dict[str, Any] = {
    "parents": st.lists(TEXTS, max_size=2).map(tuple),
    "meta": OBJECTS,
}
PROMPTED = {**COMMON, "prompt": PROMPTS}
MANY = st.lists(TEXTS, min_size=1, max_size=3).map(tuple)
WEIGHT = {"weight": FLOATS}


def spans(text: str) -> st.SearchStrategy[tuple[tuple[int, int], ...]]:
    places = st.lists(st.integers(0, len(text)), max_size=4).map(sorted)
    return places.map(lambda found: tuple(zip(found[::2], found[1::2], strict=False)))


KINDS: dict[type[Record], st.SearchStrategy[Any]] = {
    Document: st.builds(Document, text=TEXTS, title=st.none() | TEXTS, source=st.none() | TEXTS, **COMMON),
    Labelled: st.builds(
        Labelled,
        text=TEXTS,
        label=TEXTS,
        text_pair=st.none() | TEXTS,
        soft_label=st.dictionaries(TEXTS, st.floats(0, 1), max_size=3),
        **WEIGHT,
        **COMMON,
    ),
    Conversation: st.builds(
        Conversation, messages=TALKS, tools=st.lists(OBJECTS, max_size=2).map(tuple), **WEIGHT, **COMMON
    ),
    Instruction: st.builds(Instruction, **PROMPTED),
    Candidates: st.one_of(
        st.builds(Candidates, completions=MANY, **PROMPTED),
        st.builds(
            lambda pairs, **more: Candidates(
                completions=[a for a, _ in pairs], reasonings=[b for _, b in pairs], **more
            ),
            st.lists(st.tuples(TEXTS, TEXTS), min_size=1, max_size=3),
            **PROMPTED,
        ),
    ),
    Demonstration: st.builds(
        Demonstration,
        completion=TEXTS,
        reasoning=st.none() | TEXTS,
        privileged_context=st.none() | TEXTS,
        **WEIGHT,
        **PROMPTED,
    ),
    Masked: TEXTS.flatmap(lambda text: st.builds(Masked, completion=st.just(text), masked=spans(text), **PROMPTED)),
    Preference: st.builds(
        Preference,
        chosen=TEXTS,
        rejected=TEXTS,
        score_chosen=st.none() | FLOATS,
        score_rejected=st.none() | FLOATS,
        **PROMPTED,
    ),
    Ranking: st.builds(
        lambda scored, **more: Ranking(
            completions=[text for text, _ in scored],
            scores=sorted((score for _, score in scored), reverse=True),
            **more,
        ),
        st.lists(st.tuples(TEXTS, FLOATS), min_size=1, max_size=3),
        **PROMPTED,
    ),
    Rated: st.builds(Rated, completion=TEXTS, label=st.booleans(), **PROMPTED),
    Steps: st.builds(
        lambda judged, **more: Steps(completions=[a for a, _ in judged], labels=[b for _, b in judged], **more),
        st.lists(st.tuples(TEXTS, st.booleans()), min_size=1, max_size=3),
        **PROMPTED,
    ),
    Distribution: st.builds(
        lambda places, **more: Distribution(
            tokens=[token for token, _ in places],
            top_tokens=[[text for text, _ in top] for _, top in places],
            top_logprobs=[[value for _, value in top] for _, top in places],
            **more,
        ),
        st.lists(st.tuples(TEXTS, st.lists(st.tuples(TEXTS, FLOATS), max_size=3)), max_size=3),
        completion=TEXTS,
        **WEIGHT,
        **PROMPTED,
    ),
}


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows=st.data())
def test_records_of_every_kind_come_back_as_they_were(kind: type[Record], rows: Any, tmp_path: Path) -> None:
    records = rows.draw(st.lists(KINDS[kind], min_size=1, max_size=3))
    folder = saved(records, tmp_path / "out")
    again = list(data.read(folder, kind))
    assert again == records
    assert [record.id for record in again] == [record.id for record in records]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
@settings(max_examples=10, deadline=None)
@given(rows=st.data())
def test_a_dataset_in_memory_holds_the_same_as_the_folder(kind: type[Record], rows: Any) -> None:
    records = rows.draw(st.lists(KINDS[kind], min_size=1, max_size=3))
    assert list(data.read(data.to_dataset(records), kind)) == records
