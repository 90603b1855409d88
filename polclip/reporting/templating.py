"""Pages from templates: self-contained, with our own style sheet and script, everything else escaped."""

import base64
import hashlib
from collections.abc import Mapping
from pathlib import Path

import jinja2
import pandas as pd
from markupsafe import Markup

from polclip.reporting import summary

TEMPLATES = Path(__file__).parent / "templates"


def render(page: Mapping, template: str = "report.html.j2") -> str:
    """Fill a template; everything but our own style sheet, script and figures is escaped.

    The script's hash stands in the page's content policy: a browser runs nothing else and loads nothing.
    """
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("polclip.reporting"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=jinja2.StrictUndefined,
    )
    environment.filters |= {
        "thousands": lambda number: f"{number:,}",
        "signed": summary.signed,
        "duration": duration,
        "p_value": p_value,
        "metric": summary.metric_name,
    }
    script = (TEMPLATES / "report.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template(template).render(
        page, style=Markup(style_sheet()), script=Markup(script), script_hash=digest
    )


def style_sheet() -> str:
    return (TEMPLATES / "report.css").read_text(encoding="utf-8")


def duration(seconds: float) -> str:
    """Seconds as a reader says them: 4.2 s, 3 min 05 s, 2 h 10 min."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, rest = divmod(round(seconds), 60)
    if minutes < 60:
        return f"{minutes} min {rest:02d} s"
    return f"{minutes // 60} h {minutes % 60:02d} min"


def p_value(p: float) -> str:
    """Three decimals, never 0; a dash where there is none."""
    if pd.isna(p):
        return "\u2013"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
