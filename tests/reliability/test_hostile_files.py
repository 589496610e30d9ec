"""Files from strangers: none of their code is run, they write nothing, and memory stays bounded."""

import contextlib
import io
import json
import os
import pathlib
import pickle
import socket
import struct
import subprocess
import sys
import zipfile
import zlib

import cv2
import hypothesis
import numpy as np
import pytest
import tifffile
import torch
import zarr
from hypothesis import strategies

from eal_icnet_jax.imaging import decoding, mosaic_files
from eal_icnet_jax.models import torch_files, torch_weights
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.terminal import report_error
from eal_icnet_jax.vector import svg_labels
from tests import cli
from tests.reliability import targets

EXAMPLES = {"drawing": 60, "golden": 60, "zarr": 60, "tiff": 100, "metadata": 8}
"""Number of inputs for the slower targets. The others get 200."""


@strategies.composite
def mutated(draw, seeds):
    """Draw a valid file with some bytes changed, inserted or removed, or arbitrary bytes."""
    if draw(strategies.integers(0, 9)) == 0:
        return draw(strategies.binary(max_size=300))
    data = bytearray(draw(strategies.sampled_from(seeds)))
    for _ in range(draw(strategies.integers(1, 6))):
        at = draw(strategies.integers(0, len(data)))
        new = draw(strategies.binary(max_size=8))
        data[at : at + draw(strategies.integers(0, 16))] = new
    return bytes(data)


@pytest.mark.parametrize("name", targets.TARGETS)
def test_any_bytes_are_read_or_refused(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    seeds = targets.seeds(name)
    if name != "metadata":  # its checkpoint has no weights
        for seed in seeds:
            assert targets.outcome(name, seed, tmp_path) == "read"

    @hypothesis.settings(
        max_examples=EXAMPLES.get(name, 200), derandomize=True, deadline=None, database=None
    )
    @hypothesis.given(mutated(seeds))
    def holds(data):
        targets.outcome(name, data, tmp_path)

    holds()


class Runs:
    """An object that calls a function when it is unpickled without care."""

    def __init__(self, function, *arguments):
        self._reduced = function, arguments

    def __reduce__(self):
        return self._reduced


def hostile_pickles(marker: pathlib.Path):
    touch = f"open({str(marker)!r}, 'w')"
    yield Runs(os.system, f"touch {marker}")
    yield Runs(eval, touch)
    yield Runs(exec, touch)
    yield Runs(open, str(marker), "w")
    yield Runs(pathlib.Path.touch, marker)
    yield Runs(subprocess.Popen, ["touch", str(marker)])
    yield Runs(torch.hub.download_url_to_file, "file:///etc/passwd", str(marker))
    yield Runs(torch.jit.load, str(marker))
    yield Runs(np.save, str(marker), 1)


def archives(content):
    """Yield an object as `torch.save` writes it now and wrote it before, and as a pickle."""
    for options in ({}, {"_use_new_zipfile_serialization": False}):
        file = io.BytesIO()
        torch.save(content, file, **options)
        yield file.getvalue()
    for protocol in (0, 2, 4):
        yield pickle.dumps(content, protocol)


def test_no_code_in_a_pickle_is_run(tmp_path):
    marker, path = tmp_path / "marker", tmp_path / "weights.pth"
    count = 0
    for hostile in hostile_pickles(marker):
        for content in (
            hostile,
            {"a": hostile},
            {"state_dict": {"a": torch.ones(1), "b": hostile}},
        ):
            for data in archives(content):
                path.write_bytes(data)
                with pytest.raises(UserError, match=r"safe to load \(.*\): save only the model's"):
                    torch_files.read_state_dict(path)
                count += 1
    assert count == 9 * 3 * 5
    assert sorted(tmp_path.iterdir()) == [path]


def archive_of(*members, **options) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", **options) as archive:
        for name, data in members:
            archive.writestr(name, data)
    return file.getvalue()


UNPACKS = "unpacks to more than it holds"


def torch_bombs():
    """Yield small files that claim to hold much, and a part of the message that refuses each."""
    zeros = bytes(2**26)
    yield archive_of(("archive/data.pkl", zeros), compression=zipfile.ZIP_DEFLATED), UNPACKS
    yield archive_of(("archive/data/0", zeros), compression=zipfile.ZIP_BZIP2), UNPACKS
    file = io.BytesIO()
    torch.save({"a": torch.zeros(1).expand(10**6, 10**6)}, file)
    yield file.getvalue(), "claims to hold more than its size"
    file = io.BytesIO()
    torch.save({str(k): torch.zeros(10**6) for k in range(3)}, file)
    data = file.getvalue()
    yield data[: len(data) // 2], "is not a file of weights that is safe to load"
    file = io.BytesIO()
    one = torch.zeros(2**18)
    torch.save({str(k): one for k in range(4000)}, file)
    yield file.getvalue(), "claims to hold more than its size"
    lying = bytearray(archive_of(("archive/data.pkl", b"x" * 100)))
    at = lying.rfind(b"PK\x01\x02")
    lying[at + 20 : at + 28] = struct.pack("<II", 2**31, 2**31)
    yield bytes(lying), UNPACKS
    yield pickle.dumps({"a": Runs(bytearray, 2**40)}), "is not a file of weights that is safe"


def safetensors_lies():
    def file(header, data=b""):
        text = json.dumps(header).encode()
        return len(text).to_bytes(8, "little") + text + data

    def one(**changes):
        return {"a": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8], **changes}}

    yield (2**63).to_bytes(8, "little") + b"{}"
    yield (2**24 + 1).to_bytes(8, "little") + bytes(100)
    yield file(one(shape=[2**40]), bytes(8))
    yield file(one(shape=[2**62, 8]), bytes(8))
    yield file(one(data_offsets=[0, 2**40]), bytes(8))
    yield file(one(data_offsets=[8, 0]), bytes(8))
    yield file(one(dtype="F1024"), bytes(8))
    yield file(one(shape=[-2]), bytes(8))
    yield file({**one(), "b": one()["a"]}, bytes(8))
    yield file([1, 2, 3])


