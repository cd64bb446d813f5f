"""Families beside Stable Diffusion 1: what their files show, and what diffusers computes with the same weights."""

from __future__ import annotations

import json

import architectures
import pytest
import torch
from reference import Reference, relative_error

from engine.errors import UnsupportedModel, WeftError
from engine.models import checkpoint, load_checkpoint, load_unclip
from engine.models.detect import of_shapes
from engine.models.families import FAMILIES
from engine.models.unclip import Described
from engine.sampling.schedule import DiscreteSchedule
from engine.types import ClipVisionOutput, Cond, Image

META = {"file": "x", "device": torch.device("meta"), "dtype": torch.float32}

PUBLISHED = {
    "sd2": (architectures.sd2(in_channels=9), 865_925_124, 354_032_640),
    "sdxl": (architectures.sdxl(), 2_567_463_684, 817_720_320),
    "sdxl-refiner": (architectures.sdxl_refiner(), 2_259_526_660, 694_659_840),
}
"""Family to the shapes of its published file, and the numbers of parameters of network and text encoder."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_file_of_published_shapes_makes_a_model(name):
    shapes, of_network, of_text = PUBLISHED[name]
    found = of_shapes({tensor: tuple(shape) for tensor, shape in shapes.items()})
    family = FAMILIES[found.family]
    tensors = {tensor: torch.empty(shape, dtype=torch.float16, device="meta") for tensor, shape in shapes.items()}

    parts = checkpoint.file_parts(tensors, "x", family)
    model = checkpoint.model(parts.unet, family, **META)
    text = checkpoint.text_encoder(parts.text, family, **META)

    assert (found.family, found.role) == (name, "checkpoint")
    assert sum(t.numel() for t in model.weights.tensors.values()) == of_network
    assert sum(t.numel() for t in text.weights.tensors.values()) == of_text
    assert checkpoint.vae(parts.vae, **META).latent_channels == 4


def test_the_generator_of_names_makes_the_network_of_the_reference_manifest():
    manifest = Reference.find().folder / "sdxl_tiny.manifest.json"
    network = architectures.unet((64, 128, 256), 2, (1, 2), 192, 4, linear=True, depths=(0, 1, 2), vector=1664)
    prefix = checkpoint.UNET_PREFIX

    known = {n: s for n, s in json.loads(manifest.read_text("utf-8")).items() if n.startswith(prefix)}

    assert {prefix + name: shape for name, shape in network.items()} == known


def _text(width, layers, *, projected=False, **options):
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    config = CLIPTextConfig(
        vocab_size=49408,
        hidden_size=width,
        intermediate_size=width * 2,
        num_hidden_layers=layers,
        num_attention_heads=max(width // 64, 1),
        projection_dim=width,
        eos_token_id=49407,
        **options,
    )
    return (CLIPTextModelWithProjection if projected else CLIPTextModel)(config).eval()


def _unet(context, **options):
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(64, 128),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        attention_head_dim=(1, 2),
        cross_attention_dim=context,
        use_linear_projection=True,
        **options,
    ).eval()


SIZES = {
    "sdxl": ({"transformer_layers_per_block": (1, 2), "projection_class_embeddings_input_dim": 64 + 6 * 256}, 128),
    "sdxl-refiner": ({"transformer_layers_per_block": (1, 2), "projection_class_embeddings_input_dim": 64 + 5 * 256}, 64),
}


@pytest.mark.parametrize("name", SIZES)
def test_sizes_reach_the_network_as_diffusers_passes_them(name, tmp_path):
    torch.manual_seed(0)
    options, context = SIZES[name]
    theirs = _unet(context, addition_embed_type="text_time", addition_time_embed_dim=256, **options)
    theirs.save_pretrained(tmp_path / "unet")
    model = load_checkpoint(tmp_path, device="cpu", dtype="float32").model
    x, sigma, tokens, pooled = torch.randn(1, 4, 8, 12), torch.tensor([3.0]), torch.randn(1, 77, context), torch.randn(1, 64)
    entry = Cond(tokens, pooled).with_options(width=640, height=512, crop_w=3, crop_h=4, target_width=96, target_height=64)
    entry = entry.with_options(aesthetic_score=5.5)
    told = [512, 640, 4, 3, 64, 96] if name == "sdxl" else [512, 640, 4, 3, 5.5]
    schedule = DiscreteSchedule.scaled_linear()

    prepared = model.prepared(entry, height=8, width=12, is_negative=False)
    got = model.denoised(x, sigma, tokens, extra=prepared.extra)

    given = {"text_embeds": pooled, "time_ids": torch.tensor([told], dtype=torch.float32)}
    scaled = schedule.network_input(x, sigma)
    output = theirs(scaled, schedule.timestep(sigma), tokens, added_cond_kwargs=given).sample
    assert model.family == name
    assert relative_error(got, schedule.denoised(output, sigma, x)) < 1e-5


@pytest.mark.parametrize(("is_negative", "score"), [(False, 6.0), (True, 2.5)])
def test_sizes_that_nobody_gave_are_those_of_the_latent(is_negative, score):
    pooled = torch.zeros(1, 4)
    plain = Cond(torch.zeros(1, 77, 4), pooled)
    size = {"height_px": 64, "width_px": 96, "is_negative": is_negative, "seed": 0}

    for name, told in (
        ("sdxl", {"crop_w": 0, "crop_h": 0, "target_width": 96, "target_height": 64}),
        ("sdxl-refiner", {"crop_w": 0, "crop_h": 0, "aesthetic_score": score}),
    ):
        vector = FAMILIES[name].vector
        spelt_out = plain.with_options(width=96, height=64, **told)
        assert torch.equal(vector(plain, **size), vector(spelt_out, **size))


def test_a_conditioning_without_a_pooled_text_is_refused():
    with pytest.raises(WeftError, match="reads a pooled text"):
        FAMILIES["sdxl"].vector(Cond(torch.zeros(1, 77, 4)), height_px=64, width_px=64, is_negative=False, seed=0)


def test_a_conditioning_of_another_family_is_refused(tmp_path):
    options, context = SIZES["sdxl"]
    _unet(context, addition_embed_type="text_time", addition_time_embed_dim=256, **options).save_pretrained(tmp_path / "unet")
    model = load_checkpoint(tmp_path, device="cpu").model

    with pytest.raises(WeftError, match="text encoder of another family"):
        model.prepared(Cond(torch.zeros(1, 77, 4), torch.zeros(1, 32)), height=8, width=8, is_negative=False)


def test_the_towers_of_sdxl_are_those_of_transformers(tmp_path):
    """Both give the layer before the last, without the final norm; the pooled text is the larger one's, projected."""
    torch.manual_seed(0)
    small, large = _text(64, 3, hidden_act="quick_gelu"), _text(128, 4, projected=True, hidden_act="gelu")
    options, _ = SIZES["sdxl"]
    unet = _unet(192, addition_embed_type="text_time", addition_time_embed_dim=256, **options)
    for part, folder in ((unet, "unet"), (small.half().float(), "text_encoder"), (large.half().float(), "text_encoder_2")):
        part.save_pretrained(tmp_path / folder)
    encoder = load_checkpoint(tmp_path, device="cpu", dtype="float32").text_encoder

    entry = encoder.encode("a cat").entries[0]

    ids = torch.tensor([[49406, 320, 2368, *[49407] * 74]])
    zeros = torch.tensor([[49406, 320, 2368, 49407, *[0] * 73]])
    ours, theirs = small(ids, output_hidden_states=True), large(zeros, output_hidden_states=True)
    expected = torch.cat((ours.hidden_states[-2], theirs.hidden_states[-2]), dim=2)
    assert relative_error(entry.tokens, expected) < 1e-5
    assert relative_error(entry.pooled, theirs.text_embeds) < 1e-5


