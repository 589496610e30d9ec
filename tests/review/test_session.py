"""A review without its page: corrected masks, squares to train on, and rounds."""

import contextlib
import shutil

import numpy as np
import pytest

from eal_icnet_jax.datasets.ic_synthetic import die
from eal_icnet_jax.imaging import mosaic_files, png
from eal_icnet_jax.review import first_squares
from eal_icnet_jax.review.session import NEAR, ReviewSession
from eal_icnet_jax.review.strokes import Stroke, StrokeLog
from eal_icnet_jax.system.errors import UserError
from tests import cli, disks
from tests.imaging.sample_images import pixels
from tests.review import drawn_project


@pytest.fixture
def photograph(tmp_path):
    return drawn_project.write(tmp_path / "project")


@pytest.fixture
def session(photograph, tmp_path):
    opened = ReviewSession(photograph, tmp_path / "project")
    opened.open_prediction()
    yield opened
    opened.close()


def erase_the_short(session):
    x, y = drawn_project.SHORT
    session.log.add(Stroke("metal", False, "line", ((x, y - 40), (x, y + 10)), 24))


def test_the_places_are_those_of_the_prediction(session):
    kinds = [square.places[0]["kind"] for square in session.squares]
    assert kinds == ["open", "invented", "short"]
    third = session.squares[2]
    x, _ = drawn_project.SHORT
    assert third.left <= x < third.left + third.width
    assert not session.is_seen(third)
    session.mark_seen(third)
    assert session.is_seen(third) and not session.is_seen(session.squares[0])


def test_masks_are_the_prediction_with_the_strokes(session):
    box = 0, 0, 420, 300
    before = session.mask_part("metal", *box, 1000)
    np.testing.assert_array_equal(before.pixels, drawn_project.probabilities() >= 0.5)
    erase_the_short(session)
    session.log.add(Stroke("unknown", True, "disk", ((30, 30),), 20))
    after = session.mask_part("metal", *box, 1000).pixels
    x, y = drawn_project.SHORT
    assert before.pixels[y, x] and not after[y, x] and after[70, 50]
    assert session.mask_part("unknown", *box, 1000).pixels.sum() == pytest.approx(314, abs=20)
    coarse = session.mask_part("metal", *box, 250)
    assert coarse.scale == 1.0  # the pyramid of so small a mask has one level
    beyond = session.mask_part("metal", -50, 290, 60, 400, 1000)
    assert (beyond.left, beyond.top, beyond.pixels.shape) == (0, 290, (10, 60))


def test_what_was_seen_or_lies_near_a_stroke_counts(session, tmp_path):
    assert session.export() == 0
    erase_the_short(session)
    session.log.add(Stroke("unknown", True, "disk", ((210, 100),), 10))
    session.mark_seen(session.squares[0])
    assert session.export() == 2
    train = tmp_path / "project/train"
    names = sorted(path.name for path in (train / "image").iterdir())
    assert all(name.startswith("photo_y") for name in names)
    for kind in ("label", "via_label", "ignore"):
        assert sorted(path.name for path in (train / kind).iterdir()) == names
    counted = np.zeros(drawn_project.SHAPE, int)
    for name in names:
        top, left = int(name[7:12]), int(name[14:19])
        part = np.s_[top : top + 256, left : left + 256]
        ignored = pixels(train / "ignore" / name) > 0
        counted[part] = np.maximum(counted[part], ~ignored)
        metal = pixels(train / "label" / name) > 0
        np.testing.assert_array_equal(metal, session.mask_part(
            "metal", left, top, left + 256, top + 256, 256).pixels)  # fmt: skip
    x, y = drawn_project.SHORT
    assert counted[y, x] and counted[y, x - 12 - NEAR + 2] and not counted[y, x - 12 - NEAR - 2]
    assert not counted[100, 210]  # unknown
    first = session.squares[0]
    assert counted[first.top : first.top + first.height, first.left : first.left + 10].all()
    for _ in range(3):
        session.log.undo()
    assert session.export() == 0 and not list((train / "image").iterdir())


