"""HRNet with 18 channels at the highest resolution."""

from eal_icnet_jax.models.hrnet import CHANNELS_AT, TORCH_NAMES, HRNet


class HRNetW18(HRNet):
    """`HRNet` of width 18."""

    width = 18


Model = HRNetW18

__all__ = ["CHANNELS_AT", "TORCH_NAMES", "HRNetW18", "Model"]
