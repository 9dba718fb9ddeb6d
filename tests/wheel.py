"""Build the wheel, install it where the source cannot be reached, and see that it is whole: `make wheel`.

Run as a script. The environment it installs into borrows the libraries of the one that runs it.
"""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
LIMIT = 8 * 2**20

CHECK = """
import synthkd, sys
from pathlib import Path
from synthkd import Instruction, Prompt, Run
from synthkd.templates import builtin_folder, builtin_names
from synthkd.strategies import Answer
from synthkd.testing import FunctionTeacher

home = Path(synthkd.__file__).parent
assert home.parent.name == "site", f"the source is in the way: {home}"
assert builtin_folder() == home / "prompts", builtin_folder()
names = builtin_names()
assert "labeling/answer" in names, names
for name in names:
    Prompt(name, str)
assert (home / "py.typed").is_file()
assert (home / "teachers" / "tiny" / "model" / "model.safetensors").is_file()
with Run("runs/wheel", teacher=FunctionTeacher(lambda request: "4"), quiet=True) as run:
    answers = run.map(Answer(), [Instruction(prompt="What is 2 + 2?")])
    assert [a.completion for a in answers] == ["4"]
    folder = run.save(answers)
assert (folder / "README.md").is_file()
print(f"{len(names)} prompts, a run and a dataset from {home}")
"""


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="synthkd-wheel-") as scratch:
        place = Path(scratch)
        run(sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", scratch, str(ROOT))
        [wheel] = place.glob("*.whl")
        size = wheel.stat().st_size
        tiny = sum(i.file_size for i in zipfile.ZipFile(wheel).infolist() if "/teachers/tiny/" in i.filename)
        print(f"{wheel.name}: {size / 2**20:.2f} MiB; the tiny teacher {tiny / 2**20:.2f} MiB of it unpacked")
        assert tiny <= LIMIT, f"the tiny teacher takes {tiny} bytes, at most {LIMIT} are allowed"
        site = place / "site"
        run(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--target", str(site), str(wheel))
        libraries = sysconfig.get_paths()["purelib"]
        # -S leaves out the environment's own .pth files, and with them the editable install of the source.
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(site), libraries])}
        subprocess.run([sys.executable, "-S", "-c", CHECK], cwd=scratch, env=environment, check=True)
        listed = [sys.executable, "-S", "-m", "synthkd.cli", "prompts", "list"]
        subprocess.run(listed, cwd=scratch, env=environment, check=True, stdout=subprocess.DEVNULL)


def run(*command: str) -> None:
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    main()
