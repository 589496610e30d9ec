"""The skeleton that EAL-ICNet and IRDPNet share."""

import jax
import jax.numpy as jnp

from eal_icnet_jax.layers import avg_pool_3x3
from eal_icnet_jax.models.network import Network


class InjectionNetwork(Network):
    """Two blocks, at H/4 and H/8, each joined with what enters it and the image at its size.

    A network has `init_conv`, `downsample_1` and `downsample_2`, a `classifier`, the normalisations
    `bn_prelu_1` to `bn_prelu_3` of what is joined at H/2, H/4 and H/8, and defines its blocks.
    """

    def block_1(self, x: jax.Array) -> jax.Array:
        """`[B, H / 4, W / 4, C]` to the same shape."""
        raise NotImplementedError

    def block_2(self, x: jax.Array) -> jax.Array:
        """`[B, H / 8, W / 8, C]` to the same shape."""
        raise NotImplementedError

    def forward(self, image: jax.Array) -> jax.Array:
        """To logits at an eighth of the image's size."""
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
