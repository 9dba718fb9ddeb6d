"""Assembly: what a student is trained on, out of records that are there. Nothing here asks a teacher.

pairs    preferences, demonstrations and ratings out of rankings; preferences by construction
mixing   mixtures with exact shares and replay; an order from easy to hard
markup   tags, special tokens and conditions in the text; spans without loss
weights  sample weights and soft labels
logits   a teacher's likeliest tokens, out of its completion

Pure functions take records and give records. What is written with a capital is a strategy that a run maps over records,
so that its rejects stand in a ledger.
"""

from synthkd.assemble.logits import distribution
from synthkd.assemble.markup import Markup, Span, composed, tag, thinking
from synthkd.assemble.mixing import Mixture, curriculum, mix
from synthkd.assemble.pairs import Best, ByOrder, Contrast, Pairs, Rate, pairs
from synthkd.assemble.weights import Weigh, shares, soften

__all__ = [
    "Best",
    "ByOrder",
    "Contrast",
    "Markup",
    "Mixture",
    "Pairs",
    "Rate",
    "Span",
    "Weigh",
    "composed",
    "curriculum",
    "distribution",
    "mix",
    "pairs",
    "shares",
    "soften",
    "tag",
    "thinking",
]
