"""The report of an inspected dataset: tables and contact sheets."""

import csv
import json
import pathlib

import numpy as np
from tabulate import tabulate

from eal_icnet_jax.evaluation import pictures
from eal_icnet_jax.evaluation.inspection import (
    DatasetPair,
    PairStatistics,
    find_suspicious,
    measure,
    summarize,
)
from eal_icnet_jax.imaging import overlays
from eal_icnet_jax.system import workers
from eal_icnet_jax.system.errors import UserError
from eal_icnet_jax.system.files import MADE_BY, cannot_be_written, check_report_replaceable
from eal_icnet_jax.system.terminal import progress_bar

SUSPICIOUS_ROWS = 4
"""Largest number of rows in the contact sheet of suspicious pairs."""

Suspicious = list[tuple[DatasetPair, str]]
"""Suspicious pairs, each with the reason."""


def statistics_table(statistics: dict[str, dict]) -> str:
    """Return the statistics of `inspection.summarize` as a table; class balance in percent."""

    def span(numbers: list[int]) -> str:
        low, high = numbers
        return str(low) if low == high else f"{low}-{high}"

    labels = list(next(iter(statistics.values()))["foreground"]) if statistics else []
    levels = ["mean", "std", "p20", "p85"]
    has_ignored = any(own["ignored"] for own in statistics.values())
    headings = ["split", "images", "size", *levels, *(f"{label} %" for label in labels)]
    headings += ["ignored %"] if has_ignored else []
    rows = [
        [split, str(own["images"]), f"{span(own['height'])}x{span(own['width'])}"]
        + [f"{own[level]:.0f}" for level in levels]
        + [f"{100 * own['foreground'][label]:.2f}" for label in labels]
        + ([f"{100 * own['ignored']:.2f}"] if has_ignored else [])
        for split, own in statistics.items()
    ]
    alignment = ["left"] + ["right"] * (len(headings) - 1)
    return tabulate(rows, headings, "plain", colalign=alignment, disable_numparse=True)


def _cells(pairs: Suspicious) -> list[tuple[str, np.ndarray, np.ndarray]]:
    """Return the cells of a contact sheet for the pairs that can be read; each has a note."""
    cells = []
    for pair, note in pairs:
        try:
            image, masks, valid, _ = pair.load()
        except UserError:
            continue
        image = np.where(valid[..., None], image, overlays.veiled(image))
        cells.append((f"{pair.name}{note}", *overlays.outlined(image, masks)))
    return cells


def _measure_all(pairs: list[DatasetPair]) -> list[PairStatistics]:
    measured = []
    with progress_bar("reading", len(pairs), "file") as bar:
        for statistics in workers.map_in_threads(measure, pairs):
            measured.append(statistics)
            bar.update()
    return measured


def _overview(measured: list[PairStatistics], columns: int) -> dict[str, list]:
    """Return the rows of the contact sheet: evenly spread pairs of each split."""
    sheet = {}
    for split in summarize(measured):
        pairs = [m.pair for m in measured if m.pair.split == split and not m.problem]
        chosen = np.unique(np.linspace(0, len(pairs) - 1, columns).round().astype(int))
        sheet[split] = _cells([(pairs[k], "") for k in chosen])
    return sheet


def _suspicious_sheet(suspicious: Suspicious, columns: int) -> dict[str, list]:
    """Return the rows of the suspicious pairs' contact sheet, each pair with its first reason."""
    first_reasons = {}
    for pair, reason in suspicious:
        first_reasons.setdefault((pair.split, pair.name), (pair, f": {reason}"))
    cells = _cells(list(first_reasons.values())[: SUSPICIOUS_ROWS * columns])
    rows = [cells[k : k + columns] for k in range(0, len(cells), columns)]
    return {f"suspicious {k + 1}": row for k, row in enumerate(rows)}


REPORT_FILES = ("statistics.json", "suspicious.csv", "contact_sheet.png", "suspicious.png")
"""Names of the files of a report."""


def write_report(
    pairs: list[DatasetPair], output: pathlib.Path, columns: int, force: bool = False
) -> str:
    """Measure all pairs, and write what they are like.

    Writes statistics.json, suspicious.csv and contact_sheet.png, and suspicious.png if suspicious
    pairs can be shown.

    Args:
      pairs: of the dataset.
      output: folder of the report.
      columns: number of images in a row of a contact sheet.
      force: whether files that another program wrote are replaced.

    Returns:
      The report as text.

    Raises:
      UserError: it cannot be written, or would replace a file of another program.
    """
    check_report_replaceable(output, REPORT_FILES, force)
    measured = _measure_all(pairs)
    statistics, suspicious = summarize(measured), find_suspicious(measured)
    overview = _overview(measured, columns)
    suspicious_sheet = _suspicious_sheet(suspicious, columns)
    try:
        output.mkdir(parents=True, exist_ok=True)
        report = {"software": MADE_BY.decode(), "splits": statistics}
        (output / "statistics.json").write_text(json.dumps(report, indent=1) + "\n")
        with (output / "suspicious.csv").open("w", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["split", "name", "reason"])
            writer.writerows([pair.split, pair.name, reason] for pair, reason in suspicious)
        if overview:
            pictures.draw_contact_sheet(output / "contact_sheet.png", overview)
        (output / "suspicious.png").unlink(missing_ok=True)
        if suspicious_sheet:
            pictures.draw_contact_sheet(output / "suspicious.png", suspicious_sheet)
    except OSError as error:
        raise cannot_be_written(output, error) from error
    return "\n".join(
        [
            statistics_table(statistics),
            f"{len(suspicious)} suspicious pairs" + (":" if suspicious else ""),
            *(f"  {pair.split}/{pair.name}: {reason}" for pair, reason in suspicious),
            f"pictures and tables in {output}",
        ]
    )
