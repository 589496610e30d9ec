"""Put a trained checkpoint into the package as its weights.

    python benchmarks/pack.py --checkpoint=runs/sem --name=sem

With `--start=CHECKPOINT --share=0.7`, each weight is 0.7 of the trained one and 0.3 of the one that
the training started from (Wortsman et al., arXiv 2109.01903): what the start could do is kept.

Writes eal_icnet_jax/weights/NAME.safetensors and prints the digest that belongs into
eal_icnet_jax/models/pretrained.py. Then run `python -m tests.models.test_pretrained`.
"""

import argparse
import hashlib

import numpy as np

from eal_icnet_jax.models import checkpoints, pretrained, torch_files, torch_weights


def averaged(trained: dict, start: dict, share: float) -> dict[str, np.ndarray]:
    """Return the weighted mean of two networks' arrays. Counters are those of the trained one.

    Args:
      trained: arrays by name.
      start: arrays of the same names and shapes.
      share: weight of the trained ones, from 0 to 1.
    """
    return {
        name: (share * value + (1 - share) * start[name]).astype(value.dtype)
        if np.issubdtype(value.dtype, np.floating)
        else value
        for name, value in trained.items()
    }


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True, help="work directory of the training")
    parser.add_argument("--name", required=True, choices=pretrained.PRETRAINED)
    parser.add_argument("--start", help="checkpoint that the training started from")
    parser.add_argument("--share", type=float, default=1.0, help="of the trained weights (1)")
    arguments = parser.parse_args()
    if (arguments.start is None) != (arguments.share == 1):
        parser.error("--start and --share go together")
    model = checkpoints.load_model(arguments.checkpoint)
    arrays = torch_weights.to_torch(model)
    if arguments.start:
        start = torch_weights.to_torch(checkpoints.load_model(arguments.start))
        arrays = averaged(arrays, start, arguments.share)
    path = pretrained.weights_file(arguments.name)
    path.parent.mkdir(exist_ok=True)
    torch_files.write_state_dict(path, arrays)
    print(f"{path}: {path.stat().st_size:,} bytes, {model.spec.preprocessing}")
    print(f'sha256="{hashlib.sha256(path.read_bytes()).hexdigest()}"')


if __name__ == "__main__":
    main()
