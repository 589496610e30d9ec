"""Write a network as a program for other runtimes, which need no JAX.

    eal-icnet export demo/run model.onnx

The ending says for which: .onnx for ONNX Runtime and others, .xml for OpenVINO (its weights lie
beside it in .bin), .stablehlo for compilers that take StableHLO (what a user must know lies beside
it in .json), .zip for programs that take packages of bioimage.io. All take images and batches of
any size, and what they give is compared with ours.
Needs the extra `export`: pip install 'eal-icnet-jax[export]'.
"""

import argparse
import pathlib
import re

from eal_icnet_jax.system.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `eal-icnet export`."""
    add = parser.add_argument
    add("checkpoint", metavar="CHECKPOINT",
        help="checkpoint or work directory, or the packaged weights optical or sem")  # fmt: skip
    add("output", type=pathlib.Path, help="file to write: .onnx, .xml, .stablehlo or .zip")
    add("--size", metavar="PIXELS",
        help="side of the images, or height and width as in 512x768 (default: any, in steps that "
        "the program states)")  # fmt: skip
    add("--batch", type=int, metavar="N", help="images that it takes at once (default: any number)")
    add("--bits", type=int, default=8, choices=(8, 16), help="of the images' levels (%(default)s)")
    add("--force", action="store_true", help="replace an existing output")


def _size(text: str) -> tuple[int, int]:
    match = re.fullmatch(r"(\d{1,5})(?:x(\d{1,5}))?", text)
    if match is None:
        raise UserError(f"--size is {text!r}: name a side such as 512, or 512x768")
    return int(match[1]), int(match[2] or match[1])


def run(arguments: argparse.Namespace) -> None:
    """Run `eal-icnet export`.

    Raises:
      UserError: the network cannot be read or exported in this form.
    """
    size = None if arguments.size is None else _size(arguments.size)
    from eal_icnet_jax.inference import exporting
    from eal_icnet_jax.models import checkpoints
    from eal_icnet_jax.system import jax_settings
    from eal_icnet_jax.system.files import check_new, check_parent

    exporting.check_format(arguments.output)
    check_parent(arguments.output)
    check_new(exporting.files_of(arguments.output), arguments.force)
    jax_settings.configure()
    model = checkpoints.load_model(arguments.checkpoint)
    program = exporting.program_of(model, size, arguments.bits, arguments.batch)
    difference = exporting.write_program(program, arguments.output)
    if size is None:
        images = f"images whose height and width are multiples of {program.multiple} pixels"
    else:
        images = f"images of {size[0]}x{size[1]} pixels (height x width)"
    batches = "" if arguments.batch is None else f", {arguments.batch} at once"
    print(
        f"{model.spec.name} for {images} and {arguments.bits} bits{batches} in {arguments.output}"
    )
    print(f"its logits differ from ours by at most {difference:.1e} of their range")
