"""Paid answers, one file each under a name made from the question: what was paid for once is never paid again."""

import hashlib
import json
import logging
from collections.abc import Mapping
from pathlib import Path

from polclip.files import write_json

log = logging.getLogger(__name__)
_FIELDS = {"text", "refusal", "finish_reason", "tokens_in", "tokens_out"}


def key_of(request: Mapping, base_url: str = "") -> str:
    """The name of a request's answer: the SHA-256 of model, messages, parameters and, if it is not OpenAI's, server.

    Two servers may give one name to two models, so that an answer is not taken from one for the other.
    """
    content = dict(request) | ({"base_url": base_url.rstrip("/")} if base_url else {})
    return hashlib.sha256(json.dumps(content, sort_keys=True, ensure_ascii=False).encode()).hexdigest()


def read_answer(folder: str | Path, key: str) -> dict | None:
    """The answer kept under a key, or None; a file that is no answer (a broken disk's) counts as none."""
    path = _path(folder, key)
    try:
        answer = json.loads(path.read_text(encoding="utf-8"))["answer"]
        if set(answer) >= _FIELDS:
            return answer
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError):
        pass
    log.warning("%s is not a kept answer: asked anew", path)
    return None


def write_answer(folder: str | Path, key: str, request: Mapping, answer: Mapping) -> None:
    """Keep an answer with its question, whole or not at all; the server's address is not written."""
    write_json(_path(folder, key), {"request": dict(request), "answer": dict(answer)})


def _path(folder: str | Path, key: str) -> Path:
    return Path(folder) / key[:2] / f"{key}.json"
