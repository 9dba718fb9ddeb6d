"""Why a vLLM server did not start: the only place that reads its log.

Invariant: the reason is what the log says, or its last lines; nothing is guessed.
"""

from __future__ import annotations

import re

_KNOWN: tuple[tuple[str, str, str], ...] = (
    (
        r"No module named '?vllm",
        "this Python has no vLLM",
        "Install it into an environment of its own (`pip install vllm`, on a CPU `make vllm-env`) and pass python=...",
    ),
    (
        r"CUDA out of memory|OutOfMemoryError|Free memory on device .* is less than|No available memory for the cache"
        r"|not enough memory|larger than the maximum number of tokens that can be stored in KV cache",
        "the memory does not hold the model",
        "Lower max_model_len or gpu_memory, quantise it (quantization=...), split it (tensor_parallel=...), or end "
        "what else is on the GPU",
    ),
    (
        r"No CUDA GPUs are available|Failed to infer device type|no NVIDIA driver|CUDA driver version is insufficient",
        "there is no GPU that it could use",
        "Look with `synthkd doctor`; on a CPU use vLLM's CPU build, or an endpoint elsewhere: openai:MODEL@URL",
    ),
    (
        r"Repository Not Found|is not a local folder and is not a valid model|does not appear to have a file named"
        r"|Can't load the configuration|No such file or directory: .*config\.json|Repo id must be in the form",
        "the model was not found",
        "Check its name on the Hub, or the path of its folder; a gated one needs HF_TOKEN",
    ),
    (r"[Aa]ddress already in use", "the port was taken by another process", "Start again; another port is chosen"),
    (
        r"max_model_len.* is greater than the derived|User-specified max_model_len",
        "max_model_len is more than the model has",
        "Lower max_model_len",
    ),
    (
        r"error: (unrecognized arguments|argument [^\n]*)",
        "it does not know one of its flags",
        "See extra=... and the options",
    ),
)
_LINES = 12


def reason(log: str) -> str:
    """A sentence that says what went wrong and what to do, with the line of the log that says so."""
    for pattern, what, cure in _KNOWN:
        if found := re.search(pattern, log):
            begin = log.rfind("\n", 0, found.start()) + 1
            line = log[begin : log.find("\n", found.start()) if "\n" in log[found.start() :] else len(log)]
            return f"{what}: {line.strip()[:300]!r}. {cure}."
    last = "\n".join(line for line in log.strip().splitlines()[-_LINES:])
    return f"its log ends with:\n{last}" if last else "it said nothing"
