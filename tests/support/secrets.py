"""Ten secrets of odd letters, and what no output may show of them."""

from __future__ import annotations

import re
from urllib.parse import quote

SECRETS = (
    "p@TAILSECRET",
    "sla/SHEDSECRET/x",
    "col:ONSECRET:y",
    "ha#SHSECRET",
    "que?STIONSECRET",
    "per%41CENTSECRET%zz",
    "pl+USAMP&SECRET=v",
    "spa ceD SECRETWORDS",
    "quo'TED\"SECRETS",
    "ümläutSÉCRETß€",
)
SHORTEST = 4  # letters of a part that may not be shown


def shown_parts(secret: str, text: str) -> list[str]:
    """Parts of a secret that a text shows, whatever their case."""
    forms = {secret, quote(secret, safe=""), quote(secret)}
    parts = {part for form in forms for part in re.split(r"[\W_]+", form) if len(part) >= SHORTEST}
    return sorted(p for p in {secret, *parts} if p.casefold() in text.casefold())
