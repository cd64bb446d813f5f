"""Nodes that filter, stitch, pad, batch and compose pictures, called as the plain functions that they are."""

from __future__ import annotations

import pytest
import torch

from nodes import compositing, image_filters, image_transform, mask

PICTURE = torch.rand(2, 12, 16, 3, generator=torch.Generator().manual_seed(0))


def plain(height, width, value=0.5, *, channels=3, count=1):
    return torch.full((count, height, width, channels), value)


def test_sharpening_stays_within_the_range():
    result = image_filters.sharpen(image=PICTURE, sharpen_radius=2, sigma=1.0, alpha=5.0)

    assert result.aminmax() == (0, 1)
    calm = 0.5 + 0.01 * PICTURE
    torch.testing.assert_close(
        image_filters.sharpen(image=calm, sharpen_radius=2, sigma=1.0, alpha=0.1),
        2 * calm - image_filters.blur(image=calm, blur_radius=2, sigma=1.0),
    )


def test_parts_of_pictures_make_them_again():
    parts = image_filters.to_yuv(image=PICTURE)

    assert [part.shape for part in parts] == [PICTURE.shape] * 3
    whole = image_filters.of_yuv(Y=parts.Y, U=parts.U, V=parts.V)
    torch.testing.assert_close(whole, PICTURE, atol=1e-6, rtol=0)


def test_parts_of_different_sizes_are_an_error():
    with pytest.raises(ValueError, match=r"parts of different sizes \(1 of 4 x 4, 1 of 4 x 4, 1 of 4 x 5 pixels\)"):
        image_filters.of_yuv(Y=plain(4, 4), U=plain(4, 4), V=plain(5, 4))


def test_noise_is_that_of_its_seed():
    grey = plain(64, 64, count=2)

    noisy = image_filters.add_noise(image=grey, seed=7, strength=0.05)

    assert torch.equal(noisy, image_filters.add_noise(image=grey, seed=7, strength=0.05))
    assert float((noisy - grey).std()) == pytest.approx(0.05, rel=0.03)
    expected = grey + 0.05 * torch.randn(2, 64, 64, 3, generator=torch.Generator().manual_seed(7))
    assert torch.equal(noisy, expected.clamp(0, 1))
    assert torch.equal(image_filters.add_noise(image=grey, seed=2**64 - 1, strength=0.0), grey)


@pytest.mark.parametrize(
    ("size", "largest", "after"),
    [((75, 100), 48, (36, 48)), ((100, 75), 48, (48, 36)), ((10, 10), 33, (33, 33)), ((1, 500), 100, (1, 100))],
)
def test_the_longer_side_gets_a_length(size, largest, after):
    result = image_transform.scale_to_largest(image=plain(*size), upscale_method="area", largest_size=largest)

    assert tuple(result.shape[1:3]) == after


def test_a_largest_size_of_nothing_is_an_error():
    with pytest.raises(ValueError, match="largest size of 0 pixels"):
        image_transform.scale_to_largest(image=plain(4, 4), upscale_method="area", largest_size=0)


@pytest.mark.parametrize(("colour", "shade"), [("white", 1.0), ("black", 0.0)])
def test_a_padded_picture_lies_in_the_middle(colour, shade):
    result = image_transform.resize_and_pad(
        image=plain(10, 20), target_width=41, target_height=33, padding_color=colour, interpolation="bilinear"
    )

    expected = plain(33, 41, shade)
    expected[:, 6:26] = 0.5  # 20 of 33 rows
    torch.testing.assert_close(result, expected)


def stitched(direction, one, two, **settings):
    given = {"match_image_size": False, "spacing_width": 0, "spacing_color": "white"} | settings
    return image_transform.stitch(image1=one, image2=two, direction=direction, **given)


@pytest.mark.parametrize(
    ("direction", "first", "last"), [("right", 0.2, 0.8), ("left", 0.8, 0.2), ("down", 0.2, 0.8), ("up", 0.8, 0.2)]
)
def test_pictures_stand_where_the_direction_says(direction, first, last):
    result = stitched(direction, plain(4, 4, 0.2), plain(4, 4, 0.8))

    assert tuple(result.shape[1:3]) == ((4, 8) if direction in {"left", "right"} else (8, 4))
    assert (float(result[0, 0, 0, 0]), float(result[0, -1, -1, 0])) == pytest.approx((first, last))


