"""Acting: strategies in which a teacher calls tools, or acts in an environment, and goes on from what that gives."""

from synthkd.strategies.acting.act import Act
from synthkd.strategies.acting.inline import Annotate, Mark, Marks
from synthkd.strategies.acting.moves import ReactTurn
from synthkd.strategies.acting.play import Deed, Environment, Observation, Play

__all__ = ["Act", "Annotate", "Deed", "Environment", "Mark", "Marks", "Observation", "Play", "ReactTurn"]
