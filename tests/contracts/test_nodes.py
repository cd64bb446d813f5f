"""What holds for every node: it is documented, its defaults are sound, it gives the same for the same, it changes nothing."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING, Any

import pytest

from engine import Catalog, Engine, Graph, Link, NodeFailed
from engine.clips import sound_bytes, video_bytes
from engine.errors import WeftError
from engine.fingerprint import digest
from engine.models.latents import latent_bytes
from engine.result import tensors_of
from engine.schema import MISSING, Input, Kind, node
from engine.types import Audio, Cond, Conditioning, Image, Latent, Mask, Svg, Video
from engine.validate import _coerced
from tests.contracts import parts
from tests.parity.reference import Reference

if TYPE_CHECKING:
    from collections.abc import Iterator

NODES = Catalog.load("nodes")

SMALL: dict[str, Any] = {"steps": 2, "width": 64, "height": 64, "x": 0, "y": 0, "end_at_step": 2}
"""Values for the ports of these names, so that every call is quick."""

FITTING: dict[str, dict[str, Any]] = {
    "DualCLIPLoader": {"clip_name1": "l.safetensors", "clip_name2": "g.safetensors"},
    "ConditioningSetAreaPercentage": {"width": 0.5, "height": 0.5},
    "LatentOperationSharpen": {"sharpen_radius": 3},
    "StringSubstring": {"start": 1, "end": 3},
    "GITSScheduler": {"coeff": 0.95},
    "TrimVideoLatent": {"samples": Link("frames")},
    "StringFormat": {"f_string": "a {{cat}}"},
    "ComfyMathExpression": {"expression": "a * 2"},
    "ComfyNumberConvert": {"value": "3.5"},
    "ImageCropV2": {"crop_region": {"x": 1, "y": 2, "width": 8, "height": 16}},
    "ConvertArrayToString": {"array": [1, 2]},
    "ConvertDictionaryToString": {"dictionary": {"a": 1}},
    "GetItemFromList": {"index": 0},
}
"""Values for the ports of kinds that need others."""

RANDOM_NAMES = frozenset({"ImageCompare", "MaskPreview", "PreviewAudio", "PreviewImage"})
"""Kinds that name their files by chance."""


@node("GiveImage")
def give_image() -> Image:
    """Two small pictures."""
    import torch

    return Image(torch.rand(2, 64, 64, 3, generator=torch.Generator().manual_seed(1)))


@node("GiveMask")
def give_mask() -> Mask:
    """A mask."""
    import torch

    return Mask(torch.rand(1, 64, 64, generator=torch.Generator().manual_seed(2)))


@node("GiveLatent")
def give_latent() -> Latent:
    """A latent with a mask."""
    import torch

    noise = torch.Generator().manual_seed(3)
    return Latent(torch.randn(1, 4, 8, 8, generator=noise), torch.rand(1, 1, 8, 8, generator=noise).round())


@node("GiveConditioning")
def give_conditioning() -> Conditioning:
    """A prompt."""
    import torch

    return Conditioning((Cond(torch.randn(1, 77, 64, generator=torch.Generator().manual_seed(4))),))


@node("GiveSvg")
def give_svg() -> Svg:
    """A drawing."""
    return Svg((b"<svg xmlns='http://www.w3.org/2000/svg'></svg>",))


@node("GiveAudio")
def give_audio() -> Audio:
    """A second of noise in stereo."""
    import torch

    return Audio(torch.rand(1, 2, 48_000, generator=torch.Generator().manual_seed(6)) - 0.5, 48_000)


@node("GiveVideo")
def give_video() -> Video:
    """Three frames."""
    import torch

    return Video(images=Image(torch.rand(3, 64, 64, 3, generator=torch.Generator().manual_seed(7))), fps=3.0)


@node("GiveFrames")
def give_frames() -> Latent:
    """A latent of a moving picture."""
    import torch

    return Latent(torch.randn(1, 16, 3, 8, 8, generator=torch.Generator().manual_seed(8)))


SOURCES: dict[str, tuple[str, dict[str, Any], Link]] = {
    "IMAGE": ("GiveImage", {}, Link("IMAGE")),
    "MASK": ("GiveMask", {}, Link("MASK")),
    "AUDIO": ("GiveAudio", {}, Link("AUDIO")),
    "VIDEO": ("GiveVideo", {}, Link("VIDEO")),
    "frames": ("GiveFrames", {}, Link("frames")),
    "LATENT": ("GiveLatent", {}, Link("LATENT")),
    "CONDITIONING": ("GiveConditioning", {}, Link("CONDITIONING")),
    "MODEL": ("CheckpointLoaderSimple", {"ckpt_name": "sd15_tiny.safetensors"}, Link("MODEL", "MODEL")),
    "CLIP": ("CheckpointLoaderSimple", {"ckpt_name": "sd15_tiny.safetensors"}, Link("CLIP", "CLIP")),
    "VAE": ("CheckpointLoaderSimple", {"ckpt_name": "sd15_tiny.safetensors"}, Link("VAE", "VAE")),
    "SVG": ("GiveSvg", {}, Link("SVG")),
    "CLIP_VISION": ("CLIPVisionLoader", {"clip_name": "vision.safetensors"}, Link("CLIP_VISION")),
    "CLIP_VISION_OUTPUT": (
        "CLIPVisionEncode",
        {"clip_vision": Link("CLIP_VISION"), "image": Link("IMAGE"), "crop": "center"},
        Link("CLIP_VISION_OUTPUT"),
    ),
    "STYLE_MODEL": ("StyleModelLoader", {"style_model_name": "style.safetensors"}, Link("STYLE_MODEL")),
    "UPSCALE_MODEL": ("UpscaleModelLoader", {"model_name": "upscale.safetensors"}, Link("UPSCALE_MODEL")),
    "LATENT_OPERATION": ("LatentOperationSharpen", {"sharpen_radius": 3}, Link("LATENT_OPERATION")),
    "SIGMAS": ("KarrasScheduler", {"steps": 2}, Link("SIGMAS")),
    "SAMPLER": ("KSamplerSelect", {"sampler_name": "euler"}, Link("SAMPLER")),
    "NOISE": ("RandomNoise", {"noise_seed": 1}, Link("NOISE")),
    "GLIGEN": ("GLIGENLoader", {"gligen_name": "boxes.safetensors"}, Link("GLIGEN")),
    "CONTROL_NET": ("ControlNetLoader", {"control_net_name": "sd15_tiny_controlnet.safetensors"}, Link("CONTROL_NET")),
    "GUIDER": ("BasicGuider", {"model": Link("MODEL"), "conditioning": Link("CONDITIONING")}, Link("GUIDER")),
}
"""Port type to a node that gives one: its kind, its inputs, and the link to it."""


@pytest.fixture(scope="module")
def engine(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Engine]:
    """An engine that proves at every call that no node changes its inputs."""
    reference = Reference.find()
    models = tmp_path_factory.mktemp("models")
    for folder in reference.models().iterdir():
        (models / folder.name).symlink_to(folder)
    for folder in ("vae", "diffusers"):
        (models / folder).mkdir(exist_ok=True)
    shutil.copyfile(models / "checkpoints" / "sd15_tiny.safetensors", models / "vae" / "tiny.safetensors")
    (models / "diffusion_models").symlink_to(models / "checkpoints")
    parts.write(models)
    catalog = NODES | Catalog(
        [give_image, give_mask, give_latent, give_conditioning, give_svg, give_audio, give_video, give_frames]
    )
    inputs, output = tmp_path_factory.mktemp("input"), tmp_path_factory.mktemp("output")
    for picture in (reference.folder / "assets").glob("*.png"):
        shutil.copyfile(picture, inputs / picture.name)
    shutil.copyfile(inputs / "pattern_64x64.png", output / "saved.png")
    (inputs / "clip.mp4").write_bytes(video_bytes(give_video(), {}, container="mp4", codec="h264"))
    (inputs / "sound.flac").write_bytes(sound_bytes(give_audio(), {}, format_="flac")[0])
    (inputs / "some.latent").write_bytes(latent_bytes(give_latent().samples, {}))
    options: dict[str, Any] = {"device": "cpu", "dtype": "float32", "catalog": catalog, "verify": True}
    with Engine(models_dir=models, input_dir=inputs, output_dir=output, **options) as engine:
        yield engine


def filled(kind: Kind, engine: Engine) -> Graph:
    """A graph with one node of a kind, `out`, whose inputs are small and sound."""
    graph = Graph()
    for name, (source, settings, _) in SOURCES.items():
        graph = graph.add(name, source, **settings)
    ports = [port for port in kind.inputs.values() if port.required or "." not in port.name]  # not all that may grow
    inputs = {port.name: given(kind, port, engine) for port in ports}
    return graph.add("out", kind.id, **{name: value for name, value in inputs.items() if value is not MISSING})


def given(kind: Kind, port: Input, engine: Engine) -> Any:
    """A value or link for a port; `MISSING` where the default will do."""
    fitting = {**SMALL, **FITTING.get(kind.id, {})}
    if port.name in FITTING.get(kind.id, {}):
        return FITTING[kind.id][port.name]
    first_type = port.type.partition(",")[0]
    if first_type in SOURCES:
        return SOURCES[first_type][2]
    options = port.options(engine.folders)
    if options is not None:
        preferred = [
            o for o in options if o.startswith(("sd15_tiny.", "sd15_tiny_kohya", "pattern_64", "euler", "normal", "sound"))
        ]
        return (preferred or list(options))[0] if options else MISSING
    if port.name in fitting and port.type in {"INT", "FLOAT"}:
        return fitting[port.name]
    if port.default is not MISSING:
        return MISSING
    low = port.range.min if port.range else 0
    samples = {"INT": max(int(low), 1), "FLOAT": max(float(low), 0.5), "STRING": "a (small:1.2) cat", "BOOLEAN": True}
    return samples.get(first_type, Link("LATENT"))


def outputs(kind: Kind, engine: Engine) -> dict[str, Any]:
    """What a node gives, as digests where it has content: tensors, texts, numbers."""
    graph = filled(kind, engine)
    result = engine.run(graph, ["out"], force=["out"])
    content: dict[str, Any] = {}
    for i, output in enumerate(kind.outputs):
        value = result.value("out", i)
        try:
            content[output.name] = {name: digest(tensor) for name, tensor in tensors_of(value).items()}
        except WeftError:
            content[output.name] = value if isinstance(value, str | int | float) else type(value)
    if "out" in result.shown and kind.id not in RANDOM_NAMES:
        content["shown"] = [sorted(result.shown["out"].entries), len(result.files)]
    return content


@pytest.mark.parametrize("kind", NODES, ids=lambda k: k.id)
def test_a_node_is_documented(kind: Kind) -> None:
    assert kind.help
    assert kind.title
    assert kind.category
    assert kind.help[0].isupper()
    for port in kind.inputs.values():
        assert port.help.endswith("."), port.name


@pytest.mark.parametrize("kind", NODES, ids=lambda k: k.id)
def test_its_defaults_are_values_that_it_accepts(kind: Kind) -> None:
    for name, value in kind.defaults.items():
        port = kind.inputs[name]
        if value is None:
            assert port.listed_optional, name
            continue
        assert type(_coerced(value, port.type)) is type(value), name
        assert port.range is None or port.range.min <= value <= port.range.max, name
        assert port.choice is None or value in port.choice.options, name


@pytest.mark.parametrize("kind", NODES, ids=lambda k: k.id)
def test_it_gives_the_same_for_the_same_inputs_and_leaves_them_alone(kind: Kind, engine: Engine) -> None:
    lacking = [p.name for p in kind.inputs.values() if p.required and p.files and not p.options(engine.folders)]
    if lacking:
        pytest.skip(f"there is no file for {lacking}")
    try:
        first = outputs(kind, engine)
    except NodeFailed as failure:
        raise AssertionError(str(failure)) from failure
    assert outputs(kind, engine) == first


def test_a_node_that_changes_an_input_is_caught() -> None:
    @node("Spoil")
    def spoil(samples: Latent) -> Latent:
        """Break the rule.

        Args:
            samples: Changed here.
        """
        samples.samples.zero_()
        return samples

    graph = Graph().add("give", "GiveLatent").add("out", "Spoil", samples=Link("give"))
    with (
        Engine(catalog=Catalog([give_latent, spoil]), verify=True) as checking,
        pytest.raises(NodeFailed, match="changed its input"),
    ):
        checking.run(graph, ["out"])
