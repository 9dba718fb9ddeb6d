"""The only place for the words of the tiny teacher's domain: names, things and the story templates.

A template is ``(text, steps)``. In the text, ``[x|y]`` is a free choice of words, ``{a}`` to ``{d}`` are numbers,
``{n}`` and ``{m}`` two people (``{he}``, ``{his}`` and ``{him}`` follow ``{n}``), ``{o}`` a thing and ``{f}`` a food
(plural), ``{box}`` a container (``{boxes}`` more of it), ``{place}`` a place and ``{day}`` a weekday. In the steps,
``x`` is the result of the step before and ``y`` of the one before that. Each text allows one reading of its numbers
only.
"""

from typing import Final

__all__ = ["BOXES", "DAYS", "FOODS", "NAMES", "PLACES", "STORIES", "THINGS"]


def _words(text: str) -> tuple[str, ...]:
    return tuple(text.split())


NAMES: Final[dict[str, tuple[str, str, str]]] = {
    **dict.fromkeys(
        _words("Tom Ben Sam Leo Max Jack Noah Adam Omar Ravi Hugo Luis Paul Mark Ivan Kofi Yusuf Peter Oscar Felix"),
        ("he", "his", "him"),
    ),
    **dict.fromkeys(
        _words(
            "Anna Mia Lucy Emma Sara Nina Ruth Zoe Lily Rosa Maya Aisha Clara Julia Helen Priya Grace Ella Kate Yuki"
        ),
        ("she", "her", "her"),
    ),
}
"""The people, each with the words that stand for them."""

THINGS: Final[tuple[str, ...]] = _words(
    "books pens pencils marbles stickers cards coins stamps beads shells buttons balloons flowers toys stones "
    "ribbons candles cups plates balls badges keys crayons notebooks photos bottles hats socks bricks leaves"
)
"""Things to have, give, lose and buy."""

FOODS: Final[tuple[str, ...]] = _words(
    "apples pears cookies oranges plums eggs nuts muffins grapes cherries peaches candies cakes carrots "
    "lemons figs buns berries tomatoes olives"
)
"""Things to eat, sell and pick."""

BOXES: Final[dict[str, str]] = {
    "box": "boxes",
    "bag": "bags",
    "basket": "baskets",
    "crate": "crates",
    "jar": "jars",
    "bowl": "bowls",
    "pack": "packs",
}
"""Containers, each with its plural."""

PLACES: Final[tuple[str, ...]] = _words("school shop library museum park market farm bakery kitchen garden zoo hotel")
"""Places that can have things in them."""

DAYS: Final[tuple[str, ...]] = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
"""The days of the week."""