@pytest.mark.parametrize("layers", [23, 24])
def test_the_text_of_sd2_is_that_of_layer_23_with_the_final_norm(layers, tmp_path):
    """Published folders leave the 24th layer out, as nothing uses it."""
    torch.manual_seed(0)
    theirs = _text(64, layers, hidden_act="gelu").half().float()
    theirs.save_pretrained(tmp_path / "text_encoder")
    _unet(64).save_pretrained(tmp_path / "unet")
    loaded = load_checkpoint(tmp_path, device="cpu", dtype="float32")

    got = loaded.text_encoder.encode("a cat").entries[0].tokens
    skipped = loaded.text_encoder.with_clip_skip(-3).encode("a cat").entries[0].tokens

    states = theirs(torch.tensor([[49406, 320, 2368, 49407, *[0] * 73]]), output_hidden_states=True).hidden_states
    norm = getattr(theirs, "text_model", theirs).final_layer_norm
    assert loaded.model.family == "sd2"
    assert relative_error(got, norm(states[23])) < 1e-5
    assert relative_error(skipped, norm(states[22])) < 1e-5


@pytest.mark.parametrize(
    ("spread", "in_channels", "marks", "prediction"),
    [(0.2, 4, (), "v"), (0.01, 4, (), "eps"), (0.2, 9, (), "eps"), (0.01, 4, ("v_pred",), "v")],
)
def test_what_sd2_predicts_shows_in_its_last_layer_norm(spread, in_channels, marks, prediction):
    bias = torch.tensor([-spread, spread])
    unet = {
        "up_blocks.3.attentions.2.transformer_blocks.0.norm1.bias": bias,
        "conv_in.weight": torch.zeros(1, in_channels, 3, 3),
    }

    assert FAMILIES["sd2"].schedule(unet, dict.fromkeys(marks)).prediction == prediction


