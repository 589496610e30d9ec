"""Writes the README's table of networks: what they are, what they cost, what they reach.

    python benchmarks/models_table.py

Parameters and operations are counted from the networks; speed and accuracy are those of the
comparison in results/comparison.csv.
"""

import csv
import pathlib
import re

from eal_icnet_jax import cost, models

ROOT = pathlib.Path(__file__).parents[1]
RESULTS = ROOT / "benchmarks" / "results" / "comparison.csv"
BETWEEN = re.compile(r"(<!-- models -->\n)(.*?)(<!-- /models -->)", re.DOTALL)


def costs(name: str) -> tuple[int, float]:
    """A network's parameters, and its GFLOP for an image of 512x512."""
    model = models.blank_model(name)
    model.eval()
    return cost.parameters(model), cost.operations(model, (1, 512, 512, 1)) / 1e9


def table() -> str:
    """The table as Markdown, a line a network."""
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
    readme = ROOT / "README.md"
    text = BETWEEN.sub(lambda found: found[1] + table() + found[3], readme.read_text())
    readme.write_text(text)


if __name__ == "__main__":
    main()
