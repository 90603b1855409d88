"""Asking a language model: how near to the allowed rate, and what it takes of a processor beside the client library.

    python benchmarks/definitions.py
    python benchmarks/definitions.py --requests 20000 --rate 400

A server of the same protocol runs beside it (tests/openai_server.py), which answers after a given time. The bare client
asks the same questions with the same number under way, without pace, budget and cache.
"""

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

import openai

from polclip.definitions.answers import answer_all
from polclip.definitions.cache import AnswerCache, key_of

SERVER = Path(__file__).parents[1] / "tests" / "openai_server.py"


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__.splitlines()[0], formatter_class=argparse.ArgumentDefaultsHelpFormatter
    )
    parser.add_argument("--requests", type=int, default=4000, help="questions asked")
    parser.add_argument("--rate", type=float, default=200, help="the allowed requests/s")
    parser.add_argument("--at-once", type=int, default=32, help="requests under way")
    parser.add_argument("--latency", type=float, default=0.1, help="seconds that the server takes for an answer")
    return parser.parse_args()


@contextmanager
def server(latency: float, folder: Path) -> Iterator[str]:
    """The address of a server in a process of its own."""
    command = [sys.executable, SERVER, "--port", "0", "--latency", str(latency)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield process.stdout.readline().strip()
    finally:
        process.terminate()
        process.wait()


def questions(count: int) -> dict[str, dict]:
    requests = (
        {
            "model": "any",
            "messages": [
                {"role": "system", "content": "You define words."},
                {"role": "user", "content": f'What does "bat" mean in "bat {number}"?'},
            ],
            "temperature": 0,
            "max_tokens": 60,
        }
        for number in range(count)
    )
    return {key_of(request): request for request in requests}


async def ask_bare(requests: dict[str, dict], url: str, at_once: int) -> None:
    waiting = iter(requests.values())

    async def ask_one_by_one(client: openai.AsyncOpenAI) -> None:
        for request in waiting:
            await client.chat.completions.create(**request)

    async with openai.AsyncOpenAI(api_key="none", base_url=url) as client:
        await asyncio.gather(*(ask_one_by_one(client) for _ in range(at_once)))


@contextmanager
def measured(figures: dict, name: str) -> Iterator[None]:
    wall, cpu = time.perf_counter(), time.process_time()
    yield
    figures[f"{name}_s"] = round(time.perf_counter() - wall, 3)
    figures[f"{name}_cpu_s"] = round(time.process_time() - cpu, 3)


def main() -> None:
    args = options()
    os.environ.pop("OPENAI_API_KEY", None)
    requests, figures = questions(args.requests), {}
    with TemporaryDirectory() as folder, server(args.latency, Path(folder)) as url:
        settings = {
            **{"base_url": url, "model": "any", "batch": False, "max_usd": 0, "prices": {}},
            **{"requests_per_minute": 60 * args.rate, "at_once": args.at_once},
        }
        with measured(figures, "bare"):
            asyncio.run(ask_bare(requests, url, args.at_once))
        with AnswerCache(folder) as cache:
            with measured(figures, "asked"):
                answer_all(requests, cache, settings, "benchmark")
            with measured(figures, "again"):
                answer_all(requests, cache, settings, "benchmark")
    bare, asked = (1000 * figures[f"{name}_cpu_s"] / args.requests for name in ("bare", "asked"))
    rate = args.requests / figures["asked_s"]
    result = {
        **{"requests": args.requests, "at_once": args.at_once, "allowed_per_s": args.rate},
        **{"requests_per_s": round(rate, 1), "ratio_of_allowed": round(rate / args.rate, 3)},
        **{"cpu_ms_per_request": round(asked, 3), "bare_cpu_ms_per_request": round(bare, 3)},
        **{"overhead_cpu_ms_per_request": round(asked - bare, 3), "again_s": figures["again_s"]},
    }
    for name, value in result.items():
        print(f"{name:<28} {value:>10}", file=sys.stderr)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
