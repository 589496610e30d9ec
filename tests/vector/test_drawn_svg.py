"""Drawings over a photograph, as Inkscape writes them, become layouts in pixels."""

import pathlib

import cv2
import numpy as np
import pytest

from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import drawn_svg
from eal_icnet_jax.vector.layout_options import LAYERS
from eal_icnet_jax.vector.layout_reader import DrawnLayout

SHAPE = 40, 60

HEAD = (
    '<svg xmlns="http://www.w3.org/2000/svg" xmlns:xlink="http://www.w3.org/1999/xlink" '
    'xmlns:inkscape="http://www.inkscape.org/namespaces/inkscape" {} >{}</svg>'
)
PAGE = 'width="60" height="40"'


def masks(body, page=PAGE, shape=SHAPE):
    """Return the masks of the kinds that are drawn."""
    drawing = drawn_svg.parse(HEAD.format(page, body).encode(), "a.svg", shape)
    layout = DrawnLayout(pathlib.Path("a.svg"), drawing.layout)
    return {
        kind: layout.mask(layer, shape, 1.0)[:, :]
        for kind, layer in LAYERS.items()
        if layout.bounds(layer)
    }


def box(left, top, right, bottom):
    mask = np.zeros(SHAPE, bool)
    mask[top:bottom, left:right] = True
    return mask


@pytest.mark.parametrize(
    "shape",
    [
        '<rect x="10" y="5" width="20" height="10"/>',
        '<path d="m 10,5 h 20 v 10 h -20 z"/>',
        '<path d="M10 5 30 5 30 15 10 15"/>',
        '<polygon points="10,5 30,5 30,15 10,15"/>',
        '<g transform="translate(10,5)"><rect width="10" height="5" transform="scale(2)"/></g>',
        '<rect x="-15" y="10" width="10" height="20" transform="rotate(-90)"/>',
        '<path d="M10 10 H30" style="fill:none;stroke:#00f;stroke-width:10"/>',
        '<line x1="15" y1="10" x2="25" y2="10" stroke="red" stroke-width="10px" '
        'stroke-linecap="square"/>',
        '<polyline points="20,5 20,15" fill="none" stroke="red" stroke-width="20"/>',
    ],
)
def test_every_form_of_a_wire(shape):
    np.testing.assert_array_equal(masks(shape)["metal"], box(10, 5, 30, 15))


def test_holes_follow_the_rule_of_the_fill():
    outer, inner = "M10 5 H40 V35 H10 Z", "M20 15 H30 V25 H20 Z"
    reversed_inner = "M20 15 V25 H30 V15 Z"
    solid, hollow = box(10, 5, 40, 35), box(10, 5, 40, 35) & ~box(20, 15, 30, 25)
    for style, hole, expected in (
        ("", inner, solid),
        ("", reversed_inner, hollow),
        ('style="fill-rule:evenodd"', inner, hollow),
        ('fill-rule="evenodd"', reversed_inner, hollow),
    ):
        drawn = masks(f'<path d="{outer} {hole}" {style}/>')["metal"]
        np.testing.assert_array_equal(drawn, expected)


def test_curves_are_smooth():
    """A circle, and the same one as an arc and as Bezier curves, has the area of a disc."""
    k = 10 * 4 / 3 * np.tan(np.pi / 8)
    arc = "M20 20 A10 10 0 1 0 40 20 A10 10 0 1 0 20 20"
    quarter = f"c {k} 0 10 {10 - k} 10 10"
    bezier = f"M30 10 {quarter} c 0 {k} {k - 10} 10 -10 10 c {-k} 0 -10 {k - 10} -10 -10 "
    bezier += f"c 0 {-k} {10 - k} -10 10 -10 z"
    (via,) = masks('<circle cx="30" cy="20" r="10"/>').values()
    assert via.sum() == pytest.approx(np.pi * 100, rel=0.02)
    for path in (arc, bezier):
        assert np.sum(masks(f'<path d="{path}"/>')["metal"] != via) <= 8
    disc = np.zeros(SHAPE, np.uint8)
    cv2.circle(disc, (30, 20), 10, 1, cv2.FILLED)
    assert np.sum(via != (disc > 0)) < 40


