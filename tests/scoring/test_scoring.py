"""Scorers: the numbers are the model's, whatever the batches, and nothing is loaded before it is needed."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthkd.errors import ConfigError, MissingExtra
from synthkd.filters import dedup, score
from synthkd.message import Message
from synthkd.record import Candidates, Demonstration, Document, Instruction
from synthkd.retrieval import Embedded
from synthkd.scoring import NLI, Classifier, Embedder, Reward

pytestmark = pytest.mark.train

Save = Callable[..., Path]
TEXTS = ["Tom has 3 apples.", "", "猫 🐈 ünïcödé", "What is the capital of France? Paris. " * 3, "7"]


def logits(folder: Path, *texts: str, special: bool = True) -> Any:
    """What transformers itself gives for one text or pair."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(folder)
    read = tokenizer(*texts, return_tensors="pt", add_special_tokens=special)
    with torch.inference_mode():
        return AutoModelForSequenceClassification.from_pretrained(folder).eval()(**read).logits[0]


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_a_class_has_the_probability_that_the_model_gives_it(save: Save, kind: str) -> None:
    folder = save(kind, "bad", "good", "odd")
    texts = [text for text in TEXTS if text]
    found = Classifier(folder, "good", batch_size=2)(texts)
    assert found == pytest.approx([float(logits(folder, text).softmax(-1)[1]) for text in texts], abs=1e-5)
    assert len({round(value, 3) for value in found}) == len(texts)
    classifier = Classifier(folder)
    for text, label, shares in zip(texts, classifier.labels(texts), classifier.probabilities(texts), strict=True):
        assert label == ["bad", "good", "odd"][int(logits(folder, text).argmax())]
        assert sum(shares.values()) == pytest.approx(1.0)


@pytest.mark.parametrize("kind", ["bert", "llama"])
def test_any_text_is_classified_also_an_empty_and_a_very_long_one(save: Save, kind: str) -> None:
    classifier = Classifier(save(kind, "bad", "good"), "good", batch_size=2)
    found = classifier([*TEXTS, "apples " * 150_000])
    assert len(found) == len(TEXTS) + 1
    assert all(0 <= value <= 1 for value in found)
    assert classifier([]) == []
    assert len(classifier([""])) == 1


def test_a_filter_takes_a_classifier_in_batches(save: Save) -> None:
    records = [Demonstration(prompt="p", completion=text) for text in TEXTS if text]
    classifier = Classifier(save("bert", "bad", "good"), "good")
    values = classifier([record.completion for record in records])
    rule = score(classifier, at_least=sorted(values)[2], batch=3)
    assert [verdict is None for verdict in rule(records)] == [value >= sorted(values)[2] for value in values]
    by_source = Classifier(save("bert", "bad", "good"), "good", of="source")
    assert by_source([Document(text="x", source=TEXTS[0])]) == pytest.approx([values[0]], abs=1e-5)


def test_entailment_is_of_the_second_text_by_the_first(save: Save) -> None:
    folder = save("bert", "CONTRADICTION", "Neutral", "ENTAILMENT")
    pairs = [("Tom has 3 apples.", "He has 7"), ("He has 7", "Tom has 3 apples."), ("a", "a")]
    nli = NLI(folder, batch_size=2)
    expected = [float(logits(folder, *pair).softmax(-1)[2]) for pair in pairs]
    assert nli(pairs) == pytest.approx(expected, abs=1e-5)
    assert nli.probabilities(pairs)[0].keys() == {"CONTRADICTION", "Neutral", "ENTAILMENT"}
    assert nli([]) == []
    named = NLI(save("bert", "LABEL_0", "LABEL_1"), entailment="label_1")
    assert all(0 < value < 1 for value in named(pairs))


def test_clusters_takes_nli_as_it_is(save: Save) -> None:
    rule = dedup.clusters(NLI(save("bert", "contradiction", "entailment")), threshold=0.0, of="prompt")
    assert list(rule([Instruction(prompt=text) for text in "abc"])) == [None, "same cluster", "same cluster"]


