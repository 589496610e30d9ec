"""Put a trained checkpoint into the package as its weights.

    python benchmarks/pack.py --checkpoint=runs/sem --name=sem

Writes eal_icnet_jax/weights/NAME.safetensors and prints the digest that belongs into
eal_icnet_jax/models/pretrained.py. Then run `python -m tests.models.test_pretrained`.
"""

import argparse
import hashlib

from eal_icnet_jax.models import checkpoints, pretrained, torch_files, torch_weights


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--checkpoint", required=True, help="work directory of the training")
    parser.add_argument("--name", required=True, choices=pretrained.PRETRAINED)
    arguments = parser.parse_args()
    model = checkpoints.load_model(arguments.checkpoint)
    path = pretrained.weights_file(arguments.name)
    path.parent.mkdir(exist_ok=True)
    torch_files.write_state_dict(path, torch_weights.to_torch(model))
    print(f"{path}: {path.stat().st_size:,} bytes, {model.spec.preprocessing}")
    print(f'sha256="{hashlib.sha256(path.read_bytes()).hexdigest()}"')


if __name__ == "__main__":
    main()
