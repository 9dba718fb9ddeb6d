"""LocalTeacher on small random models, against transformers' own generate."""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Coroutine
from functools import lru_cache
from pathlib import Path
from typing import Any, TypeVar

import pytest
from tiny_models import make_tokenizer, save_model

from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable
from synthkd.request import Completion, Message, Request, Sampling, Teacher
from synthkd.teachers.local import LocalTeacher

pytestmark = pytest.mark.train
T = TypeVar("T")

TEXTS = tuple(f"Tom has {i} apples" + " and buys one more" * (i % 5) for i in range(24))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "random")


def ask(text: str, **sampling: Any) -> Request[str]:
    return Request((Message("user", text),), str, Sampling(**sampling))


def together(teacher: LocalTeacher, *calls: Coroutine[Any, Any, T]) -> list[T]:
    """Await the calls at the same time, then give the model back."""

    async def whole() -> list[T]:
        try:
            return list(await asyncio.gather(*calls))
        finally:
            await teacher.aclose()

    return asyncio.run(whole())


def one(teacher: LocalTeacher, request: Request[Any], n: int = 1) -> list[Completion]:
    return together(teacher, teacher.generate(request, n))[0]


@lru_cache
def greedy_with_transformers(folder: Path, texts: tuple[str, ...], most: tuple[int, ...]) -> list[tuple[str, str, int]]:
    """What transformers gives for each text alone: text, finish reason, new tokens."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    model = AutoModelForCausalLM.from_pretrained(folder).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder)
    found, threads = [], torch.get_num_threads()
    torch.set_num_threads(1)
    for text, limit in zip(texts, most, strict=True):
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt", return_dict=True
        )
        out = model.generate(**ids, max_new_tokens=limit, do_sample=False)[0, ids["input_ids"].shape[1] :].tolist()
        finish = "stop" if out[-1] == tokenizer.eos_token_id else "length"
        found.append((tokenizer.decode(out, skip_special_tokens=True), finish, len(out)))
    torch.set_num_threads(threads)
    return found


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


def test_it_is_a_teacher_that_holds_no_torch_until_it_is_asked(folder: Path) -> None:
    assert isinstance(LocalTeacher(folder), Teacher)
    code = (
        "import sys; from synthkd.teachers import LocalTeacher; "
        f"t = LocalTeacher({str(folder)!r}); t.identity; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


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
    for together in (rows, *([row] for row in rows)):
        picked = torch.tensor([rows.index(row) for row in together])
        chances, index = likeliest(logits[picked].softmax(-1), together)
        for k, row in enumerate(together):
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


def scores_with_transformers(folder: Path, text: str, completion: str) -> list[float]:
    import torch
    from transformers import AutoModelForCausalLM

    tokenizer = make_tokenizer()
    prompt = tokenizer(f"<|user|>{text}<|end|><|assistant|>")["input_ids"]
    said = tokenizer(completion)["input_ids"]
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(folder)(torch.tensor([prompt + said])).logits[0].log_softmax(-1)
    return [float(logits[len(prompt) - 1 + k, token]) for k, token in enumerate(said)]


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


def test_what_it_cannot_do_is_refused_and_not_left_out(folder: Path) -> None:
    with pytest.raises(ConfigError, match="cannot do min_p"):
        one(LocalTeacher(folder), ask("Say hello", extra={"min_p": 0.1}))


def test_a_prompt_that_does_not_fit_fails_alone(folder: Path) -> None:
    teacher = LocalTeacher(folder)

    async def whole() -> list[Any]:
        calls = [teacher.generate(ask(" apples" * 600)), teacher.generate(ask("apples", max_tokens=4))]
        found = await asyncio.gather(*calls, return_exceptions=True)
        await teacher.aclose()
        return found

    long, short = asyncio.run(whole())
    assert isinstance(long, TeacherError)
    assert "512" in str(long)
    assert short[0].usage.completion_tokens <= 4


def test_a_reply_ends_where_the_context_ends(folder: Path) -> None:
    prompt = "a" * 500
    [reply] = one(LocalTeacher(folder), ask(prompt, temperature=0, max_tokens=100, stop=("never",)))
    assert reply.usage.prompt_tokens + reply.usage.completion_tokens <= 512


def test_a_model_trained_again_at_its_path_has_another_identity_and_a_copy_has_not(
    folder: Path, tmp_path: Path
) -> None:
    first = LocalTeacher(folder).identity
    assert first.startswith("local:llama@")
    copy = Path(shutil.copytree(folder, tmp_path / "elsewhere"))
    assert LocalTeacher(copy).identity == first
    assert LocalTeacher(copy, chat_template="{{ messages[0].content }}").identity != first
    save_model(copy, seed=1)
    assert LocalTeacher(copy).identity != first


def test_a_small_change_in_a_large_file_changes_the_fingerprint(tmp_path: Path) -> None:
    from synthkd.teachers.local.fingerprint import fingerprint

    weights = bytearray(64 << 20)
    (tmp_path / "model.safetensors").write_bytes(weights)
    before = fingerprint(tmp_path)
    weights[30 << 20 : 31 << 20] = b"\1" * (1 << 20)
    (tmp_path / "model.safetensors").write_bytes(weights)
    assert fingerprint(tmp_path) != before


def test_weights_that_change_under_a_teacher_are_not_journaled_under_the_old_name(tmp_path: Path) -> None:
    teacher = LocalTeacher(save_model(tmp_path / "student"))
    assert teacher.identity
    save_model(tmp_path / "student", seed=1)
    with pytest.raises(TeacherUnavailable, match="has changed"):
        one(teacher, ask("Say hello"))
    assert one(teacher, ask("Say hello", max_tokens=2))  # after aclose it is the new one, under the new name


def test_a_crash_reaches_everyone_who_waits_at_once(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from synthkd.teachers.local.decoding import Decoder

    steps = iter([False, False, True])
    real = Decoder.step

    def step(self: Decoder) -> Any:
        if next(steps, True):
            raise MemoryError("no room")
        return real(self)

    monkeypatch.setattr(Decoder, "step", step)
    teacher = LocalTeacher(folder, batch_size=4)

    async def whole() -> list[Any]:
        calls = [teacher.generate(ask(text, temperature=0, stop=("never",))) for text in TEXTS]
        return await asyncio.wait_for(asyncio.gather(*calls, return_exceptions=True), timeout=30)

    errors = asyncio.run(whole())
    assert all(isinstance(error, TeacherUnavailable) for error in errors)
    assert "MemoryError: no room" in str(errors[0])
    assert "batch_size" in str(errors[0])


def test_damaged_weights_are_reported_with_the_path(folder: Path, tmp_path: Path) -> None:
    copy = Path(shutil.copytree(folder, tmp_path / "damaged"))
    (copy / "model.safetensors").write_bytes(b"not weights")
    with pytest.raises(TeacherUnavailable, match="damaged could not be loaded"):
        one(LocalTeacher(copy), ask("Say hello"))


def test_a_cancelled_call_makes_room_and_closing_ends_what_is_under_way(folder: Path) -> None:
    teacher = LocalTeacher(folder, batch_size=1)

    async def whole() -> None:
        endless = ask("Say hello", temperature=0, max_tokens=480, extra={"repetition_penalty": 1.0}, stop=("never",))
        first = asyncio.create_task(teacher.generate(endless))
        await asyncio.sleep(0.1)
        first.cancel()
        await teacher.generate(ask("hello", max_tokens=2))
        last = asyncio.create_task(teacher.generate(endless, 50))
        await asyncio.sleep(0.05)
        await teacher.aclose()
        with pytest.raises(TeacherUnavailable, match="closed"):
            await last

    asyncio.run(whole())


def test_the_event_loop_goes_on_while_the_model_works(folder: Path) -> None:
    teacher = LocalTeacher(folder)

    async def whole() -> float:
        await teacher.generate(ask("hello", max_tokens=1))
        work = asyncio.gather(*(teacher.generate(ask(text, max_tokens=60, stop=("never",))) for text in TEXTS))
        longest = 0.0
        while not work.done():
            before = time.perf_counter()
            await asyncio.sleep(0)
            longest = max(longest, time.perf_counter() - before)
        await teacher.aclose()
        return longest

    assert asyncio.run(whole()) < 0.5


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: LocalTeacher("./nowhere"), "there is no folder ./nowhere"),
        (lambda folder: LocalTeacher(folder.parent), "no config.json"),
        (lambda folder: LocalTeacher(folder, batch_size=0), "batch_size=0"),
        (lambda folder: LocalTeacher(folder, chat_template="missing.jinja"), "cannot be read"),
    ],
)
def test_mistakes_are_heard_before_anything_is_loaded(folder: Path, make: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make(folder)


def test_a_tokenizer_without_chat_template_is_refused_unless_one_is_given(tmp_path: Path) -> None:
    save_model(tmp_path, template=None)
    with pytest.raises(ConfigError, match="no chat template"):
        LocalTeacher(tmp_path)
    teacher = LocalTeacher(tmp_path, chat_template="{% for m in messages %}{{ m.content }}{% endfor %}:")
    assert one(teacher, ask("Say hello", max_tokens=2))[0].usage.prompt_tokens > 1


def test_messages_that_the_template_refuses_fail_alone(folder: Path) -> None:
    template = "{% if messages[0].role == 'system' %}{{ raise_exception('no system role') }}{% endif %}Hello"
    request = Request((Message("system", "Be kind"), Message("user", "hi")), str, Sampling(max_tokens=2))
    with pytest.raises(TeacherError, match="no system role"):
        one(LocalTeacher(folder, chat_template=template), request)
