"""What of a command line may be shown: what keys and passwords look like is blotted out, the rest stays as it is."""

from __future__ import annotations

import shlex

import pytest

from synthkd.teachers.endpoint import public_arguments, public_value, without_secrets


@pytest.mark.parametrize(
    ("typed", "shown"),
    [
        ("--teacher openai:m@http://me:pw1@h:8000/v1?key=q1", "--teacher openai:m@http://h:8000/v1"),
        ("--teacher 'openai:m@http://me:p w1@h/v1'", "--teacher openai:m@http://h/v1"),
        (
            "--teacher openai:m@http://me:pw1@h/v1,openai:m@https://k/v1?code=q1",
            "--teacher openai:m@http://h/v1,openai:m@https://k/v1",
        ),
        ("--teacher openai:m@http://me:pw1@h/v1?api_key=q1", "--teacher openai:m@http://h/v1"),
        ("--role judge=openai:m@http://me:pw1@h/v1", "--role judge=openai:m@http://h/v1"),
        ("-p api_key=abc", "-p 'api_key=[secret]'"),
        ("-p weather-token=abc", "-p 'weather-token=[secret]'"),
        ("-p note=sk-proj-0123456789abcdefgh", "-p 'note=[secret]'"),
        ("-p auth='Bearer 0123456789abcdefgh'", "-p 'auth=[secret]'"),
        ("--api-key abc --out x", "--api-key '[secret]' --out x"),
        ("-p of=hf_0123456789abcdefgh", "-p 'of=[secret]'"),
        ("-p of=from-environment", "-p 'of=[secret]'"),
    ],
)
def test_no_secret_of_a_command_line_is_shown(typed: str, shown: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYNTHKD_API_KEY", "from-environment")
    found = shlex.join(public_arguments(["run", *shlex.split(typed)]))
    assert found == f"run {shown}"


@pytest.mark.parametrize(
    "typed",
    [
        "pipelines/skills-for-everything.py --seeds hfdata/questions.jsonl -p max_tokens=100 -p keys=3",
        "--teacher openai:Qwen/Qwen3-8B@http://127.0.0.1:8000/v1 --limit 10 -p 'style=two words' --quiet",
        "--teacher openai:a@http://h/v1,local:b,openai:c@http://k/v1 -p monkey=1 -p tokens=a,b",
    ],
)
def test_what_is_no_secret_is_shown_as_it_was_typed(typed: str) -> None:
    assert public_arguments(shlex.split(typed)) == shlex.split(typed)


def test_a_parameter_that_is_called_a_key_has_no_value_to_show() -> None:
    assert public_value("api_key", "abc") == "[secret]"
    assert public_value("url", "http://me:pw1@h/x?key=q1") == "http://h/x"
    assert without_secrets("openai:m@http://me:pw1/x@h") == "openai:m@a URL that cannot be read"