def image_bombs():
    def png(height, width):
        def chunk(kind, data):
            crc = zlib.crc32(kind + data)
            return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", crc)

        head = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
        body = zlib.compress(bytes(2**20))
        return (
            b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", body) + chunk(b"IEND", b"")
        )

    yield png(16384, 16385)
    yield png(2**31 - 1, 2**31 - 1)
    jpeg = bytearray(cv2.imencode(".jpg", np.zeros((16, 16), np.uint8))[1].tobytes())
    at = jpeg.find(b"\xff\xc0")
    jpeg[at + 5 : at + 9] = struct.pack(">HH", 65500, 65500)
    yield bytes(jpeg)
    bmp = bytearray(cv2.imencode(".bmp", np.zeros((16, 16), np.uint8))[1].tobytes())
    bmp[18:26] = struct.pack("<ii", 10**5, -(10**5))
    yield bytes(bmp)
    file = io.BytesIO()
    tifffile.imwrite(file, np.zeros((16, 16), np.uint8))
    tiff = file.getvalue()
    for tag in (256, 257):  # width and height
        small, large = (struct.pack("<HHI", tag, 4, 1) + struct.pack("<I", n) for n in (16, 10**5))
        assert small in tiff
        tiff = tiff.replace(small, large)
    yield tiff