def test_a_reward_is_the_one_output_of_the_model_for_the_rendered_talk(save: Save) -> None:
    folder = save("llama", "reward")
    turns = (Message("system", "Be brief."), Message("user", "Tom has 3 apples?"))
    record = Demonstration(prompt=turns, completion="He has 7")
    text = "<|system|>Be brief.<|end|><|user|>Tom has 3 apples?<|end|><|assistant|>He has 7<|end|>"
    expected = float(logits(folder, text, special=False)[0])
    reward = Reward(folder)
    assert reward([record, (turns, "He has 7")]) == pytest.approx([expected] * 2, abs=1e-4)
    assert reward([("7", "x"), ("8", "x")]) != [expected] * 2
    assert reward([]) == []


def test_a_reward_model_without_a_chat_template_reads_two_texts(save: Save) -> None:
    folder = save("bert", "reward", template=False)
    expected = float(logits(folder, "Say hello", "hello")[0])
    assert Reward(folder)([("Say hello", "hello")]) == pytest.approx([expected], abs=1e-5)


@pytest.mark.parametrize("kind", ["bert", "llama"])
@pytest.mark.parametrize("pooling", ["mean", "first", "last"])
def test_a_vector_has_length_1_and_does_not_depend_on_its_batch(save: Save, kind: str, pooling: Any) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    folder = save(kind)
    texts = [*TEXTS, "apples " * 150_000]
    whole = Embedder(folder, pooling=pooling, batch_size=4)(texts)
    assert whole.shape == (len(texts), 64)
    assert whole.dtype == np.float32
    one = Embedder(folder, pooling=pooling)
    for text, vector in zip(texts, whole, strict=True):
        np.testing.assert_allclose(one([text])[0], vector, atol=1e-5)
    assert np.linalg.norm(whole, axis=1)[[0, 2, 3, 4, 5]] == pytest.approx(1.0, abs=1e-5)
    read = AutoTokenizer.from_pretrained(folder)(texts[0], return_tensors="pt")
    with torch.inference_mode():
        states = AutoModel.from_pretrained(folder).eval()(**read).last_hidden_state[0]
    pooled = {"mean": states.mean(0), "first": states[0], "last": states[-1]}[pooling]
    np.testing.assert_allclose(whole[0], (pooled / pooled.norm()).numpy(), atol=1e-5)
    assert Embedder(folder)([]).shape == (0, 64)


def test_an_index_is_made_of_an_embedder(save: Save) -> None:
    index = Embedded([Document(text=text) for text in TEXTS], Embedder(save("bert")))
    [(document, similarity)] = index.search(TEXTS[2], 1)
    assert document.text == TEXTS[2]
    assert similarity == pytest.approx(1.0, abs=1e-4)
    prefixed = Embedder(save("bert"), prefix="query: ")([TEXTS[0]])
    np.testing.assert_allclose(prefixed, Embedder(save("bert"))([f"query: {TEXTS[0]}"]), atol=1e-6)


def test_what_does_not_fit_the_model_is_said(save: Save, tmp_path: Path) -> None:
    two = save("bert", "bad", "good")
    with pytest.raises(ConfigError, match="no class 'great'; this model's are bad, good"):
        Classifier(two, "great")(["x"])
    with pytest.raises(ConfigError, match="classifies the completion of a record, and Instruction has no such text"):
        Classifier(two, "good")([Instruction(prompt="x")])
    with pytest.raises(ConfigError, match=r"entailment; say which: NLI\(..., entailment=NAME\)"):
        NLI(two)([("a", "b")])
    with pytest.raises(ConfigError, match="2 outputs"):
        Reward(two)([("a", "b")])
    with pytest.raises(ConfigError, match="Candidates has not one"):
        Reward(save("bert", "reward"))([Candidates(prompt="a", completions=("b",))])
    with pytest.raises(ConfigError, match="could not be loaded"):
        Embedder(tmp_path)(["x"])
    with pytest.raises(ConfigError, match="pooling='max'"):
        Embedder(two, pooling="max")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="batch_size=0"):
        Embedder(two, batch_size=0)


def test_making_one_loads_nothing_and_without_torch_the_command_is_named(
    save: Save, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import sys; from synthkd.scoring import NLI, Classifier, Embedder, Reward\n"
        "[repr(kind('nobody/nothing')) for kind in (NLI, Classifier, Embedder, Reward)]\n"
        "print([m for m in ('torch', 'transformers', 'numpy') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(MissingExtra, match=r"synthkd\[train\]"):
        Embedder(save("bert"))(["x"])
