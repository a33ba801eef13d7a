"""Processes of our own: where fits and users' code run, how they are killed, and what ends with them.

children  start a process from a clean server, and end it with all that it started
guard     the process above that server: when its owner has gone, everything below it ends
lineage   who started whom, and what ends with whom
calls     one function of a user's file at a time, in a process that may exit, hang, crash or print
"""

from automl.processes.calls import Caller, UserCodeError, UserProcess
from automl.processes.children import context, end, fate, settle, start, warm_up
from automl.processes.lineage import has_children

__all__ = [
    "Caller",
    "UserCodeError",
    "UserProcess",
    "context",
    "end",
    "fate",
    "has_children",
    "settle",
    "start",
    "warm_up",
]
