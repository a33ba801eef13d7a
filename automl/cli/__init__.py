"""The commands that people type; see `commands`."""

from automl.cli.commands import app, main

__all__ = ["app", "main"]
