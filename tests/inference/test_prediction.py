"""Prediction of images without windows: depths, colours, and the files that are written."""

import cv2
import gdstk
import numpy as np
import pytest

from eal_icnet_jax.imaging import pixel_values
from eal_icnet_jax.inference import cleaning
from eal_icnet_jax.inference.prediction import PredictionRun, check_result_names, find_inputs
from eal_icnet_jax.inference.prediction_options import LayoutOutput, PredictionOptions
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector.layout_options import ShapeOptions
from tests import small_model
from tests.imaging.sample_images import pixels
from tests.inference.conftest import run


@pytest.fixture
def folder(tmp_path):
    """One grey image as four files of other depths and colours."""
    path = tmp_path / "in"
    path.mkdir()
    rng = np.random.default_rng(0)
    smooth = cv2.GaussianBlur(rng.random((48, 40)), (0, 0), 4)
    smooth = (smooth - smooth.min()) / np.ptp(smooth)
    grey = np.rint(255 * smooth).astype(np.uint8)
    cv2.imwrite(str(path / "grey8.png"), grey)
    cv2.imwrite(str(path / "grey16.tiff"), grey.astype(np.uint16) * 257)
    cv2.imwrite(str(path / "colour8.bmp"), np.repeat(grey[..., None], 3, -1))
    cv2.imwrite(str(path / "colour16.png"), np.repeat(grey[..., None], 3, -1).astype("u2") * 257)
    return path


@pytest.fixture
def probabilities(model, folder):
    """The model's own output for that image, `[H, W]`."""
    image = pixel_values.to_unit_range(pixels(folder / "grey8.png"), 1)
    return Predictor(model).probabilities(image[None])[0, ..., 0]


@pytest.fixture
def median(probabilities):
    return float(np.median(probabilities))


@pytest.fixture(scope="module")
def two_masks():
    return small_model.create(classes=2, in_channels=3)