def test_kinds_are_those_of_the_layers_and_otherwise_of_the_shapes():
    wire, via = '<rect x="10" y="5" width="20" height="10"/>', '<circle cx="40" cy="30" r="4"/>'
    free = masks(wire + via)
    assert set(free) == {"metal", "via"} and free["via"][30, 40] and not free["metal"][30, 40]
    layer = '<g inkscape:label="{}" inkscape:groupmode="layer">{}</g>'
    swapped = masks(layer.format("Vias 1", wire) + layer.format("metal", via))
    np.testing.assert_array_equal(swapped["via"], free["metal"])
    np.testing.assert_array_equal(swapped["metal"], free["via"])
    body = layer.format("Metal", f"<g>{wire}</g>") + layer.format("notes", via)
    assert set(masks(body)) == {"metal"}
    drawing = drawn_svg.parse(HEAD.format(PAGE, body).encode(), "a.svg", SHAPE)
    assert drawing.left_out == 1


def test_what_is_hidden_or_not_painted_is_not_drawn():
    wire = '<rect x="10" y="5" width="20" height="10" style="{}"/>'
    for style in ("display:none", "fill:none", "visibility:hidden", "opacity:0", "fill-opacity:0",
                  "fill:transparent", "fill:rgba(0,0,0,0)"):  # fmt: skip
        assert not masks(wire.format(style)), style
        assert not masks(f'<g style="{style}">{wire.format("")}</g>'), style


def test_a_hidden_photograph_says_where_the_pixels_are():
    page = 'width="210mm" height="297mm" viewBox="0 0 210 297"'
    body = (
        '<g style="display:none"><image x="10" y="13" width="120" height="80" href="p.png"/></g>'
        '<rect x="30" y="23" width="40" height="20"/>'
    )
    np.testing.assert_array_equal(masks(body, page)["metal"], box(10, 5, 30, 15))
    with pytest.raises(UserError, match="holds an image without a place or a size"):
        masks(body.replace('width="120" ', ""), page)


@pytest.mark.parametrize(
    ("page", "body"),
    [
        ('width="60px" height="40px" viewBox="0 0 120 80"', '<rect x="20" y="10" {}/>'),
        ('width="30mm" height="20mm" viewBox="0 0 120 80"', '<rect x="20" y="10" {}/>'),
        (
            'width="210mm" height="297mm" viewBox="0 0 210 297"',
            '<g transform="translate(7,9)"><image x="3" y="4" width="120" height="80" '
            'xlink:href="photo.png"/><rect x="23" y="14" {}/></g>',
        ),
    ],
)
def test_the_photograph_fills_the_image_or_the_page(page, body):
    drawn = masks(body.format('width="40" height="20"'), page)["metal"]
    np.testing.assert_array_equal(drawn, box(10, 5, 30, 15))


@pytest.mark.parametrize(
    ("body", "page", "sentence"),
    [
        ('<text x="1" y="1">a</text>', PAGE, "holds a text: convert it to paths"),
        ('<use xlink:href="#a"/>', PAGE, "holds a use: unlink its clones"),
        ("<switch><rect/></switch>", PAGE, "holds a switch: keep one of its branches"),
        ('<mask id="m"><rect/></mask>', PAGE, "holds a mask between its shapes"),
        ("<svg><rect/></svg>", PAGE, "holds a svg between its shapes"),
        ('<rect clip-path="url(#c)"/>', PAGE, "holds a rect with clip-path: release its clip"),
        ('<rect style="mask: url(#c)"/>', PAGE, "holds a rect with mask: release its mask"),
        (
            '<g transform="scale(3,1)"><path d="M1 2H9" stroke="red" stroke-width="2"/></g>',
            PAGE,
            r"a stroke that is scaled by 3 in one direction and 1 in the other",
        ),
        ('<circle r="9" transform="skewX(30)"/>', PAGE, "holds a skewed ellipse"),
        ('<path d="M0 0H9" stroke-dasharray="2"/>', PAGE, "holds a path with stroke-dasharray"),
        ("<rect/>", 'width="50" height="40"', "the page in a.svg is 50x40 wide and high, and the"),
        ('<image width="1" height="1"/><image width="1" height="1"/>', PAGE, "holds 2 images"),
        ('<path d="M0 0 H9" stroke="red" stroke-width="1e9"/>', PAGE, "has a stroke 1e.09 pixels"),
        ('<path d="M0 0 L 1e9 1e9 L 3 4"/>', PAGE, "has a shape far outside the photograph"),
    ],
)
def test_what_cannot_be_read_is_refused(body, page, sentence):
    with pytest.raises(UserError, match=sentence):
        masks(body, page)


def test_entities_and_files_that_are_no_svg_are_refused():
    bomb = b'<!DOCTYPE svg [<!ENTITY a "b">]><svg xmlns="http://www.w3.org/2000/svg">&a;</svg>'
    for data, sentence in ((bomb, "entities"), (b"<html/>", "no SVG"), (b"\xff", "no readable")):
        with pytest.raises(UserError, match=sentence):
            drawn_svg.parse(data, "a.svg", SHAPE)
