"""Write the table of networks into docs/networks.md: their names, cost, speed and accuracy.

    python benchmarks/models_table.py

Parameters and operations are counted on the networks. Speed and accuracy are those of the
comparison in results/comparison.csv.
"""

import csv
import pathlib
import re

from eal_icnet_jax import models
from eal_icnet_jax.models import cost

ROOT = pathlib.Path(__file__).parents[1]
PAGE = ROOT / "docs" / "networks.md"
RESULTS = ROOT / "benchmarks" / "results" / "comparison.csv"
MARKS = re.compile(r"(<!-- models -->\n)(.*?)(<!-- /models -->)", re.DOTALL)
"""The marks in the page, with the table as the second group."""


def costs(name: str) -> tuple[int, float]:
    """Return a network's parameters, and its GFLOP for a 512x512 image."""
    model = models.blank_model(name)
    model.eval()
    return cost.parameters(model), cost.operations(model, (1, 512, 512, 1)) / 1e9


def table() -> str:
    """Return the table as Markdown, with a line for each network."""
    with RESULTS.open() as file:
        compared = {record["model"]: record for record in csv.DictReader(file)}
    lines = [
        "| name | network | parameters | GFLOP | speed | mIoU |",
        "|---|---|---:|---:|---:|---:|",
    ]
    for name, source in models.MODELS.items():
        parameters, gflop = costs(name)
        record = compared[name]
        deviation = record["mIoU_std"] and f" ± {100 * float(record['mIoU_std']):.1f}"
        title = f"[{source.title}]({source.paper})"
        if source.code != source.paper:
            title += f", [code]({source.code})"
        lines.append(
            f"| `{name}` | {title} | {parameters:,} | {gflop:.1f} | "
            f"{float(record['relative_speed']):.2f} | "
            f"{100 * float(record['mIoU']):.1f}{deviation} |"
        )
    return "\n".join(lines) + "\n"


def main():
    text = PAGE.read_text()
    if not MARKS.search(text):
        raise SystemExit(f"error: {PAGE} has no marks <!-- models --> and <!-- /models -->")
    PAGE.write_text(MARKS.sub(lambda match: match[1] + table() + match[3], text))


if __name__ == "__main__":
    main()
