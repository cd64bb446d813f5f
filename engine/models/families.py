"""The families that Weft loads, by name."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.models import sd1, sd2, sdxl, sdxl_refiner

if TYPE_CHECKING:
    from collections.abc import Mapping

    from engine.models.family import Family

FAMILIES: Mapping[str, Family] = {family.name: family for family in (sd1.FAMILY, sd2.FAMILY, sdxl.FAMILY, sdxl_refiner.FAMILY)}
