"""The families that Weft loads, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.models import sd1, sdxl

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.models.family import Family

FAMILIES: Mapping[str, Family] = {family.name: family for family in (sd1.FAMILY, sdxl.FAMILY)}
