"""The rounds of a project, and which model is in use."""

import json

import numpy as np
import pytest

from eal_icnet_jax.imaging import png
from eal_icnet_jax.review.project import Project
from eal_icnet_jax.system.errors import UserError


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
    first, goes_on = project.next_round()
    assert first.name == "001" and not goes_on
    assert project.next_round() == (first, True)
    png.write(project.path / "train/label/a.png", np.full((40, 40), 255, np.uint8))
    second, goes_on = Project(project.path).next_round()
    assert second.name == "002" and not goes_on
    finish(second)
    assert project.next_round()[0].name == "003"


def test_the_model_before_comes_back(project):
    assert project.current_model() is None
    models = []
    for _ in range(3):
        model, _ = project.next_round()
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


@pytest.mark.parametrize("content", ["", "[]", '{"model": "../../x"}', "{}"])
def test_a_damaged_record_is_reported(project, content):
    (project.path / "models").mkdir()
    (project.path / "models/current.json").write_text(content)
    with pytest.raises(UserError, match=r"current.json is damaged: remove it"):
        project.current_model()
    (project.path / "models/current.json").write_text(json.dumps({"model": "007"}))
    with pytest.raises(UserError, match="which is no finished round: remove it"):
        project.current_model()


def test_the_weights_suit_the_squares(project):
    assert project.suitable_weights() == "sem"
    colours = np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)
    png.write(project.path / "train/image/a.png", colours)
    assert project.suitable_weights() == "optical"
    assert not project.has_vias
