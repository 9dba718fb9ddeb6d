"""Pictures in prompts, and the text that stands for them."""

from __future__ import annotations

from pathlib import Path

import pytest
from pydantic import ValidationError

from synthkd import Run, data
from synthkd.media import Box, Pictured, surrogate_of
from synthkd.message import Image, Message
from synthkd.prompt import Prompt
from synthkd.record import Demonstration
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher

IMAGE = Image("https://a.org/b.png")
SCENE = Pictured(
    prompt=(Message("user", (IMAGE, "What is on the mat?")),),
    captions=("A cat on a mat.",),
    boxes=(Box(label="cat", left=0.1, top=0.2, right=0.5, bottom=1),),
    written="WELCOME",
)
HEADER = "{# variables: surrogate, instruction; source: Liu et al. 2023, arXiv:2304.08485 #}"


def test_a_surrogate_is_captions_boxes_and_the_text_in_the_picture() -> None:
    assert SCENE.variables()["surrogate"] == (
        "A cat on a mat.\n\ncat: [0.100, 0.200, 0.500, 1.000]\n\nText in the picture: WELCOME"
    )
    assert surrogate_of() == ""
    with pytest.raises(ValidationError):
        Box(label="cat", left=-1, top=0, right=1, bottom=1)


def test_the_teacher_reads_the_surrogate_and_the_student_gets_the_picture(tmp_path: Path) -> None:
    template = tmp_path / "blind.jinja"
    template.write_text(HEADER + "\n{% block user %}{{ surrogate }}\n{{ instruction }}{% endblock %}")
    teacher = FunctionTeacher(lambda request: "A cat.")
    with Run(tmp_path / "run", teacher=teacher, quiet=True) as run:
        [told] = run.map(Answer(prompt=Prompt(template, str)), [SCENE])
    assert "cat: [0.100" in teacher.calls[0].messages[0].text
    assert teacher.calls[0].messages[0].images == ()
    assert told.messages[0].images == (IMAGE,)
    row = data.row(told)
    assert row["prompt"][0]["content"] == [{"type": "image"}, {"type": "text", "text": "What is on the mat?"}]
    assert data.read([row], Demonstration)[0] == told


def test_a_teacher_that_sees_gets_the_pictures(tmp_path: Path) -> None:
    template = tmp_path / "seeing.jinja"
    template.write_text(
        "{# variables: images, instruction; source: own #}\n"
        "{% block user %}{% for image in images %}{{ image }}{% endfor %}{{ instruction }}{% endblock %}"
    )
    request = Prompt(template, str).fill(SCENE)
    assert request.messages == (Message("user", (IMAGE, "What is on the mat?")),)


def test_what_stands_for_a_picture_is_kept_in_a_row_and_carried_along() -> None:
    assert data.read([data.row(SCENE)], Pictured)[0] == SCENE
    assert SCENE.carried()["captions"] == ["A cat on a mat."]