STORIES: Final[tuple[tuple[str, str], ...]] = (
    # one step
    ("{n} has {a} {o}. {m} [gives {him}|brings {him}] {b} more. How many {o} does {n} have [now|in all]?", "a+b"),
    ("There are {a} {f} in the {box}. {n} eats {b} of them. How many {f} are left?", "a-b"),
    ("{n} [buys|has] {a} {boxes} with {b} {o} in each. How many {o} is that?", "a*b"),
    ("{n} shares {a} {f} equally among {b} [friends|children|people]. How many {f} does each one get?", "a/b"),
    ("{n} has {a} {o} and {m} has {b} {o}. How many {o} do they have together?", "a+b"),
    # gain and loss
    (
        "{n} has {a} {o}. [{he} finds|{he} buys|{m} gives {him}] {b} more. Then {he} [loses|gives "
        "away|sells] {c} of them. "
        "How many {o} does {n} have [left|now]?",
        "a+b,x-c",
    ),
    (
        "{n} had {a} {o}. {he} [lost|gave away|sold] {b} of them and [then bought|later found|then got] {c} more. "
        "How many {o} does {n} have now?",
        "a-b,x+c",
    ),
    ("{n} had {a} {f}. {he} ate {b} on {day} and {c} the [next|following] day. How many {f} are left?", "a-b,x-c"),
    (
        "There were {a} [people|children|visitors] in the {place}. Then {b} left and {c} came in. "
        "How many are in the {place} now?",
        "a-b,x+c",
    ),
    (
        "There were {a} birds on a [roof|tree|fence]. {b} more came, and then {c} flew away. How many birds stayed?",
        "a+b,x-c",
    ),
    (
        "A bus [starts|sets off] with {a} people. At the first stop {b} get off, and at the second stop {c} get on. "
        "How many people are on the bus?",
        "a-b,x+c",
    ),
    (
        "{n} picked {a} {f} on {day}, {b} the next day and {c} the day after. How many {f} did {he} pick in all?",
        "a+b,x+c",
    ),
    ("A {place} has {a} red, {b} blue and {c} green {o}. How many {o} does it have [in all|altogether]?", "a+b,x+c"),
    # groups
    (
        "{n} has {a} {boxes} of {o} with {b} {o} in each. {he} [buys|finds|gets] {c} more {o}. "
        "How many {o} does {n} have [now|in all]?",
        "a*b,x+c",
    ),
    (
        "{n} buys {a} packs of {o}. Each pack holds {b} {o}. {he} gives {c} {o} to {m}. How many {o} does "
        "{n} [keep|have left]?",
        "a*b,x-c",
    ),
    (
        "{n} has {a} {o} and {m} has {b} {o}. They put all of them [equally|evenly] into {c} [piles|groups|rows]. "
        "How many {o} are in each one?",
        "a+b,x/c",
    ),
    (
        "{n} baked {a} {f} and kept {b} for {m}. {he} put the rest [equally|evenly] on {c} plates. "
        "How many {f} are on each plate?",
        "a-b,x/c",
    ),
    ("A {box} holds {a} {f}. {n} fills {b} {boxes}, and {c} {f} are left over. How many {f} are there?", "b*a,x+c"),
    ("The {place} has {a} rows of {b} chairs. {c} chairs are taken. How many chairs are free?", "a*b,x-c"),
    (
        "{n} shares {a} {f} equally among {b} [friends|children]. {m}, who is one of them, already had {c} {f}. "
        "How many {f} does {m} have now?",
        "a/b,x+c",
    ),
    (
        "{n} shares {a} {f} equally among {b} children. {m} is one of them and eats {c} right away. "
        "How many {f} does {m} have left?",
        "a/b,x-c",
    ),
    (
        "{n} reads {a} pages a day for {b} days. The book has {c} more pages. How many pages does the book have?",
        "a*b,x+c",
    ),
    ("{n} reads {a} pages a day for {b} days, and {c} pages on {day}. How many pages does {he} read?", "a*b,x+c"),
    (
        "A book has {a} pages. {n} has read {b} of them and reads {c} pages a day now. How many days does "
        "{he} still need?",
        "a-b,x/c",
    ),
    ("{n} puts {a} {o} into each of {b} {boxes} and has {c} {o} left. How many {o} did {he} start with?", "b*a,x+c"),
    # comparisons
    ("{n} has {a} {o}. {m} has {b} more than {n}. How many {o} do they have together?", "a+b,a+x"),
    ("{n} has {a} {o}. {m} has {b} fewer than {n}. How many {o} do they have together?", "a-b,a+x"),
    ("{n} has {a} {o}. {m} has {b} times as many. How many {o} do they have together?", "a*b,a+x"),
    (
        "{n} has {a} {o}. {m} has {b} times as many, but [loses|sells|gives away] {c}. How many {o} does {m} have now?",
        "a*b,x-c",
    ),
    (
        "{m} has {b} times as many {o} as {n}, who has {a}. How many more {o} does {m} have than {n}?",
        "b*a,x-a",
    ),
    ("{n} is {a} years old. {m} is {b} years older. How old will {m} be in {c} years?", "a+b,x+c"),
    ("{n} is {a} years old. {m} is {b} times as old. How old was {m} {c} years ago?", "a*b,x-c"),
    ("{n} is {a} years old. {m} is {b} years younger. How old are they together?", "a-b,a+x"),
    # money
    (
        "{n} buys {a} {o} for {b} dollars each and pays with {c} dollars. How much [change|money] does {he} get back?",
        "a*b,c-x",
    ),
    (
        "{n} has {a} dollars. {he} buys {b} {o} for {c} dollars each. How [much money|many dollars] does "
        "{he} have left?",
        "b*c,a-x",
    ),
    (
        "{n} earns {a} dollars an hour and works {b} hours. {he} spends {c} dollars on {o}. How many dollars are left?",
        "a*b,x-c",
    ),
    (
        "{n} had {a} dollars and got {b} more from {m}. {he} spends it all on {o} at {c} dollars each. How "
        "many does {he} buy?",
        "a+b,x/c",
    ),
    (
        "{n} had {a} dollars and spent {b}. {he} uses the rest for {o} at {c} dollars each. How many {o} "
        "does {he} buy?",
        "a-b,x/c",
    ),
    (
        "{n} buys {a} {f} for {b} dollars each and a {box} for {c} dollars. How much does {he} pay [in "
        "all|altogether]?",
        "a*b,x+c",
    ),
    (
        "{n} sells {a} {f} on {day} and {b} the next day, at {c} dollars each. How many dollars does {he} [earn|get]?",
        "a+b,x*c",
    ),
    (
        "{n} saves {a} dollars a week. {he} already has {b} dollars. How many dollars will {he} have after {c} weeks?",
        "a*c,x+b",
    ),
    (
        "{n} wants a [bike|phone|drum] for {a} dollars. {he} has {b} dollars and saves {c} a week. How many "
        "weeks does {he} need?",
        "a-b,x/c",
    ),
    (
        "A ticket costs {a} dollars and a [drink|snack|map] costs {b}. How much do {c} people pay who each take both?",
        "a+b,x*c",
    ),
    (
        "A [coat|lamp|chair] cost {a} dollars. The price fell by {b} dollars. How much do {c} of them cost now?",
        "a-b,x*c",
    ),
    # work and time
    (
        "{n} [makes|paints|folds] {a} {o} an hour and {m} makes {b}. How many do they make together in {c} hours?",
        "a+b,x*c",
    ),
    (
        "A machine makes {a} {o} an hour. After {b} hours, {c} of them turn out to be broken. How many {o} are good?",
        "a*b,x-c",
    ),
    (
        "A [train|car|truck] goes {a} miles an hour for {b} hours and then {c} miles more. How many miles is that?",
        "a*b,x+c",
    ),
    (
        "A [train|car|truck] must go {a} miles. It has gone {b} miles and goes {c} miles an hour. How many "
        "hours are left?",
        "a-b,x/c",
    ),
    ("A tank holds {a} liters. {b} liters flow out an hour. How many liters are left after {c} hours?", "b*c,a-x"),
    ("The {place} has {a} shelves with {b} {o} each. {c} {o} are sold. How many {o} remain?", "a*b,x-c"),
    ("{n} plants {a} rows of {b} flowers. {c} of the flowers die. How many flowers are alive?", "a*b,x-c"),
    # three steps
    (
        "{n} has {a} {boxes} of {b} {f} each. {he} eats {c} {f} and gives {d} to {m}. How many {f} are left?",
        "a*b,x-c,x-d",
    ),
    (
        "{n} had {a} {o}. {he} bought {b} more, lost {c}, and then put the rest [equally|evenly] into {d} {boxes}. "
        "How many {o} are in each?",
        "a+b,x-c,x/d",
    ),
    ("{n} has {a} {o}. {m} has {b} more than {n}. Together they give away {c}. How many {o} are left?", "a+b,a+x,x-c"),
    ("{n} buys {a} {o} for {b} dollars each and {c} {f} for {d} dollars each. How much does {he} pay?", "a*b,c*d,y+x"),
    (
        "{n} works {a} hours on {day} and {b} hours the next day for {c} dollars an hour, and spends {d} "
        "dollars. How much is left?",
        "a+b,x*c,x-d",
    ),
)
"""The story templates with their steps."""
