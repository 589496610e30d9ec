import cv2
import numpy as np
import pytest

from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.system.errors import UserError
from tests.imaging.sample_images import gradient

PATTERN = "die1_y{row}-x{column}.png"
PARTS = (slice(0, 300), slice(0, 420)), (slice(100, 260), slice(127, 257))


@pytest.fixture
def tiles(tmp_path):
    """A grid of 3x4 tiles from row 2, column 0, the last of which are smaller."""
    image = gradient(channels=(3,))
    folder = tmp_path / "tiles"
    folder.mkdir()
    for row in range(3):
        for column in range(4):
            tile = image[row * 110 : (row + 1) * 110, column * 128 : (column + 1) * 128]
            png.write(folder / f"die1_y{row + 2:03}-x{column}.png", tile)
    (folder / "notes.txt").write_text("not a tile")
    return folder, image


def test_the_tiles_of_a_folder_are_one_mosaic(tiles):
    folder, image = tiles
    mosaic = mosaic_files.open_mosaic(folder, PATTERN)
    assert mosaic.shape == (300, 420)
    for part in PARTS:
        np.testing.assert_array_equal(mosaic[part], image[part])


def test_the_stamp_changes_with_a_tile(tiles):
    folder, image = tiles
    mosaic = mosaic_files.open_mosaic(folder, PATTERN)
    before = mosaic.stamp()
    assert mosaic.stamp() == before and before["input"] == "tiles"
    png.write(folder / "die1_y003-x1.png", 255 - image[110:220, 128:256])
    assert mosaic.stamp() != before


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("die1_{row}.png", "name tiles as in tile_{row}_{column}.png"),
        ("die2_y{row}-x{column}.png", "holds no file named as die2"),
        (PATTERN, "lacks 1 tiles of its grid (row 3 column 2)"),
    ],
)
def test_bad_folders_of_tiles_are_reported(tiles, pattern, message):
    folder, _ = tiles
    (folder / "die1_y003-x2.png").unlink()
    with pytest.raises(UserError) as caught:
        mosaic_files.open_mosaic(folder, pattern)
    assert message in str(caught.value)


def test_a_tile_of_another_size_is_reported_when_it_is_read(tiles):
    folder, image = tiles
    png.write(folder / "die1_y003-x1.png", image[:100, :128])
    mosaic = mosaic_files.open_mosaic(folder, PATTERN)
    with pytest.raises(UserError, match=r"die1_y003-x1.png is 100x128x3 uint8 and not 110x128x3"):
        mosaic[0:300, 0:420]


def test_a_last_tile_larger_than_the_others_is_reported(tiles):
    folder, image = tiles
    png.write(folder / "die1_y004-x3.png", image[:120, :36])
    with pytest.raises(
        UserError, match=r"die1_y004-x3.png \(36x120 pixels\) is larger than .*die1_y002-x0.png"
    ):
        mosaic_files.open_mosaic(folder, PATTERN)


def test_two_tiles_of_one_place_are_refused(tiles):
    folder, image = tiles
    png.write(folder / "die1_y3-x1.png", image[110:220, 128:256])
    with pytest.raises(UserError, match=r"two tiles of row 3 and column 1, die1_y003-x1\.png and"):
        mosaic_files.open_mosaic(folder, PATTERN)


@pytest.mark.parametrize(("overlap", "axis"), [(40, "columns"), (24, "rows"), (0, "")])
def test_overlapping_tiles_are_reported(tmp_path, overlap, axis):
    rng = np.random.default_rng(0)
    image = cv2.GaussianBlur(rng.random((256, 256)), (0, 0), 3)
    image = np.rint(255 * (image - image.min()) / np.ptp(image)).astype(np.uint8)
    step = 128 - overlap
    down, right = (step, 128) if axis == "rows" else (128, step)
    for row in range(2):
        for column in range(2):
            tile = image[row * down :, column * right :][:128, :128]
            png.write(tmp_path / f"t_{row}_{column}.png", tile)
    notes = mosaic_files.open_mosaic(tmp_path, "t_{row}_{column}.png").notes
    assert len(notes) == bool(overlap)
    if overlap:
        assert f"seem to overlap by {overlap} {axis}: stitch overlapping tiles" in notes[0]
