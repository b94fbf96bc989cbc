"""Record an answer of the local model: ``python -m tocsin.testing.recordings NAME PROMPT``."""

from __future__ import annotations

import argparse
import json
import time
import urllib.request

import msgspec

from tocsin.testing.local_model import MODEL, LocalModel
from tocsin.testing.recordings import Recording

_WEIGHTS = "SmolLM2-135M-Instruct, Q4_1"


def record(url: str, name: str, prompt: str, sampling: dict[str, float]) -> Recording:
    """Ask an OpenAI-compatible model and note what comes, and when.

    Args:
        url: of the server, without ``/v1``.
        sampling: fields of the request, such as ``temperature`` and ``seed``.
    """
    asked = {
        "model": MODEL,
        "messages": [{"role": "user", "content": prompt}],
        "stream": True,
        **sampling,
    }
    request = urllib.request.Request(  # noqa: S310 - whoever runs this names the server
        f"{url}/v1/chat/completions",
        json.dumps(asked).encode(),
        {"Content-Type": "application/json"},
    )
    pieces, delays_ms, finish = [], [], "stop"
    last_s = time.monotonic()
    with urllib.request.urlopen(request) as lines:  # noqa: S310 - the same
        for line in lines:
            if not line.startswith(b"data: {"):
                continue
            choice = json.loads(line.removeprefix(b"data: "))["choices"][0]
            finish = choice["finish_reason"] or finish
            if text := choice["delta"].get("content"):
                now_s = time.monotonic()
                pieces.append(text)
                delays_ms.append(round(1_000 * (now_s - last_s), 1))
                last_s = now_s
    return Recording(
        name=name,
        prompt=prompt,
        model=_WEIGHTS,
        sampling=sampling,
        finish=finish,
        pieces=tuple(pieces),
        delays_ms=tuple(delays_ms),
    )


def _main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m tocsin.testing.recordings",
        description="Record an answer of the local model, as JSON on standard output.",
        epilog="Example: python -m tocsin.testing.recordings sky 'Why is the sky blue?' --seed 1",
    )
    parser.add_argument("name")
    parser.add_argument("prompt")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--max-tokens", type=int, default=150)
    asked = parser.parse_args()
    sampling = {
        "temperature": asked.temperature,
        "seed": asked.seed,
        "max_tokens": asked.max_tokens,
    }
    with LocalModel() as model:
        found = record(model.url, asked.name, asked.prompt, sampling)
    fields = msgspec.to_builtins(found).items()
    lines = [f" {json.dumps(key)}: {json.dumps(value)}" for key, value in fields]
    print("{", ",\n".join(lines), "}", sep="\n")  # noqa: T201 - one line a field


if __name__ == "__main__":
    _main()
