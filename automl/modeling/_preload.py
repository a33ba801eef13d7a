"""Imported by the clean server that children are forked from, and by nobody else.

A child runs the module of `python -m` once more, as Python does for processes of multiprocessing. That the
server has it already is meant, and no news to whoever reads a flow run's log.
"""

from __future__ import annotations

import warnings

warnings.filterwarnings("ignore", ".* found in sys.modules after import of", RuntimeWarning)
