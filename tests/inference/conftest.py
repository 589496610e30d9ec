"""A checkpoint, a mosaic and its prediction, which the tests of inference share."""

import filecmp

import numpy as np
import pytest
import tifffile

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import mosaic_files
from eal_icnet_jax.inference.mosaic_prediction import MosaicPrediction
from eal_icnet_jax.inference.prediction import PredictionRun
from eal_icnet_jax.inference.prediction_options import LayoutOutput, PredictionOptions
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.inference.windows import BlendedWindows
from eal_icnet_jax.models import checkpoints
from eal_icnet_jax.system.errors import UserError
from tests import small_model

WINDOW, OVERLAP = 96, 24
SHAPE = 1100, 330


def read(path):
    """Return a whole image file or Zarr."""
    mosaic = mosaic_files.open_mosaic(path)
    return mosaic[0 : mosaic.shape[0], 0 : mosaic.shape[1]]


def assert_same_files(a, b):
    """Assert that two folders hold the same files, byte by byte."""
    names = sorted(path.relative_to(a) for path in a.rglob("*") if path.is_file())
    assert names == sorted(path.relative_to(b) for path in b.rglob("*") if path.is_file())
    assert names
    _, different, unreadable = filecmp.cmpfiles(a, b, map(str, names), shallow=False)
    assert not different and not unreadable


def run(model, **options):
    """Predict, and raise the `UserError` of an image that is skipped."""
    results = list(PredictionRun(model, PredictionOptions(**options)).results())
    for result in results:
        if result.error:
            raise UserError(result.error)
    return results


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory):
    return small_model.save(tmp_path_factory.mktemp("checkpoint") / "model")


@pytest.fixture(scope="session")
def model(checkpoint):
    return checkpoints.load_model(checkpoint)


@pytest.fixture(scope="session")
def mosaic_path(tmp_path_factory):
    """A strip of a drawn die of three pieces, as a tiled TIFF with a resolution."""
    drawn = die.Die(*SHAPE, seed=5)
    image = np.concatenate([die.draw_field(drawn, k)["image"] for k in range(2)])
    path = tmp_path_factory.mktemp("mosaic") / "die.ome.tif"
    sizes = {f"PhysicalSize{axis}": 0.05 for axis in "XY"}
    tifffile.imwrite(
        path, image, tile=(128, 128), compression="deflate", photometric="rgb",
        metadata={"axes": "YXS", **sizes},
    )  # fmt: skip
    return path


@pytest.fixture(scope="session")
def blended(model, mosaic_path):
    """The mosaic's blended probabilities `[H, W]`, computed in one strip."""
    mosaic = mosaic_files.open_mosaic(mosaic_path)
    predict = Predictor(model).probabilities
    windows = BlendedWindows(mosaic, predict, 1, 1, (WINDOW, WINDOW), OVERLAP)
    (out,) = windows.strips(slice(0, SHAPE[1]), [slice(0, SHAPE[0])])
    return out[..., 0]


@pytest.fixture(scope="session")
def threshold(blended):
    """A threshold at which the untrained network's mask has shapes."""
    return round(float(np.quantile(blended, 0.6)), 4)


@pytest.fixture(scope="session")
def predict_mosaic(model, mosaic_path, threshold):
    """A function that predicts the mosaic into a folder."""
    defaults = {
        "input": mosaic_path, "window": WINDOW, "overlap": OVERLAP, "threshold": threshold
    }  # fmt: skip
    return lambda output, **options: run(model, output=output, **{**defaults, **options})


@pytest.fixture(scope="session")
def command_line(checkpoint, mosaic_path, threshold):
    """A function that returns the arguments of `eal-icnet predict` for the same."""

    def arguments(output, *more, source=mosaic_path):
        options = [f"--window={WINDOW}", f"--overlap={OVERLAP}", f"--threshold={threshold}"]
        return [source, f"--checkpoint={checkpoint}", f"--output={output}", *options, *more]

    return arguments


@pytest.fixture(scope="session")
def predicted(predict_mosaic, tmp_path_factory):
    """The results of a run that nothing disturbed."""
    output = tmp_path_factory.mktemp("predicted") / "out"
    output.mkdir()
    predict_mosaic(output, probabilities=True, layout=LayoutOutput(output / "die.gds"))
    return output


@pytest.fixture
def begin_mosaic(predict_mosaic):
    """A function that predicts some pieces of the mosaic, and returns the work folder."""

    class Stopped(Exception):
        pass

    predict_pieces = MosaicPrediction._predict

    def begin(output, pieces):
        def predict_some(self, windows, share):
            predict_pieces(self, windows, share[:pieces])
            raise Stopped

        with pytest.MonkeyPatch.context() as patch, pytest.raises(Stopped):
            patch.setattr(MosaicPrediction, "_predict", predict_some)
            predict_mosaic(output)
        (work,) = output.glob(".*.partial")
        return work

    return begin
