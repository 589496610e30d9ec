"""HY5SYN: label files as their authors fill them, crops that cover a tile, a checked download."""

import functools
import hashlib
import http.server
import json
import pathlib
import threading

import cv2
import numpy as np
import pytest
from eal_icnet_jax.datasets.hy5syn import download, hy5syn_dataset_builder, svg_labels
from tensorflow_datasets import download as tfds_download

from eal_icnet_jax.errors import UserError

HERE = pathlib.Path(__file__).parents[1]
SVG = '<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30" {}>{}</svg>'


def parse(shapes: str, attributes: str = "") -> svg_labels.Labels:
    return svg_labels.parse(SVG.format(attributes, shapes).encode(), "label.svg")


def tracks(shapes: str) -> np.ndarray:
    return parse(shapes).rasterize()["label"]


def path(d: str) -> str:
    return f'<path d="{d}" fill="lime" />'


def test_a_real_label_has_its_authors_foreground():
    """2,330,502 pixels, as counted by emsec/unsupervised-ic-sem-segmentation with OpenCV 5.

    Older OpenCV draws outlines otherwise, theirs as ours: 317 pixels more with 4.10.
    """
    data = (HERE / "hy5syn_excerpt/labels/label0002.svg").read_bytes()
    labels = svg_labels.parse(data, "label0002.svg")
    assert (labels.height, labels.width) == (3536, 4096)
    assert (len(labels.tracks), len(labels.vias)) == (608, 589)
    masks = labels.rasterize()
    rounding = 0 if int(cv2.__version__.split(".")[0]) >= 5 else 1e-3
    assert masks["label"].sum() == pytest.approx(2_330_502, rel=rounding)
    areas = sum(np.pi * r**2 for _, _, r in labels.vias)
    assert masks["via_label"].sum() == pytest.approx(areas, rel=0.1)


def test_a_label_survives_being_written():
    data = (HERE / "hy5syn_excerpt/labels/label0002.svg").read_bytes()
    labels = svg_labels.parse(data, "")
    again = svg_labels.parse(labels.to_svg().encode(), "")
    for key, mask in labels.rasterize().items():
        np.testing.assert_array_equal(again.rasterize()[key], mask)


def test_tracks_are_a_union_and_hold_their_outline():
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


def test_vias_are_discs_apart_from_tracks():
    labels = parse('<circle cx="20" cy="15" r="6" fill="red" /><circle cx="0" cy="0" r="3" />')
    masks = labels.rasterize()
    y, x = np.mgrid[:30, :40]
    distance = np.hypot(x - 20, y - 15)
    assert masks["via_label"][distance <= 5.5].all()
    assert not masks["via_label"][(distance >= 7) & (np.hypot(x, y) >= 4)].any()
    assert masks["via_label"][0, 0] and not masks["label"].any()


@pytest.mark.parametrize(
    "shapes, told",
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
def test_bad_shapes_are_told(shapes, told):
    with pytest.raises(UserError) as error:
        parse(shapes)
    assert told in str(error.value)


@pytest.mark.parametrize(
    "text, told",
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
def test_bad_files_are_told(text, told):
    with pytest.raises(UserError) as error:
        svg_labels.parse(text.encode(), "label.svg")
    assert told in str(error.value)


@pytest.mark.parametrize("config, count", [("covering", 16), ("grid", 12)])
def test_crops_cover_a_tile(config, count, tmp_path):
    builder = hy5syn_dataset_builder.Builder(config=config, data_dir=str(tmp_path))
    windows = builder.windows(3536, 4096)
    covered = np.zeros((3536, 4096), np.uint8)
    for top, left, height, width in windows:
        assert (height, width) == (1024, 1024) and top + 1024 <= 3536 and left + 1024 <= 4096
        covered[top : top + height, left : left + width] += 1
    assert len(windows) == count
    assert covered.all() == (config == "covering")
    if config == "grid":
        assert covered.max() == 1 and covered[:3072].all()
    assert builder.windows(300, 2000) == [(0, 0, 300, 1024)] + (
        [(0, 976, 300, 1024)] if config == "covering" else []
    )


@pytest.fixture
def server(tmp_path, monkeypatch):
    """Answers as a Dataverse does: a listing with checksums, and the files by their number."""
    tile = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    contents = {}
    for k in range(2):
        contents[f"sem{k:04}.png"] = cv2.imencode(".png", tile)[1].tobytes()
        contents[f"label{k:04}.svg"] = SVG.format("", path("M3,7 L21,7 Z")).encode()
    contents["README.txt"] = b"not wanted"
    (tmp_path / "www").mkdir()
    entries = []
    for number, (name, data) in enumerate(contents.items()):
        (tmp_path / "www" / str(number)).write_bytes(data)
        checksum = {"type": "MD5", "value": hashlib.md5(data).hexdigest()}
        entries.append({"dataFile": {"id": number, "filename": name, "checksum": checksum}})
    listing = {"status": "OK", "data": {"latestVersion": {"files": entries}}}
    (tmp_path / "www" / "listing").write_text(json.dumps(listing))

    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    handler = functools.partial(Quiet, directory=tmp_path / "www")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        monkeypatch.setattr(download, "SERVER", f"http://127.0.0.1:{running.server_port}")
        monkeypatch.setattr(download, "LISTING", "/listing")
        monkeypatch.setattr(download, "FILE", "/{id}")
        yield tmp_path / "www"
        running.shutdown()


def manager(tmp_path):
    return tfds_download.DownloadManager(
        download_dir=str(tmp_path / "downloads"), dataset_name="hy5syn"
    )


def test_the_download_is_laid_out_and_checked(server, tmp_path):
    root = download.tree(manager(tmp_path))
    found = sorted(str(p.relative_to(root)) for p in root.rglob("*.*"))
    assert found == ["labels/label0000.svg", "labels/label0001.svg", "sems/sem0000.png",
                     "sems/sem0001.png"]  # fmt: skip
    assert svg_labels.read(root / "labels" / "label0001.svg")[0]["label"].sum() == 19


def test_a_download_that_differs_is_told(server, tmp_path):
    (server / "1").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"label0000\.svg, does not have the checksum"):
        download.tree(manager(tmp_path))


@pytest.mark.parametrize("listing", ["no JSON", "{}", '{"data": {"latestVersion": {"files": []}}}'])
def test_an_unknown_listing_is_told(server, tmp_path, listing):
    (server / "listing").write_text(listing)
    with pytest.raises(UserError, match=r"listing of HY5SYN .* get it from doi\.org"):
        download.tree(manager(tmp_path))


def test_a_server_that_does_not_answer_is_told(server, tmp_path):
    (server / "listing").unlink()
    with pytest.raises(UserError, match=r"does not answer \(HTTPError\): get it from doi\.org"):
        download.tree(manager(tmp_path))