@pytest.mark.parametrize(
    ("marks", "prediction", "sigma_max"),
    [((), "eps", 14.61464), (("v_pred",), "v", 14.61464), (("v_pred", "ztsnr"), "v", 4518.76), (("ztsnr",), "eps", 14.61464)],
)
def test_marks_in_the_file_tell_what_sdxl_predicts(marks, prediction, sigma_max):
    schedule = FAMILIES["sdxl"].schedule({}, dict.fromkeys(marks))

    assert schedule.prediction == prediction
    assert schedule.sigma_max == pytest.approx(sigma_max, rel=1e-4)


def test_cosxl_is_trained_on_any_level():
    ends = {"edm_vpred.sigma_max": torch.tensor(120.0), "edm_vpred.sigma_min": torch.tensor(0.002)}

    schedule = FAMILIES["sdxl"].schedule({}, ends)

    assert schedule.prediction == "v"
    assert (schedule.sigma_min, schedule.sigma_max) == (pytest.approx(0.002), pytest.approx(120.0))


def test_latents_of_playground_are_refused():
    with pytest.raises(UnsupportedModel, match="Playground"):
        FAMILIES["sdxl"].schedule({}, {"edm_mean": torch.zeros(4), "edm_std": torch.ones(4)})


def test_a_model_that_edits_is_shown_the_picture_as_in_the_pipeline_of_diffusers(tmp_path):
    """The picture's latent in the VAE's scale is joined to the noisy one; both networks then say the same."""
    from engine.sampling.inpaint import edited
    from engine.types import LatentFormat

    torch.manual_seed(0)
    theirs = _unet(64, in_channels=8)
    theirs.save_pretrained(tmp_path / "unet")
    model = load_checkpoint(tmp_path, device="cpu", dtype="float32").model
    picture, x, sigma, tokens = (
        torch.randn(1, 4, 8, 8),
        torch.randn(2, 4, 8, 8),
        torch.tensor([2.0, 2.0]),
        torch.randn(2, 77, 64),
    )
    options = {"concat_latent": picture}

    shown = edited(options, x, model.latent_format, is_scaled=False)
    got = model.denoised(x, sigma, tokens, extra={"concat": shown})

    schedule = model.schedule
    joined = torch.cat((schedule.network_input(x, sigma), picture.expand(2, -1, -1, -1)), dim=1)
    output = theirs(joined, schedule.timestep(sigma), tokens).sample
    assert model.in_channels == 8
    assert relative_error(got, schedule.denoised(output, sigma, x)) < 1e-5
    assert torch.equal(edited({}, x, model.latent_format, is_scaled=False), torch.zeros_like(x))
    scaled = edited(options, x, LatentFormat(scale=0.5, shift=1.0), is_scaled=True)
    assert torch.allclose(scaled[:1], (picture - 1.0) * 0.5)
    with pytest.raises(ValueError, match="cannot edit"):
        edited({"concat_latent": picture[..., :4]}, x, model.latent_format, is_scaled=False)


