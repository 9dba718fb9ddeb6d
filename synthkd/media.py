"""Pictures and what stands for them: the only place that writes what is seen as text, for a teacher that cannot see.

Invariant: captions and boxes are for the teacher's template; the student's prompt has the picture and nothing of them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from synthkd.message import Image
from synthkd.record import Instruction


class Box(BaseModel):
    """A thing in a picture and where it is, in fractions of width and height from the upper left corner."""

    model_config = ConfigDict(frozen=True)

    label: str
    left: float = Field(ge=0, le=1)
    top: float = Field(ge=0, le=1)
    right: float = Field(ge=0, le=1)
    bottom: float = Field(ge=0, le=1)

    def __str__(self) -> str:
        return f"{self.label}: [{self.left:.3f}, {self.top:.3f}, {self.right:.3f}, {self.bottom:.3f}]"


class Pictured(Instruction):
    """An instruction about pictures, which stand in its prompt, with the text that stands for them.

    A template has `surrogate` (captions, boxes and what is written in them, as text) and `images`, the pictures
    themselves, for a teacher that sees: `{% for image in images %}{{ image }}{% endfor %}`.

    Reference: Liu et al. 2023, Visual Instruction Tuning (LLaVA), arXiv:2304.08485.
    """

    captions: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    written: str | None = None
    """Text that is in the picture, as OCR reads it."""

    @property
    def images(self) -> tuple[Image, ...]:
        """The pictures of the prompt, in order."""
        return tuple(image for message in self.messages for image in message.images)

    def variables(self) -> dict[str, Any]:
        """As of every instruction; and `surrogate` and `images`."""
        surrogate = surrogate_of(self.captions, self.boxes, self.written)
        return {**super().variables(), "surrogate": surrogate, "images": self.images}


def surrogate_of(captions: Iterable[str] = (), boxes: Iterable[Box] = (), written: str | None = None) -> str:
    """What stands for a picture: its captions, a line each; its things with their places; the text in it."""
    parts = ["\n".join(captions), "\n".join(map(str, boxes)), f"Text in the picture: {written}" if written else ""]
    return "\n\n".join(part for part in parts if part)