def test_one_picture_passes_alone():
    assert image_transform.stitch(image1=PICTURE) is PICTURE


def test_a_matched_picture_keeps_its_aspect_ratio():
    assert stitched("right", plain(20, 10), plain(10, 30), match_image_size=True).shape == (1, 20, 70, 3)
    assert stitched("down", plain(20, 10), plain(10, 30), match_image_size=True).shape == (1, 23, 10, 3)


def test_an_unmatched_picture_gets_a_border():
    result = stitched("right", plain(9, 4), plain(4, 4))

    assert result.shape == (1, 9, 8, 3)
    assert result[0, :, 6, 0].tolist() == [1, 1, 0.5, 0.5, 0.5, 0.5, 1, 1, 1]
    assert stitched("right", plain(9, 4), plain(4, 4), spacing_color="red")[0, 0, 6].tolist() == [0, 0, 0]


def test_the_space_between_is_even_and_coloured():
    result = stitched("down", plain(2, 3, channels=4), plain(2, 3), spacing_width=3, spacing_color="blue")

    assert result.shape == (1, 8, 3, 4)
    assert result[0, 2:6].reshape(-1, 4).unique(dim=0).tolist() == [[0, 0, 1, 1]]
    assert result[0, 6:, :, 3].unique().tolist() == [1]


def test_the_last_picture_of_a_shorter_batch_is_repeated():
    result = stitched("right", PICTURE, torch.cat((PICTURE, PICTURE[:1])))

    assert torch.equal(result[:, :, :16], torch.cat((PICTURE, PICTURE[1:])))


def test_pictures_are_regrouped():
    many = torch.rand(5, 4, 4, 3)

    batches = image_transform.rebatch(images=[many[:2], many[2:], plain(8, 8, count=3)], batch_size=3)

    assert [len(batch) for batch in batches] == [3, 2, 3]
    assert torch.equal(torch.cat(batches[:2]), many)
    assert image_transform.rebatch(images=[], batch_size=3) == []


def test_a_colour_is_found_to_the_nearest_step():
    picture = torch.tensor([[[[1.0, 0.5, 0.0], [0.999, 0.5021, 0.001], [1.0, 0.51, 0.0]]]])

    assert mask.of_colour(image=picture, color=0xFF8000).tolist() == [[[1, 1, 0]]]


@pytest.mark.parametrize(
    ("mode", "colour", "opacity"),
    [
        ("SRC", 0.8, 0.5),
        ("DST", 0.2, 0.25),
        ("CLEAR", 0.0, 0.0),
        ("SRC_OVER", (0.8 * 0.5 + 0.2 * 0.25 * 0.5) / 0.625, 0.625),
        ("DST_OVER", (0.2 * 0.25 + 0.8 * 0.5 * 0.75) / 0.625, 0.625),
        ("SRC_IN", 0.8, 0.125),
        ("DST_IN", 0.2, 0.125),
        ("SRC_OUT", 0.8, 0.375),
        ("DST_OUT", 0.2, 0.125),
        ("SRC_ATOP", (0.8 * 0.5 * 0.25 + 0.2 * 0.25 * 0.5) / 0.25, 0.25),
        ("DST_ATOP", (0.2 * 0.25 * 0.5 + 0.8 * 0.5 * 0.75) / 0.5, 0.5),
        ("XOR", (0.8 * 0.5 * 0.75 + 0.2 * 0.25 * 0.5) / 0.5, 0.5),
        ("ADD", (0.8 * 0.5 + 0.2 * 0.25) / 0.75, 0.75),
        ("SCREEN", (0.4 + 0.05 - 0.4 * 0.05) / 0.625, 0.625),
        ("LIGHTEN", (0.4 * 0.75 + 0.05 * 0.5 + 0.4) / 0.625, 0.625),
        ("DARKEN", (0.4 * 0.75 + 0.05 * 0.5 + 0.05) / 0.625, 0.625),
        ("MULTIPLY", 0.4 * 0.05 / 0.125, 0.125),
        ("OVERLAY", 2 * 0.4 * 0.05 / 0.625, 0.625),
    ],
)
def test_two_half_transparent_pictures_meet(mode, colour, opacity):
    result = compositing.porter_duff_composite(
        source=plain(4, 4, 0.8),
        source_alpha=torch.full((1, 4, 4), 0.5),  # masks say where pictures are transparent
        destination=plain(4, 4, 0.2),
        destination_alpha=torch.full((1, 4, 4), 0.75),
        mode=mode,
    )

    torch.testing.assert_close(result.IMAGE, plain(4, 4, min(colour, 1.0)))
    torch.testing.assert_close(result.MASK, torch.full((1, 4, 4), 1 - opacity))


