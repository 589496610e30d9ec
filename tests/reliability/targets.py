"""The readers of strangers' files as functions of bytes. Each returns or raises a `UserError`."""

import contextlib
import io
import json
import pathlib
import tempfile
from collections.abc import Callable

import cv2
import numpy as np
import safetensors.numpy
import tifffile
import zarr

from eal_icnet_jax.evaluation import calibration
from eal_icnet_jax.imaging import (
    decoding,
    mosaic_files,
    mosaics,
    moved_mosaic,
    smooth_maps,
    tile_positions,
)
from eal_icnet_jax.models import checkpoint_files, checkpoints, torch_files
from eal_icnet_jax.netlist import extraction, golden
from eal_icnet_jax.review import review_list, strokes
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.training import verification
from eal_icnet_jax.vector import drawn_svg, layout_files, layout_reader, svg_labels
from tests import small_config

CORNER = slice(0, 48), slice(0, 48)

DRAWING = """<svg xmlns="http://www.w3.org/2000/svg" width="64mm" height="64mm" viewBox="0 0 64 64">
<g id="metal" transform="translate(2,3) rotate(5)"><rect x="4" y="5" width="20" height="9" rx="2"/>
<path d="M1 2 C 3 4 5 6 7 8 A 9 9 0 0 1 20 20 z" style="stroke:red;stroke-width:2px"/></g>
<circle id="via1" cx="30" cy="30" r="4"/></svg>"""


def read_pth(data: bytes, folder: pathlib.Path):
    path = folder / "weights.pth"
    path.write_bytes(data)
    torch_files.read_state_dict(path)


def read_safetensors(data: bytes, folder: pathlib.Path):
    path = folder / "weights.safetensors"
    path.write_bytes(data)
    torch_files.read_state_dict(path)


def read_image(data: bytes, folder: pathlib.Path):
    decoding.decode(data, "image")
    with contextlib.suppress(UserError):  # not every image is a mask
        decoding.decode_mask(data, "image")


def read_tiff(data: bytes, folder: pathlib.Path):
    path = folder / "mosaic.tif"
    path.write_bytes(data)
    mosaic_files.open_mosaic(path)[CORNER]


def read_stage_tiff(data: bytes, folder: pathlib.Path):
    (folder / "tile.ome.tif").write_bytes(data)
    tile_positions.read_stage_positions(folder)


def read_zarr(data: bytes, folder: pathlib.Path):
    path = folder / "mosaic.zarr"
    if not path.exists():
        zarr.create_array(str(path), data=np.eye(64, dtype=np.uint8), chunks=(32, 32))
    (path / "zarr.json").write_bytes(data)
    mosaic_files.open_mosaic(path)[CORNER]


def read_svg(data: bytes, folder: pathlib.Path):
    labels = svg_labels.parse(data, "label.svg")
    if labels.height * labels.width < 1 << 22:
        labels.rasterize()


def read_drawing(data: bytes, folder: pathlib.Path):
    drawing = drawn_svg.parse(data, "drawing.svg", (64, 64))
    layout = layout_reader.DrawnLayout(folder, drawing.layout)
    for layer in layout.layers():
        layout.mask(layer, (64, 64), 1.0)[CORNER]


def read_layout(data: bytes, folder: pathlib.Path):
    path = folder / "fixed.gds"
    path.write_bytes(data)
    file = layout_reader.DrawnLayout(path, layout_reader.read_layout(path))
    for layer in file.layers()[:2]:
        file.bounds(layer)
        file.mask(layer, (48, 48), 0.1)[CORNER]


def read_golden(data: bytes, folder: pathlib.Path):
    path = folder / "golden.gds"
    path.write_bytes(data)
    golden.read_side(path, None, 0.1)