def test_squares_of_a_photograph_with_brackets_in_its_name_are_replaced(session, tmp_path):
    session.name = "photo[1]"
    session.log.add(Stroke("metal", True, "disk", ((210, 100),), 10))
    assert session.export() == 1
    session.log.undo()
    assert session.export() == 0
    assert not list((tmp_path / "project/train/image").iterdir())


def test_a_project_is_of_one_photograph_and_of_one_review(session, photograph, tmp_path):
    with pytest.raises(UserError, match="is in use: another review of this project runs"):
        ReviewSession(photograph, tmp_path / "project")
    session.close()
    other = tmp_path / "other.png"
    shutil.copy(photograph, other)
    with pytest.raises(UserError, match=r"is the project of photo.png, and .*other.png is another"):
        ReviewSession(other, tmp_path / "project")
    photograph.write_bytes(photograph.read_bytes() + b" ")
    with pytest.raises(UserError, match="is another photograph or has changed since"):
        ReviewSession(photograph, tmp_path / "project")


def test_a_damaged_prediction_is_reported(session, tmp_path):
    (tmp_path / "project/predictions/000/places.json").write_text('{"places": [{}]}')
    with pytest.raises(UserError, match=r"places.json is damaged .*: remove its folder"):
        session.open_prediction()
    shutil.rmtree(tmp_path / "project/predictions/000/photo_metal.zarr")
    with pytest.raises(UserError, match=r"is damaged"):
        session.open_prediction()


def test_learning_first_goes_on_with_a_prediction_that_was_stopped(session, monkeypatch):
    started = []
    monkeypatch.setattr(session, "_start", lambda arguments, kind: started.append(kind))
    erase_the_short(session)
    session.start_training()
    project = session._project()
    model, _ = project.next_round(["optical"])
    (model / "test").mkdir()
    (model / "test/metrics.json").write_text("{}")
    project.use(model)
    session.start_training()
    assert started == ["train", "predict"]


def test_a_training_that_fails_says_why(photograph, tmp_path):
    checkpoint = tmp_path / "none"
    session = ReviewSession(photograph, tmp_path / "project", str(checkpoint))
    try:
        session.open_prediction()
        erase_the_short(session)
        session.start_training()
        with pytest.raises(UserError, match="none"):
            session.wait()
        assert session.has_failed
    finally:
        session.close()


def test_a_read_only_project_and_a_full_disk_are_reported(photograph, tmp_path):
    """A stroke that cannot be stored is not shown either."""
    folder = tmp_path / "disk"
    with disks.mounted(folder, "size=8m") as remount:
        shutil.copytree(tmp_path / "project", folder / "project")
        session = ReviewSession(photograph, folder / "project")
        with (folder / "fill").open("wb", 0) as file, contextlib.suppress(OSError):
            while True:
                file.write(bytes(4096))
        with pytest.raises(UserError, match=r"strokes.jsonl cannot be written: No space left"):
            for _ in range(200):
                erase_the_short(session)
        kept = len(session.log.strokes)
        (folder / "fill").unlink()
        erase_the_short(session)  # goes on once there is room
        session.close()
        header = session.photograph.stamp()
        found = StrokeLog(folder / "project/strokes.jsonl", header).strokes
        assert len(found) == kept + 1
        remount("ro")
        for name in ("project", "other"):
            with pytest.raises(UserError, match="Read-only file system"):
                ReviewSession(photograph, folder / name)


