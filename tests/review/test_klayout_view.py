"""The macro for KLayout shows the layout where the photograph shows it."""

import pathlib
import types

import numpy as np
import pytest

from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.review import klayout_view
from eal_icnet_jax.vector import layout_files

lay = pytest.importorskip("klayout.lay")


def run_macro(folder: pathlib.Path):
    """Run the macro as KLayout does, in a view without a window, and return the view."""
    import klayout.db as kdb

    view = lay.LayoutView()
    window = types.SimpleNamespace(
        load_layout=lambda path, mode: view.load_layout(path), current_view=lambda: view
    )
    pya = types.SimpleNamespace(
        MainWindow=types.SimpleNamespace(instance=lambda: window),
        Image=lay.Image,
        DCplxTrans=kdb.DCplxTrans,
    )
    code = (folder / klayout_view.MACRO).read_text().replace("import pya\n", "")
    exec(compile(code, "macro", "exec"), {"pya": pya, "__file__": str(folder / "macro.py")})
    return view


@pytest.mark.parametrize(("shape", "largest"), [((90, 160), 4096), ((300, 500), 100)])
def test_the_layout_lies_over_the_photograph(tmp_path, shape, largest, monkeypatch):
    monkeypatch.setattr(klayout_view, "LARGEST_BACKGROUND", largest)
    monkeypatch.setattr(klayout_view, "STRIP", 64)
    mask = np.zeros(shape, bool)
    mask[shape[0] // 6 : shape[0] // 3, shape[1] // 4 : shape[1] // 2] = True
    photograph = np.where(mask, 255, 0).astype(np.uint8)
    layout_files.write_layout(tmp_path / "a.gds", {"metal": mask}, 0.25)
    mosaic = mosaic_from_array(tmp_path / "a.png", photograph)
    klayout_view.write_view(tmp_path, "a.gds", "places.lyrdb", mosaic, 0.25)
    view = run_macro(tmp_path)
    names = [properties.name for properties in view.each_layer()]
    assert names == ["metal 1/0", "via 2/0"]

    (image,) = view.each_image()
    box = image.box()
    assert (box.left, box.bottom) == (0, 0)
    assert (box.right, box.top) == pytest.approx((0.25 * shape[1], 0.25 * shape[0]))
    metal = view.active_cellview().cell.dbbox()
    scale = image.width() / box.right
    inside = image.get_pixel(int(metal.center().x * scale), int(metal.center().y * scale), 0)
    below = image.get_pixel(int(metal.center().x * scale), 1, 0)
    assert inside > 250 and below < 5


def test_a_photograph_is_shrunk_without_being_read_whole():
    parts = []
    image = np.random.default_rng(0).integers(0, 255, (5000, 200), np.uint8)

    class Watched:
        shape = image.shape

        def __getitem__(self, index):
            parts.append(image[index].shape[0])
            return image[index]

    picture = klayout_view.background(Watched())
    assert picture.shape == (4096, 164, 3) and max(parts) <= klayout_view.STRIP


def test_the_name_of_a_photograph_is_never_code(tmp_path):
    name = """'+__import__('os')._exit(1)+'\"\"\"; raise SystemExit #.gds"""
    mask = np.ones((40, 40), bool)
    layout_files.write_layout(tmp_path / name, {"metal": mask}, 1)
    mosaic = mosaic_from_array(tmp_path / "a.png", mask.astype(np.uint8))
    klayout_view.write_view(tmp_path, name, "places.lyrdb", mosaic, 1)
    assert run_macro(tmp_path).active_cellview().cell.dbbox().width() == 40
