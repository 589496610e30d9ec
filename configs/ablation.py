"""Ablations of EAL-ICNet from the paper: `--config=configs/ablation.py:without_tssa`.

The paper only names its ablations. They are understood here as follows. R-DAB1 and R-DAB2 remove a
DAB block, so that its input is its output. O-DC removes the dilated branch of every DAB module.
O-TSSA and O-PMA remove the contributions of TSSA and of the position attention. In the dilation
settings, each rate is used by two consecutive modules of the second block, as 4, 8 and 16 are in
the network. The first block keeps its rate of 2.

They train on OMC; `--config.dataset.name=omv` trains on OMV.
"""

from eal_icnet_jax.configs import default

ABLATIONS = {
    "without_dab_block_1": {"block_1_dilations": ()},
    "without_dab_block_2": {"block_2_dilations": ()},
    "without_dilated_branch": {"dilated_branch": False},
    "without_tssa": {"use_tssa": False},
    "without_position_attention": {"use_position_attention": False},
    "dilations_1_3_5": {"block_2_dilations": (1, 1, 3, 3, 5, 5)},
    "dilations_2_4_6": {"block_2_dilations": (2, 2, 4, 4, 6, 6)},
    "dilations_1_2_3": {"block_2_dilations": (1, 1, 2, 2, 3, 3)},
}


def get_config(ablation: str = "without_tssa"):
    if ablation not in ABLATIONS:
        raise ValueError(f"no ablation {ablation!r}: choose one of {', '.join(ABLATIONS)}")
    config = default.get_config()
    config.dataset.name = "omc"
    with config.unlocked():
        config.model.options.update(ABLATIONS[ablation])
    return config
