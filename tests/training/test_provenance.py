"""What a run was made with is recorded, and differences name both values."""

import json

from eal_icnet_jax.training import provenance


def test_a_run_records_seed_data_releases_and_commit(workdir):
    record = json.loads((workdir / "provenance.json").read_text())
    assert record["seed"] == 0
    ((name, digest),) = record["data_sha256"].items()
    assert name == "ic_synthetic/tiny/1.0.0" and len(digest) == 64
    (start,) = record["starts"]
    assert start["step"] == 0
    assert {"python", "jax", "flax", "orbax-checkpoint"} <= start["versions"].keys()
    assert start["git_commit"] is None or len(start["git_commit"].rstrip("+")) == 40


def test_differences_name_both_values():
    then, now = {"jax": "1", "flax": "2"}, {"jax": "1", "flax": "3", "optax": "4"}
    assert provenance.differences(then, now) == ["flax 2 then, 3 now", "optax None then, 4 now"]
