"""What a local teacher draws, against transformers' own generate."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from local_calls import TEXTS, ask, greedy_with_transformers, one, scores_with_transformers, together
from tiny_models import make_tokenizer, save_model

from synthkd.teachers.local import LocalTeacher

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "random")


@pytest.mark.parametrize("batch_size", [1, 5, 64])
def test_greedy_text_is_that_of_transformers_whatever_shares_the_batch(folder: Path, batch_size: int) -> None:
    limits = tuple(5 + 3 * (k % 9) for k in range(len(TEXTS)))
    teacher = LocalTeacher(folder, batch_size=batch_size)
    calls = [teacher.generate(ask(text, temperature=0, max_tokens=n)) for text, n in zip(TEXTS, limits, strict=True)]
    got = [(c.text, c.finish_reason, c.usage.completion_tokens) for [c] in together(teacher, *calls)]
    assert got == greedy_with_transformers(folder, TEXTS, limits)
    assert {finish for _, finish, _ in got} == {"stop", "length"}


def test_a_model_with_a_sliding_window_gives_the_text_of_transformers_too(tmp_path: Path) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    config = MistralConfig(
        vocab_size=320, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, head_dim=64, sliding_window=16, initializer_range=0.2, max_position_embeddings=512,
        bos_token_id=None, eos_token_id=4, pad_token_id=0,
    )  # fmt: skip
    MistralForCausalLM(config).save_pretrained(tmp_path)
    make_tokenizer().save_pretrained(tmp_path)
    teacher = LocalTeacher(tmp_path, batch_size=6)
    texts, limits = TEXTS[:14], tuple(range(10, 24))
    calls = [teacher.generate(ask(text, temperature=0, max_tokens=n)) for text, n in zip(texts, limits, strict=True)]
    got = [(c.text, c.finish_reason, c.usage.completion_tokens) for [c] in together(teacher, *calls)]
    assert got == greedy_with_transformers(tmp_path, texts, limits)


def test_a_seed_gives_the_same_draws_alone_and_in_a_crowd(folder: Path) -> None:
    request = ask("Say hello", temperature=1.0, top_p=0.9, seed=7, max_tokens=12)
    alone = one(LocalTeacher(folder), request, 3)
    crowd = LocalTeacher(folder, batch_size=4)
    others = [crowd.generate(ask(text, temperature=1.0, max_tokens=12)) for text in TEXTS]
    among = together(crowd, *others, crowd.generate(request, 3))[-1]
    assert [c.text for c in alone] == [c.text for c in among]
    assert len({c.text for c in alone}) == 3


def test_draws_follow_the_chances_of_the_model(folder: Path) -> None:
    import torch

    from synthkd.teachers.local.choosing import Plan, Row, draw

    logits = torch.tensor([2.0, 1.0, 0.0, -1.0]).log_softmax(-1)
    chance = random.Random(0).random

    def shares(plan: Plan) -> list[float]:
        rows = [Row([1], plan, chance) for _ in range(8_000)]
        found = draw(logits.repeat(len(rows), 1), rows).bincount(minlength=4)
        return [round(float(x), 2) for x in found / len(rows)]

    assert shares(Plan(1.0, 1)) == pytest.approx(logits.exp().tolist(), abs=0.02)
    assert shares(Plan(2.0, 1)) == pytest.approx((logits / 2).softmax(-1).tolist(), abs=0.02)
    assert shares(Plan(0.0, 1)) == [1, 0, 0, 0]
    kept = logits.exp()[:2] / logits.exp()[:2].sum()
    assert shares(Plan(1.0, 1, top_k=2)) == pytest.approx([*kept.tolist(), 0, 0], abs=0.02)
    assert shares(Plan(1.0, 1, top_p=0.7)) == pytest.approx([*kept.tolist(), 0, 0], abs=0.02)
    assert shares(Plan(1.0, 1, top_p=0.5)) == [1, 0, 0, 0]


def test_top_k_and_top_p_leave_the_tokens_that_transformers_leaves() -> None:
    import torch
    from transformers import TopKLogitsWarper, TopPLogitsWarper

    from synthkd.teachers.local.choosing import Plan, Row, likeliest

    logits = torch.randn(40, 700, generator=torch.Generator().manual_seed(0)) * torch.linspace(0.1, 6, 40)[:, None]
    choices = [(0, 1.0), (0, 0.9), (0, 0.3), (5, 1.0), (300, 1.0), (300, 0.9), (20, 0.7), (1, 0.5)]
    plans = [Plan(1.0, 1, top_k=k, top_p=p) for k, p in (choices * 5)]
    rows = [Row([1], plan, random.random) for plan in plans]
    for group in (rows, *([row] for row in rows)):
        picked = torch.tensor([rows.index(row) for row in group])
        chances, index = likeliest(logits[picked].softmax(-1), group)
        for k, row in enumerate(group):
            scores = logits[picked[k]][None]
            scores = TopKLogitsWarper(row.plan.top_k)(None, scores) if row.plan.top_k else scores
            scores = TopPLogitsWarper(row.plan.top_p)(None, scores) if row.plan.top_p < 1 else scores
            left = set(scores[0].isfinite().nonzero()[:, 0].tolist())
            assert set(index[k][chances[k] > 0].tolist()) == left, row.plan


def test_the_models_own_settings_fill_what_a_request_leaves_open(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "copy"))
    (copy / "generation_config.json").write_text(
        '{"eos_token_id": 4, "do_sample": true, "temperature": 5.0, "top_k": 1}'
    )
    open_, heated = ask("Say hello", max_tokens=8), ask("Say hello", max_tokens=8, extra={"top_k": 300}, seed=1)
    teacher = LocalTeacher(copy)
    [[own], [drawn]] = together(teacher, teacher.generate(open_), teacher.generate(heated))
    [likeliest] = one(LocalTeacher(folder), open_)
    assert own.text == likeliest.text != drawn.text


def test_a_stop_text_ends_the_reply_and_is_not_part_of_it(folder: Path) -> None:
    [whole] = one(LocalTeacher(folder), ask(TEXTS[3], temperature=0, max_tokens=30))
    stop = whole.text[4:7]
    [cut] = one(LocalTeacher(folder), ask(TEXTS[3], temperature=0, max_tokens=30, stop=(stop,)))
    assert cut.text == whole.text[: whole.text.index(stop)]
    assert cut.finish_reason == "stop"
    assert cut.usage.completion_tokens < whole.usage.completion_tokens


def test_the_prompt_is_counted_with_the_first_of_several_draws(folder: Path) -> None:
    drawn = one(LocalTeacher(folder), ask("Say hello", temperature=1.0, max_tokens=4), 3)
    tokens = len(make_tokenizer()("<|user|>Say hello<|end|><|assistant|>")["input_ids"])
    assert [c.usage.prompt_tokens for c in drawn] == [tokens, 0, 0]


def test_log_probabilities_are_those_of_the_model_and_agree_with_score(folder: Path) -> None:
    request = ask(TEXTS[0], temperature=0, max_tokens=6, logprobs=2)
    [said] = one(LocalTeacher(folder), request)
    assert len(said.logprobs) == said.usage.completion_tokens
    for token in said.logprobs:
        assert len(token["top_logprobs"]) == 2
        assert token["logprob"] == pytest.approx(token["top_logprobs"][0]["logprob"])
    teacher = LocalTeacher(folder)
    texts = ["He has 7 apples.", "Paris", ""]
    scores = together(teacher, *(teacher.score(request.messages, text) for text in texts))
    assert scores[2] == []
    assert scores[0] == pytest.approx(scores_with_transformers(folder, TEXTS[0], texts[0]), abs=1e-4)
    assert scores[1] == pytest.approx(scores_with_transformers(folder, TEXTS[0], texts[1]), abs=1e-4)


def test_penalties_keep_a_reply_from_repeating_itself(folder: Path) -> None:
    [plain] = one(LocalTeacher(folder), ask(TEXTS[0], temperature=0, max_tokens=40, logprobs=0))
    teacher = LocalTeacher(folder)
    calls = [
        teacher.generate(ask(TEXTS[0], temperature=0, max_tokens=40, logprobs=0, **more))
        for more in ({"presence_penalty": 50.0}, {"frequency_penalty": 50.0}, {"extra": {"repetition_penalty": 1e6}})
    ]
    for [reply] in together(teacher, *calls):
        tokens = [token["token"] for token in reply.logprobs]
        assert reply.text != plain.text or len(set(tokens)) == len(tokens)


def test_a_reply_ends_where_the_context_ends(folder: Path) -> None:
    prompt = "a" * 500
    [reply] = one(LocalTeacher(folder), ask(prompt, temperature=0, max_tokens=100, stop=("never",)))
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens <= 512
