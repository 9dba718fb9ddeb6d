"""The tiny teacher: a model of two million parameters that ships with synthkd, for trying and testing.

problems     the generated domain: grade-school word problems
stories      what they are about
wording      how they are asked
corpus       conversations to learn from
vocabulary   the tokenizer
train        makes the model from nothing
student      makes the base student beside it, which has read the domain and solves nothing
evaluate     measures it, and writes the model card's figures
"""

from pathlib import Path

from synthkd.request import Sampling
from synthkd.teachers.local import LocalTeacher

__all__ = ["BASE_STUDENT", "TinyTeacher"]

_HERE = Path(__file__).parent
BASE_STUDENT = _HERE / "base"
"""A smaller model with the same tokenizer that has read the domain but cannot solve; for demonstrations of training."""


class TinyTeacher(LocalTeacher):
    """Solves, writes and judges the word problems of its own small domain, on any CPU. Of no use for anything else."""

    def __init__(self, *, sampling: Sampling | None = None) -> None:
        super().__init__(_HERE / "model", sampling=sampling, max_tokens=256, device="cpu")
