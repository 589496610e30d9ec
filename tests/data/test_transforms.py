"""Decoding and augmentation: image and label change together, unsuitable images are reported."""

import itertools

import cv2
import numpy as np
import pytest

from eal_icnet_jax.data import transforms
from eal_icnet_jax.imaging.wire_width import median_wire_width
from eal_icnet_jax.system.errors import UserError


def example_of(image, label, name="example"):
    """An example all of whose pixels count."""
    return {"image": image, "label": label, "valid": np.ones((*label.shape[:2], 1), bool),
            "name": name}  # fmt: skip


def numbered(size=16):
    """An example whose pixels all differ, with a label that follows from the image."""
    image = np.arange(size * size, dtype=np.float32).reshape(size, size, 1) / (size * size)
    return example_of(image, image > 0.5)


@pytest.mark.parametrize("seed", range(8))
def test_image_and_label_move_together(seed):
    example = numbered()
    for change in (
        transforms.RandomCrop(8),
        transforms.Augment(flip=True, rotate=True, brightness=0.0, contrast=0.0),
    ):
        example = change(example, np.random.default_rng(seed))
    np.testing.assert_array_equal(example["label"], example["image"] > 0.5)
    assert example["image"].shape == (8, 8, 1)


def test_each_augmentation_is_a_knob():
    original = numbered()
    off = dict.fromkeys(("flip", "rotate"), False) | dict.fromkeys(("brightness", "contrast"), 0.0)

    def changed(**on):
        augment = transforms.Augment(**{**off, **on})
        return [augment(original, np.random.default_rng(seed)) for seed in range(12)]

    for example in changed():
        np.testing.assert_array_equal(example["image"], original["image"])
    for knob, value in (("flip", True), ("rotate", True)):
        outcomes = {example["image"].tobytes() for example in changed(**{knob: value})}
        assert len(outcomes) == 4
    for knob in ("brightness", "contrast"):
        for example in changed(**{knob: 0.3}):
            assert not np.array_equal(example["image"], original["image"])
            assert example["image"].min() >= 0 and example["image"].max() <= 1
            np.testing.assert_array_equal(example["label"], original["label"])
    for example in changed(brightness=0.3):
        inside = (example["image"] > 0) & (example["image"] < 1)
        shifts = (example["image"] - original["image"])[inside]
        np.testing.assert_allclose(shifts, shifts[0], atol=1e-6)


def test_images_that_are_not_square_cannot_be_turned():
    example = numbered()
    example = {key: value[:8] for key, value in numbered().items()}
    augment = transforms.Augment(flip=False, rotate=True, brightness=0.0, contrast=0.0)
    with pytest.raises(UserError, match="is 8x16, and only squares can be turned"):
        augment(example, np.random.default_rng(0))


def test_labels_of_another_size_or_with_grey_levels_are_reported(capsys):
    def png(array):
        return cv2.imencode(".png", array)[1].tobytes()

    decode = transforms.Decode(1, ("label",))
    image = png(np.zeros((8, 8), np.uint8))
    with pytest.raises(UserError, match=r"label of x is 4x8, its image 8x8: make them one size"):
        decode({"name": b"x", "image": image, "label": png(np.zeros((4, 8), np.uint8))})
    grey = np.full((8, 8), 100, np.uint8)
    grey[0] = 129
    out = decode({"name": b"x", "image": image, "label": png(grey)})
    assert out["label"].sum() == 8
    assert "label of x has the levels 100 and 129: 129 is foreground" in capsys.readouterr().err


def test_images_below_the_smallest_size_are_reported():
    png = cv2.imencode(".png", np.zeros((40, 31), np.uint8))[1].tobytes()
    example = {"name": b"x", "image": png, "label": png}
    assert transforms.Decode(1, ("label",), 31)(example)["image"].shape == (40, 31, 1)
    with pytest.raises(UserError, match=r"image x is 40x31, .* at least 32x32 pixels: remove it"):
        transforms.Decode(1, ("label",), 32)(example)


def test_a_view_turns_and_magnifies_image_and_label_together():
    y, x = np.mgrid[:96, :96].astype(np.float32)
    image = (0.5 + 0.5 * np.sin(x / 7) * np.cos(y / 9))[..., None]
    example = example_of(image, image > 0.5)
    crop = transforms.RandomCrop(48, scale=(0.7, 1.5), angle=30)
    seen = set()
    for seed in range(8):
        view = crop(example, np.random.default_rng(seed))
        assert view["image"].shape == view["label"].shape == (48, 48, 1)
        assert np.mean(view["label"] != (view["image"] > 0.5)) < 0.05
        seen.add(view["image"].tobytes())
    assert len(seen) == 8


def test_a_view_of_its_own_size_and_angle_is_the_crop():
    example = numbered()
    view = transforms.RandomCrop(16, scale=(1, 1 + 1e-9))(example, np.random.default_rng(0))
    np.testing.assert_allclose(view["image"], example["image"], atol=1e-4)


@pytest.mark.parametrize("width", [5, 14, 40])
def test_a_view_brings_the_wires_of_the_first_label_to_their_width(width):
    wires = np.repeat(np.arange(200)[:, None] % (3 * width) < width, 200, 1)
    label = np.stack([wires, np.zeros_like(wires)], -1)
    example = example_of(wires[..., None].astype(np.float32), label)
    for scale, seed in itertools.product((1.0, 1.5), range(4)):
        crop = transforms.RandomCrop(100, (scale, scale + 1e-9), wire_width=16)
        view = crop(example, np.random.default_rng(seed))
        # A view never shows more than the image: wires of 40 pixels stay at least 20 wide.
        expected = max(16 * scale, width * 100 / 200)
        assert median_wire_width(view["label"][..., 0]) == pytest.approx(expected, rel=0.2)


