"""The paper's ablations of EAL-ICNet: `--config=configs/ablation.py:without_tssa`.

The paper names them; this is how they are read here. R-DAB1 and R-DAB2 leave a block out: what
enters it leaves it. O-DC leaves out the dilated branch of every DAB module. O-TSSA and O-PMA leave
out what TSSA and the position attention add. Of the dilation settings, each rate is that of two
modules in a row of the second block, as 4, 8 and 16 are in the network; the first keeps its 2.

Trains on OMC; `--config.dataset.name=omv` on OMV.
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
