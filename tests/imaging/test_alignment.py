"""A layer over another one: its place is found where they share something, else it is refused."""

import pathlib

import cv2
import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import (
    alignment,
    image_pairs,
    joint_fit,
    mosaic_files,
    mosaic_writing,
    moved_mosaic,
    png,
    smooth_maps,
)
from eal_icnet_jax.imaging.mosaics import mosaic_from_array
from eal_icnet_jax.system.errors import UserError
from tests import cli, killed_runs

SIZE = 1000


@pytest.fixture(scope="module")
def layers():
    """Photographs and masks of the two layers of a drawn stack."""
    drawn = [die.Die(SIZE, SIZE, seed=5, metals=2, number=number) for number in (1, 2)]
    return [die.draw_field(layer, 0) for layer in drawn]


def true_map(points, bend=1.0):
    """Return where points of the reference lie in the other image: turned, scaled and bent."""
    middle = SIZE / 2
    x, y = (np.asarray(points, float) - middle).T
    angle, scale = np.radians(0.8), 1.006
    u = scale * (np.cos(angle) * x - np.sin(angle) * y) + middle + 12
    v = scale * (np.sin(angle) * x + np.cos(angle) * y) + middle - 9
    u += 6 * bend * np.sin(np.pi * y / SIZE)
    return np.stack([u, v + 5 * bend * np.cos(np.pi * x / SIZE)], -1)


def distorted(image, bend=1.0):
    """Return an image whose pixel `true_map(p)` shows what the given one shows at p."""
    rows, columns = np.mgrid[:SIZE, :SIZE]
    wanted = np.stack([columns, rows], -1).reshape(-1, 2).astype(float)
    source = wanted.copy()
    for _ in range(20):
        source += wanted - true_map(source, bend)
    at = source.reshape(SIZE, SIZE, 2).astype(np.float32)
    return cv2.remap(image, at, None, cv2.INTER_LINEAR)


def mosaic(image):
    return mosaic_from_array(pathlib.Path("image.png"), image)


PLACES = np.stack(np.meshgrid(*[np.arange(60.0, 960, 60)] * 2), -1).reshape(-1, 2)


@pytest.fixture
def few_places(monkeypatch):
    """Look for the first part in one place only, which takes less time."""
    monkeypatch.setattr(alignment, "FIRST_PLACES", ((0.5, 0.5),))


@pytest.fixture(scope="module")
def found(layers):
    """How the bent mask of a layer lies over its photograph."""
    images = layers[0]["image"], distorted(layers[0]["metal"])
    return alignment.align(*map(mosaic, images), "bend", 64)


def test_a_bent_mask_is_found_over_its_photograph(found):
    errors = np.hypot(*(found.map(PLACES) - true_map(PLACES)).T)
    assert np.mean(errors <= 1) >= 0.95, np.sort(errors)[-5:]
    assert found.doubt < 0.5


def test_a_layer_is_found_over_the_one_below_it(layers):
    """The lower metal shows in the photograph of the upper one."""
    images = layers[0]["image"], distorted(layers[1]["image"], bend=0)
    found = alignment.align(*map(mosaic, images), "affine", 64)
    errors = np.hypot(*(found.map(PLACES) - true_map(PLACES, bend=0)).T)
    assert np.mean(errors <= 1) >= 0.9, np.sort(errors)[-5:]
    assert found.doubt < 1


def test_correlations_between_pixels_have_the_slopes_that_they_are_climbed_by(layers):
    """A fit whose slopes are those of another surface stops short of the top."""
    pair = image_pairs.ImagePair(*(mosaic(layer["image"]) for layer in layers))
    start = smooth_maps.map_of_matrix((SIZE, SIZE), np.eye(2, 3))
    surfaces = joint_fit._Surfaces(pair, start, 2, ("all", "all"), 1.0, 4)
    rng, step = np.random.default_rng(0), 1e-5
    shifts = rng.uniform(-2.4, 2.4, (len(surfaces.middles), 2))
    shifts[::3] = np.round(shifts[::3])  # the first map and its neighbours
    shifts[1] = 20  # beyond what was searched
    chosen = np.arange(len(shifts))
    values, slopes = surfaces._values_and_slopes(shifts, chosen)
    for axis in (0, 1):
        moved = [surfaces._values_and_slopes(shifts + way * step * np.eye(2)[axis], chosen)[0]
                 for way in (1, -1)]  # fmt: skip
        expected = (moved[0] - moved[1]) / (2 * step)
        np.testing.assert_allclose(slopes[:, axis], expected, rtol=1e-4, atol=1e-7)
    whole = np.rint(shifts[::3]).astype(int) + surfaces.reach
    searched = surfaces.surfaces[chosen[::3], whole[:, 1], whole[:, 0]]
    np.testing.assert_allclose(values[::3], searched, atol=1e-9)


