"""Look a dataset over before training on it: pictures, statistics and suspicious pairs.

    eal-icnet inspect omv --manual-dir=DIR -o report
    eal-icnet inspect ic_synthetic/tiny --data-dir=DIR -o report

The first form reads the folder of images and labels that a dataset is prepared from, the second a
prepared dataset.
"""

import argparse
import pathlib

from eal_icnet_jax.system.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet inspect`."""
    add = parser.add_argument
    add("dataset", metavar="DATASET", help="such as omv, or ic_synthetic/tiny with its config")
    add("--manual-dir", type=pathlib.Path, metavar="DIR",
        help="folder of images and labels, not yet prepared")  # fmt: skip
    add("--data-dir", default="", metavar="DIR", help="of prepared datasets ($TFDS_DATA_DIR)")
    add("-o", "--output", type=pathlib.Path, required=True, metavar="DIR", help="for the report")
    add("--columns", type=int, default=6, metavar="N",
        help="number of images of each split on the contact sheet (%(default)s)")  # fmt: skip
    add("--force", action="store_true", help="replace files that another program wrote")


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet inspect`.

    Raises:
      UserError: the arguments are wrong, or the dataset cannot be read.
    """
    if arguments.columns < 1:
        raise UserError(f"--columns is {arguments.columns}: name 1 or more")

    import cv2

    from eal_icnet_jax.configs import default
    from eal_icnet_jax.data import dataset_builders
    from eal_icnet_jax.evaluation.inspection import pairs_of_folder, pairs_of_prepared
    from eal_icnet_jax.evaluation.inspection_report import write_report
    from eal_icnet_jax.system.terminal import printable

    cv2.setNumThreads(1)  # pairs are read on all cores already
    dataset = default.get_config().dataset
    dataset.name, _, dataset.config = arguments.dataset.partition("/")
    dataset.data_dir, dataset.prepare = arguments.data_dir, False
    if arguments.manual_dir is None:
        pairs = pairs_of_prepared(dataset)
    else:
        builder = dataset_builders.dataset_builder(dataset)
        if not hasattr(builder, "SOURCE"):
            raise UserError(f"{dataset.name} is not read from a folder: remove --manual-dir")
        pairs = pairs_of_folder(builder, arguments.manual_dir.expanduser())
    print(printable(write_report(pairs, arguments.output, arguments.columns, arguments.force)))
