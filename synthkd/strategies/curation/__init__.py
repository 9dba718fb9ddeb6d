"""Curation: strategies that make data from what is no instruction yet: topics, personas, tools, documents and code."""

from synthkd.strategies.curation.asking import AskAbout
from synthkd.strategies.curation.code import FromCode
from synthkd.strategies.curation.textbooks import Exercises, Textbook
from synthkd.strategies.curation.tools import FromTools
from synthkd.strategies.curation.topics import Brainstorm, FromSeed

__all__ = ["AskAbout", "Brainstorm", "Exercises", "FromCode", "FromSeed", "FromTools", "Textbook"]
