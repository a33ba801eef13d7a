"""Messages to Apprise addresses, within a deadline: a wrong address or a server that hangs is a warning, no more."""

from __future__ import annotations

import logging
import threading
import time

from automl.addresses import fill_references
from automl.errors import ProblemError
from automl.problem import Problem
from automl.redaction import redact

__all__ = ["DEADLINE", "send"]

DEADLINE = 5.0  # seconds, for all addresses together
_log = logging.getLogger(__name__)


def send(problem: Problem, title: str, text: str, *, failure: bool) -> bool:
    """Send a message to every address of `monitoring.alerts`; whether at least one took it.

    Never raises, and waits for the servers five seconds at most. What went wrong is one warning line per address,
    with the place of the address in the file and without the address.
    """
    if not problem.monitoring.alerts:
        return False
    import apprise  # noqa: F401, PLC0415  before the deadline: on a busy machine it takes seconds

    title, text = redact(title), redact(text)
    taken: list[bool] = []
    threads = []
    for number, address in enumerate(problem.monitoring.alerts):
        arguments = (f"monitoring.alerts[{number}]", address, (title, text), failure, taken)
        thread = threading.Thread(target=_try, args=arguments, daemon=True)
        thread.start()
        threads.append((f"monitoring.alerts[{number}]", thread))
    end = time.monotonic() + DEADLINE
    for name, thread in threads:
        thread.join(max(0.0, end - time.monotonic()))
        if thread.is_alive():
            _log.warning("%s: no reply within %g s; the message may be lost", name, DEADLINE)
    return bool(taken)


def _try(
    name: str, address: str, message: tuple[str, str], failure: bool, taken: list[bool]
) -> None:
    """Send to one address; exceptions of servers and libraries may quote it, so only their type is logged."""
    try:
        problem = _notify(fill_references(address, name), message, failure)
    except ProblemError as error:
        problem = str(error)
    except Exception as error:  # noqa: BLE001  a cycle never fails because of an alert
        problem = type(error).__name__
    if problem:
        _log.warning("%s: the message was not sent: %s", name, problem)
    else:
        taken.append(True)


def _notify(address: str, message: tuple[str, str], failure: bool) -> str:
    """Why the message was not taken; empty if it was."""
    import apprise  # noqa: PLC0415  loads a hundred plugins, and is needed when something is wrong

    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)  # its lines quote addresses
    sender = apprise.Apprise()
    if not sender.add(address):
        return "found no address that Apprise knows; wanted one such as mailto://... or slack://..."
    kind = apprise.NotifyType.FAILURE if failure else apprise.NotifyType.SUCCESS
    title, body = message
    taken = sender.notify(title=title, body=body, notify_type=kind)
    return "" if taken else "the server did not take it"
