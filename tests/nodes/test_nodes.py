"""What single nodes do, called as the plain functions that they are."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import PIL.Image
import pytest
import torch

from engine.folders import Folders
from engine.types import Cond, Conditioning, Latent, LatentFormat, Shown
from nodes import conditioning as c
from nodes import custom_sampling as cs
from nodes import image as im
from nodes import image_files, inpaint, loaders, mask, preview, primitive, sampling, text
from nodes import image_transform as it
from nodes import latent as la
from nodes import latent_batch as lb
from nodes import latent_math as lm
from nodes import sigmas as sg
from tests.sampling.denoisers import GaussianModel


@dataclass
class FakeRun:
    """A run that remembers what it is told."""

    folders: Folders
    documents: dict[str, Any] = field(default_factory=lambda: {"prompt": {"1": {}}, "workflow": {"nodes": []}})
    device: str = "cpu"
    dtype: str = "float32"
    node: str = "1"
    told: list[tuple[float, float]] = field(default_factory=list)

    def progress(self, done: float, total: float, preview: Any = None) -> None:
        self.told.append((done, total))

    def check(self) -> None:
        pass


@pytest.fixture
def run(tmp_path: Path) -> FakeRun:
    for name in ("input", "output", "temp"):
        (tmp_path / name).mkdir()
    return FakeRun(Folders(input=tmp_path / "input", output=tmp_path / "output", temp=tmp_path / "temp"))


class HalfVae:
    """A VAE of factor 8 that averages and repeats."""

    latent_channels, factor = 3, 8

    def encode(self, image):
        return torch.nn.functional.avg_pool2d(image.movedim(-1, 1), 8)

    def decode(self, samples):
        return samples.repeat_interleave(8, -1).repeat_interleave(8, -2).movedim(1, -1)


def latent(*shape: int, **more: Any) -> Latent:
    return Latent(torch.randn(shape, generator=torch.Generator().manual_seed(1)), **more)


def cond(value: float, tokens: int = 2, *, pooled: float | None = None) -> Conditioning:
    return Conditioning((Cond(torch.full((1, tokens, 3), value), None if pooled is None else torch.full((1, 4), pooled)),))


def test_sampling_tells_how_far_it_is(run):
    settings = {"cfg": 1.0, "sampler_name": "euler", "positive": cond(0.0), "negative": cond(0.0), "run": run}
    start = latent(2, 4, 8, 8, noise_mask=torch.ones(1, 1, 8, 8))

    result = sampling.ksampler(
        model=GaussianModel(), seed=1, steps=4, scheduler="karras", latent_image=start, denoise=1.0, **settings
    )

    assert result.samples.shape == (2, 4, 8, 8)
    assert result.noise_mask is start.noise_mask
    assert run.told == [(1, 4), (2, 4), (3, 4), (4, 4)]


def test_two_samplers_share_the_way(run):
    settings = {
        "model": GaussianModel(),
        "steps": 6,
        "cfg": 1.0,
        "sampler_name": "euler",
        "scheduler": "karras",
        "positive": cond(0.0),
        "negative": cond(0.0),
        "run": run,
        "noise_seed": 3,
    }
    start = latent(1, 4, 8, 8)

    whole = sampling.ksampler_advanced(
        add_noise="enable", latent_image=start, start_at_step=0, end_at_step=6, return_with_leftover_noise="disable", **settings
    )
    first = sampling.ksampler_advanced(
        add_noise="enable", latent_image=start, start_at_step=0, end_at_step=3, return_with_leftover_noise="enable", **settings
    )
    second = sampling.ksampler_advanced(
        add_noise="disable",
        latent_image=first,
        start_at_step=3,
        end_at_step=9,
        return_with_leftover_noise="disable",
        **settings,
    )

    torch.testing.assert_close(second.samples, whole.samples)


def test_no_steps_give_the_latent_back(run):
    start = latent(1, 4, 8, 8)

    result = sampling.ksampler(
        model=GaussianModel(),
        sampler_name="euler",
        scheduler="karras",
        positive=cond(0.0),
        negative=cond(0.0),
        latent_image=start,
        denoise=0.0,
        run=run,
    )

    assert result is start


def test_sampling_part_of_a_batch_gives_that_part(run):
    def sampled(start):
        return sampling.ksampler(
            model=GaussianModel(latent_format=LatentFormat(scale=1.0)),
            seed=5,
            steps=4,
            cfg=1.0,
            sampler_name="euler",
            scheduler="karras",
            positive=cond(0.0),
            negative=cond(0.0),
            latent_image=start,
            run=run,
        )

    batch = la.empty(width=64, height=64, batch_size=3)
    part = lb.from_batch(samples=batch, batch_index=1, length=5)

    assert part.batch_index == (1, 2)
    torch.testing.assert_close(sampled(part).samples, sampled(batch).samples[1:])


def test_repeated_latents_take_places_of_their_own():
    batch = latent(2, 4, 8, 8, batch_index=(1, 2), noise_mask=torch.ones(2, 1, 8, 8))

    result = lb.repeat(samples=batch, amount=3)

    assert result.samples.shape[0] == 6
    assert result.batch_index == (1, 2, 3, 4, 5, 6)
    assert result.noise_mask.shape[0] == 6


def test_a_place_beyond_the_batch_is_the_last():
    assert lb.from_batch(samples=latent(3, 4, 8, 8), batch_index=9, length=4).batch_index == (2,)


@pytest.mark.parametrize(
    ("before", "width", "height", "after"),
    [
        ((24, 16), 0, 0, (24, 16)),
        ((8, 12), 128, 64, (8, 16)),
        ((8, 12), 16, 16, (8, 8)),  # at least 64 pixels
        ((8, 12), 0, 256, (32, 48)),
        ((36, 12), 256, 0, (96, 32)),
    ],
)
def test_the_size_of_a_resized_latent(before, width, height, after):
    start = latent(1, 4, *before)

    result = la.upscale(samples=start, upscale_method="bilinear", width=width, height=height, crop="disabled")

    assert result.samples.shape[2:] == after


def test_cropping_leaves_at_least_64_pixels():
    assert la.crop_latent(samples=latent(1, 4, 32, 32), width=64, height=128, x=10000, y=0).samples.shape[2:] == (16, 8)


def test_laying_a_latent_over_another_leaves_both_alone():
    below, above = latent(1, 4, 16, 16), latent(1, 4, 8, 8)
    before = below.samples.clone()

    result = la.composite(samples_to=below, samples_from=above, x=64, y=96, feather=0)

    assert torch.equal(below.samples, before)
    assert torch.equal(result.samples[..., 12:, 8:16], above.samples[..., :4, :])
    assert torch.equal(result.samples[..., :12, :], before[..., :12, :])


def test_encodings_are_mixed_and_filled_up_with_zeros():
    result = c.average(
        conditioning_to=cond(4.0, 3, pooled=2.0), conditioning_from=cond(8.0, 1, pooled=6.0), conditioning_to_strength=0.25
    )

    (entry,) = result.entries
    assert entry.tokens[0, :, 0].tolist() == [7.0, 1.0, 1.0]
    assert entry.pooled[0, 0] == 5.0


def test_encodings_are_appended():
    (entry,) = c.concat(conditioning_to=cond(1.0, 2), conditioning_from=cond(2.0, 3)).entries

    assert entry.tokens[0, :, 0].tolist() == [1.0, 1.0, 2.0, 2.0, 2.0]


def test_encodings_are_listed():
    assert len(c.combine(conditioning_1=cond(1.0), conditioning_2=cond(2.0)).entries) == 2


def test_limits_are_options_of_each_entry():
    area = c.set_area(conditioning=cond(1.0), width=128, height=64, x=8, y=16, strength=2.0)
    percent = c.set_area_percentage(conditioning=area, width=0.5, height=0.25, x=0.1, y=0.2)
    masked = c.set_mask(conditioning=percent, mask=torch.ones(8, 8), strength=0.5, set_cond_area="mask bounds")
    ranged = c.set_timestep_range(conditioning=masked, start=0.2, end=0.6)

    assert area.entries[0].options["area"] == (8, 16, 2, 1)
    assert percent.entries[0].options["area"] == ("percentage", 0.25, 0.5, 0.2, 0.1)
    options = ranged.entries[0].options
    assert options["mask"].shape == (1, 8, 8)
    assert (options["mask_strength"], options["set_area_to_bounds"]) == (0.5, True)
    assert (options["start_percent"], options["end_percent"]) == (0.2, 0.6)
    assert "mask" not in percent.entries[0].options


def test_zeros_replace_an_encoding():
    (entry,) = c.zero_out(conditioning=cond(3.0, pooled=2.0)).entries

    assert not entry.tokens.any()
    assert not entry.pooled.any()


def test_a_prompt_depends_on_the_embeddings_that_it_names(tmp_path):
    (tmp_path / "embeddings").mkdir()
    (tmp_path / "embeddings" / "style.pt").touch()
    folders = Folders(models=(tmp_path,))

    assert c.embedding_files("a (embedding:style:1.2), embedding:other", folders) == [tmp_path / "embeddings" / "style.pt"]
    assert c.embedding_files("a style", folders) == []


def test_a_lora_of_no_strength_changes_nothing():
    model, clip = object(), object()

    assert loaders.load_lora(model=model, clip=clip, lora_name=Path("x"), strength_model=0, strength_clip=0) == (model, clip)
    assert loaders.load_lora_model_only(model=model, lora_name=Path("x"), strength_model=0) is model


def test_the_hole_for_inpainting_is_grey_and_grown():
    hole = torch.zeros(1, 32, 32)
    hole[:, 12:20, 12:20] = 1.0

    result = inpaint.encode_for_inpaint(pixels=torch.ones(1, 36, 34, 3), vae=HalfVae(), mask=hole, grow_mask_by=6)

    assert result.samples.shape == (1, 3, 4, 4)
    assert result.samples.min() < 1.0
    assert result.noise_mask.shape == (1, 1, 32, 32)
    assert float(result.noise_mask.sum()) > float(hole.sum())
    assert set(result.noise_mask.unique().tolist()) == {0.0, 1.0}


def test_inpainting_shows_the_picture_to_the_model():
    result = inpaint.inpaint_conditioning(
        positive=cond(1.0),
        negative=cond(2.0),
        vae=HalfVae(),
        pixels=torch.ones(1, 16, 16, 3),
        mask=torch.ones(1, 16, 16),
        noise_mask=False,
    )

    assert result.positive.entries[0].options["concat_mask"].shape == (1, 16, 16)
    assert torch.all(result.negative.entries[0].options["concat_latent"] == 0.5)
    assert torch.all(result.latent.samples == 1.0)
    assert result.latent.noise_mask is None


def test_pictures_to_latents_and_back():
    pixels = torch.rand(1, 16, 16, 1).expand(-1, -1, -1, 4)

    encoded = la.encode(pixels=pixels, vae=HalfVae())

    assert encoded.samples.shape == (1, 3, 2, 2)
    assert la.decode(samples=encoded, vae=HalfVae()).shape == (1, 16, 16, 3)


@pytest.mark.parametrize(("width", "height", "size"), [(0, 0, (20, 10)), (40, 0, (80, 40)), (0, 5, (5, 2)), (7, 9, (9, 7))])
def test_the_size_of_a_resized_picture(width, height, size):
    result = im.scale(image=torch.rand(1, 20, 10, 3), upscale_method="area", width=width, height=height, crop="disabled")

    assert result.shape[1:3] == size


def test_pictures_are_batched_in_the_size_of_the_first():
    result = im.batch(image1=torch.rand(2, 8, 6, 3), image2=torch.rand(1, 20, 10, 3))

    assert result.shape == (3, 8, 6, 3)
    with pytest.raises(ValueError, match="3 and of 4 channels"):
        im.batch(image1=torch.rand(1, 8, 6, 3), image2=torch.rand(1, 8, 6, 4))


def test_a_picture_of_one_colour():
    assert im.empty_image(width=2, height=1, batch_size=3, color=0xFF3300)[2, 0, 1].tolist() == pytest.approx([1.0, 0.2, 0.0])


def test_a_border_is_grey_and_its_mask_fades_inside():
    padded = im.pad_for_outpaint(image=torch.zeros(1, 32, 32, 3), left=8, top=0, right=0, bottom=0, feathering=4)

    assert padded.IMAGE.shape == (1, 32, 40, 3)
    assert torch.all(padded.IMAGE[:, :, :8] == 0.5)
    row = padded.MASK.reshape(32, 40)[16]
    assert row[6:14].tolist() == pytest.approx([1, 1, 1, 9 / 16, 4 / 16, 1 / 16, 0, 0])
    assert not row[14:].any()


def test_pictures_are_saved_with_their_workflow(run):
    _, shown = image_files.save(images=torch.rand(2, 8, 8, 3), filename_prefix="a/b", run=run)

    assert [file.json() for file in shown.files] == [
        {"filename": f"b_0000{i}_.png", "subfolder": "a", "type": "output"} for i in (1, 2)
    ]
    with PIL.Image.open(shown.files[0].path) as file:
        assert list(file.text) == ["prompt", "workflow"]


def test_previews_are_temporary(run):
    images = torch.rand(1, 8, 8, 3)
    given, shown = preview.preview_image(images=images, run=run)

    assert given is images
    (file,) = shown.json()["images"]
    assert file["type"] == "temp"
    assert file["filename"].startswith("ComfyUI_temp_")
    assert shown.files[0].path.parent == run.folders.temp


def test_a_picture_is_loaded(run):
    PIL.Image.new("RGBA", (4, 2), (255, 0, 0, 0)).save(run.folders.input / "a.png")

    loaded = image_files.load(image=run.folders.find("input", "a.png"))

    assert loaded.IMAGE.shape == (1, 2, 4, 3)
    assert torch.all(loaded.MASK == 1)
    assert torch.all(image_files.load_as_mask(image=run.folders.input / "a.png", channel="red") == 1)


def test_masks():
    solid = mask.solid(value=0.25, width=3, height=2)

    assert solid.shape == (1, 2, 3)
    assert mask.invert(mask=solid)[0, 0, 0] == 0.75
    assert mask.to_image(mask=solid).shape == (1, 2, 3, 3)
    assert torch.equal(mask.of_image(image=mask.to_image(mask=solid), channel="blue"), solid)
    with pytest.raises(ValueError, match="alpha channel of pictures that have 3"):
        mask.of_image(image=mask.to_image(mask=solid), channel="alpha")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("a", "a"),
        (3, "3"),
        (2.5, "2.5"),
        (True, "True"),
        ([1, "b"], '[1, "b"]'),
        (None, "null"),
        (SimpleNamespace(a=1), "namespace(a=1)"),
    ],
)
def test_any_value_as_text(value, shown):
    assert preview.preview_any(source=value) == (shown, Shown({"text": (shown,)}))


def test_primitives_hold_their_value():
    assert primitive.string(value="a") == "a"
    assert primitive.multiline_string(value="a\nb") == "a\nb"
    assert primitive.integer(value=2**60) == 2**60
    assert primitive.number(value=0.5) == 0.5
    assert primitive.boolean(value=True) is True


def test_text():
    assert text.concatenate(string_a="a", string_b="b", delimiter=", ") == "a, b"
    assert text.substring(string="abcde", start=1, end=-1) == "bcd"
    assert text.length_of(string="äöü").length == 3
    assert [text.change_case(string="a bC", mode=mode) for mode in ("UPPERCASE", "lowercase", "Capitalize", "Title Case")] == [
        "A BC",
        "a bc",
        "A bc",
        "A Bc",
    ]
    assert [text.trim(string=" a ", mode=mode) for mode in ("Both", "Left", "Right")] == ["a", "a ", " a"]
    assert text.replace_text(string="aXbX", find="X", replace="-") == "a-b-"
    assert text.contains(string="Abc", substring="aB", case_sensitive=False).contains
    assert not text.contains(string="Abc", substring="aB", case_sensitive=True).contains
    assert text.compare(string_a="Abc", string_b="ab", mode="Starts With", case_sensitive=False)
    assert text.compare(string_a="abc", string_b="bc", mode="Ends With")
    assert not text.compare(string_a="abc", string_b="ABC", mode="Equal")


@pytest.mark.parametrize(
    ("mode", "group", "found"),
    [
        ("First Match", 1, "a1"),
        ("All Matches", 1, "a\nb"),
        ("First Group", 2, "1"),
        ("All Groups", 2, "1\n2"),
        ("All Groups", 3, ""),
    ],
)
def test_what_a_pattern_matches(mode, group, found):
    assert text.regex_extract(string="a1 B2", regex_pattern="([ab])([0-9])", mode=mode, group_index=group).lower() == found


def test_patterns():
    assert text.regex_match(string="Abc", regex_pattern="^ab").matches
    assert not text.regex_match(string="Abc", regex_pattern="^ab", case_insensitive=False).matches
    assert text.regex_replace(string="a1b2", regex_pattern="([0-9])", replace=r"<\1>", count=1) == "a<1>b2"
    assert text.regex_extract(string="xyz", regex_pattern="a", mode="First Match") == ""
    with pytest.raises(ValueError, match=r"cannot use '\(' as a pattern"):
        text.regex_match(string="a", regex_pattern="(")


def test_sampling_taken_apart_gives_the_same(run):
    settings = {"model": GaussianModel(), "positive": cond(1.0), "negative": cond(2.0), "cfg": 3.0}
    start, sampler = latent(1, 4, 8, 8), cs.select(sampler_name="dpmpp_2m")
    levels = sg.basic(model=GaussianModel(), scheduler="karras", steps=5)

    whole = sampling.ksampler(
        seed=7, steps=5, sampler_name="dpmpp_2m", scheduler="karras", latent_image=start, run=run, **settings
    )
    custom = cs.sample_custom(noise_seed=7, sampler=sampler, sigmas=levels, latent_image=start, run=run, **settings)
    advanced = cs.sample_advanced(
        noise=cs.random_noise(noise_seed=7),
        guider=cs.cfg_guider(**settings),
        sampler=sampler,
        sigmas=levels,
        latent_image=start,
        run=run,
    )

    assert torch.equal(custom.output.samples, whole.samples)
    assert torch.equal(advanced.output.samples, whole.samples)
    torch.testing.assert_close(advanced.denoised_output.samples, whole.samples)


def test_without_levels_both_outputs_are_the_latent(run):
    start = latent(1, 4, 8, 8)
    guider = cs.basic_guider(model=GaussianModel(), conditioning=cond(1.0))

    result = cs.sample_advanced(
        noise=cs.disable_noise(),
        guider=guider,
        sampler=cs.select(sampler_name="euler"),
        sigmas=torch.empty(0),
        latent_image=start,
        run=run,
    )

    assert result == (start, start)


def test_schedules_are_divided_and_turned():
    levels = torch.tensor([4.0, 3.0, 2.0, 1.0, 0.0])

    assert [part.tolist() for part in sg.split(sigmas=levels, step=1)] == [[4.0, 3.0], [3.0, 2.0, 1.0, 0.0]]
    assert [part.tolist() for part in sg.split_denoise(sigmas=levels, denoise=0.5)] == [[4.0, 3.0, 2.0], [2.0, 1.0, 0.0]]
    assert sg.flip(sigmas=levels)[:2].tolist() == pytest.approx([0.0001, 1.0])
    assert sg.set_first(sigmas=levels, sigma=9.0).tolist() == [9.0, 3.0, 2.0, 1.0, 0.0]
    assert levels.tolist() == [4.0, 3.0, 2.0, 1.0, 0.0]


def test_latents_are_computed_with():
    one, two = Latent(torch.full((2, 4, 2, 2), 3.0)), Latent(torch.full((1, 4, 4, 4), 1.0))

    assert torch.all(lm.add(samples1=one, samples2=two).samples == 4.0)
    assert torch.all(lm.subtract(samples1=one, samples2=two).samples == 2.0)
    assert torch.all(lm.multiply(samples=one, multiplier=-2.0).samples == -6.0)
    torch.testing.assert_close(lm.interpolate(samples1=one, samples2=two, ratio=0.5).samples, torch.full((2, 4, 2, 2), 2.0))
    batch = lm.batch(samples1=one, samples2=two)
    assert batch.samples.shape == (3, 4, 2, 2)
    assert batch.batch_index == (0, 1, 0)
    assert lm.seed_behavior(samples=batch, seed_behavior="fixed").batch_index == (0, 0, 0)
    assert lm.seed_behavior(samples=batch, seed_behavior="random").batch_index is None


def test_pictures_are_turned_cut_and_measured():
    image = torch.arange(24.0).reshape(1, 2, 4, 3)

    assert torch.equal(it.rotate(image=it.rotate(image=image, rotation="90 degrees"), rotation="270 degrees"), image)
    assert torch.equal(it.rotate(image=image, rotation="180 degrees"), image.flip(1, 2))
    assert torch.equal(it.flip(image=image, flip_method="x-axis: vertically"), image.flip(1))
    assert it.crop(image=image, width=2, height=9, x=99, y=1).shape == (1, 1, 1, 3)
    assert it.size_of(image=it.repeat(image=image, amount=3)) == (4, 2, 3)
    assert it.from_batch(image=it.repeat(image=image, amount=3), batch_index=9, length=9).shape[0] == 1
    assert it.scale_to_total(image=image, upscale_method="area", megapixels=0.01).shape[1:3] == (72, 145)


@pytest.mark.parametrize(
    ("mode", "value"),
    [
        ("normal", 0.8),
        ("multiply", 0.32),
        ("screen", 0.88),
        ("overlay", 0.64),
        ("soft_light", 0.4 + 0.6 * (0.4**0.5 - 0.4)),
        ("difference", 0.0),
    ],
)
def test_pictures_are_blended(mode, value):
    below, above = torch.full((1, 2, 2, 3), 0.4), torch.full((1, 4, 4, 3), 0.8)

    result = it.blend(image1=below, image2=above, blend_factor=1.0, blend_mode=mode)

    torch.testing.assert_close(result, torch.full((1, 2, 2, 3), value))


@pytest.mark.parametrize(
    ("operation", "value"), [("multiply", 0.4), ("add", 1.0), ("subtract", 0.1), ("and", 1.0), ("or", 1.0), ("xor", 0.0)]
)
def test_masks_meet(operation, value):
    below, above = mask.solid(value=0.6, width=4, height=4), mask.solid(value=0.5 + 1 / 6, width=9, height=9)

    result = mask.composite(destination=below, source=above, x=2, y=1, operation=operation)

    torch.testing.assert_close(result[0, 1:, 2:], torch.full((3, 2), max(value, 0.0)), atol=0.17, rtol=0)
    assert torch.all(result[0, 0] == 0.6)
    assert torch.all(below == 0.6)


def test_masks_grow_and_fade():
    dot = torch.zeros(1, 7, 7)
    dot[0, 3, 3] = 1.0

    assert float(mask.grow(mask=dot, expand=1, tapered_corners=True).sum()) == 5
    square = mask.grow(mask=dot, expand=2, tapered_corners=False)
    assert float(square.sum()) == 25
    assert torch.equal(mask.grow(mask=square, expand=-2, tapered_corners=False), dot)
    assert mask.threshold(mask=mask.solid(value=0.5, width=1, height=1), value=0.5).item() == 0.0
    assert mask.crop(mask=square, x=1, y=2, width=99, height=3).shape == (1, 3, 6)
    assert mask.feather(mask=torch.ones(1, 4, 4), left=2)[0, 0].tolist() == [0.5, 1.0, 1.0, 1.0]
