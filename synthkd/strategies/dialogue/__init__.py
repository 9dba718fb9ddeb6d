"""Dialogue: strategies in which two or more roles talk, and one of them becomes what the student learns to say."""

from synthkd.strategies.dialogue.script import Line, Script, SelfChat
from synthkd.strategies.dialogue.speaker import Said, Speaker, Utterance
from synthkd.strategies.dialogue.talk import Dialogue

__all__ = ["Dialogue", "Line", "Said", "Script", "SelfChat", "Speaker", "Utterance"]
