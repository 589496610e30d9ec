"""Pictures: their colours, and that drawing them changes nothing in the process."""

import subprocess
import sys

import numpy as np

from eal_icnet_jax.evaluation import pictures
from tests.imaging.sample_images import pixels


def draw_wires(*rows):
    """Return a mask with a wire 4 pixels high for each (row, left, right)."""
    mask = np.zeros((60, 60), bool)
    for row, left, right in rows:
        mask[row : row + 4, left:right] = True
    return mask


def test_the_error_map_has_a_colour_for_each_case():
    label = np.array([[True, True, False, False]])
    prediction = np.array([[True, False, True, False]])
    drawn = pictures.error_map(label, prediction)[0]
    assert [tuple(pixel) for pixel in drawn] == [
        pictures.FOUND, pictures.MISSED, pictures.INVENTED, pictures.EMPTY,
    ]  # fmt: skip


def test_the_electrical_map_has_a_colour_for_each_kind():
    label = draw_wires((1, 40, 55), (40, 5, 55), (46, 5, 55), (52, 5, 55), (34, 5, 55))
    prediction = draw_wires((40, 5, 25), (40, 30, 55), (46, 5, 55), (52, 5, 55), (20, 5, 25))
    prediction[46:56, 50:54] = True
    drawn = pictures.electrical_map(label, prediction)
    for pixel, colour in (
        ((41, 10), pictures.OPENED),
        ((41, 27), pictures.LACKING),
        ((47, 10), pictures.SHORTED),
        ((21, 10), pictures.INVENTED),
        ((35, 40), pictures.MISSED),
        ((2, 50), pictures.EMPTY),  # lies entirely within the border
    ):
        assert tuple(drawn[pixel]) == colour, pixel
    assert (drawn == 255).all(-1).any()  # rings


def test_characters_that_the_font_lacks_become_question_marks():
    assert pictures.printable_in_figures("a\u00e4\u4e2d") == "a\u00e4?"


def test_curves_are_drawn_for_each_epoch(tmp_path):
    records = [
        {"step": 1, "loss": 0.5},
        {"epoch": 1, "train_loss": 0.5, "validation_loss": 0.4, "validation/mIoU": 0.8},
        {"epoch": 2, "train_loss": 0.3, "validation_loss": 0.2, "validation/mIoU": 0.9},
    ]
    pictures.draw_curves(tmp_path / "curves.png", records)
    assert pixels(tmp_path / "curves.png").shape == (380, 1000, 3)


def test_importing_and_drawing_choose_no_backend(tmp_path):
    code = """
import sys
import numpy as np
from eal_icnet_jax.evaluation import pictures
import matplotlib

before = dict.__getitem__(matplotlib.rcParams, "backend")
mask = np.eye(8, dtype=bool)[..., None]
image, valid = np.zeros((8, 8, 1)), np.ones((8, 8), bool)
pictures.draw_evaluation(sys.argv[1], "a", image, mask, mask, ("label",), valid)
assert dict.__getitem__(matplotlib.rcParams, "backend") is before
assert "matplotlib.pyplot" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.png")], check=True)


def test_ignored_pixels_have_a_colour_of_their_own():
    label = np.zeros((64, 64), bool)
    label[20:40] = True
    valid = np.ones((64, 64), bool)
    valid[:, :30] = False
    for drawn in (pictures.error_map, pictures.electrical_map):
        picture = drawn(label, label ^ ~valid, valid)
        assert (picture[~valid] == pictures.IGNORED).all()
        assert not (picture[valid] == pictures.IGNORED).all(-1).any()
