"""Files that are written whole or not at all."""

import pathlib

from eal_icnet_jax.errors import UserError


def write_whole(path: pathlib.Path, data: bytes | str):
    """Writes a file whole or not at all, whenever the process dies.

    Raises:
      UserError: it cannot be written.
    """
    partial = path.with_name(f".{path.name}.partial")
    try:
        partial.write_bytes(data.encode() if isinstance(data, str) else data)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise UserError(f"{path} cannot be written: {error.strerror or error}") from error