def read_metadata(data: bytes, folder: pathlib.Path):
    """Read metadata with digests that are right, as an attacker can compute them."""
    with contextlib.suppress(ValueError, RecursionError):
        content = json.loads(data)
        if isinstance(content, dict):
            data = json.dumps(checkpoint_files._with_digests(content, {})).encode()
    for name in ("metadata", "model"):
        (folder / "checkpoint" / name).mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint" / "metadata" / "metadata").write_bytes(data)
    checkpoints.load_model(folder / "checkpoint")


def read_config(data: bytes, folder: pathlib.Path):
    (folder / "config.json").write_bytes(data)
    verification.run_config(folder, None)


def read_strokes(data: bytes, folder: pathlib.Path):
    (folder / "strokes.jsonl").write_bytes(data)
    log = strokes.StrokeLog(folder / "strokes.jsonl", {"input": "a"})
    for layer in strokes.LAYERS:
        strokes.painted(np.zeros((48, 48)), log.strokes, layer, 3, 5, 0.5)


def read_places(data: bytes, folder: pathlib.Path):
    (folder / "places.json").write_bytes(data)
    review_list.read_squares(folder / "places.json")


def read_calibration(data: bytes, folder: pathlib.Path):
    (folder / "metrics.json").write_bytes(data)
    for found in calibration.read_calibrations(folder / "metrics.json"):
        found.plausible_thresholds(0.5)
        found.chance_of_foreground(0.3)


def read_net_labels(data: bytes, folder: pathlib.Path):
    (folder / "names.csv").write_bytes(data)
    extraction.read_net_labels(folder / "names.csv")


def read_layer_map(data: bytes, folder: pathlib.Path):
    (folder / "map.json").write_bytes(data)
    mapped, _ = moved_mosaic.read_map(folder / "map.json")
    mapped(np.zeros((1, 2)))


def read_tile_positions(data: bytes, folder: pathlib.Path):
    (folder / "a.png").write_bytes(b"")
    for name in ("tiles.txt", "tiles.csv"):
        (folder / name).write_bytes(data)
        with contextlib.suppress(UserError):
            tile_positions.read_positions(folder / name)


def _strokes() -> bytes:
    """Return a file of strokes of every shape."""
    shapes = [
        strokes.Stroke("metal", True, "line", ((1, 2), (30, 4)), 5),
        strokes.Stroke("via", True, "disk", ((9, 9),), 7),
        strokes.Stroke("unknown", False, "area", ((1, 1), (20, 1), (9, 30))),
    ]
    changes = [{"do": "add", "stroke": stroke.to_json()} for stroke in shapes]
    lines = [{"photograph": {"input": "a"}}, *changes, {"do": "undo"}, {"do": "redo"}]
    return b"".join(json.dumps(line).encode() + b"\n" for line in lines)


def _stage_tiff() -> bytes:
    """Return a tile that states where the stage was."""
    plane = {"PositionX": 12.5, "PositionY": -3.0, "PositionXUnit": "µm", "PositionYUnit": "mm"}
    sizes = {"PhysicalSizeX": 0.2, "PhysicalSizeY": 0.2}
    file = io.BytesIO()
    metadata = {"axes": "YX", "Plane": plane, **sizes}
    tifffile.imwrite(file, np.zeros((8, 8), np.uint8), ome=True, metadata=metadata)
    return file.getvalue()


def _layer_map() -> bytes:
    """Return a file of how a layer lies over another one."""
    mapped = smooth_maps.map_of_matrix((40, 50), np.eye(2, 3))
    image = mosaics.mosaic_from_array(pathlib.Path("a.png"), np.zeros((40, 50), np.uint8))
    return moved_mosaic.map_as_json(mapped, image).encode()


def _layouts(mask: np.ndarray) -> list[bytes]:
    """Return a mask as GDSII and OASIS."""
    with tempfile.TemporaryDirectory() as folder:
        paths = [pathlib.Path(folder) / f"mask.{ending}" for ending in ("gds", "oas")]
        for path in paths:
            layout_files.write_layout(path, {"metal": mask, "via": mask.T}, 0.1)
        return [path.read_bytes() for path in paths]