@pytest.mark.parametrize("order", [2, 4])
def test_only_bends_cost_something(order):
    shape, counts = (900, 1100), smooth_maps.node_counts((900, 1100))
    places = smooth_maps.places_of_coefficients(shape, counts) / 1000
    cost = smooth_maps.bending(shape, counts, order)
    for power in range(order + 1):
        wave = (places[..., 0] ** power + places[..., 1] ** power).ravel()
        rounding = 1e-12 * abs(cost).max() * (wave @ wave)
        assert (wave @ cost @ wave > rounding) == (power == order)


def test_the_moved_mask_lies_over_the_photograph(layers, found):
    moving, metal = mosaic(distorted(layers[0]["metal"])), layers[0]["metal"]
    moved = moved_mosaic.moved(moving, found.map, True, mosaic(layers[0]["image"]))
    whole, inside = moved[0:SIZE, 0:SIZE], slice(40, SIZE - 40)
    wrong, unmoved = (
        np.mean((image[inside, inside] > 127) != (metal[inside, inside] > 127))
        for image in (whole, moving)
    )
    assert wrong < 0.02 < unmoved / 5
    part = moved[301:423, 77:502]
    assert np.array_equal(part, whole[301:423, 77:502])


def test_two_other_layers_do_not_fit(layers, few_places):
    other = die.draw_field(die.Die(SIZE, SIZE, seed=9, metals=2, number=2), 0)["image"]
    with pytest.raises(UserError, match="shows nothing that clearly fits"):
        alignment.align(mosaic(layers[0]["image"]), mosaic(other), "bend", 64)


@pytest.mark.parametrize("kind", ["flat", "lines"])
def test_where_there_is_nothing_to_hold_on_to_nothing_is_invented(kind, few_places):
    image = np.full((SIZE, SIZE), 90, np.uint8)
    if kind == "lines":
        image[np.arange(SIZE) % 32 < 12] = 180
    noise = np.random.default_rng(0)
    images = [np.clip(image + noise.normal(0, 3, image.shape), 0, 255).astype(np.uint8)
              for _ in range(2)]  # fmt: skip
    with pytest.raises(UserError, match="shows nothing that clearly fits"):
        alignment.align(*map(mosaic, images), "affine", 64)


@pytest.mark.parametrize("model", smooth_maps.MODELS)
def test_points_by_hand_give_the_map(model):
    points = np.random.default_rng(1).uniform(0, 900, (12, 2))
    turn = np.radians(4)
    matrix = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    targets = points @ matrix.T + (30, -12)
    found = alignment.from_points((SIZE, SIZE), model, points, targets)
    other = np.random.default_rng(2).uniform(0, 900, (50, 2))
    assert np.abs(found.map(other) - other @ matrix.T - (30, -12)).max() < 0.01
    assert found.doubt < 0.01


def test_one_wrong_point_moves_no_map():
    points = np.random.default_rng(1).uniform(0, 900, (12, 2))
    targets = points + np.array([5, 7])
    targets[3] += (80, -40)
    found = alignment.from_points((SIZE, SIZE), "affine", points, targets)
    assert np.abs(found.map(points) - points - (5, 7)).max() < 0.1
    assert np.argmax(found.unseen) == 3


