"""`python -m eal_icnet_jax.convert`: the same as `eal-icnet convert`."""

from collections.abc import Sequence

from eal_icnet_jax.commands import convert
from eal_icnet_jax.commands.parser import CommandParser


def main(argv: Sequence[str] | None = None):
    """Convert PyTorch weights to a checkpoint directory, or back."""
    parser = CommandParser(prog="python -m eal_icnet_jax.convert", description=convert.__doc__)
    convert.add_arguments(parser)
    arguments = parser.parse_args(argv)
    from eal_icnet_jax.system.command_process import exit_on_user_error

    with exit_on_user_error():
        convert.run(arguments)


if __name__ == "__main__":
    main()
