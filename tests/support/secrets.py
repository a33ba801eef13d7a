"""Ten secrets of odd letters, and what no output may show of them."""

from __future__ import annotations

import re
from urllib.parse import quote

SECRETS = (  # no part of them is a word of a path, or of MLflow's tables
    "p@TAILQJXZW",
    "sla/SHEDQJXZW/x",
    "col:ONQJXZW:y",
    "ha#SHQJXZW",
    "que?STIONQJXZW",
    "per%41CENTQJXZW%zz",
    "pl+USAMP&QJXZW=v",
    "spa ceD QJXZWORDS",
    "quo'TED\"QJXZWS",
    "ümläutSÉQJXZWß€",
)
SHORTEST = 4  # letters of a part that may not be shown


def shown_parts(secret: str, text: str) -> list[str]:
    """Parts of a secret that a text shows, whatever their case."""
    forms = {secret, quote(secret, safe=""), quote(secret)}
    parts = {part for form in forms for part in re.split(r"[\W_]+", form) if len(part) >= SHORTEST}
    return sorted(p for p in {secret, *parts} if p.casefold() in text.casefold())
