"""Label files of HY5SYN: filled as by their authors, and unsuitable files are reported."""

import pathlib

import cv2
import numpy as np
import pytest

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import svg_labels

TESTS = pathlib.Path(__file__).parents[1]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" {}>{}</svg>'


def parse(shapes: str, attributes: str = "") -> svg_labels.Labels:
    return svg_labels.parse(SVG.format(attributes, shapes).encode(), "label.svg")


def tracks(shapes: str) -> np.ndarray:
    return parse(shapes).rasterize()["label"]


def path(d: str) -> str:
    return f'<path d="{d}" fill="lime" />'


def test_a_real_label_has_the_foreground_of_its_authors():
    """2,330,502 pixels, as counted by emsec/unsupervised-ic-sem-segmentation with OpenCV 5.

    OpenCV 4.10 draws outlines differently, in their code as in ours: 317 pixels more.
    """
    data = (TESTS / "hy5syn_excerpt/labels/label0002.svg").read_bytes()
    labels = svg_labels.parse(data, "label0002.svg")
    assert (labels.height, labels.width) == (3536, 4096)
    assert (len(labels.tracks), len(labels.vias)) == (608, 589)
    masks = labels.rasterize()
    rounding = 0 if int(cv2.__version__.split(".")[0]) >= 5 else 1e-3
    assert masks["label"].sum() == pytest.approx(2_330_502, rel=rounding)
    areas = sum(np.pi * r**2 for _, _, r in labels.vias)
    assert masks["via_label"].sum() == pytest.approx(areas, rel=0.1)


def test_a_label_survives_being_written():
    data = (TESTS / "hy5syn_excerpt/labels/label0002.svg").read_bytes()
    labels = svg_labels.parse(data, "")
    again = svg_labels.parse(labels.to_svg().encode(), "")
    for key, mask in labels.rasterize().items():
        np.testing.assert_array_equal(again.rasterize()[key], mask)


def test_tracks_are_a_union_and_include_their_outline():
    box = np.zeros((30, 40), bool)
    box[5:11, 4:15] = True
    np.testing.assert_array_equal(tracks(path("M4,5 L14,5 L14,10 L4,10 Z")), box)
    other = np.zeros_like(box)
    other[8:21, 10:31] = True
    both = path("M4,5 L14,5 L14,10 L4,10 Z") + path("M10,8 L30,8 L30,20 L10,20 L10,8 Z")
    np.testing.assert_array_equal(tracks(both), box | other)


def test_a_path_that_crosses_itself_is_filled_by_the_even_odd_rule():
    twice = path("M4,4 L24,4 L24,24 L4,24 L4,4 L10,10 L18,10 L18,18 L10,18 L10,10 L4,4 Z")
    mask = tracks(twice)
    assert not mask[12:17, 12:17].any() and mask[10, 10:19].all() and mask[20, 5:23].all()
    subpaths = path("M4,4 L24,4 L24,24 L4,24 Z M10,10 L18,10 L18,18 L10,18 Z")
    assert not tracks(subpaths)[13:16, 13:16].any()


def test_tracks_without_area_are_lines_and_points():
    line = np.zeros((30, 40), bool)
    line[7, 3:22] = True
    np.testing.assert_array_equal(tracks(path("M3,7 L21,7 Z")), line)
    point = np.zeros_like(line)
    point[7, 3] = True
    np.testing.assert_array_equal(tracks(path("M3,7 Z")), point)


def test_vias_are_discs_in_a_mask_of_their_own():
    labels = parse('<circle cx="20" cy="15" r="6" fill="red" /><circle cx="0" cy="0" r="3" />')
    masks = labels.rasterize()
    y, x = np.mgrid[:30, :40]
    distance = np.hypot(x - 20, y - 15)
    assert masks["via_label"][distance <= 5.5].all()
    assert not masks["via_label"][(distance >= 7) & (np.hypot(x, y) >= 4)].any()
    assert masks["via_label"][0, 0] and not masks["label"].any()


@pytest.mark.parametrize(
    "shapes, expected",
    [
        (path("M1,2 L3,4 C1,1 2,2 3,3 Z"), "path 1 of label.svg has 'C1,1 2,2 3,3 Z'"),
        (path("M1,2 L3.5,4 Z"), "path 1 of label.svg has 'L3.5,4 Z'"),
        (path("m1,2 l3,4"), "path 1 of label.svg has 'm1,2 l3,4'"),
        (path(""), "path 1 of label.svg has ''"),
        (path("M1,2 L39,4 Z") + path("M1,2 L40,4 Z"), "path 2 of label.svg reaches outside"),
        (path("M1,2 L3,-1 Z"), "path 1 of label.svg reaches outside its tile of 30x40"),
        (path("M1,2 L999999999999,4 Z"), "path 1 of label.svg has 'L999999999999,4 Z'"),
        ('<circle cx="20" cy="30" r="4"/>', "circle 1 of label.svg lies outside its tile"),
        ('<circle cx="20" cy="3" r="x"/>', "circle 1 of label.svg has r='x'"),
        ('<circle cx="20" cy="3"/>', "circle 1 of label.svg has r=''"),
        ('<rect width="9" height="9"/>', "label.svg holds a rect: draw tracks as paths"),
        ('<g transform="scale(2)"/>', "label.svg has a transform"),
        ("<g>", "label.svg is no readable SVG"),
    ],
)
def test_bad_shapes_are_reported(shapes, expected):
    with pytest.raises(UserError) as error:
        parse(shapes)
    assert expected in str(error.value)


@pytest.mark.parametrize(
    "text, expected",
    [
        (
            '<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;&a;">]>' + SVG.format("", "&b;"),
            "label.svg defines or refers to entities",
        ),
        (
            '<!DOCTYPE x [<!ENTITY a SYSTEM "file:///etc/hostname">]>' + SVG.format("", "&a;"),
            "label.svg defines or refers to entities",
        ),
        ("", "label.svg is no readable SVG"),
        ("\x00\x01", "label.svg is no readable SVG"),
        ("<html/>", "label.svg is XML, but no SVG"),
        (SVG.format('viewBox="0 0 80 60"', ""), "label.svg has viewBox 0 0 80 60"),
        (SVG.format("", "").replace('width="40"', 'width="100%"'), "label.svg has width='100%'"),
        (SVG.format("", "").replace('"40"', '"900000"').replace('"30"', '"900000"'), "900000x"),
    ],
)
def test_bad_files_are_reported(text, expected):
    with pytest.raises(UserError) as error:
        svg_labels.parse(text.encode(), "label.svg")
    assert expected in str(error.value)


@pytest.mark.parametrize("seed", range(5))
def test_outlines_unite_to_any_mask(seed):
    noise = np.random.default_rng(seed).standard_normal((60, 70)).astype(np.float32)
    mask = cv2.GaussianBlur(noise, (0, 0), 2 + seed / 4) > -0.02
    painted = np.zeros(mask.shape, np.uint8)
    for outline in svg_labels.hole_free_outlines(mask):
        cv2.fillPoly(painted, [outline], 1)
    np.testing.assert_array_equal(painted > 0, mask)
