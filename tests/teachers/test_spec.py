"""Teacher specifications: a text on the command line becomes a teacher, or says what it should look like."""

import pytest

from synthkd.errors import UnknownTeacher
from synthkd.teachers import OpenAITeacher, TeacherPool, teacher_from


@pytest.mark.parametrize(
    ("spec", "identity"),
    [
        ("openai:gpt-4.1-mini@http://127.0.0.1:8000/v1", "http://127.0.0.1:8000/v1#gpt-4.1-mini"),
        ("openai:gpt-4.1-mini@https://example.org/v1/", "https://example.org/v1#gpt-4.1-mini"),
        ("openai:Qwen/Qwen3-0.6B@http://localhost:8000/v1", "http://localhost:8000/v1#Qwen/Qwen3-0.6B"),
        ("openai:org/model:free@http://localhost:1/v1", "http://localhost:1/v1#org/model:free"),
        ("openai:model@2025-01@http://localhost:1/v1", "http://localhost:1/v1#model@2025-01"),
        ("openai:m@http://name:word@localhost:1/v1", "http://localhost:1/v1#m"),
    ],
)
def test_a_model_and_the_url_of_any_server_make_a_teacher(spec: str, identity: str) -> None:
    teacher = teacher_from(spec)
    assert isinstance(teacher, OpenAITeacher)
    assert teacher.identity == identity


def test_several_specifications_make_a_pool_and_other_commas_are_part_of_a_name() -> None:
    pool = teacher_from("openai:m,v2@http://localhost:1/v1,openai:m,v2@http://localhost:2/v1")
    assert isinstance(pool, TeacherPool)
    assert [member.identity for member in pool.members] == [f"http://localhost:{port}/v1#m,v2" for port in (1, 2)]
    assert pool.identity == "pool#m,v2"


def test_without_a_url_the_environment_s_endpoint_is_asked_else_openai_s(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert teacher_from("openai:gpt-4.1-mini").identity == "https://api.openai.com/v1#gpt-4.1-mini"
    monkeypatch.setenv("OPENAI_BASE_URL", "http://localhost:5/v1")
    assert teacher_from("openai:gpt-4.1-mini").identity == "http://localhost:5/v1#gpt-4.1-mini"


@pytest.mark.parametrize("spec", ["", "openai", "openai:", "local:", "gpt-4.1-mini", "anthropic:x", "tiny:x", "Tiny"])
def test_a_text_of_no_known_form_names_the_forms(spec: str) -> None:
    with pytest.raises(UnknownTeacher, match=r"openai:MODEL\[@URL\], openai-batch:"):
        teacher_from(spec)


def test_an_error_shows_no_password() -> None:
    for spec in ("opnai:m@http://name:s3cret@localhost/v1", "openai:m@name:s3cret@localhost:8000/v1"):
        with pytest.raises(UnknownTeacher) as caught:
            teacher_from(spec)
        assert "s3cret" not in str(caught.value)
