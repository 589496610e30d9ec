"""What a file says is what every command sees: the tables of tests/cases.py."""

import numpy as np
import pytest

from eal_icnet_jax.data.paired_folders import Pair, SourceFormat
from eal_icnet_jax.evaluation import evaluation
from eal_icnet_jax.imaging import decoding, levels, masks, mosaic_files, pixel_values
from eal_icnet_jax.system.errors import UserError
from tests import cases

WHOLE = slice(None), slice(None)


def written(tmp_path, file_name, write):
    path = tmp_path / file_name
    write(path)
    return path


def readings(path) -> list[np.ndarray]:
    """Return an image as every command reads it, in levels from 0 to 255.

    Prediction reads it by parts, evaluation on a folder and preparation at once.
    """
    mosaic = levels.in_full_range(mosaic_files.open_mosaic(path))
    height, width = mosaic.shape
    halves = [mosaic[rows, 0:width] for rows in (slice(0, height // 2), slice(height // 2, height))]
    images = [np.concatenate(halves), mosaic[WHOLE]]
    if path.is_file():
        images.append(decoding.decode(path.read_bytes(), "a")[0])
    return [image.astype(float) * (255 / np.iinfo(image.dtype).max) for image in images]


@pytest.mark.parametrize("case", cases.IMAGES)
def test_an_image_is_the_same_to_every_command(tmp_path, case):
    file_name, write, expected = cases.IMAGES[case]
    for image in readings(written(tmp_path, file_name, write)):
        np.testing.assert_allclose(image, expected, rtol=0, atol=0.51)


@pytest.mark.parametrize("case", cases.LOSSY_IMAGES)
def test_a_lossy_image_is_the_same_to_every_command(tmp_path, case):
    file_name, write, expected = cases.LOSSY_IMAGES[case]
    images = readings(written(tmp_path, file_name, write))
    for image in images:
        np.testing.assert_array_equal(image, images[0])
        image = image[..., 0] if image.ndim > expected.ndim else image
        assert np.abs(image - expected).mean() < 4


@pytest.mark.parametrize("case", cases.MASKS)
def test_a_mask_is_the_same_as_label_prediction_and_layout(tmp_path, case):
    file_name, write, note = cases.MASKS[case]
    path = written(tmp_path, file_name, write)
    mask = masks.MosaicMask(mosaic_files.open_mosaic(path))
    assert note in " ".join(mask.notes) and bool(mask.notes) == bool(note)
    wrong = np.mean(mask[WHOLE] != cases.MASK)
    assert wrong < (0.04 if case in ("antialiased", "JPEG", "red JPEG") else 1e-9)
    if path.is_file():
        label = SourceFormat(channels=1).read(Pair("a", path, path)).masks["label"]
        np.testing.assert_array_equal(label, mask[WHOLE])
        compared = evaluation.compare_masks([(path, path)], 0)
        assert compared.summary()["label"]["Dice"] == 1


@pytest.mark.parametrize("case", cases.NO_MASKS)
def test_a_file_from_which_no_mask_can_be_told_is_refused(tmp_path, case):
    file_name, write, message = cases.NO_MASKS[case]
    path = written(tmp_path, file_name, write)
    with pytest.raises(UserError, match=message):
        masks.MosaicMask(mosaic_files.open_mosaic(path))


@pytest.mark.parametrize("case", cases.SIZED)
def test_the_pixel_size_is_read_and_a_data_bar_is_left_out(tmp_path, case):
    file_name, write = cases.SIZED[case]
    mosaic = mosaic_files.open_mosaic(written(tmp_path, file_name, write))
    assert mosaic.pixel_size == pytest.approx((0.02, 0.02), rel=1e-6)
    assert mosaic.pixel_size_source
    np.testing.assert_array_equal(mosaic[WHOLE], cases.GREY)


@pytest.mark.parametrize("case", cases.REFUSED)
def test_what_cannot_be_read_is_refused_by_its_cause(tmp_path, case):
    file_name, write, message = cases.REFUSED[case]
    path = written(tmp_path, file_name, write)
    with pytest.raises(UserError, match=message):
        mosaic_files.open_mosaic(path)
    if path.is_file():
        with pytest.raises(UserError, match=message):
            decoding.open_encoded(path.read_bytes(), str(path))


@pytest.mark.parametrize("case", ["stack", "two images"])
def test_a_page_is_chosen(tmp_path, case):
    file_name, write, _ = cases.REFUSED[case]
    path = written(tmp_path, file_name, write)
    page = 1 if case == "stack" else 2
    np.testing.assert_array_equal(mosaic_files.open_mosaic(path, page=page)[WHOLE], cases.GREY)
    with pytest.raises(UserError, match="so there is no page 3"):
        mosaic_files.open_mosaic(path, page=3)


def test_levels_above_the_stated_white_are_refused(tmp_path):
    path = written(tmp_path, *cases.IMAGES["12 bits in 16, stated by OME"][:2])
    stated = levels.in_full_range(mosaic_files.open_mosaic(path))
    assert stated.notes == ()
    narrow = cases.tiff(cases.TWELVE, description=cases.significant_bits(10), metadata=None)
    narrow(path)
    image = levels.in_full_range(mosaic_files.open_mosaic(path))
    with pytest.raises(UserError, match="its metadata state 1023 for white: name the level"):
        image[WHOLE]
    np.testing.assert_allclose(
        pixel_values.to_unit_range(
            levels.in_full_range(mosaic_files.open_mosaic(path), 4095)[WHOLE], 1
        )[..., 0],
        cases.GREY / 255,
        atol=1e-3,
    )
