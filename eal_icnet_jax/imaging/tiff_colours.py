"""Samples of TIFF pixels to grey or RGB, by a list of what is known."""

from collections.abc import Callable

import numpy as np
import tifffile

from eal_icnet_jax.imaging.pixel_values import over_black
from eal_icnet_jax.system.errors import UserError

COLOUR_SAMPLES = {"MINISBLACK": 1, "MINISWHITE": 1, "PALETTE": 1, "RGB": 3, "YCBCR": 3,
                  "SEPARATED": 4}  # fmt: skip
"""Samples that each photometric interpretation needs. Further ones are extra samples."""

Converter = Callable[[np.ndarray], np.ndarray]
"""Takes samples `[h, w]` or `[h, w, S]`, returns `[h, w]` or RGB `[h, w, 3]`, uint8 or uint16."""


def _has_alpha(page: tifffile.TiffPage, name: str, photometric: str) -> bool:
    """Return whether the samples hold an alpha channel, or raise a `UserError` for others."""
    colours = COLOUR_SAMPLES[photometric]
    extra = page.samplesperpixel - colours
    if extra < 0 or extra > 1:
        raise UserError(
            f"{name} has {page.samplesperpixel} samples per pixel, and {photometric} needs "
            f"{colours}: convert it to grey or RGB"
        )
    return extra == 1


def _palette(page: tifffile.TiffPage, name: str) -> np.ndarray:
    if page.colormap is None:
        raise UserError(f"{name} has a palette without colours: convert it to grey or RGB")
    colours = np.asarray(page.colormap).T
    # Some programs write 8-bit colours into the 16 bits of each entry.
    return (colours if colours.max(initial=0) < 256 else colours >> 8).astype(np.uint8)


def converter(page: tifffile.TiffPage, name: str) -> Converter:
    """Return the function that turns a page's samples into grey or RGB.

    Pixels of one bit become 0 and 255, and those of 2 or 4 bits are spread over 8. Where an alpha
    channel makes pixels transparent, what lies under them is black.

    Args:
      page: of a TIFF.
      name: of the file, for error messages.

    Raises:
      UserError: the page's colours, samples or depth are none of those known.
    """
    if page.dtype not in (bool, np.uint8, np.uint16):
        depth = page.dtype or f"{page.bitspersample}-bit"
        raise UserError(f"{name} has {depth} pixels: convert it to 8 or 16 bits per channel")
    photometric = getattr(page.photometric, "name", str(page.photometric))
    if photometric not in COLOUR_SAMPLES:
        raise UserError(f"{name} has {photometric} colours: convert it to grey or RGB")
    compression = getattr(page.compression, "name", str(page.compression))
    if photometric == "YCBCR" and "JPEG" not in compression:
        raise UserError(
            f"{name} has YCBCR colours with compression {compression}: convert it to RGB"
        )
    bits = page.bitspersample
    if bits not in (1, 2, 4, 8, 10, 12, 14, 16):
        raise UserError(f"{name} has {bits} bits per channel: convert it to 8 or 16")
    has_alpha = _has_alpha(page, name, photometric)
    premultiplied = 1 in (page.extrasamples or ())
    palette = _palette(page, name) if photometric == "PALETTE" else None
    colours = COLOUR_SAMPLES[photometric]
    maximum = 2**bits - 1

    def convert(samples: np.ndarray) -> np.ndarray:
        samples = samples.astype(np.uint8) if samples.dtype == bool else samples
        alpha = None
        if has_alpha:
            samples, alpha = samples[..., :-1], samples[..., -1]
            samples = samples[..., 0] if colours == 1 else samples
        if palette is not None:
            image = palette[samples]
        else:
            image = samples * np.uint8(255 // maximum) if bits < 8 else samples
            white = image.dtype.type(255 if bits < 8 else maximum)
            if photometric == "MINISWHITE":
                image = white - image
            elif photometric == "SEPARATED":
                image = _rgb_of_cmyk(image, int(white))
        if alpha is None:
            return image
        return over_black(image, alpha, maximum, premultiplied)

    return convert


def _rgb_of_cmyk(image: np.ndarray, white: int) -> np.ndarray:
    """Return the light that inks `[h, w, 4]`, cyan, magenta, yellow and black, leave of white."""
    light = white - image.astype(np.uint32)
    product = light[..., :3] * light[..., 3:]
    return ((product + white // 2) // white).astype(image.dtype)
