"""Pixel values in the ranges that networks, datasets and masks use."""

import cv2
import numpy as np

from eal_icnet_jax.system.errors import UserError


def _with_channels(image: np.ndarray, channels: int) -> np.ndarray:
    """Return `[H, W]` or RGB `[H, W, 3]` as `[H, W, channels]`: grey for 1, repeated grey for 3."""
    if image.ndim == 3 and channels == 1:
        image = cv2.cvtColor(image, cv2.COLOR_RGB2GRAY)
    if image.ndim == 2:
        image = image[..., None]
    return image if image.shape[2] == channels else np.repeat(image, channels, -1)


def to_unit_range(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image to the input of a network.

    Args:
      image: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16.
      channels: 1 converts colour to grey (ITU-R 601 luma), 3 repeats grey.

    Returns:
      `[H, W, channels]` float32 in [0, 1].

    Raises:
      UserError: `channels` is neither 1 nor 3.
    """
    if channels not in (1, 3):
        raise UserError(f"images have 1 or 3 channels, but the model takes {channels}")
    maximum = np.float32(np.iinfo(image.dtype).max)
    return _with_channels(image, channels).astype(np.float32) / maximum


def to_uint8(image: np.ndarray, channels: int) -> np.ndarray:
    """Convert an image to the form in which datasets store it.

    Args:
      image: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16; 65535 becomes 255.
      channels: 1 converts colour to grey (ITU-R 601 luma), 3 repeats grey.

    Returns:
      `[H, W, channels]` uint8.
    """
    if image.dtype == np.uint16:
        image = ((image.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return _with_channels(image, channels)


def over_black(
    image: np.ndarray, alpha: np.ndarray, white: int, premultiplied: bool = False
) -> np.ndarray:
    """Return an image with its transparent pixels over black.

    Args:
      image: `[H, W]` or RGB `[H, W, 3]`, uint8 or uint16.
      alpha: `[H, W]`, 0 where the image is transparent.
      white: level of an opaque pixel's alpha.
      premultiplied: whether the colours are stored as they look over black.

    Returns:
      The image; equal to the one given if it is opaque.
    """
    if premultiplied:
        return image
    weight = alpha.astype(np.uint32)
    weight = weight if image.ndim == 2 else weight[..., None]
    return ((image * weight + white // 2) // white).astype(image.dtype)