def test_the_command_writes_image_map_and_places(tmp_path, layers):
    """With points as a start; the map that it writes moves other images of the frame."""
    paths = [tmp_path / name for name in ("below.png", "above.png")]
    metal = layers[0]["metal"]
    for path, image in zip(paths, (layers[0]["image"], distorted(metal)), strict=True):
        png.write(path, image)
    places = np.array([[100.0, 100], [900, 150], [500, 880], [850, 800]])
    table = ["reference_x,reference_y,x,y"]
    table += [",".join(map(str, (*p, *q))) for p, q in zip(places, true_map(places), strict=True)]
    (tmp_path / "points.csv").write_text("\n".join(table))
    points, output = f"--points={tmp_path / 'points.csv'}", tmp_path / "moved.ome.tif"
    done = cli.call("align", *paths, "-o", output, points)
    assert done.returncode == 0 and "places deviate" in done.stdout, done.stderr
    beside = {path.name for path in tmp_path.glob("moved*")}
    assert beside == {"moved.ome.tif", "moved.json", "moved_places.csv", "moved_places.png"}
    first = output.read_bytes()
    assert cli.call("align", *paths, "-o", output, points).returncode == 0
    assert output.read_bytes() == first
    png.write(paths[1], 255 * (distorted(metal) > 127).astype(np.uint8))
    other = tmp_path / "mask.ome.tif"
    done = cli.call("align", *paths, "-o", other, f"--map={tmp_path / 'moved.json'}")
    assert done.returncode == 0, done.stderr
    mask, inside = mosaic_files.open_mosaic(other)[0:SIZE, 0:SIZE], slice(40, SIZE - 40)
    assert set(np.unique(mask)) == {0, 255}
    assert np.mean(mask[inside, inside] != metal[inside, inside]) < 0.02


def test_a_tile_of_an_input_is_not_replaced(tmp_path, layers):
    tile, above = tmp_path / "tile.ome.tif", tmp_path / "b.png"
    png.write(above, layers[0]["image"][:600, :600])
    mosaic_writing.write_ome_tiff(tile, mosaic_files.open_mosaic(above))
    before = tile.read_bytes()
    (tmp_path / "below.csv").write_text("name,x,y\ntile.ome.tif,0,0\n")
    error = cli.error_of("align", tmp_path / "below.csv", above, "-o", tile)
    assert "tile.ome.tif would be replaced by a result" in error
    assert tile.read_bytes() == before


def test_bad_input_is_refused_in_a_sentence(tmp_path, layers):
    below, above, output = (tmp_path / name for name in ("a.png", "b.png", "moved.ome.tif"))
    for path in (below, above):
        png.write(path, layers[0]["image"][:600, :600])

    def refused(message, *options, output=output):
        assert message in cli.error_of("align", below, above, "-o", output, *options)
        assert not output.exists()

    line, file = tmp_path / "line.csv", tmp_path / "map.json"
    line.write_text("reference_x,reference_y,x,y\n1,1,1,1\n200,200,200,200\n400,400,400,400\n")
    refused("no three points that form a triangle", f"--points={line}")
    line.write_text("reference_x,reference_y,x\n1,1,1\n")
    refused("has no column y", f"--points={line}")
    file.write_text('{"offsets": [[[0, 0]]]}')
    refused("is no map", f"--map={file}")
    mapped = smooth_maps.map_of_matrix((600, 500), np.eye(2, 3))
    file.write_text(moved_mosaic.map_as_json(mapped, mosaic(layers[0]["image"])))
    refused("is for 600x500", f"--map={file}")
    refused("let it end in .ome.tif", output=tmp_path / "moved.png")


def test_a_killed_run_leaves_nothing_that_the_next_one_minds(tmp_path, layers):
    """The same command again ends with the bytes of a run that was not killed."""
    png.write(tmp_path / "a.png", np.tile(layers[0]["image"], (3, 3, 1)))
    mapped = smooth_maps.map_of_matrix((3 * SIZE, 3 * SIZE), np.array([[1.0, 0.01, 4], [0, 1, 2]]))
    image = mosaic_files.open_mosaic(tmp_path / "a.png")
    (tmp_path / "map.json").write_text(moved_mosaic.map_as_json(mapped, image))
    arguments = "align", tmp_path / "a.png", tmp_path / "a.png", f"--map={tmp_path / 'map.json'}"
    killed_runs.assert_the_next_run_ends_alike((*arguments, "-o"), tmp_path / "b.ome.tif")