def svg_attacks():
    def svg(body="", head="", size=(64, 64)):
        return (
            f'<?xml version="1.0"?>{head}<svg xmlns="http://www.w3.org/2000/svg" '
            f'xmlns:xlink="http://www.w3.org/1999/xlink" width="{size[0]}" height="{size[1]}">'
            f"{body}</svg>"
        ).encode()

    laughs = "".join(f'<!ENTITY l{k} "{f"&l{k - 1};" * 10 if k else "lol"}">' for k in range(12))
    yield svg("<desc>&l11;</desc>", f"<!DOCTYPE svg [{laughs}]>")
    yield svg("<desc>&x;</desc>", '<!DOCTYPE svg [<!ENTITY x SYSTEM "file:///etc/passwd">]>')
    yield svg("", '<!DOCTYPE svg [<!ENTITY % x SYSTEM "file:///etc/passwd"> %x;]>')
    yield svg('<image xlink:href="file:///etc/passwd"/>')
    yield svg("<script>alert(1)</script>")
    yield svg('<use xlink:href="#a"/>')
    yield svg("<foreignObject/>")
    yield svg(size=(10**5, 10**5))
    yield svg(size=(10**9, 10**9))
    yield svg('<path d="M' + "1" * 10**6 + ',1"/>')
    yield svg('<circle cx="1" cy="1" r="999999999"/>')


def zarr_attacks(folder: pathlib.Path):
    def made(name, change):
        path = folder / f"{name}.zarr"
        zarr.create_array(str(path), data=np.zeros((64, 64), np.uint8), chunks=(32, 32))
        metadata = json.loads((path / "zarr.json").read_text())
        change(metadata)
        (path / "zarr.json").write_text(json.dumps(metadata))
        return path

    def pieces(metadata):
        metadata["shape"] = [2**20, 2**20]
        metadata["chunk_grid"]["configuration"]["chunk_shape"] = [2**20, 2**20]

    def codec(metadata):
        metadata["codecs"].append({"name": "numcodecs.pickle", "configuration": {}})

    yield made("pieces", pieces)
    yield made("codec", codec)
    group = folder / "group.zarr"
    out = zarr.open_group(str(group), mode="w")
    out.attrs["ome"] = {"multiscales": [{"datasets": [{"path": "../../outside"}]}]}
    zarr.create_array(str(folder.parent / "outside"), data=np.zeros((64, 64), np.uint8))
    yield group


def resident_megabytes(key: str) -> int:
    """Return the memory of this process now ("VmRSS") or at its peak ("VmHWM")."""
    status = pathlib.Path("/proc/self/status").read_text()
    return int(status.partition(f"{key}:")[2].split()[0]) // 1024


@contextlib.contextmanager
def at_most_a_gigabyte():
    """Assert that the peak memory of this process grows by less than a gigabyte inside."""
    reset = pathlib.Path("/proc/self/clear_refs")
    if not reset.exists():  # not on Linux
        yield
        return
    reset.write_text("5")  # sets the peak to the memory in use
    before = resident_megabytes("VmRSS")
    yield
    assert resident_megabytes("VmHWM") - before < 1024


def test_what_claims_to_be_huge_is_refused_in_bounded_memory(tmp_path):
    with at_most_a_gigabyte():
        refuse_huge_files(tmp_path)


def refuse_huge_files(tmp_path):
    path = tmp_path / "weights.pth"
    for data, message in torch_bombs():
        assert len(data) < 10**7
        path.write_bytes(data)
        with pytest.raises(UserError, match=message):
            torch_files.read_state_dict(path)
    path = tmp_path / "weights.safetensors"
    for data in safetensors_lies():
        path.write_bytes(data)
        with pytest.raises(UserError, match="is not a safetensors file that can be read"):
            torch_files.read_state_dict(path)
    for data in image_bombs():
        assert len(data) < 10**5
        with pytest.raises(UserError, match="reads in parts"):
            decoding.decode(data, "bomb")
    png = bytearray(cv2.imencode(".png", np.zeros((16, 16), np.uint8))[1].tobytes())
    at = png.find(b"IDAT")
    png[at - 4 : at] = struct.pack(">I", 0x6FFFFFF7)  # OpenCV allocates what a chunk claims
    with pytest.raises(UserError, match="cannot be read as an image"):
        decoding.decode(bytes(png), "bomb")
    for data in svg_attacks():
        with pytest.raises(UserError):
            svg_labels.parse(data, "label.svg")
    for path in zarr_attacks(tmp_path):
        with pytest.raises(UserError):
            mosaic_files.open_mosaic(path)


