"""Named arrays keep their values when they are packed."""

import numpy as np
import pytest

from eal_icnet_jax.models.named_arrays import packed, unpacked


def arrays_of_three_dtypes() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(0)
    return {
        "b.kernel": rng.random((3, 3, 2, 4), np.float32),
        "a.kernel": rng.random((5, 1), np.float32),
        "a.empty": np.zeros((0, 4), np.float32),
        "a.keys": rng.integers(0, 2**32, (2, 2), np.uint32),
        "step": np.asarray(7, np.int32),
    }


def test_packed_arrays_come_back_with_their_names_shapes_dtypes_and_values():
    arrays = arrays_of_three_dtypes()
    packs = packed(arrays)
    assert sorted(name.split("_")[0] for name in packs) == ["float32", "int32", "uint32"]
    assert sum(pack.size for pack in packs.values()) == sum(a.size for a in arrays.values())
    back = unpacked(packs, {name: np.zeros_like(array) for name, array in arrays.items()})
    assert back.keys() == arrays.keys()
    for name, array in arrays.items():
        assert (back[name].dtype, back[name].shape) == (array.dtype, array.shape)
        np.testing.assert_array_equal(back[name], array)


@pytest.mark.parametrize("change", ["name", "shape"])
def test_packs_of_other_arrays_of_the_same_sizes_have_other_names(change):
    arrays = arrays_of_three_dtypes()
    others = dict(arrays)
    if change == "name":
        others["c.kernel"] = others.pop("b.kernel")
    else:
        others["b.kernel"] = others["b.kernel"].reshape(3, 3, 4, 2)
    assert len(packed(arrays).keys() - packed(others).keys()) == 1
