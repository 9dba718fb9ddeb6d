"""Prompts: a template that does not fit its variables is refused before anybody is paid, and a text is only a value."""

from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel

from synthkd.errors import PromptError, RecordError
from synthkd.message import Message
from synthkd.prompt import Prompt
from synthkd.record import Instruction
from synthkd.request import Policy, Sampling
from synthkd.templates import builtin_folder, builtin_names

Write = Callable[..., Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Writes a template file: `write(body)`, with a header that names the variables."""

    def file(body: str, variables: str = "text", name: str = "ask.jinja", header: str | None = None) -> Path:
        path = tmp_path / name
        head = f"{{# variables: {variables}; source: this test #}}\n" if header is None else header
        path.write_text(head + body, encoding="utf-8")
        return path

    return file


def user(text: str) -> str:
    return "{% block user %}" + text + "{% endblock %}"


def test_blocks_become_messages_in_the_order_of_a_conversation_wherever_they_stand(write: Write) -> None:
    path = write(
        "{% block user %}Now: {{ text }}{% endblock %}\n"
        "{% block assistant_1 %}four{% endblock %}\n"
        "{% block user_10 %}ten{% endblock %}\n"
        "{% block user_2 %}two{% endblock %}\n"
        "{% block user_1 %}one{% endblock %}\n"
        "{% block system %}Be brief.{% endblock %}\n"
    )
    assert Prompt(path, str).render(text="go").messages == (
        Message("system", "Be brief."),
        Message("user", "one"),
        Message("assistant", "four"),
        Message("user", "two"),
        Message("user", "ten"),
        Message("user", "Now: go"),
    )


def test_a_rendered_request_knows_its_reply_its_sampling_and_its_template(write: Write) -> None:
    class Verdict(BaseModel):
        score: int

    prompt = Prompt(write(user("{{ text }}"), name="judge.jinja"), Verdict)
    request = prompt.render(text="a", sampling=Sampling(top_p=0.5), policy=Policy(repairs=3))
    assert request.reply is Verdict
    assert request.sampling == Sampling(top_p=0.5)
    assert request.policy.repairs == 3
    assert request.prompt == f"judge@{prompt.digest}"
    assert (prompt.source, prompt.variables) == ("this test", ("text",))


def test_a_block_that_renders_to_nothing_gives_no_message(write: Write) -> None:
    path = write("{% block system %}{% if text == 'x' %}hm{% endif %}{% endblock %}" + user("{{ text }}"))
    assert Prompt(path, str).render(text="y").messages == (Message("user", "y"),)


def test_a_request_without_any_message_rejects_its_record(write: Write) -> None:
    with pytest.raises(RecordError, match=r"every block rendered to nothing.*empty") as raised:
        Prompt(write(user("{{ text }}")), str).render(text=" \n ")
    assert raised.value.reason == "nothing to ask"


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Prompt[str]:
    path = tmp_path_factory.mktemp("prompts") / "echo.jinja"
    path.write_text("{# variables: text; source: this test #}\n" + user("<{{ text }}>"), encoding="utf-8")
    return Prompt(path, str)


@settings(deadline=None, derandomize=True)
@given(text=st.text() | st.text(st.sampled_from("{}%#-'\"<&\n abc")))
def test_a_record_s_text_is_only_ever_a_value(echo: Prompt[str], text: str) -> None:
    assert echo.render(text=text).messages == (Message("user", f"<{text}>"),)


@pytest.mark.parametrize("text", ["{{ 7 * 7 }}", "{% include 'labeling/answer.jinja' %}", "{# gone #}", "{{ text }}"])
def test_template_code_in_a_record_is_never_run(echo: Prompt[str], text: str) -> None:
    assert echo.fill(Instruction(prompt="a", meta={"text": text})).messages[0].content == f"<{text}>"


def test_a_template_cannot_leave_its_sandbox(write: Write) -> None:
    prompt = Prompt(write(user("{{ text.__class__.__mro__ }}")), str)
    with pytest.raises(PromptError, match="__class__"):
        prompt.render(text="a")


def test_a_template_cannot_change_what_it_is_given(write: Write) -> None:
    prompt = Prompt(write(user("{{ text.append(1) }}")), str)
    given_list = [0]
    with pytest.raises(PromptError):
        prompt.render(text=given_list)
    assert given_list == [0]


BROKEN = {
    "no header": (user("{{ text }}"), "", "first line must be a comment"),
    "header without source": (user("{{ text }}"), "{# variables: text #}\n", "first line must be a comment"),
    "undeclared variable": (user("{{ text }} {{ topic }}"), None, "uses 'topic'.*not declared"),
    "misspelt variable": (user("{{ text }} {{ texd }}"), None, "Did you mean 'text' for 'texd'"),
    "unused variable": (user("always the same"), None, "declares 'text'.*never uses it"),
    "syntax error": (user("{{ text "), None, "line 2"),
    "unknown filter": (user("{{ text | shout }}"), None, "line 2: No filter named 'shout'"),
    "unknown block": (user("{{ text }}") + "{% block footer %}x{% endblock %}", None, "block 'footer' is unknown"),
    "turn zero": (user("{{ text }}") + "{% block user_0 %}x{% endblock %}", None, "block 'user_0' is unknown"),
    "no user block": ("{% block system %}{{ text }}{% endblock %}", None, "no {% block user %}"),
    "text outside": ("Hello\n" + user("{{ text }}"), None, "text outside of a block"),
    "value outside": ("{{ text }}" + user("{{ text }}"), None, "text outside of a block"),
    "inheritance": ("{% extends 'labeling/answer.jinja' %}" + user("{{ text }}"), None, "extends"),
    "missing include": (user("{{ text }}{% include 'gone.jinja' %}"), None, "'gone.jinja', which is not there"),
    "computed include": (user("{% include text %}"), None, "must name its file as a constant"),
    "endless include": (user("{{ text }}{% include 'ask.jinja' %}"), None, "includes itself"),
}


@pytest.mark.parametrize(("body", "header", "said"), BROKEN.values(), ids=BROKEN.keys())
def test_a_broken_template_is_refused_when_it_is_loaded(write: Write, body: str, header: str | None, said: str) -> None:
    path = write(body, header=header)
    with pytest.raises(PromptError, match=said):
        Prompt(path, str)


def test_a_broken_include_is_refused_under_its_own_name(write: Write) -> None:
    write("{% if %}", name="part.jinja", header="")
    with pytest.raises(PromptError, match=r"part\.jinja \(included by ask\), line 1"):
        Prompt(write(user("{{ text }}{% include 'part.jinja' %}")), str)


def test_variables_of_an_include_count_as_the_template_s_own(write: Write) -> None:
    write("about {{ topic }}", name="part.jinja", header="")
    body = user("{{ text }} {% include 'part.jinja' %}")
    with pytest.raises(PromptError, match="topic"):
        Prompt(write(body), str)
    prompt = Prompt(write(body, "text, topic"), str)
    assert prompt.render(text="Write", topic="bees").messages[0].content == "Write about bees"


def test_the_digest_covers_the_template_and_what_it_includes(write: Write) -> None:
    digests = []
    for body, part in (("a", "x"), ("a", "y"), ("b", "y"), ("a", "x")):
        write(part, name="part.jinja", header="")
        path = write(user(body + "{{ text }}{% include 'part.jinja' %}"))
        digests.append(Prompt(path, str).digest)
    assert len(set(digests)) == 3
    assert digests[0] == digests[3]


def test_rendering_with_too_few_or_too_many_values_is_refused(write: Write) -> None:
    prompt = Prompt(write(user("{{ instruction }}"), "instruction"), str)
    with pytest.raises(PromptError, match=r"wants 'instruction'.*Did you mean 'instructions'"):
        prompt.render(instructions="a")
    with pytest.raises(PromptError, match="was given 'answer', which it does not use; it takes 'instruction'"):
        prompt.render(instruction="a", answer="b")


def test_a_missing_part_of_a_value_is_refused_and_not_rendered_as_nothing(write: Write) -> None:
    with pytest.raises(PromptError, match="no attribute 'topic'"):
        Prompt(write(user("{{ text.topic }}")), str).render(text={"tpoic": "x"})


def test_a_template_is_filled_from_fields_from_meta_and_from_what_the_strategy_adds(write: Write) -> None:
    prompt = Prompt(write(user("{{ instruction }} {{ topic }} {{ answer }}"), "instruction, topic, answer"), str)
    record = Instruction(prompt="a", meta={"topic": "b"})
    assert prompt.fill(record, answer="c").messages == (Message("user", "a b c"),)
    with pytest.raises(PromptError, match="wants 'answer'"):
        prompt.fill(record)


def test_a_template_is_checked_against_a_record_before_it_is_filled(write: Write) -> None:
    prompt = Prompt(write(user("{{ instruction }} {{ topic }} {{ answer }}"), "instruction, topic, answer"), str)
    prompt.check(Instruction(prompt="a", meta={"topic": "b"}), "answer")
    with pytest.raises(PromptError, match="wants 'topic', which is not given"):
        prompt.check(Instruction(prompt="a"), "answer")


def test_an_unknown_built_in_suggests_the_ones_that_are_close() -> None:
    with pytest.raises(PromptError, match="Did you mean 'labeling/answer'"):
        Prompt("labeling/anwser", str)


def test_a_path_that_is_not_there_says_where_it_was_looked_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PromptError, match=rf"my\.jinja: no such prompt file \(looked from .*{tmp_path.name}"):
        Prompt("my.jinja", str)


@pytest.mark.parametrize("name", builtin_names())
def test_every_built_in_prompt_is_sound_and_names_its_source(name: str) -> None:
    prompt = Prompt(name, str)
    assert prompt.name == name
    assert prompt.source
    assert (builtin_folder() / f"{name}.jinja") == prompt.path


def test_the_built_in_answer_prompt_sends_the_instruction_as_it_stands() -> None:
    found = Prompt("labeling/answer", str).fill(Instruction(prompt="What is {{ x }}?"))
    assert found.messages == (Message("user", "What is {{ x }}?"),)
