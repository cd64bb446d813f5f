"""`comfy.cli_args`: the options that packs look at, with the values that they have here."""

from __future__ import annotations

from types import SimpleNamespace

args = SimpleNamespace(
    cpu=False,
    disable_metadata=False,
    force_fp16=False,
    force_fp32=False,
    highvram=False,
    lowvram=False,
    novram=False,
    multi_user=False,
    preview_method=None,
    verbose="INFO",
)
