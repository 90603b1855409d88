"""`python -m polclip.cli`, where the command is not installed."""

from polclip.cli import app

app(prog_name="polclip")
