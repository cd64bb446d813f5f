"""Nodes that join, cut, regroup, compose, save and load latents."""

from __future__ import annotations

import pytest
import torch
from safetensors import safe_open
from safetensors.torch import save_file

from engine import Engine, Graph, Link
from engine.errors import ModelFileError
from engine.models.latents import latent_bytes, read_latent
from engine.types import Latent
from nodes import compositing, latent_batch, latent_math


def latent(*shape, seed=1, **more):
    return Latent(torch.randn(shape, generator=torch.Generator().manual_seed(seed)), **more)


@pytest.mark.parametrize(("dim", "axis"), [("x", 3), ("y", 2), ("t", 1), ("-x", 3), ("-y", 2), ("-t", 1)])
def test_latents_are_put_beside_each_other(dim, axis):
    one, two = latent(2, 4, 8, 6), latent(1, 4, 8, 6, seed=2)
    parts = [one.samples, two.samples.repeat(2, 1, 1, 1)]

    result = latent_math.concat(samples1=one, samples2=two, dim=dim)

    assert torch.equal(result.samples, torch.cat(parts[::-1] if dim[0] == "-" else parts, axis))


def test_latents_whose_other_sides_differ_are_an_error():
    with pytest.raises(ValueError, match=r"\[1, 4, 8, 6\] and \[1, 4, 6, 6\] together along x"):
        latent_math.concat(samples1=latent(1, 4, 8, 6), samples2=latent(1, 4, 6, 6), dim="x")


@pytest.mark.parametrize(
    ("index", "amount", "kept"),
    [(2, 3, (2, 5)), (0, 100, (0, 6)), (5, 3, (5, 6)), (99, 1, (5, 6)), (-2, 1, (4, 5)), (-2, 9, (4, 6)), (-99, 2, (0, 2))],
)
def test_a_piece_is_cut_out(index, amount, kept):
    whole = latent(1, 4, 8, 6)

    result = latent_math.cut(samples=whole, dim="x", index=index, amount=amount)

    assert torch.equal(result.samples, whole.samples[..., slice(*kept)])


def test_the_frames_of_a_video_are_an_axis_too():
    whole = latent(1, 16, 5, 8, 6)

    assert torch.equal(latent_math.cut(samples=whole, dim="t", index=1, amount=2).samples, whole.samples[:, :, 1:3])


def test_latents_are_regrouped_and_keep_the_noise_of_their_place():
    one, two, three = latent(2, 4, 8, 6), latent(3, 4, 8, 6, seed=2, batch_index=(7, 8, 9)), latent(2, 4, 4, 4)

    batches = latent_batch.rebatch(latents=[one, two, three], batch_size=4)

    assert [tuple(batch.samples.shape) for batch in batches] == [(4, 4, 8, 6), (1, 4, 8, 6), (2, 4, 4, 4)]
    assert torch.equal(torch.cat([batch.samples for batch in batches[:2]]), torch.cat((one.samples, two.samples)))
    assert [batch.batch_index for batch in batches] == [(0, 1, 7, 8), (9,), (5, 6)]
    assert all(batch.noise_mask is None for batch in batches)


def test_masks_are_regrouped_with_their_latents():
    half = torch.zeros(1, 1, 8, 6)
    half[..., 3:] = 1
    one, two = latent(2, 4, 8, 6, noise_mask=half), latent(2, 4, 8, 6)

    batches = latent_batch.rebatch(latents=[one, two], batch_size=3)

    mask = batches[0].noise_mask
    assert mask.shape == (3, 1, 64, 48)
    assert torch.equal(mask[1], torch.nn.functional.interpolate(half, (64, 48), mode="bilinear")[0])
    assert bool((mask[2] == 1).all())
    assert batches[1].noise_mask is None  # it would cover everything


def test_a_latent_is_laid_over_another():
    below, above = latent(2, 4, 8, 8), latent(1, 4, 4, 4, seed=2)
    share = torch.rand(1, 4, 4)

    result = compositing.composite_latent(destination=below, source=above, x=20, y=32, mask=share)

    expected = below.samples.clone()
    expected[..., 4:8, 2:6] = expected[..., 4:8, 2:6] * (1 - share) + above.samples * share
    torch.testing.assert_close(result.samples, expected)
    resized = compositing.composite_latent(destination=below, source=above, resize_source=True)
    assert torch.equal(
        resized.samples, torch.nn.functional.interpolate(above.samples, (8, 8), mode="bilinear").expand(2, -1, -1, -1)
    )


