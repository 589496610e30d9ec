"""The rounds of a project, and which model is in use."""

import json
from typing import ClassVar

import numpy as np
import pytest

from eal_icnet_jax.imaging import png
from eal_icnet_jax.review.project import Project
from eal_icnet_jax.system.errors import UserError
from tests import small_model


@pytest.fixture
def project(tmp_path):
    for name in ("image", "label"):
        (tmp_path / "train" / name).mkdir(parents=True)
        png.write(tmp_path / "train" / name / "a.png", np.zeros((40, 40), np.uint8))
    return Project(tmp_path)


def finish(path):
    (path / "test").mkdir()
    (path / "test/metrics.json").write_text("{}")


def test_a_stopped_round_goes_on_until_the_squares_change(project):
    first, goes_on = project.next_round(["optical"])
    assert first.name == "001" and not goes_on
    assert project.next_round(["optical"]) == (first, True)
    png.write(project.path / "train/label/a.png", np.full((40, 40), 255, np.uint8))
    second, goes_on = Project(project.path).next_round(["optical"])
    assert second.name == "002" and not goes_on
    third, goes_on = Project(project.path).next_round(["optical", "--config.epochs=1"])
    assert third.name == "003" and not goes_on
    finish(third)
    assert project.next_round(["optical"])[0].name == "004"


def test_the_model_before_comes_back(project):
    assert project.current_model() is None
    models = []
    for _ in range(3):
        model, _ = project.next_round(["optical"])
        models.append(model)
        if len(models) != 2:  # the second round was stopped, and the squares have changed
            finish(model)
            project.use(model)
        else:
            (model / "squares.txt").write_text("others")
    assert project.current_model() == models[2]
    assert project.go_back() == models[0] == project.current_model()
    assert project.go_back() is None
    with pytest.raises(UserError, match="nothing lies before it"):
        project.go_back()


def test_going_back_leaves_out_a_model_that_was_rejected(project):
    models = []
    for choice in "abc":
        model, _ = project.next_round([choice])
        finish(model)
        project.use(model)
        models.append(model)
        if choice == "b":
            assert project.go_back() == models[0]
    assert project.current_model() == models[2]
    assert project.go_back() == models[0]


def test_going_back_needs_no_squares(project):
    model, _ = project.next_round(["optical"])
    finish(model)
    project.use(model)
    (project.path / "train/label/a.png").unlink()
    assert Project(project.path).go_back() is None
    with pytest.raises(UserError, match="holds no file that ends in"):
        Project(project.path).next_round(["optical"])


@pytest.mark.parametrize("content", ["", "[]", '{"used": ["../../x"]}', '{"used": []}', "{}"])
def test_a_damaged_record_is_reported(project, content):
    (project.path / "models").mkdir()
    (project.path / "models/current.json").write_text(content)
    with pytest.raises(UserError, match=r"current.json is damaged: remove it"):
        project.current_model()
    (project.path / "models/current.json").write_text(json.dumps({"used": [None, "007"]}))
    with pytest.raises(UserError, match="which is no finished round: remove it"):
        project.current_model()


def test_the_weights_suit_the_squares(project):
    assert project.suitable_weights() == "sem"
    colours = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    png.write(project.path / "train/image/a.png", colours)
    assert project.suitable_weights() == "optical"
    assert not project.has_vias


class MetalEverywhere:
    """A `Predictor` that sees metal everywhere and no vias, and keeps what it was shown."""

    seen: ClassVar[list] = []

    def __init__(self, model):
        self.seen.clear()

    def probabilities(self, images):
        self.seen.append(images)
        return np.broadcast_to(np.float32([1, 0]), (*images.shape[:3], 2))


@pytest.fixture
def rounds(project, tmp_path, monkeypatch):
    """A function that writes masks, and returns the error and the learning rate of a new round."""
    monkeypatch.setattr("eal_icnet_jax.review.project.Predictor", MetalEverywhere)

    def error_and_rate(masks, checkpoint, workdir="round"):
        for name, mask in masks.items():
            (project.path / "train" / name).mkdir(exist_ok=True)
            png.write(project.path / "train" / name / "a.png", mask)
        (tmp_path / workdir).mkdir(exist_ok=True)
        recipe = Project(project.path).recipe(tmp_path / workdir, str(checkpoint))
        (flag,) = (flag for flag in recipe.flags if "learning_rate" in flag)
        return recipe.error, float(flag.split("=")[1])

    return error_and_rate


def test_a_network_that_is_right_learns_slowly(rounds, tmp_path):
    """The learning rate follows 1 - IoU of the pixels that count, of masks with any foreground."""
    start = small_model.save(tmp_path / "start", in_channels=1, classes=2)
    label, ignore, via = np.zeros((3, 40, 40), np.uint8)
    label[:30], ignore[:20] = 255, 255
    masks = {"label": label, "ignore": ignore, "via_label": via}
    assert rounds(masks, start) == (0.5, 2e-3)  # half of 20 rows are metal: the full rate
    label[:38] = 255
    assert rounds(masks, start) == (0.5, 2e-3)  # a round that goes on keeps its rate
    assert rounds(masks, start, "second") == pytest.approx((0.1, 2e-3 / 4))
    label[:] = 255
    assert rounds(masks, start, "third") == (0, 2e-4)
    via[30:] = 255
    assert rounds(masks, start, "fourth") == (0.5, 2e-3)  # all vias are missed


def test_the_error_is_that_of_squares_as_the_network_was_trained_on(rounds, project):
    """Stretched, and magnified: wires of 10 pixels to the 20 of the packaged networks."""
    label = np.zeros((256, 256), bool)
    for top in range(0, 256, 20):
        label[top : top + 10] = True
    png.write(project.path / "train/image/a.png", np.where(label, 110, 100).astype(np.uint8))
    rounds({"label": np.where(label, 255, 0).astype(np.uint8)}, "sem")
    (image,) = MetalEverywhere.seen
    assert image.shape == (1, 256, 256, 1)
    assert np.quantile(image, 0.02) < 0.05 and np.quantile(image, 0.98) > 0.95
    edges = np.abs(np.diff(image[0, :, 0, 0] > 0.5)).sum()
    assert edges == pytest.approx(256 / 20, abs=2)