def test_the_source_is_fitted_to_what_lies_below():
    result = compositing.porter_duff_composite(
        source=plain(4, 8, 0.8, count=3),
        source_alpha=torch.zeros(2, 6, 6),
        destination=plain(10, 12, 0.2, count=3),
        destination_alpha=torch.zeros(5, 10, 12),
        mode="SRC",
    )

    torch.testing.assert_close(result.IMAGE, plain(10, 12, 0.8, count=2))
    with pytest.raises(ValueError, match="pictures of 3 and of 4 channels"):
        compositing.porter_duff_composite(
            source=plain(4, 4),
            source_alpha=torch.zeros(1, 4, 4),
            destination=plain(4, 4, channels=4),
            destination_alpha=torch.zeros(1, 4, 4),
            mode="SRC",
        )


def test_transparency_is_taken_apart_and_joined():
    picture = torch.rand(2, 6, 6, 4)

    colours, where = compositing.split_alpha(image=picture)

    torch.testing.assert_close(where, 1 - picture[..., 3])
    torch.testing.assert_close(compositing.join_alpha(image=colours, alpha=where), picture)
    assert not compositing.split_alpha(image=colours).MASK.any()
    assert compositing.join_alpha(image=picture, alpha=torch.zeros(1, 3, 3)).shape == (1, 6, 6, 4)


def laid(destination, source, **settings):
    return compositing.composite_image(destination=destination, source=source, **settings)


def test_a_picture_is_laid_over_another_and_cut_off():
    below = plain(6, 8, 0.2, count=2)

    result = laid(below, plain(4, 4, 0.8), x=5, y=3)

    expected = below.clone()
    expected[:, 3:, 5:] = 0.8
    assert torch.equal(result, expected)
    assert torch.equal(below, plain(6, 8, 0.2, count=2))
    assert torch.equal(laid(below, plain(4, 4, 0.8), x=8, y=0), below)
    assert torch.equal(laid(below, plain(4, 4, 0.8), x=0, y=500), below)


def test_a_mask_says_how_much_of_it_is_seen():
    share = torch.tensor([[[0.0, 0.25], [0.5, 1.0]]])

    result = laid(plain(2, 2, 0.0, count=2), plain(2, 2, 1.0, count=3), mask=share)

    assert torch.equal(result[..., 0], share.expand(2, 2, 2))
    cut = laid(plain(3, 3, 0.0), plain(2, 2, 1.0), x=2, y=2, mask=share)
    assert cut[0, 2, 2].tolist() == [0, 0, 0]
    assert laid(plain(3, 3, 0.0), plain(2, 2, 1.0), x=1, y=0, mask=share)[0, 1, 1].tolist() == [0.5] * 3


def test_a_source_may_be_resized_first():
    torch.testing.assert_close(laid(plain(6, 8, 0.2), plain(2, 2, 0.75), resize_source=True), plain(6, 8, 0.75))


@pytest.mark.parametrize(("below", "above"), [(3, 4), (4, 3), (1, 3), (3, 1)])
def test_channels_are_dropped_or_added(below, above):
    result = laid(plain(2, 2, 0.2, channels=below), plain(2, 2, 0.75, channels=above))

    assert result.shape[-1] == below
    assert result[0, 0, 0].tolist()[:3] == [0.75] * min(3, below)
    if below == 4:
        assert result[0, 0, 0, 3] == 1
