"""The tables show the results of the trials, and the page needs no other file."""

import base64
import csv
import io
import json
import re
import shutil
import subprocess

import cv2
import numpy as np
import pytest

from eal_icnet_jax.comparison import page, table
from eal_icnet_jax.evaluation import pictures
from eal_icnet_jax.evaluation.metrics import COUNTS, METRICS
from eal_icnet_jax.imaging import png
from tests.imaging.sample_images import pixels


def row(model, scores, seeds=(0, 1, 2), label="metal", speed=2.0):
    return table.Row(
        model=model,
        title=model.upper(),
        label=label,
        scores={name: list(scores) for name in (*METRICS, *COUNTS)},
        seeds=list(seeds),
        parameters=1234,
        gflop=5.67,
        images_per_second=speed,
        relative_speed=speed and speed / 2,
        peak_bytes=speed and 300_000_000,
        trial_seconds=100.0,
        training_peak_bytes=1e9,
        curves=[[{"epoch": k, "validation_loss": 1 / k, "validation/mIoU": 0.5} for k in (1, 2)]],
    )


REFERENCE = row("first", (0.90, 0.92, 0.94))


@pytest.fixture
def comparison(tmp_path):
    """Two networks and one shown image; the second network's mask is half wrong."""
    label = np.zeros((32, 48, 1), bool)
    label[8:24] = True
    image = np.full((32, 48, 3), 0.5, np.float32)
    shown = [{"name": "im<g>1", "image": image, "label": label, "valid": np.ones_like(label)}]
    masks = {}
    for name, mask in (
        ("first", label[..., 0]),
        ("a_b&c", label[::-1, :, 0] & (np.arange(48) < 9)),
    ):
        masks[name] = tmp_path / name
        masks[name].mkdir()
        png.write(masks[name] / "0_0.png", 255 * mask.astype(np.uint8))
    rows = [REFERENCE, row("a_b&c", (0.80, 0.83, 0.84), speed=0.5)]
    return table.Comparison(rows, ["Said <once>."], ["metal"], shown, masks)


def test_a_difference_is_significant_by_a_paired_t_test():
    # Differences 0.1, 0.1, 0.11: t = 31. Differences -0.1, 0.1, 0: t = 0.
    assert table.differs(row("b", (0.80, 0.82, 0.83)), REFERENCE, "mIoU")
    assert not table.differs(row("b", (1.00, 0.82, 0.94)), REFERENCE, "mIoU")
    # Only seeds that both have count; one pair or equal differences show nothing.
    assert table.differs(row("b", (0.80, 0.83, 0.95), seeds=(0, 1, 7)), REFERENCE, "mIoU")
    assert not table.differs(row("b", (0.5,), seeds=(2,)), REFERENCE, "mIoU")
    assert not table.differs(REFERENCE, REFERENCE, "mIoU")


def test_one_trial_has_no_deviation():
    assert row("b", (0.5,), seeds=(0,)).deviation("mIoU") is None
    assert REFERENCE.deviation("mIoU") == pytest.approx(0.02)


def test_tables(comparison, tmp_path):
    page.write_comparison(tmp_path, comparison)
    markdown = (tmp_path / "comparison.md").read_text().splitlines()
    assert markdown[0].startswith(
        "| model | mIoU | MPA | Dice | AJI | AJI+ | opens | shorts | FP | FN | parameters |"
    )
    assert markdown[1].count("|") == markdown[0].count("|") == markdown[2].count("|")
    assert markdown[2].startswith("| FIRST | **92.00** ± 2.00 | ")
    assert markdown[2].endswith("| 1,234 | 5.7 | 2 | 1.00 | 300 |")
    assert markdown[3].startswith("| A_B&C | 82.33 ± 2.08\\* | ")
    assert markdown[-1] == "Said <once>."
    latex = (tmp_path / "comparison.tex").read_text()
    assert r"A\_B\&C & 82.33 $\pm$ 2.08$^*$ &" in latex
    assert r"FIRST & \textbf{92.00} $\pm$ 2.00 &" in latex
    body = latex[latex.index("\\midrule") : latex.index("\\bottomrule")].splitlines()[1:]
    assert {line.count("&") - line.count("\\&") for line in body} == {14}
    records = list(csv.DictReader(io.StringIO((tmp_path / "comparison.csv").read_text())))
    assert [record["model"] for record in records] == ["first", "a_b&c"]
    assert float(records[1]["mIoU"]) == pytest.approx(0.8233, abs=1e-4)
    assert float(records[1]["relative_speed"]) == 0.25
    plot = cv2.imread(str(tmp_path / "comparison.png"))
    assert plot.shape[1] > plot.shape[0] > 300


