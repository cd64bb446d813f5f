"""Tests that import the heavy libraries themselves do so as the engine does: after `devices.prepare`."""

from __future__ import annotations

import sys
from importlib.abc import MetaPathFinder

from engine import devices

GUARDED = frozenset({"diffusers", "transformers", "spandrel"})


class Guard(MetaPathFinder):
    """Finds nothing; sees which library is imported next, so that a session without them stays light."""

    def find_spec(self, fullname, path=None, target=None):
        if fullname in GUARDED:
            devices.prepare()


sys.meta_path.insert(0, Guard())