def test_maps_cover_images_of_any_size():
    """Rounding puts the last knot of some sizes before the last pixel, such as of 900."""
    for length in (*range(2, 60), *range(61, 4000, 97), 900, 907, 956, 1415):
        mapped = smooth_maps.map_of_matrix((length, 1200), np.array([[1.0, 0, 3], [0, 1, -2]]))
        counts = smooth_maps.node_counts((length, 1200))
        corners = np.array([[0.0, 0], [1199, length - 1]])
        found = mapped.with_nodes(counts)(corners)
        assert np.abs(found - corners - (3, -2)).max() < 1e-6, length


@pytest.mark.parametrize("value", [1, 255, 4095])
def test_masks_of_any_value_are_masks(layers, value):
    dtype = np.uint8 if value < 256 else np.uint16
    mask = (layers[0]["metal"] > 0).astype(dtype) * dtype(value)
    assert image_pairs.has_few_values(mosaic(mask))
    other = mosaic(mask[4:, 7:].copy())
    found = alignment.align(mosaic(mask), other, "affine", 32)
    assert np.abs(found.map(PLACES) - PLACES + (7, 4)).max() < 1


def test_drawn_images_are_told_from_photographs(layers):
    """Classes, colours and a mask with nothing where it is sampled keep their values when moved."""
    classes = np.kron(np.array([[0, 1], [3, 1]], np.uint8), np.ones((300, 300), np.uint8))
    sparse = np.zeros((4000, 4000), np.uint8)
    sparse[1000:1008, 1000:1008] = 255
    for drawn in (classes, sparse, np.stack([classes, 80 * classes, 0 * classes], -1)):
        assert image_pairs.has_few_values(mosaic(drawn))
    assert not image_pairs.has_few_values(mosaic(layers[0]["image"]))


def test_points_beyond_the_image_give_the_map_of_the_points(layers, tmp_path):
    png.write(tmp_path / "a.png", layers[0]["metal"])
    lines = ["10,10,5000,5000", "900,20,6000,5010", "30,900,5020,6100"]
    (tmp_path / "points.csv").write_text("\n".join(["reference_x,reference_y,x,y", *lines]))
    done = cli.call("align", tmp_path / "a.png", tmp_path / "a.png", "-o", tmp_path / "b.ome.tif",
                    f"--points={tmp_path / 'points.csv'}")  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "the map is that of the points alone" in done.stderr
    assert "three points do not show how far to trust them" in done.stdout


def test_maps_survive_their_file(tmp_path):
    rng = np.random.default_rng(0)
    mapped = smooth_maps.SmoothMap((300, 400), rng.normal(0, 5, (6, 7, 2)))
    path = tmp_path / "map.json"
    path.write_text(moved_mosaic.map_as_json(mapped, mosaic(np.zeros((50, 60), np.uint8))))
    read, shape = moved_mosaic.read_map(path)
    points = rng.uniform(-20, 420, (40, 2))
    assert shape == (50, 60)
    assert np.abs(read(points) - mapped(points)).max() < 1e-3
    grid = mapped.on_grid(np.arange(3.0), np.arange(4.0))
    assert np.allclose(grid[2, 3], mapped(np.array([[3.0, 2.0]]))[0])


@pytest.mark.parametrize("shape", [(300, 6000), (6000, 300), (1500, 1500)])
@pytest.mark.parametrize("order", [2, 4])
def test_a_bend_costs_the_same_in_an_image_of_any_shape(shape, order):
    """A wave along the longer side, per area."""
    counts = smooth_maps.node_counts(shape)
    along = int(np.argmax(shape[::-1]))
    places = smooth_maps.places_of_coefficients(shape, counts)[..., along].ravel()
    wave = np.sin(2 * np.pi * places / 1500)
    cost = wave @ smooth_maps.bending(shape, counts, order) @ wave
    per_area = 0.5 * (2 * np.pi * 256 / 1500) ** (2 * order) * shape[0] * shape[1] / 256**2
    # Splines beyond the border count too.
    assert 0.5 < cost / per_area < 4.5
