"""The program that runs unit tests inside a sandbox: the only place where a program and its tests meet.

Invariant: what it says by its marks is how far it came. That the tests are passed is said after their last line, so a
program that ends early, by `exit()` or a signal, has not passed. The marks are secret from a program by accident, not
from one that searches the interpreter for them. Nothing in the text is imported by anybody.
"""

from __future__ import annotations

READABLE, LOADED, CALLED, PASSED = "readable", "loaded", "called", "passed"
PROGRAM = "solution.py"

TEXT = """
import json, os, sys


def main():
    told = json.load(sys.stdin)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)

    def say(what):
        os.write(2, (told["mark"] + what + "\\n").encode())

    tests = compile(told["tests"], "tests.py", "exec", dont_inherit=True)
    say("readable")
    import solution

    say("loaded")
    known = dict(vars(solution), __name__="tests")
    names = dict(known)
    exec(tests, names)
    new = {name: value for name, value in names.items() if known.get(name) is not value}
    called = any(not defines(statement) for statement in ast(told["tests"]))
    if told["entry"] and callable(new.get("check")):
        new["check"](names[told["entry"]])
        called = True
    for name, value in new.items():
        if isinstance(value, type):
            if "unittest" in sys.modules and issubclass(value, sys.modules["unittest"].TestCase):
                called = run(value) or called
        elif name.startswith("test") and callable(value):
            value()
            called = True
    if called:
        say("called")
    say("passed")
    os._exit(0)  # threads of the program may go on for ever


def ast(text):
    import ast

    return ast.parse(text).body


def defines(statement):
    import ast

    documents = isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Constant)
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom, ast.Assign, ast.AnnAssign)
    return documents or isinstance(statement, kinds)


def run(cases):
    import unittest

    result = unittest.TextTestRunner(stream=sys.stderr).run(unittest.defaultTestLoader.loadTestsFromTestCase(cases))
    if not result.wasSuccessful():
        raise AssertionError("a test case failed")
    return result.testsRun > 0


main()
"""