def _seeds() -> dict[str, list[bytes]]:
    grey = np.random.default_rng(0).integers(0, 256, (40, 50), np.uint8)
    encoded = {
        ending: cv2.imencode(ending, grey)[1].tobytes() for ending in (".png", ".jpg", ".bmp")
    }
    tiffs = []
    for options in ({}, {"tile": (16, 16), "compression": "deflate"}, {"bigtiff": True}):
        file = io.BytesIO()
        tifffile.imwrite(file, grey, **options)
        tiffs.append(file.getvalue())
    array = zarr.create_array(
        zarr.storage.MemoryStore(), shape=(64, 64), chunks=(32, 32), dtype="u1"
    )
    weights = {"a.weight": np.ones((2, 3), np.float32), "b": np.zeros(4, np.float16)}
    svg = svg_labels.Labels(64, 64, (np.array([[1, 1], [9, 1], [9, 9]], np.int32),), ((20, 20, 3),))
    place = {"rank": 1, "kind": "open", "output": "metal", "x": 3, "y": 4, "left": 0, "top": 0,
             "width": 9, "height": 9}  # fmt: skip
    p = np.random.default_rng(0).random((40, 50))
    counted = calibration.Calibration.of(p, p > 0.4, p > 0)
    spec = {"model": {"name": "eal_icnet", "options": {"in_channels": 1, "classes": 1}}}
    layouts = _layouts(grey[:32, :32] > 100)
    return {
        "safetensors": [safetensors.numpy.save(weights)],
        "image": [*encoded.values(), *tiffs],
        "tiff": tiffs,
        "stage_tiff": [_stage_tiff()],
        "zarr": [json.dumps(array.metadata.to_dict(), default=str).encode()],
        "svg": [svg.to_svg().encode()],
        "drawing": [DRAWING.encode()],
        "layout": layouts,
        "golden": layouts,
        "metadata": [json.dumps(spec).encode()],
        "strokes": [_strokes()],
        "places": [json.dumps({"places": [place]}).encode()],
        "tile_positions": [
            b"dim = 2\na.png; ; (0.0, 1e1)\n",
            b"file: a.png; corr: 0.9; position: (3, -4.5); grid: (0, 0);\n",
            b"name,x,y\na.png,0,7\n",
        ],
        "layer_map": [_layer_map()],
        "net_labels": [b'name,layer,x,y\nVDD,metal1,12.5,180.2\n"a, b",via1,-1e2,0\n'],
        "calibration": [json.dumps({"calibration": {"label": counted.to_json()}}).encode()],
        "config": [small_config.get_config().to_json().encode()],
    }


TARGETS: dict[str, Callable[[bytes, pathlib.Path], None]] = {
    "pth": read_pth,
    "safetensors": read_safetensors,
    "image": read_image,
    "tiff": read_tiff,
    "stage_tiff": read_stage_tiff,
    "zarr": read_zarr,
    "svg": read_svg,
    "drawing": read_drawing,
    "layout": read_layout,
    "golden": read_golden,
    "metadata": read_metadata,
    "strokes": read_strokes,
    "places": read_places,
    "calibration": read_calibration,
    "net_labels": read_net_labels,
    "layer_map": read_layer_map,
    "tile_positions": read_tile_positions,
    "config": read_config,
}


def seeds(name: str) -> list[bytes]:
    """Return valid files to begin from."""
    if name == "pth":
        import torch

        out = []
        for new in (True, False):
            file = io.BytesIO()
            weights = {"a.weight": torch.ones(2, 3), "b": torch.zeros(4, dtype=torch.float16)}
            torch.save({"state_dict": weights}, file, _use_new_zipfile_serialization=new)
            out.append(file.getvalue())
        return out
    return _seeds()[name]


def outcome(name: str, data: bytes, folder: pathlib.Path) -> str:
    """Return "read" or "refused". Any error other than a `UserError` is raised."""
    try:
        TARGETS[name](data, folder)
    except UserError as error:
        assert str(error) and "Traceback" not in str(error)
        return "refused"
    return "read"