def test_the_places_of_a_large_photograph_are_predicted_before_the_rest(tmp_path, monkeypatch):
    """The squares of the former list are the masks of the whole, and are shown while it is made."""
    monkeypatch.setattr(first_squares, "WORTH_IT", 1)
    drawn = die.draw_field(die.Die(1200, 1200, seed=3), 0)
    photograph, folder = tmp_path / "photo.png", tmp_path / "project"
    png.write(photograph, drawn["image"])
    options = ["--checkpoint=optical", "--scale=1", "--format=zarr", "--count=2", "--size=64"]
    whole = folder / "predictions" / "000"
    result = cli.call("review-list", photograph, "-o", whole, *options)
    assert result.returncode == 0, result.stderr
    assert not (whole / "first").exists()
    with contextlib.closing(ReviewSession(photograph, folder, "optical")) as session:
        session.open_prediction()
        monkeypatch.setattr(session, "model", lambda: folder / "models" / "001")
        new = folder / "predictions" / "001"
        arguments = session.prediction_arguments()
        assert f"--output={new}" in arguments
        assert f"--first={whole / 'places.json'}" in arguments
        result = cli.call("review-list", photograph, "-o", new, *options,
                          f"--first={whole / 'places.json'}")  # fmt: skip
        assert result.returncode == 0, result.stderr
        found = first_squares.read_masks(new)
        masks = [mosaic_files.open_mosaic(new / f"photo_{kind}.zarr") for kind in ("metal", "via")]
        assert len(found) == 4 and {square.output for square in found} == {0, 1}
        for square in found:
            rows, columns = (
                slice(start, start + length)
                for start, length in zip((square.top, square.left), square.mask.shape, strict=True)
            )
            np.testing.assert_array_equal(square.mask, masks[square.output][rows, columns] > 0)
        box = 0, 0, 1200, 1200
        before = {layer: session.mask_part(layer, *box, 1200).pixels for layer in ("metal", "via")}
        metal = next(square for square in found if square.output == 0)
        flipped = metal._replace(mask=~metal.mask)
        part = np.s_[flipped.top : flipped.top + 64, flipped.left : flipped.left + 64]
        name = f"0_y{flipped.top:05}_x{flipped.left:05}.png"
        png.write(new / "first" / name, np.where(flipped.mask, 255, 0).astype(np.uint8))
        session._kind, session._job = "predict", Running()
        session.look()
        assert session.prediction == 2 and session.state == "predict: the places are new; half"
        after = session.mask_part("metal", *box, 1200).pixels
        np.testing.assert_array_equal(after[part], flipped.mask)
        after[part] = before["metal"][part]
        others = [square for square in found if square.output == 0 and square is not metal]
        for square in others:
            after[square.top : square.top + 64, square.left : square.left + 64] = before["metal"][
                square.top : square.top + 64, square.left : square.left + 64
            ]
        np.testing.assert_array_equal(after, before["metal"])
        coarse = session.mask_part("metal", *box, 600)
        assert coarse.scale == 0.5
        x, y = -(-flipped.left // 2), -(-flipped.top // 2)
        np.testing.assert_array_equal(
            coarse.pixels[y : y + 16, x : x + 16],
            flipped.mask[2 * y - flipped.top :: 2, 2 * x - flipped.left :: 2][:16, :16],
        )
        session.stop()
        restored = session.mask_part("metal", *box, 1200).pixels
        np.testing.assert_array_equal(restored, before["metal"])
        (new / "first" / name).write_bytes(b"damaged")
        session._job = Running()
        session.look()
        assert session.state == "predict: half"  # the whole will show what these cannot
        session._job = None
        session.open_prediction()
        assert session.prediction == 4


class Running:
    """A job that goes on."""

    is_running, has_failed = True, False

    def last_line(self):
        return "half"

    def stop(self):
        pass


def test_a_list_of_another_photograph_is_refused(tmp_path, session, photograph):
    places = session.prediction_folder() / "places.json"
    png.write(tmp_path / "small.png", np.zeros((100, 100), np.uint8))
    result = cli.call("review-list", tmp_path / "small.png", "-o", tmp_path / "out",
                      "--scale=1", f"--first={places}", "--checkpoint=optical")  # fmt: skip
    assert result.returncode == 1 and "lists places beyond" in result.stderr
    (tmp_path / "bad.json").write_text("{}")
    result = cli.call("review-list", photograph, "-o", tmp_path / "out", "--scale=1",
                      f"--first={tmp_path / 'bad.json'}")  # fmt: skip
    assert result.returncode == 1 and "bad.json is damaged" in result.stderr