def test_a_folder_says_what_its_network_predicts(tmp_path):
    _unet(64).save_pretrained(tmp_path / "unet")
    (tmp_path / "scheduler").mkdir()
    settings = {"prediction_type": "v_prediction", "rescale_betas_zero_snr": True}
    (tmp_path / "scheduler" / "scheduler_config.json").write_text(json.dumps(settings), "utf-8")

    schedule = load_checkpoint(tmp_path, device="cpu").model.schedule

    assert (schedule.prediction, round(schedule.sigma_max)) == ("v", 4519)


def _described(embeds):
    return ClipVisionOutput(embeds[:, None], embeds[:, None], embeds)


@pytest.mark.parametrize("augmentation", [0.0, 0.3, 1.0])
def test_a_description_is_noised_as_by_diffusers(augmentation):
    from diffusers import DDPMScheduler
    from diffusers.models.embeddings import get_timestep_embedding

    mean, deviation, embeds = torch.randn(32), torch.rand(32) + 0.5, torch.randn(1, 32)
    marks = {"noise_augmentor.data_mean": mean, "noise_augmentor.data_std": deviation}
    entry = Cond(torch.zeros(1, 77, 4)).with_options(pictures=((_described(embeds), 0.7, augmentation),))

    got = Described.of(marks, 64)(entry, height_px=64, width_px=64, is_negative=False, seed=52)

    noise, level = torch.randn(1, 32, generator=torch.Generator().manual_seed(42)), round(999 * augmentation)
    scheduler = DDPMScheduler(beta_schedule="squaredcos_cap_v2")
    rough = scheduler.add_noise((embeds - mean) / deviation, noise, torch.tensor([level])) * deviation + mean
    told = get_timestep_embedding(torch.tensor([level]), 32, flip_sin_to_cos=True, downscale_freq_shift=0)
    assert relative_error(got, torch.cat((rough, told), dim=1) * 0.7) < 1e-5


def test_several_descriptions_are_added_and_noised_once_more():
    embeds = torch.randn(2, 32)
    maker = Described.of({}, 64)
    size = {"height_px": 64, "width_px": 64, "is_negative": False, "seed": 10}
    plain = Cond(torch.zeros(1, 77, 4))
    both = plain.with_options(pictures=((_described(embeds), 1.0, 0.0),))
    sums = embeds[0] + embeds[1]

    kept = maker(plain.with_options(pictures=((_described(sums[None]), 1.0, 0.05),)), **size)

    # Level 0 adds almost no noise to each of the two.
    assert relative_error(maker(both, **size), kept) < 0.02
    assert torch.equal(maker(plain, **size), torch.zeros(1, 64))


def test_a_checkpoint_of_unclip_loads_with_its_vision_transformer(tmp_path):
    from safetensors.torch import save_file

    shapes = architectures.unet((32, 64), 1, (1,), 32, 4, linear=True, vector=64)
    shapes = {checkpoint.UNET_PREFIX + name: shape for name, shape in shapes.items()}
    shapes |= {f"{checkpoint.VAE_PREFIX}{name}": shape for name, shape in architectures.vae((32, 32), 1).items()}
    shapes |= {"noise_augmentor.data_mean": [1, 32], "noise_augmentor.data_std": [1, 32]}
    visual = {name: shape for name, shape in architectures.open_clip(64, 1).items() if name.startswith("transformer.")}
    for end in ("ln_pre", "ln_post"):
        visual |= {f"{end}.weight": [64], f"{end}.bias": [64]}
    visual |= {"conv1.weight": [64, 3, 14, 14], "class_embedding": [64], "positional_embedding": [5, 64], "proj": [64, 32]}
    shapes |= {f"embedder.model.visual.{name}": shape for name, shape in visual.items()}
    save_file({name: torch.randn(shape) * 0.05 for name, shape in shapes.items()}, tmp_path / "x.safetensors")

    loaded, vision = load_unclip(tmp_path / "x.safetensors", device="cpu", dtype="float32")

    description = vision.encode(Image(torch.rand(1, 40, 30, 3)))
    entry = Cond(torch.randn(1, 77, 32)).with_options(pictures=((description, 1.0, 0.1),))
    extra = loaded.model.prepared(entry, height=8, width=8, is_negative=False, seed=1).extra
    made = loaded.model.denoised(torch.randn(1, 4, 8, 8), torch.ones(1), entry.tokens, extra=extra)
    assert loaded.model.family == "sd2"
    assert description.embeds.shape == (1, 32)
    assert extra["vector"].shape == (1, 64)
    assert made.isfinite().all()
