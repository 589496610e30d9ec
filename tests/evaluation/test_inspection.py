"""What the inspection finds in pairs that were read."""

import numpy as np

from eal_icnet_jax.datasets.ic_synthetic import examples
from eal_icnet_jax.evaluation import inspection


def test_inverted_vias_are_recognised_by_their_area():
    """Vias may be brighter or darker than their surroundings, so contrast does not decide."""
    kind = next(kind for kind in examples.KINDS if kind.name == "optical_via")
    kind = type(kind)(**{**vars(kind), "size": 192, "without_vias": 0.0})
    measured = []
    for index in range(12):
        example = examples.draw_example(kind, "train", index)
        mask = example["label"][..., 0] > 0
        mask = ~mask if index in (3, 7) else mask
        content = example["image"], {"label": mask}, np.ones_like(mask)
        pair = inspection.DatasetPair("train", str(index), lambda content=content: (*content, []))
        measured.append(inspection.measure(pair))
    flagged = inspection.looks_inverted(measured, "label")
    assert [k for k, is_inverted in enumerate(flagged) if is_inverted] == [3, 7]


def test_a_dataset_whose_masks_are_all_empty_has_no_inverted_mask():
    empty = np.zeros((64, 64), bool)
    content = np.zeros((64, 64, 1), np.uint8), {"label": empty}, ~empty
    measured = [inspection.measure(inspection.DatasetPair("train", "a", lambda: (*content, [])))]
    assert inspection.looks_inverted(measured, "label") == [False]
    assert [reason for _, reason in inspection.find_suspicious(measured)] == ["label is empty"]


def test_nothing_is_found_in_nothing():
    assert inspection.find_suspicious([]) == [] and inspection.summarize([]) == {}
