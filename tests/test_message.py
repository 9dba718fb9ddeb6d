"""Messages: plain ones are written as they always were, pictures count by their bytes, tools reach the wire."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from loopback import Loopback, Served

from synthkd.errors import RecordError
from synthkd.message import Image, Message, as_identity, as_kept, as_sent
from synthkd.prompt import Prompt
from synthkd.record import Instruction
from synthkd.request import Request
from synthkd.run import Run
from synthkd.teachers import OpenAITeacher

LOOK = """{# variables: picture, caption; source: a test #}
{% block user %}Caption: {{ caption }} {{ picture }} What is it?{% endblock %}
"""
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture
def look(tmp_path: Path) -> Prompt[str]:
    path = tmp_path / "look.jinja"
    path.write_text(LOOK)
    return Prompt(path, str)


def test_a_message_of_text_is_role_and_content_and_nothing_else() -> None:
    for encode in (as_identity, as_kept, as_sent):
        assert encode((Message("user", "hi"),)) == b'[{"role":"user","content":"hi"}]'


def test_a_picture_stands_in_a_prompt_where_its_variable_is(look: Prompt[str]) -> None:
    image = Image("https://example.org/a.png")
    [message] = look.render(picture=image, caption="a cat").messages
    assert message.content == ("Caption: a cat ", image, " What is it?")
    assert (message.text, message.images) == ("Caption: a cat  What is it?", (image,))


def test_a_text_that_looks_like_a_picture_s_mark_stays_text(look: Prompt[str]) -> None:
    strange = str(Image("https://example.org/secret.png"))
    [message] = look.render(picture="none", caption=strange).messages
    assert message.images == ()
    assert strange in message.text


def test_a_file_counts_by_its_bytes_is_sent_with_them_and_kept_by_its_path(tmp_path: Path) -> None:
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    for path in (one, two):
        path.write_bytes(b"\x89PNG same")
    same, other = ((Message("user", ("look", Image(str(path)))),) for path in (one, two))
    assert as_identity(same) == as_identity(other)
    assert json.loads(as_sent(same))[0]["content"][1]["image_url"]["url"].startswith("data:image/png;base64,iVBOR")
    assert str(one) in as_kept(same).decode()
    two.write_bytes(b"\x89PNG else")
    assert as_identity(same) != as_identity(other)


def test_a_picture_that_is_not_there_is_named_with_the_cure() -> None:
    with pytest.raises(RecordError, match=r"no/such\.png.*Give the path"):
        as_sent((Message("user", (Image("no/such.png"),)),))


def test_tools_are_sent_count_towards_identity_and_their_calls_come_back(
    serve: Callable[..., Loopback], tmp_path: Path
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "add", "arguments": '{"a": 1}'}}
    server = serve(lambda _: Served([""], message={"tool_calls": [call]}, choice={"finish_reason": "tool_calls"}))
    request = Request((Message("user", "1 + 1?"),), str, tools=(TOOL,))
    assert request.key("t") != Request((Message("user", "1 + 1?"),), str).key("t")
    found = []

    async def ask_it(record: Instruction, ask):  # type: ignore[no-untyped-def]
        reply = await ask.reply(request)
        found.append((reply.value, reply.completion.tool_calls))
        turn = Message("assistant", "", tool_calls=reply.completion.tool_calls)
        answer = Message("tool", "2", tool_call_id="c1", name="add")
        await ask.reply(Request((*request.messages, turn, answer), str, tools=(TOOL,)))
        return [record]

    with Run(tmp_path, teacher=OpenAITeacher("m", base_url=server.url), quiet=True) as run:
        run.map(ask_it, [Instruction(prompt="1 + 1?")])
    assert found == [("", (call,))]
    first, second = (call.body for call in server.calls)
    assert first["tools"] == [TOOL]
    assert second["messages"][1:] == [
        {"role": "assistant", "content": "", "tool_calls": [call]},
        {"role": "tool", "content": "2", "tool_call_id": "c1", "name": "add"},
    ]