def test_masks_do_not_depend_on_depth_and_colour(model, folder, median, tmp_path):
    results = run(model, input=folder, output=tmp_path / "out", threshold=median)
    masks = [pixels(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len(masks) == len(results) == 4
    for mask in masks:
        assert mask.shape == (48, 40) and set(np.unique(mask)) == {0, 255}
        np.testing.assert_array_equal(mask, masks[0])


def test_the_files_hold_the_models_output(model, folder, probabilities, median, tmp_path):
    out = tmp_path / "out"
    (result,) = run(
        model,
        input=folder / "grey8.png",
        output=out,
        threshold=median,
        probabilities=True,
        overlay=True,
    )
    mask = pixels(out / "grey8.png")
    np.testing.assert_array_equal(mask == 255, probabilities >= median)
    assert 0 < (mask == 255).mean() < 1
    assert result.foreground == np.mean(mask == 255) and result.size == (48, 40)
    written = pixels(out / "grey8_probability.png") / 65535
    np.testing.assert_allclose(written, probabilities, atol=1e-5)
    assert pixels(out / "grey8_overlay.png").shape == (48, 40, 3)
    assert len(list(out.iterdir())) == 3


def test_the_files_of_two_masks_are_numbered(two_masks, folder, tmp_path):
    run(two_masks, input=folder / "colour8.bmp", output=tmp_path / "out", overlay=True)
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"colour8_{k}{kind}.png" for k in (1, 2) for kind in ("", "_overlay")}


@pytest.mark.parametrize(("kinds", "layers"), [(None, (1, 2)), (("via", "metal"), (2, 1))])
def test_the_layout_has_each_mask_on_its_layer(two_masks, folder, tmp_path, kinds, layers):
    image = pixel_values.to_unit_range(pixels(folder / "colour8.bmp"), 3)
    threshold = float(np.median(Predictor(two_masks).probabilities(image[None])))
    out, path = tmp_path / "out", tmp_path / "x.gds"
    layout = LayoutOutput(path, kinds, 0.5, ShapeOptions(tolerance=0, via_shape="outline"))
    source = folder / "colour8.bmp"
    (result,) = run(two_masks, input=source, output=out, threshold=threshold, layout=layout)
    (cell,) = gdstk.read_gds(path).cells
    for k, layer in enumerate(layers, 1):
        count = np.count_nonzero(pixels(out / f"colour8_{k}.png"))
        area = sum(polygon.area() for polygon in cell.polygons if polygon.layer == layer)
        assert area == pytest.approx(0.25 * count, rel=0.05, abs=0.5)
    assert sum(result.layout_counts.values()) == len(cell.polygons)


def test_cleaned_masks_are_the_raw_masks_after_cleaning(model, folder, median, tmp_path):
    source = folder / "grey8.png"
    run(model, input=source, output=tmp_path / "raw", threshold=median)
    mask = pixels(tmp_path / "raw/grey8.png") > 0
    holes = np.count_nonzero(~mask)
    options = {"fill_holes": holes, "remove_specks": 5}
    run(model, input=source, output=tmp_path / "out", threshold=median, **options)
    expected = cleaning.clean_mask(mask, 5, holes)
    np.testing.assert_array_equal(pixels(tmp_path / "out/grey8.png") > 0, expected)


def test_broken_and_small_images_are_skipped_with_their_names(model, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"nothing")
    cv2.imwrite(str(folder / "small.png"), np.zeros((8, 64), np.uint8))
    options = PredictionOptions(input=folder, output=tmp_path / "out")
    results = list(PredictionRun(model, options).results())
    errors = {result.path.name: result.error for result in results}
    assert len(errors) == 6 and len(list((tmp_path / "out").iterdir())) == 4
    assert "broken.png cannot be read as an image" in errors["broken.png"]
    assert "small.png is 8x64 (height x width): the model needs at least" in errors["small.png"]
    assert not any(errors[path.name] for path in folder.glob("grey*"))


def test_the_white_of_an_image_is_stated_shown_or_named(model, folder, tmp_path):
    """8 bits in 16 give the mask of 8 bits, and a note unless the user names the white."""
    levels = pixels(folder / "grey8.png").astype(np.uint16)
    cv2.imwrite(str(tmp_path / "narrow.png"), levels)
    options = {"probabilities": True, "output": tmp_path / "out"}
    (own,) = run(model, input=folder / "grey8.png", **options)
    (shown,) = run(model, input=tmp_path / "narrow.png", **options)
    assert own.notes == () and "so 255 is taken for white" in shown.notes[0]
    expected = pixels(tmp_path / "out/grey8_probability.png")
    np.testing.assert_array_equal(pixels(tmp_path / "out/narrow_probability.png"), expected)
    (named,) = run(model, input=tmp_path / "narrow.png", white=510, **options)
    assert named.notes == ()
    assert np.any(pixels(tmp_path / "out/narrow_probability.png") != expected)
    with pytest.raises(UserError, match="--white is 0: name a level from 1 to 65535"):
        run(model, input=tmp_path / "narrow.png", white=0, **options)


def test_only_masks_of_this_program_are_replaced(model, folder, tmp_path):
    out, source = tmp_path / "out", folder / "grey8.png"
    for _ in range(2):  # the second time they are its own
        run(model, input=source, output=out)
    (out / "grey8.png").write_bytes(b"of another program")
    with pytest.raises(UserError, match=r"out/grey8.png exists and was not written by this"):
        run(model, input=source, output=out)
    assert (out / "grey8.png").read_bytes() == b"of another program"
    run(model, input=source, output=out, force=True)
    assert pixels(out / "grey8.png").shape == (48, 40)


def test_images_whose_masks_would_have_one_name_are_refused(folder, tmp_path):
    (folder / "grey8.png").rename(folder / "grey16_probability.png")
    options = PredictionOptions(input=folder, output=tmp_path / "out", probabilities=True)
    with pytest.raises(UserError, match=r"would both have a result named grey16_probability"):
        check_result_names(find_inputs(options), ("",), options)


def test_a_model_of_other_channels_is_refused(folder, tmp_path):
    model = small_model.create(in_channels=4)
    options = PredictionOptions(input=folder, output=tmp_path / "out")
    with pytest.raises(UserError, match="takes images of 4 channels: name a checkpoint for grey"):
        PredictionRun(model, options)


def test_pixels_that_are_not_square_are_refused_before_anything_is_written(
    model, tmp_path, mosaic_path
):
    import tifffile

    path = tmp_path / "flat.tif"
    sizes = {"PhysicalSizeX": 0.05, "PhysicalSizeY": 0.1}
    image = np.zeros((48, 40), np.uint8)
    tifffile.imwrite(path, image, ome=True, metadata={"axes": "YX", **sizes})
    layout = LayoutOutput(tmp_path / "x.gds")
    with pytest.raises(UserError, match="a layout needs square ones: name --pixel-size"):
        run(model, input=path, output=tmp_path / "out", layout=layout)
    assert not list((tmp_path / "out").iterdir()) and not layout.path.exists()