def test_labels_have_their_own_lines_and_unmeasured_networks_no_speed(comparison, tmp_path):
    comparison.rows = [
        row("first", (0.9, 0.8, 0.7)),
        row("other", (0.8, 0.8, 0.8), speed=None),
        row("first", (0.3, 0.3, 0.3), label="via"),
        row("other", (0.4, 0.5, 0.4), label="via", speed=None),
    ]
    for each in comparison.rows:
        for record in each.curves[0]:
            record["validation/via/mIoU"] = record["validation/metal/mIoU"] = 0.3
    comparison.labels, comparison.shown, comparison.masks = ["metal", "via"], [], {}
    page.write_comparison(tmp_path, comparison)
    lines = (tmp_path / "comparison.md").read_text().splitlines()[2:6]
    assert [line.split(" | ")[1] for line in lines] == ["metal", "metal", "via", "via"]
    assert [line.count("**") // 2 for line in lines] == [5, 5, 0, 5]  # equal means, both marked
    assert lines[1].endswith("| 1,234 | 5.7 |  |  |  |")


def test_the_page_is_self_contained(comparison, tmp_path):
    page.write_comparison(tmp_path, comparison)
    html = (tmp_path / "comparison.html").read_text()
    assert not re.search(r"""(src|href)\s*=\s*["'](?!data:|\{)""", html) and "url(" not in html
    assert "A_B&amp;C" in html and "Said &lt;once&gt;." in html and "im<g>1" not in html
    (example,) = json.loads(re.search(r"const predictions = (.*);", html)[1])["examples"]
    assert example["name"] == "im<g>1"
    photograph, label, *errors = (
        cv2.imdecode(np.frombuffer(base64.b64decode(uri.split(",")[1]), np.uint8), 1)[..., ::-1]
        for uri in (example["image"], example["label"], *example["errors"])
    )
    assert abs(photograph.astype(int) - 128).max() <= 2
    truth = comparison.shown[0]["label"][..., 0]
    assert np.array_equal(label[..., 0] > 0, truth)
    for name, picture in zip(comparison.masks, errors, strict=True):
        mask = pixels((comparison.masks[name] / "0_0.png").read_bytes()) > 0
        assert np.array_equal(picture, pictures.error_map(truth, mask))


@pytest.mark.skipif(not shutil.which("chromium"), reason="no Chromium")
def test_the_page_reacts_to_keys_and_clicks(comparison, tmp_path):
    """In a browser, an arrow key shows the next network's errors and a heading sorts the table."""
    page.write_comparison(tmp_path, comparison)
    html_path = tmp_path / "comparison.html"
    press = """<script>
    document.dispatchEvent(new KeyboardEvent("keydown", {key: "ArrowRight"}));
    document.querySelectorAll("#table th button")[1].click();
    document.querySelectorAll("#table th button")[1].click();
    </script></body>"""
    html_path.write_text(html_path.read_text().replace("</body>", press))
    result = subprocess.run(
        ["chromium", "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run",
         "--disable-background-networking", "--disable-component-update", "--disable-sync",
         f"--user-data-dir={tmp_path / 'chromium'}", "--dump-dom", html_path.as_uri()],
        capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    document = result.stdout
    assert '<figcaption id="model">A_B&amp;C</figcaption>' in document
    (example,) = json.loads(re.search(r"const predictions = (.*);", document)[1])["examples"]
    assert f'id="errors" alt="errors" src="{example["errors"][1]}"' in document
    cells = re.findall(r"<tr><td>(\w+(?:&amp;\w)?)</td>", document)
    assert cells == ["A_B&amp;C", "FIRST"]  # by mIoU, ascending
    assert 'aria-sort="ascending"' in document
