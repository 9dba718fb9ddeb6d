"""LocalTeacher as a teacher: identity, errors, closing, and the event loop beside it."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from local_calls import TEXTS, ask, one
from tiny_models import save_model

from synthkd.errors import ConfigError, TeacherError, TeacherUnavailable
from synthkd.message import Message
from synthkd.request import Request, Sampling, Teacher
from synthkd.teachers.local import LocalTeacher

pytestmark = pytest.mark.train


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_model(tmp_path_factory.mktemp("models") / "random")


def test_it_is_a_teacher_that_holds_no_torch_until_it_is_asked(folder: Path) -> None:
    assert isinstance(LocalTeacher(folder), Teacher)
    code = (
        "import sys; from synthkd.teachers import LocalTeacher; "
        f"t = LocalTeacher({str(folder)!r}); t.identity; "
        "print([m for m in ('torch', 'transformers') if m in sys.modules])"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


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
