"""Prediction of files: depths, colours, sizes, what is written, and what is skipped."""

import cv2
import gdstk
import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax import checkpoints, images, models, postprocess, predict
from eal_icnet_jax.errors import UserError
from eal_icnet_jax.predictor import Predictor
from tests import commands


@pytest.fixture
def folder(tmp_path):
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
def two_masks(tmp_path):
    """A model of two masks, which has learnt nothing."""
    small = {"block_1_dilations": (2,), "block_2_dilations": (4,), "heads": 1}
    model = models.create_model("eal_icnet", classes=2, in_channels=3, rngs=nnx.Rngs(0), **small)
    checkpoints.save_model(tmp_path / "model", model)
    return tmp_path / "model"


def run(workdir, source, output, *more):
    arguments = predict.parser().parse_args(
        [f"--checkpoint={workdir}", f"--input={source}", f"--output={output}", *more]
    )
    predict.run(arguments)


def test_depth_and_colour_make_no_difference(workdir, folder, tmp_path):
    run(workdir, folder, tmp_path / "out")
    masks = [images.read(path) for path in sorted((tmp_path / "out").iterdir())]
    assert len(masks) == 4
    for mask in masks:
        assert mask.shape == (48, 40) and set(np.unique(mask)) <= {0, 255}
        np.testing.assert_array_equal(mask, masks[0])


def test_masks_are_the_models(workdir, folder, tmp_path):
    """Mask, probabilities and overlay of one file against the model's own output."""
    out = tmp_path / "out"
    run(workdir, folder / "grey8.png", out, "--probabilities", "--overlay", "--threshold=0.4")
    predictor = Predictor(checkpoints.load_model(workdir))
    unit = images.to_unit_range(images.read(folder / "grey8.png"), 1)
    want = predictor.probabilities(unit[None])[0, ..., 0]
    mask = images.read(out / "grey8.png")
    np.testing.assert_array_equal(mask == 255, want >= 0.4)
    assert 0 < (mask == 255).mean() < 1
    np.testing.assert_allclose(images.read(out / "grey8_probability.png") / 65535, want, atol=1e-5)
    assert images.read(out / "grey8_overlay.png").shape == (48, 40, 3)
    assert len(list(out.iterdir())) == 3


def test_a_model_of_two_masks_numbers_its_files(two_masks, folder, tmp_path):
    run(two_masks, folder / "colour8.bmp", tmp_path / "out", "--overlay")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {f"colour8_{k}{kind}.png" for k in (1, 2) for kind in ("", "_overlay")}


def test_the_layout_has_each_mask_on_its_layer(two_masks, folder, tmp_path):
    """Metal on 1, vias on 2; or as they are named."""
    threshold = "--threshold=0.45"
    for kinds, layers in ((), (1, 2)), (("--kinds=via,metal",), (2, 1)):
        out, path = tmp_path / "out", tmp_path / "x.gds"
        more = [threshold, f"--layout={path}", "--pixel-size=0.5", "--via-shape=outline", *kinds]
        run(two_masks, folder / "colour8.bmp", out, *more)
        (cell,) = gdstk.read_gds(path).cells
        for k, layer in enumerate(layers, 1):
            pixels = np.count_nonzero(images.read(out / f"colour8_{k}.png"))
            area = sum(polygon.area() for polygon in cell.polygons if polygon.layer == layer)
            assert area == pytest.approx(0.25 * pixels, rel=0.05, abs=0.5)


@pytest.mark.parametrize(
    ("more", "told"),
    [
        (["--input=in"], "--layout is of one image, and --input has 4: name one image"),
        (["--kinds=metal"], "--kinds is metal, and the model predicts 2 masks: name each"),
        (["--kinds=metal,poly"], "name each, of metal, via"),
        (["--layout=x.dxf"], "names no layout: let it end in .gds, .oas, .svg"),
        (["--layout=none/x.gds"], "none is not a folder"),
        (["--pixel-size=-1"], "--pixel-size is -1.0: it must be above 0"),
    ],
)
def test_bad_options_of_the_layout_are_told(two_masks, folder, tmp_path, monkeypatch, more, told):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UserError) as caught:
        run(two_masks, folder / "colour8.bmp", tmp_path / "out", "--layout=x.gds", *more)
    assert told in str(caught.value)
    assert not list(tmp_path.glob("*.gds"))


def test_masks_may_be_cleaned(workdir, folder, tmp_path):
    """As the masks are that were written without."""
    run(workdir, folder / "grey8.png", tmp_path / "raw", "--threshold=0.4")
    mask = images.read(tmp_path / "raw/grey8.png") > 0
    holes = np.count_nonzero(~mask)
    run(workdir, folder / "grey8.png", tmp_path / "out", "--threshold=0.4",
        f"--fill-holes={holes}", "--remove-specks=5")  # fmt: skip
    want = postprocess.cleaned(mask, 5, holes)
    np.testing.assert_array_equal(images.read(tmp_path / "out/grey8.png") > 0, want)


def test_images_whose_masks_would_have_one_name_are_told(workdir, folder, tmp_path):
    (folder / "grey8.png").rename(folder / "grey16.ome.tif")
    with pytest.raises(UserError, match=r"grey16.ome.tif, grey16.tiff would have one name"):
        run(workdir, folder, tmp_path / "out")


def test_broken_files_are_named_skipped_and_counted(workdir, folder, tmp_path):
    (folder / "broken.png").write_bytes(b"nothing")
    cv2.imwrite(str(folder / "small.png"), np.zeros((8, 64), np.uint8))
    result = commands.run(
        "predict", f"--checkpoint={workdir}", f"--input={folder}", f"--output={tmp_path / 'out'}"
    )
    assert result.returncode == 1
    assert "4 of 6 images" in result.stdout
    assert len(list((tmp_path / "out").iterdir())) == 4
    (error,) = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert "2 of the images could not be read and were skipped" in error
    assert "broken.png cannot be read as an image" in error
    assert "small.png: it is 8x64, smaller than 32x32" in error


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"input": "none"}, "does not exist: name an image or a folder"),
        ({"output": "in"}, "is where the images are: name another folder"),
        ({"checkpoint": "in"}, "holds no checkpoint"),
        ({"output": "in/grey8.png/x"}, "cannot be made"),
    ],
)
def test_bad_arguments_are_told(workdir, folder, tmp_path, capsys, change, told):
    paths = {"checkpoint": workdir, "input": folder, "output": tmp_path / "out"}
    paths.update({key: tmp_path / value for key, value in change.items()})
    with pytest.raises(SystemExit) as caught:
        predict.main([f"--{key}={value}" for key, value in paths.items()])
    assert caught.value.code == 1
    error = capsys.readouterr().err
    assert told in error and len(error.splitlines()) == 1
