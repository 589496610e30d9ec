"""HRNet with 48 channels at the highest resolution."""

from eal_icnet_jax.models.hrnet import CHANNELS_AT, TORCH_NAMES, HRNet


class HRNetW48(HRNet):
    """`HRNet` of width 48."""

    width = 48


Model = HRNetW48

__all__ = ["CHANNELS_AT", "TORCH_NAMES", "HRNetW48", "Model"]
