"""HY5SYN: crops that cover a tile, and a checked download."""

import functools
import hashlib
import http.server
import json
import threading

import cv2
import numpy as np
import pytest
from tensorflow_datasets import download as tfds_download

from eal_icnet_jax.datasets.hy5syn import download, hy5syn_dataset_builder
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.vector import svg_labels

LABEL = (
    b'<svg xmlns="http://www.w3.org/2000/svg" width="40" height="30">'
    b'<path d="M3,7 L21,7 Z" fill="lime" /></svg>'
)


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
    """A server that answers like a Dataverse: a listing with checksums, and files by number."""
    tile = np.random.default_rng(0).integers(0, 255, (30, 40), np.uint8)
    contents = {}
    for k in range(2):
        contents[f"sem{k:04}.png"] = cv2.imencode(".png", tile)[1].tobytes()
        contents[f"label{k:04}.svg"] = LABEL
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
    root = download.download(manager(tmp_path))
    paths = sorted(str(p.relative_to(root)) for p in root.rglob("*.*"))
    assert paths == ["labels/label0000.svg", "labels/label0001.svg", "sems/sem0000.png",
                     "sems/sem0001.png"]  # fmt: skip
    assert svg_labels.read(root / "labels" / "label0001.svg")[0]["label"].sum() == 19


def test_a_download_with_another_checksum_is_reported(server, tmp_path):
    (server / "1").write_bytes(b"something else")
    with pytest.raises(UserError, match=r"label0000\.svg, does not have the checksum"):
        download.download(manager(tmp_path))


@pytest.mark.parametrize("listing", ["no JSON", "{}", '{"data": {"latestVersion": {"files": []}}}'])
def test_an_unknown_listing_is_reported(server, tmp_path, listing):
    (server / "listing").write_text(listing)
    with pytest.raises(UserError, match=r"listing of HY5SYN .* get it from doi\.org"):
        download.download(manager(tmp_path))


def test_a_server_that_does_not_answer_is_reported(server, tmp_path):
    (server / "listing").unlink()
    with pytest.raises(UserError, match=r"does not answer \(HTTPError\): get it from doi\.org"):
        download.download(manager(tmp_path))