@pytest.mark.parametrize("large", [False, True])
def test_a_tiff_whose_pages_form_a_circle_is_refused(tmp_path, large):
    """tifffile would follow them for ever."""
    path = tmp_path / "circle.tif"
    with tifffile.TiffWriter(path, bigtiff=large) as file:
        for _ in range(2):
            file.write(np.zeros((16, 16), np.uint8), contiguous=False)
    data = bytearray(path.read_bytes())
    with tifffile.TiffFile(path) as file:
        first, second = (page.offset for page in file.pages)
    entries, entry, link = (8, 20, 8) if large else (2, 12, 4)
    count = int.from_bytes(data[second : second + entries], "little")
    at = second + entries + entry * count
    data[at : at + link] = first.to_bytes(link, "little")
    path.write_bytes(data)
    with pytest.raises(UserError, match="is cut off or damaged"):
        mosaic_files.open_mosaic(path)


def test_a_doctype_fetches_nothing():
    """Some programs write one. What it refers to is never requested."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.2)
        port = server.getsockname()[1]
        text = (
            f'<!DOCTYPE svg SYSTEM "http://127.0.0.1:{port}/svg.dtd">'
            '<svg xmlns="http://www.w3.org/2000/svg" width="8" height="8"/>'
        )
        assert svg_labels.parse(text.encode(), "label.svg").height == 8
        with pytest.raises(TimeoutError):
            server.accept()


def test_names_in_an_archive_that_lead_out_of_the_folder_write_nothing(tmp_path):
    inside = tmp_path / "a" / "b"
    inside.mkdir(parents=True)
    path = inside / "weights.pth"
    for name in ("../../evil", "/tmp/evil_of_eal_icnet_jax", "archive/../../../evil"):
        file = io.BytesIO()
        torch.save({"a": torch.ones(2)}, file)
        with zipfile.ZipFile(file, "a") as archive:
            archive.writestr(name, "evil")
        path.write_bytes(file.getvalue())
        assert cli.call("convert", "from-torch", path, inside / "out").returncode == 1
        assert sorted(p for p in tmp_path.rglob("*") if p.is_file()) == [path]
        assert not pathlib.Path("/tmp/evil_of_eal_icnet_jax").exists()


def test_deep_json_is_refused(tmp_path):
    for data in (b"[" * 10**6, b'{"a":' * 10**5, b"1e999", b'"' + b"\\u0000" * 10):
        assert targets.outcome("config", data, tmp_path) == "refused"


def test_names_in_a_file_cannot_steer_the_terminal(tmp_path, capsys):
    path = tmp_path / "weights.safetensors"
    path.write_bytes(targets.safetensors.numpy.save({"\x1b]0;owned\x07": np.ones(2, np.float32)}))
    with pytest.raises(UserError) as raised:
        torch_weights.from_torch(torch_files.read_state_dict(path))
    assert report_error(raised.value) == 1
    message = capsys.readouterr().err
    assert "\x1b" not in message and "\\x1b]0;owned\\x07" in message


@pytest.mark.soak
@pytest.mark.parametrize("name", targets.TARGETS)
def test_atheris_finds_nothing(name, tmp_path, figures):
    """Fuzzing guided by coverage, for `SOAK_FUZZ_SECONDS` each."""
    pytest.importorskip("atheris")
    seconds = os.environ.get("SOAK_FUZZ_SECONDS", "300")
    out = tmp_path / "figures.json"
    command = [sys.executable, "-m", "tests.reliability.fuzz", name, seconds, str(out)]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr[-5000:]
    figures.update(json.loads(out.read_text()), seconds=int(seconds))
    assert figures["read"] + figures["refused"] > 0
