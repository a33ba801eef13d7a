"""Secrets are hidden in every text that leaves this process: messages, logs, reasons, notes in MLflow.

A secret is the password of a URL, the value of an environment variable whose name says so, and what
`remember` was given. The parts of a secret between signs are hidden too: a driver that reads `p@rest` wrongly
takes `rest` for a host. Rather too much is hidden than too little.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from functools import lru_cache
from urllib.parse import quote, quote_plus, unquote

__all__ = ["redact", "remember"]

HIDDEN = "***"
SHORTEST = 4  # letters; shorter parts would hide ordinary words
LONG = 10  # letters; from here on a part is also hidden inside a longer word
# PGPASSWORD, MLFLOW_TRACKING_TOKEN, AUTOML_KEY_SECRET, AWS_SECRET_ACCESS_KEY, ...
_NAMES = re.compile(
    r"(PASSWORD|PASSWD|PASS|PWD|PW|SECRET|TOKEN|KEY|CREDENTIALS?)$|_SECRET_", re.IGNORECASE
)
_FOLDERS = ("PWD", "OLDPWD")
_LOGIN = re.compile(r"\s*[\w+.-]+://[^:/]*:(.*)@", re.DOTALL)
_URL = re.compile(r"(\w[\w+.-]*://[^\s:/]*:)\S+@")
_OPTION = re.compile(r"([?&;\s](?:sslpassword|password|passwd|pwd|token)=)[^\s&;]+", re.IGNORECASE)
_remembered: set[str] = set()


def remember(secret: str) -> None:
    """Hide this text from now on."""
    _remembered.add(secret)


def redact(text: str) -> str:
    """The text with secrets replaced by `***`.

    Examples
    --------
    >>> redact("cannot reach postgresql://me:secret@host/db")
    'cannot reach postgresql://me:***@host/db'
    """
    parts = _parts(frozenset(_secrets()))
    if parts is not None:
        text = parts.sub(HIDDEN, text)
    return _OPTION.sub(rf"\1{HIDDEN}", _URL.sub(rf"\1{HIDDEN}@", text))


def _secrets() -> Iterator[str]:
    yield from _remembered
    for name, value in os.environ.items():
        if _NAMES.search(name) and name not in _FOLDERS:
            yield value
        login = _LOGIN.match(value)
        if login:
            yield login[1]
        for match in _OPTION.finditer(value):
            yield match[0].partition("=")[2]


@lru_cache(maxsize=8)
def _parts(secrets: frozenset[str]) -> re.Pattern[str] | None:
    """A pattern of every spelling of every secret, and of their parts; the longest match first."""
    spellings = {spelling for secret in secrets for spelling in _spellings(secret)}
    found = spellings | {part for s in spellings for part in re.split(r"[\W_]+", s)}
    known = sorted((p for p in found if len(p) >= SHORTEST), key=len, reverse=True)
    patterns = [
        re.escape(p) if len(p) >= LONG or not p.isalnum() else rf"(?<!\w){re.escape(p)}(?!\w)"
        for p in known
    ]
    return re.compile("|".join(patterns), re.IGNORECASE) if patterns else None


def _spellings(secret: str) -> set[str]:
    """A secret as it is, percent-encoded, decoded, and quoted as in Python and JSON."""
    plain = {secret, unquote(secret), secret.strip()}
    encoded = {form(s) for s in plain for form in (quote, quote_plus)}
    encoded |= {quote(s, safe="") for s in plain}
    escaped = {s.encode("unicode_escape").decode() for s in plain}
    return plain | encoded | escaped | {s.replace("'", r"\'").replace('"', r"\"") for s in plain}