def test_a_video_is_laid_over_another():
    below, above = latent(1, 4, 3, 8, 8), latent(1, 4, 3, 4, 4, seed=2)

    result = compositing.composite_latent(destination=below, source=above, mask=torch.full((1, 2, 2), 0.25))

    torch.testing.assert_close(result.samples[..., :4, :4], 0.75 * below.samples[..., :4, :4] + 0.25 * above.samples)
    resized = compositing.composite_latent(destination=below, source=above, resize_source=True).samples
    for frame in range(3):
        expected = torch.nn.functional.interpolate(above.samples[:, :, frame], (8, 8), mode="bilinear")
        assert torch.equal(resized[:, :, frame], expected)


def test_latents_of_different_models_are_not_composed():
    with pytest.raises(ValueError, match="they are of different models"):
        compositing.composite_latent(destination=latent(1, 4, 8, 8), source=latent(1, 16, 8, 8))


def test_a_saved_latent_is_loaded_as_it_was(tmp_path):
    graph = Graph().add("make", "EmptyLatentImage", width=64, height=32).add("save", "SaveLatent", samples=Link("make"))
    with Engine(input_dir=tmp_path / "in", output_dir=tmp_path / "out") as engine:
        (file,) = engine.run(graph).files
        assert file == tmp_path / "out" / "latents" / "ComfyUI_00001_.latent"
        with safe_open(file, "pt") as content:
            assert sorted(content.keys()) == ["latent_format_version_0", "latent_tensor"]
            assert '"SaveLatent"' in content.metadata()["prompt"]

        loaded = engine.run(Graph().add("load", "LoadLatent", latent="latents/ComfyUI_00001_.latent [output]"), ["load"])

        assert torch.equal(loaded.value("load").samples, torch.zeros(1, 4, 4, 8))


def test_the_content_of_a_latent_file(tmp_path):
    samples = torch.randn(2, 16, 3, 4, 5)
    path = tmp_path / "a.latent"

    path.write_bytes(latent_bytes(samples.half(), {"prompt": {"text": "Zoë", "odd": float("nan")}}))

    assert torch.equal(read_latent(path), samples.half().float())
    with safe_open(path, "pt") as content:
        assert content.metadata() == {"prompt": '{"text": "Zo\\u00eb", "odd": null}'}


def test_an_old_file_is_in_the_scale_of_the_model(tmp_path):
    save_file({"latent_tensor": torch.full((1, 4, 2, 2), 0.18215)}, tmp_path / "old.latent")

    torch.testing.assert_close(read_latent(tmp_path / "old.latent"), torch.ones(1, 4, 2, 2))


@pytest.mark.parametrize(
    ("tensors", "what"), [({"other": torch.zeros(1)}, "no tensor of this name"), ({"latent_tensor": torch.zeros(3)}, r"\[3\]")]
)
def test_another_file_is_no_latent(tensors, what, tmp_path):
    save_file(tensors, tmp_path / "a.latent")

    with pytest.raises(ModelFileError, match=what):
        read_latent(tmp_path / "a.latent")
    (tmp_path / "b.latent").write_bytes(b"no such thing")
    with pytest.raises(ModelFileError, match="cannot read it as safetensors"):
        read_latent(tmp_path / "b.latent")


def test_only_latents_are_offered(tmp_path):
    for name in ("a.png", "b.latent", "c.safetensors"):
        (tmp_path / name).touch()
    with Engine(input_dir=tmp_path) as engine:
        assert engine.catalog["LoadLatent"].inputs["latent"].options(engine.folders) == ("b.latent",)
        graph = Graph().add("load", "LoadLatent", latent="c.latent").add("save", "SaveLatent", samples=Link("load"))
        (problem,) = engine.validate(graph)
    assert problem.code == "missing-file"
    assert "b.latent" in problem.message + (problem.hint or "")


@pytest.mark.parametrize(("dim", "axis", "size"), [("t", 2, 2), ("y", 3, 3), ("x", 4, 99)])
def test_slices_become_a_batch(dim, axis, size):
    whole = torch.randn(2, 3, 5, 7, 4)
    cut = latent_batch.cut_to_batch(samples=Latent(whole), dim=dim, slice_size=size).samples
    pieces = [part for one in whole.split(1) for part in one.split(min(size, one.shape[axis]), axis)]
    whole_ones = [part for part in pieces if part.shape[axis] == min(size, whole.shape[axis])]
    assert torch.equal(cut, torch.cat(whole_ones))


def test_latents_without_frames_stay_whole():
    latent = Latent(torch.randn(2, 4, 6, 8))
    assert latent_batch.cut_to_batch(samples=latent, dim="t", slice_size=1) is latent
    assert latent_batch.cut_to_batch(samples=latent, dim="x", slice_size=4).samples.shape == (4, 4, 6, 4)
