"""The command line.

    app      the application and the options that commands share
    run      cycle, retrain, score, monitor, schedule
    past     backfill, reproduce; backtest has a module of its own
    review   rollback, approve, reject
    show     status, leaderboard, why, champion, history, contract, ui
    report   report
    setup    check, spaces, doctor
    console  what is printed, and where
    live     progress on stderr
    error_text, usage  errors as text, and wrong words of a command as errors
    inputs   problem file, times and settings of a command
    signals  what Ctrl-C and SIGTERM do
    entry    the entry point and its exit codes

Commands import what they need when they run, so that `--help` is quick.
"""

from automl.cli.app import app
from automl.cli.entry import main

__all__ = ["app", "main"]
