"""Packaged networks whose programs are kept on disk predict what the networks themselves do."""

import jax
import numpy as np
import pytest
from flax import nnx

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.inference import stored_programs
from eal_icnet_jax.inference.image_prediction import ImagePrediction, ImagePredictor
from eal_icnet_jax.inference.prediction_models import ModelChoice, PredictionModel
from eal_icnet_jax.inference.prediction_options import ImageOptions
from eal_icnet_jax.inference.predictor import Predictor
from eal_icnet_jax.inference.stored_programs import StoredForwardPass, packaged_network
from eal_icnet_jax.models import pretrained
from eal_icnet_jax.models.network import Network

RNG = np.random.default_rng(0)
IMAGE = RNG.random((1, 64, 64, 1), np.float32)
SMALLER = RNG.random((1, 48, 40, 1), np.float32)
"""Of no canvas's size, so that it is predicted in the corner of one."""


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """A cache of its own. The tests' devices stand for one, as on a machine without GPUs."""
    earlier = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", str(tmp_path))
    monkeypatch.setattr(jax, "local_device_count", lambda: 1)
    yield tmp_path
    jax.config.update("jax_compilation_cache_dir", earlier)
    jax.config.update("jax_enable_compilation_cache", True)


@pytest.fixture
def built(monkeypatch):
    """The names of the networks that are built."""
    names, load = [], pretrained.load_pretrained

    def recorded(name):
        names.append(name)
        return load(name)

    monkeypatch.setattr(pretrained, "load_pretrained", recorded)
    return names


def predictions(model) -> list[np.ndarray]:
    predictor = Predictor(model)
    return [predictor.probabilities(SMALLER), predictor.probabilities(IMAGE, share_programs=False)]


def files_of(cache) -> list:
    return sorted(path for path in cache.glob("networks/*/*") if path.is_file())


def test_stored_programs_predict_the_same_to_the_bit_and_build_no_network(cache, built):
    network = pretrained.load_pretrained("sem")
    expected = predictions(network)
    first = packaged_network("sem")
    assert isinstance(first, StoredForwardPass)
    for stored in (first, packaged_network("sem")):
        for mine, theirs in zip(predictions(stored), expected, strict=True):
            np.testing.assert_array_equal(mine, theirs)
        assert built == ["sem", "sem"]  # for `expected` and for the first one
    assert stored.spec == network.spec
    assert stored.weights_digest == PredictionModel(network).weights_digest
    assert len(files_of(cache)) == 4  # what is known of it, weights and two programs


def test_one_program_looks_for_the_scale_of_a_photograph_and_predicts_its_windows(cache):
    """Of one that is predicted in windows, and of one that is smaller than a window."""
    kind = examples.kind_by_name("sem_photographs")
    drawn = [examples.draw_example(kind, "test", index)["image"][..., 0] for index in (1, 0)]
    image, small = (np.ascontiguousarray(image[:300, :340]) for image in drawn)
    choice, mosaic = ModelChoice(packaged_network("sem")), mosaic_from_array(cache, image)
    prediction = ImagePrediction(mosaic, choice, ImageOptions(scale="auto"))
    found = prediction.probabilities()
    assert prediction.at().window < image.shape
    ImagePredictor(packaged_network("sem"))(small)
    programs = {path.name for path in files_of(cache)} - {"network", "weights"}
    assert programs == {"canvas_probabilities_of_1x256x256x1"}
    exactly = ImagePrediction(mosaic, choice, ImageOptions(scale=prediction.scale.factor))
    np.testing.assert_allclose(exactly.probabilities(), found, atol=1e-5)
    programs ^= {path.name for path in files_of(cache)} - {"network", "weights"}
    assert programs == {"probabilities_of_1x256x256x1"}


def test_a_damaged_or_missing_file_is_made_anew(cache, built):
    expected = np.asarray(packaged_network("sem").probabilities(IMAGE))
    for path in files_of(cache):
        content = path.read_bytes()
        for damaged in (content[:40] + bytes([content[40] ^ 1]) + content[41:], None):
            path.unlink() if damaged is None else path.write_bytes(damaged)
            built.clear()
            found = packaged_network("sem").probabilities(IMAGE)
            assert built == ["sem"]
            np.testing.assert_array_equal(found, expected)
            assert len(path.read_bytes()) == len(content)


def test_other_code_weights_or_settings_have_programs_of_their_own(tmp_path, monkeypatch):
    folders = [stored_programs._folder(name) for name in pretrained.PRETRAINED]
    with jax.default_matmul_precision("highest"):
        folders.append(stored_programs._folder("sem"))
    (tmp_path / "layers").mkdir()
    monkeypatch.setattr(stored_programs, "PACKAGE", tmp_path)
    for code in ("a = 1", "a = 2"):
        (tmp_path / "layers" / "a.py").write_text(code)
        folders.append(stored_programs._folder("sem"))
    assert len({*folders}) == 5
    assert stored_programs._folder("sem") == folders[-1]


@pytest.mark.parametrize("case", ["no cache", "unwritable", "turned off", "several devices"])
def test_where_nothing_is_kept_the_network_itself_is_taken(case, cache, monkeypatch):
    if case == "no cache":
        jax.config.update("jax_compilation_cache_dir", None)
    elif case == "unwritable":
        jax.config.update("jax_compilation_cache_dir", str(cache / "missing"))
    elif case == "turned off":
        jax.config.update("jax_enable_compilation_cache", False)
    else:
        monkeypatch.setattr(jax, "local_device_count", lambda: 2)
    assert isinstance(packaged_network("sem"), Network)
    assert not files_of(cache)


def test_a_full_disk_only_keeps_nothing(cache, monkeypatch):
    def full(path, data):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(stored_programs.pathlib.Path, "write_bytes", full)
    assert packaged_network("sem").probabilities(IMAGE).shape == (1, 64, 64, 2)
    assert not files_of(cache)


def test_losses_and_other_weights_are_those_of_the_network():
    network = pretrained.load_pretrained("sem")
    label = RNG.random((1, 64, 64, 2)) > 0.5
    expected = Predictor(network).with_losses(IMAGE, label)
    predictor = Predictor(packaged_network("sem"))
    for mine, theirs in zip(predictor.with_losses(IMAGE, label), expected, strict=True):
        np.testing.assert_array_equal(mine, theirs)
    state = nnx.state(network)
    doubled = jax.tree.map(lambda leaf: leaf if leaf.ndim < 2 else 1.01 * leaf, state)
    nnx.update(network, doubled)
    predictor.load(doubled)
    np.testing.assert_array_equal(
        predictor.probabilities(IMAGE), Predictor(network).probabilities(IMAGE)
    )