def test_the_centre_view_is_the_middle_in_the_width_of_wires():
    wires = np.repeat(np.arange(200)[:, None] % 24 < 8, 200, 1)
    example = example_of(wires[..., None].astype(np.float32), wires[..., None])
    view = transforms.CentreView(64, 16)(example)
    assert view["image"].shape == view["label"].shape == (64, 64, 1)
    assert median_wire_width(view["label"][..., 0]) == pytest.approx(16, rel=0.2)
    own = transforms.CentreView(200, 7.5)(example)  # as it measures wires of 8 pixels
    np.testing.assert_array_equal(own["label"], example["label"])


def test_a_view_without_wires_keeps_its_size():
    example = numbered()
    example["label"] = np.zeros_like(example["label"])
    view = transforms.RandomCrop(16, wire_width=4)(example, np.random.default_rng(0))
    np.testing.assert_allclose(view["image"], example["image"], atol=1e-4)


@pytest.mark.parametrize(
    "change",
    [{"colour": 0.3}, {"gamma": 2.0}, {"blur": 3.0}, {"noise": 0.1}, {"jpeg": 30}, {"cutout": 0.5}],
    ids=str,
)
@pytest.mark.parametrize("channels", [1, 3])
def test_each_defect_changes_the_image_only(change, channels):
    image = np.random.default_rng(1).random((40, 40, channels), np.float32)
    example = example_of(image, image[..., :1] > 0.5)
    augment = transforms.Augment(**change)
    results = [augment(example, np.random.default_rng(seed)) for seed in range(6)]
    assert any(not np.allclose(result["image"], image, atol=0.01) for result in results)
    for result in results:
        assert result["image"].shape == image.shape and result["image"].dtype == np.float32
        assert result["image"].min() >= 0 and result["image"].max() <= 1
        np.testing.assert_array_equal(result["label"], example["label"])


def test_ignored_pixels_are_decoded_and_belong_to_no_label():
    def png(array):
        return cv2.imencode(".png", array)[1].tobytes()

    image, label, ignore = np.zeros((3, 8, 8), np.uint8)
    label[:, :4], ignore[:2] = 255, 255
    example = {"name": b"x", "image": png(image), "label": png(label), "ignore": png(ignore)}
    out = transforms.Decode(1, ("label",))(example)
    np.testing.assert_array_equal(out["valid"][..., 0], ignore == 0)
    np.testing.assert_array_equal(out["label"][..., 0], (label > 0) & (ignore == 0))
    example["ignore"] = png(np.full((8, 8), 255, np.uint8))
    with pytest.raises(UserError, match="image x is ignored everywhere: remove it"):
        transforms.Decode(1, ("label",))(example)


@pytest.mark.parametrize("seed", range(6))
def test_valid_pixels_move_with_the_image(seed):
    example = numbered(32)
    example["valid"] = example["image"] < 0.7
    crop = transforms.RandomCrop(16)(example, np.random.default_rng(seed))
    changed = transforms.Augment(flip=True, rotate=True)(crop, np.random.default_rng(seed))
    np.testing.assert_array_equal(changed["valid"], changed["image"] < 0.7)
    view = transforms.RandomCrop(16, (0.8, 1.4), 30)(example, np.random.default_rng(seed))
    # What counts is a little less, never more: no pixel of the view mixes in an ignored one.
    assert not (view["valid"] & (view["image"] > 0.7 + 1e-4)).any()
    assert np.mean(view["valid"] != (view["image"] < 0.7)) < 0.15


@pytest.mark.parametrize(("scale", "angle"), [((1, 1), 0), ((0.5, 2), 0), ((2, 4), 45)])
def test_crops_lie_where_there_are_labels(scale, angle):
    example = numbered(64)
    example["valid"] = np.zeros((64, 64, 1), bool)
    example["valid"][40:60, 40:60] = True
    crop = transforms.RandomCrop(16, scale, angle)
    counted = [crop(example, np.random.default_rng(k))["valid"].mean() for k in range(60)]
    most = min(1.0, (20 * scale[0] / 16) ** 2)
    assert np.mean(np.array(counted) >= transforms.ENOUGH_LABELLED * most) > 0.9
    assert min(counted) > 0


def test_few_labels_do_not_change_the_magnification():
    """A drawn factor is kept, whatever the number of places that are tried for it."""
    example = numbered(128)
    example["valid"] = np.zeros((128, 128, 1), bool)
    example["valid"][40:72, 40:72] = True
    example["image"] = np.broadcast_to(np.arange(128.0), (128, 128))[..., None].astype(np.float32)
    crop = transforms.RandomCrop(32, (0.5, 2))
    steps = []
    for k in range(200):
        image = crop(example, np.random.default_rng(k))["image"][16, :, 0]
        steps.append(np.median(np.diff(image)))  # 1 / factor
    assert np.mean(np.log(steps)) == pytest.approx(0, abs=0.12)


def test_the_centre_view_goes_to_what_counts():
    example = numbered(64)
    example["valid"] = np.zeros((64, 64, 1), bool)
    example["valid"][4:24, 34:54] = True
    view = transforms.CentreView(20, 0)(example)
    assert view["valid"].all()
    np.testing.assert_allclose(view["image"], example["image"][4:24, 34:54], atol=1e-6)
