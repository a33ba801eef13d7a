"""Where independent pieces of work run: given out by one process, done by others, collected as they end.

work    an item of work, its outcome, and what every engine does
local   processes of this machine
"""

from automl.engines.local import LocalEngine
from automl.engines.work import Engine, Item, Outcome

__all__ = ["Engine", "Item", "LocalEngine", "Outcome"]
