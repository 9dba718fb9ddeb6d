"""Teachers by name, loaded when they are first used."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from synthkd.teachers.batch import Batch
    from synthkd.teachers.local import LocalTeacher
    from synthkd.teachers.openai import OpenAITeacher
    from synthkd.teachers.pool import TeacherPool
    from synthkd.teachers.spec import teacher_from
    from synthkd.teachers.tiny import TinyTeacher
    from synthkd.teachers.vllm import VLLMTeacher

__all__ = ["Batch", "LocalTeacher", "OpenAITeacher", "TeacherPool", "TinyTeacher", "VLLMTeacher", "teacher_from"]

FORMS = (
    "openai:MODEL[@URL], openai-batch:MODEL[@URL], local:PATH_OR_ID, vllm:MODEL, tiny; "
    "several with commas between are a pool"
)
"""What a teacher's specification may look like; `teacher_from` reads them."""

_HOMES = {
    "Batch": "batch",
    "LocalTeacher": "local",
    "OpenAITeacher": "openai",
    "TeacherPool": "pool",
    "TinyTeacher": "tiny",
    "VLLMTeacher": "vllm",
    "teacher_from": "spec",
}


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"synthkd.teachers.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'synthkd.teachers' has no attribute {name!r}")
