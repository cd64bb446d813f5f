"""Saved workflows name kinds, ports and positions: ours must be those of the field."""

from __future__ import annotations

import subprocess
import sys

import pytest

from engine.sampling.names import SAMPLER_NAMES, SCHEDULER_NAMES
from engine.schema import Catalog
from tests.nodes.interfaces import COMPLETE, known, module_of, of_kind, of_reference

KINDS = {kind.id: kind for kind in Catalog.load()}
KNOWN = known()

OWN: frozenset[str] = frozenset()
"""Kinds that the field has no name for."""

LATER = frozenset(
    {
        "BatchImagesNode",
        "ColorToRGBInt",
        "ComfyMathExpression",
        "ComfyNumberConvert",
        "ComfySwitchNode",
        "ConvertArrayToString",
        "ConvertDictionaryToString",
        "CreateList",
        "CustomCombo",
        "GetItemFromList",
        "ImageCompare",
        "ImageCropV2",
        "JsonExtractString",
        "LatentCutToBatch",
        "ManualSigmas",
        "ResizeImageMaskNode",
        "ResizeImagesByLongerEdge",
        "ResolutionSelector",
        "SaveAudioAdvanced",
        "SaveImageAdvanced",
        "SaveText",
        "SeedNode",
        "StringFormat",
        "Video Slice",
    }
)
"""Kinds of later versions of the field than the list is of."""

GROWN = frozenset(
    {
        "CreateVideo",
        "GetVideoComponents",
        "ImageFromBatch",
        "MaskPreview",
        "PreviewAny",
        "PreviewImage",
        "SaveImage",
        "SaveVideo",
    }
)
"""Kinds of the list that gained inputs, outputs or wider ranges in later versions, which ours have."""

FILE_PORTS = frozenset(
    {
        "ckpt_name",
        "vae_name",
        "lora_name",
        "model_path",
        "image",
        "control_net_name",
        "unet_name",
        "clip_name",
        "clip_name1",
        "clip_name2",
        "style_model_name",
        "latent",
        "model_name",
        "audio",
        "file",
        "hypernetwork_name",
        "gligen_name",
    }
)


def without_files(inputs: list[tuple]) -> list[tuple]:
    """Which files there are differs from place to place, so does which samplers are built."""
    plain = []
    for name, type_, choices, options in inputs:
        built = SAMPLER_NAMES if name == "sampler_name" else SCHEDULER_NAMES if name == "scheduler" else None
        if built is not None:
            assert [choice for choice in built if choice in choices] == choices
        plain.append((name, type_, None if built or (name in FILE_PORTS and type_ == "COMBO") else choices, options))
    return plain


def test_every_kind_is_known_to_the_field_or_ours():
    assert set(KINDS) - set(KNOWN) == OWN | LATER


@pytest.mark.parametrize("module", sorted(COMPLETE))
def test_a_complete_module_lacks_no_kind(module):
    kinds = [kind for kind, interface in KNOWN.items() if module_of(interface) == module]
    lacking = [kind for kind in kinds if kind not in KINDS]

    assert kinds
    assert not lacking, f"{module} lacks {', '.join(lacking)}"


@pytest.mark.parametrize("kind", [kind for kind in KNOWN if kind in KINDS])
def test_a_kind_has_the_interface_of_the_field(kind):
    ours, theirs = of_kind(KINDS[kind]), of_reference(KNOWN[kind])
    theirs["title"] = theirs["title"] or kind

    if kind in GROWN:
        outputs, count = theirs["outputs"], len(theirs["outputs"])
        names = {name for section in ("required", "optional") for name, *_ in theirs[section]}
        assert [type_ for _, type_, _ in ours["outputs"][:count]] == [type_ for _, type_, _ in outputs]
        assert names <= {name for section in ("required", "optional") for name, *_ in ours[section]}
        return
    for section in ("required", "optional"):
        assert without_files(ours.pop(section)) == without_files(theirs.pop(section))
    assert ours == theirs


def test_declarations_import_nothing_heavy():
    check = (
        "import sys; from engine.schema import Catalog; Catalog.load();"
        "print(sorted({'torch', 'numpy', 'PIL', 'transformers', 'diffusers', 'scipy'} & set(sys.modules)))"
    )

    printed = subprocess.run([sys.executable, "-c", check], capture_output=True, text=True, check=True).stdout

    assert printed.strip() == "[]"
