"""What a run cost: seconds, memory and USD by rule, from the workflow's benchmark files."""

from collections.abc import Mapping
from pathlib import Path

import pandas as pd

from polclip.errors import UserError
from polclip.files import write_json


def costs_by_rule(folder: str | Path, usd: Mapping[str, float] | None = None) -> list[dict]:
    """Sum the benchmark files under `folder` (`{rule}/….tsv` or `{rule}.tsv`), the longest rule first.

    Each file has the columns `s` (seconds) and `max_rss` (MB); one too short to measure has "-" or "NA".
    Returns a dict a rule: rule, jobs, seconds (summed over jobs), peak_mb (of the largest job), usd.
    """
    folder = Path(folder)
    usd = dict(usd or {})
    rules: dict[str, dict] = {}
    for path in sorted(folder.rglob("*.tsv")):
        inside = path.relative_to(folder)
        rule = inside.parts[0] if len(inside.parts) > 1 else path.stem
        jobs = pd.read_csv(path, sep="\t")
        if not {"s", "max_rss"} <= set(jobs.columns):
            raise UserError(f"{path}: not a benchmark file of the workflow (columns s and max_rss). Move it away.")
        seconds, peak = (pd.to_numeric(jobs[column], errors="coerce").fillna(0) for column in ("s", "max_rss"))
        cost = rules.setdefault(rule, {"rule": rule, "jobs": 0, "seconds": 0.0, "peak_mb": 0.0, "usd": 0.0})
        cost["jobs"] += len(jobs)
        cost["seconds"] += float(seconds.sum())
        cost["peak_mb"] = max(cost["peak_mb"], float(peak.max()) if len(peak) else 0.0)
    for rule, amount in usd.items():
        cost = rules.setdefault(rule, {"rule": rule, "jobs": 0, "seconds": 0.0, "peak_mb": 0.0, "usd": 0.0})
        cost["usd"] += float(amount)
    for cost in rules.values():
        cost |= {"seconds": round(cost["seconds"], 2), "peak_mb": round(cost["peak_mb"], 1)}
    return sorted(rules.values(), key=lambda cost: (-cost["seconds"], cost["rule"]))


def write_costs(folder: str | Path, output: str | Path, usd: Mapping[str, float] | None = None) -> None:
    """Write `costs_by_rule` as JSON."""
    write_json(output, costs_by_rule(folder, usd))
