"""Retrieve: documents for records, the right one and such as distract from it."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from synthkd.errors import ConfigError, PromptError
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration, Document, Instruction, Labelled
from synthkd.retrieval import BM25
from synthkd.run import Run
from synthkd.strategies import Answer, Retrieve
from synthkd.testing import FunctionTeacher

pytest.importorskip("bm25s", reason="needs bm25s: pip install 'synthkd[retrieval]'")

DOCUMENTS = [
    Document(text=f"The {animal} eats {food} at {hour} o'clock.", title=animal, source=f"page {hour}")
    for hour, (animal, food) in enumerate([("cat", "fish"), ("dog", "bones"), ("cow", "grass"), ("owl", "mice")], 1)
]
CAT = Instruction(prompt="When does the cat eat fish?", parents=(DOCUMENTS[0].id,))


def mapped(folder: Path, strategy: Any, records: list[Any], **options: Any) -> list[Any]:
    with Run(folder, quiet=True, **options) as run:
        return list(run.map(strategy, records))


def shown(record: Any) -> list[Any]:
    found = record.meta["documents"]
    assert isinstance(found, list)
    return found


def test_the_best_documents_come_in_meta_for_the_teacher_s_template(tmp_path: Path) -> None:
    template = tmp_path / "grounded.jinja"
    template.write_text(
        "{# variables: instruction, documents; source: none #}"
        "{% block user %}{% for d in documents %}<{{ d.title }}: {{ d.text }}>{% endfor %}"
        "{{ instruction }}{% endblock %}"
    )
    teacher = FunctionTeacher(lambda _: "at one")
    with Run(tmp_path / "run", teacher=teacher, quiet=True) as run:
        [found] = stage = run.map(Retrieve(BM25(DOCUMENTS), k=2), [CAT])
        [answer] = run.map(Answer(Prompt(template, str)), stage)
    assert shown(found)[0]["id"] == DOCUMENTS[0].id
    assert found.prompt == answer.prompt == CAT.prompt
    assert found.parents == (CAT.id,)
    assert teacher.calls[0].messages[-1].text.startswith(f"<cat: {DOCUMENTS[0].text}><")
    assert not any(one["gold"] for one in shown(found))


def test_in_the_prompt_the_student_sees_them_and_meta_says_which(tmp_path: Path) -> None:
    strategy = Retrieve(BM25(DOCUMENTS), k=1, into="prompt", gold="parents")
    [found] = mapped(tmp_path, strategy, [CAT])
    assert found.prompt.endswith(CAT.prompt)
    assert DOCUMENTS[0].text in found.prompt
    assert "[Document 2: " in found.prompt
    assert [sorted(one) for one in shown(found)] == [["gold", "id", "source", "title"]] * 2
    assert [one["id"] for one in shown(found) if one["gold"]] == [DOCUMENTS[0].id]
    places = [found.prompt.index(next(d.text for d in DOCUMENTS if d.id == one["id"])) for one in shown(found)]
    assert places == sorted(places)


def test_of_a_conversation_the_last_user_turn_is_rewritten_and_pictures_stay(tmp_path: Path) -> None:
    turns = (
        Message("system", "Be brief."),
        Message("user", "Hello"),
        Message("assistant", "Yes?"),
        Message("user", ("When does the cat eat fish?", Image("https://example.org/cat.png"))),
    )
    [found] = mapped(tmp_path, Retrieve(BM25(DOCUMENTS), k=1, into="prompt"), [Instruction(prompt=turns)])
    assert found.prompt[:3] == turns[:3]
    assert DOCUMENTS[0].text in found.prompt[3].text
    assert found.prompt[3].images == turns[3].images


def test_a_share_p_gets_the_gold_document_among_k_distractors_and_the_rest_distractors_only(tmp_path: Path) -> None:
    records = [CAT.model_copy(update={"meta": {"number": number}}) for number in range(300)]
    strategy = Retrieve(BM25(DOCUMENTS), k=2, gold="parents", p=0.6)
    found = mapped(tmp_path / "a", strategy, records)
    sizes = Counter((len(shown(record)), sum(one["gold"] for one in shown(record))) for record in found)
    assert set(sizes) == {(3, 1), (2, 0)}
    assert 150 < sizes[3, 1] < 210
    assert all(len({one["id"] for one in shown(record)}) == len(shown(record)) for record in found)
    assert all(one["gold"] == (one["id"] == DOCUMENTS[0].id) for record in found for one in shown(record))
    places = Counter([one["gold"] for one in shown(record)].index(True) for record in found if len(shown(record)) == 3)
    assert min(places.values()) > 30
    assert found == mapped(tmp_path / "b", Retrieve(BM25(DOCUMENTS), k=2, gold="parents", p=0.6), records)
    assert found != mapped(tmp_path / "c", strategy, records, seed=2)


def test_distractors_that_the_search_does_not_give_are_drawn_by_chance_and_are_no_copies_of_the_gold_one(
    tmp_path: Path,
) -> None:
    copies = [DOCUMENTS[0].model_copy(update={"source": f"copy {n}"}) for n in range(9)]
    record = Instruction(prompt="cat fish", meta={"page": DOCUMENTS[0].id})
    [found] = mapped(tmp_path, Retrieve(BM25([*DOCUMENTS, *copies]), k=3, gold="page"), [record])
    assert sorted(one["title"] for one in shown(found)) == ["cat", "cow", "dog", "owl"]


def test_a_record_whose_gold_document_is_not_there_is_rejected(tmp_path: Path) -> None:
    strategy = Retrieve(BM25(DOCUMENTS), gold=lambda record: record.meta.get("page"))
    with Run(tmp_path, quiet=True) as run:
        stage = run.map(strategy, [CAT, Instruction(prompt="?", meta={"page": DOCUMENTS[1].id})])
        assert stage.ledger.rejected == {"no gold document": 1}
        assert stage.ledger.records_out == 1


def test_numbers_of_documents_may_have_shares_of_their_own(tmp_path: Path) -> None:
    records = [Instruction(prompt=f"What eats {n} o'clock?") for n in range(400)]
    shares = {0: 0.2, 1: 0.1, 2: 0.3, 3: 0.4}
    sizes = Counter(len(shown(record)) for record in mapped(tmp_path, Retrieve(BM25(DOCUMENTS), k=shares), records))
    assert all(abs(sizes[k] / 400 - share) < 0.07 for k, share in shares.items())


def test_any_kind_of_record_can_have_documents_by_any_query(tmp_path: Path) -> None:
    records = [
        Labelled(text="owl", label="x"),
        Demonstration(prompt="?", completion="grass"),
        Demonstration(prompt="?", completion="nothing of that"),
    ]
    strategy = Retrieve(BM25(DOCUMENTS), k=1, query=lambda r: r.text if isinstance(r, Labelled) else r.completion)
    found = mapped(tmp_path, strategy, records)
    assert [[one["title"] for one in shown(record)] for record in found] == [["owl"], ["cow"], []]


def test_a_replay_gives_the_same_rows_and_a_text_of_a_million_characters_is_no_trouble(tmp_path: Path) -> None:
    records = [Instruction(prompt="cat " * 250_000, parents=(DOCUMENTS[0].id,)), CAT, CAT.model_copy()]
    strategy = Retrieve(BM25(DOCUMENTS), into="prompt", gold="parents")
    assert mapped(tmp_path, strategy, records) == mapped(tmp_path, strategy, records)
    assert mapped(tmp_path / "empty", strategy, []) == []


def test_what_makes_no_sense_is_refused_before_anything_is_asked(tmp_path: Path) -> None:
    index = BM25(DOCUMENTS)
    for wrong in (0, -1, {}, {0: 1.0}, {1: 0.0}, {1: -1.0}):
        with pytest.raises(ConfigError, match="at least 1 document"):
            Retrieve(index, k=wrong)
    with pytest.raises(ConfigError, match="share of the records"):
        Retrieve(index, p=1.1)
    with pytest.raises(ConfigError, match="'meta' or 'prompt'"):
        Retrieve(index, into="student")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="use into='meta'"):
        mapped(tmp_path / "a", Retrieve(index, into="prompt"), [Document(text="cat")])
    with pytest.raises(PromptError, match="answer"):
        mapped(tmp_path / "b", Retrieve(index, into="prompt", prompt=Prompt("feedback/rate", str)), [CAT])
