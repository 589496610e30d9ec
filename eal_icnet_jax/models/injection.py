"""The wiring that EAL-ICNet and IRDPNet share."""

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers import avg_pool_3x3
from eal_icnet_jax.models.network import Network


class InjectionNetwork(Network):
    """A stem and two blocks; downscaled images are injected (concatenated) at H/2, H/4 and H/8.

    Each block's output is concatenated with the block's input and the image at the same size.

    A subclass has the layers `init_conv`, `downsample_1`, `downsample_2` and `classifier`, the
    normalisations `bn_prelu_1` to `bn_prelu_3` of the concatenated features at H/2, H/4 and H/8,
    and defines `block_1` and `block_2`.
    """

    def block_1(self, x: jax.Array) -> jax.Array:
        """Map `[B, H / 4, W / 4, C]` to the same shape."""
        raise NotImplementedError

    def block_2(self, x: jax.Array) -> jax.Array:
        """Map `[B, H / 8, W / 8, C]` to the same shape."""
        raise NotImplementedError

    def forward(self, image: jax.Array) -> jax.Array:
        """Map `[B, H, W, in_channels]` to logits `[B, H / 8, W / 8, classes]`."""
        half = avg_pool_3x3(image)
        quarter = avg_pool_3x3(half)
        eighth = avg_pool_3x3(quarter)

        x = image
        for conv in self.init_conv:
            x = conv(x)
        x = self.bn_prelu_1(jnp.concatenate([x, half], -1))
        entry = self.downsample_1(x)
        x = self.bn_prelu_2(jnp.concatenate([self.block_1(entry), entry, quarter], -1))
        entry = self.downsample_2(x)
        x = self.bn_prelu_3(jnp.concatenate([self.block_2(entry), entry, eighth], -1))
        return self.classifier(x)
