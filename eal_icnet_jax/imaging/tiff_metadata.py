"""What the metadata of a TIFF state: pixel size, height without data bar, level of white."""

import pathlib
import re
from collections.abc import Iterator
from typing import Any

import defusedxml.ElementTree
import tifffile

from eal_icnet_jax.imaging import units
from eal_icnet_jax.imaging.units import PixelSize

MICROMETRES_PER_RESOLUTION_UNIT = {2: 25400, 3: 10000}
"""Values of the tag ResolutionUnit: inch and centimetre."""

TESCAN_TAG, MAX_SAMPLE_VALUE_TAG = 50431, 281

LARGEST_COMPANION = 2**20
"""Maximum size in bytes of a text file beside an image that describes it."""


def _ome_pixels(file: tifffile.TiffFile) -> Any:
    """Return the first `Pixels` element of the OME metadata, or an empty dict."""
    if not file.is_ome:
        return {}
    root = defusedxml.ElementTree.fromstring(file.ome_metadata)
    return next((node for node in root.iter() if node.tag.endswith("}Pixels")), {})


def other_parts(file: tifffile.TiffFile, own_name: str) -> list[str]:
    """Return the names of the other files over which the image of an OME-TIFF is spread.

    Args:
      file: that is open.
      own_name: its name, which may differ from the one that it was written under.
    """
    root = defusedxml.ElementTree.fromstring(file.ome_metadata)
    nodes = list(root.iter())
    names = {node.get("FileName") for node in nodes if node.tag.endswith("}UUID")} - {None}
    others = names - {own_name} if len(names) > 1 else set()
    others |= {node.get("MetadataFile") for node in nodes if node.tag.endswith("}BinaryOnly")}
    return sorted(others - {None, own_name})


def _vendor_text(file: tifffile.TiffFile, page: tifffile.TiffPage) -> dict[str, str]:
    """Return TESCAN's settings, or those of the text file of Hitachi or JEOL beside the image.

    The keys are in lower case. The entry "source" names where they come from.
    """
    tag = page.tags.get(TESCAN_TAG)
    if tag is not None:
        text = tag.value if isinstance(tag.value, bytes) else str(tag.value).encode()
        return {**_settings(text.decode("latin-1")), "source": "TESCAN metadata"}
    path = getattr(file.filehandle, "path", None)
    if not path:
        return {}
    companion = pathlib.Path(path).with_suffix(".txt")
    if not companion.is_file() or companion.stat().st_size > LARGEST_COMPANION:
        return {}
    data = companion.read_bytes()
    is_wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
    text = data.decode("utf-16" if is_wide else "latin-1", "replace")
    if "SemImageFile" in text:
        return {**_settings(text), "source": f"Hitachi metadata in {companion.name}"}
    if "$CM_" in text or "$$SM_" in text:
        return {**_settings(text), "source": f"JEOL metadata in {companion.name}"}
    return {}


def _settings(text: str) -> dict[str, str]:
    """Return the settings of lines such as `Key=value` or `$KEY value`."""
    pairs = re.findall(r"^\W*?(\$*\w+)(?:\s*=\s*|\s+)([^\r\n]+)", text, re.M)
    return {key.lower(): value.strip() for key, value in pairs}


def _vendor_sizes(file: tifffile.TiffFile, page: tifffile.TiffPage) -> Iterator[PixelSize | None]:
    """Yield the pixel size from each microscope's metadata that are there."""
    fei = file.fei_metadata or {}
    for section in ("Scan", "EScan", "IScan"):
        scan = fei.get(section) or {}
        if {"PixelWidth", "PixelHeight"} <= scan.keys():
            sides = (1e6 * float(scan[key]) for key in ("PixelHeight", "PixelWidth"))
            yield units.pixel_size(*sides, "FEI metadata")
    zeiss = file.sem_metadata or {}
    for key in ("ap_image_pixel_size", "ap_pixel_size"):
        if key in zeiss:
            _, value, unit = zeiss[key][:3]
            side = float(value) * (units.micrometres(unit) or 0)
            yield units.pixel_size(side, side, "Zeiss metadata")
    olympus = file.sis_metadata or {}
    if "pixelsizex" in olympus:
        sides = (1e6 * float(olympus[f"pixelsize{axis}"]) for axis in "yx")
        yield units.pixel_size(*sides, "Olympus SIS metadata")
    lsm = (file.lsm_metadata or {}) if file.is_lsm else {}
    if "VoxelSizeX" in lsm:
        sides = (1e6 * float(lsm[f"VoxelSize{axis}"]) for axis in "YX")
        yield units.pixel_size(*sides, "LSM metadata")
    text = _vendor_text(file, page)
    if "pixelsizex" in text:
        width = 1e6 * float(text["pixelsizex"])
        height = 1e6 * float(text.get("pixelsizey", text["pixelsizex"]))
        yield units.pixel_size(height, width, text["source"])
    elif "pixelsize" in text:
        side = 1e-3 * float(text["pixelsize"].split()[0])  # in nanometres
        yield units.pixel_size(side, side, text["source"])
    elif {"$$sm_micron_bar", "$$sm_micron_marker"} <= text.keys():
        length, unit = re.fullmatch(r"([\d.]+)\s*(\w+)", text["$$sm_micron_marker"]).groups()
        bar = float(length) * (units.micrometres(unit) or 0)
        side = bar / float(text["$$sm_micron_bar"].split()[0])
        yield units.pixel_size(side, side, text["source"])


def _imagej_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> PixelSize | None:
    unit = units.micrometres(str((file.imagej_metadata or {}).get("unit", "")))
    across, down = page.resolution
    if not unit or min(across, down) <= 0:
        return None
    return units.pixel_size(unit / down, unit / across, "ImageJ metadata")


def _ome_size(file: tifffile.TiffFile) -> PixelSize | None:
    pixels = _ome_pixels(file)
    sides = (
        float(pixels.get(f"PhysicalSize{axis}", 0))
        * (units.micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm")) or 0)
        for axis in "YX"
    )
    return units.pixel_size(*sides, "OME metadata")


def pixel_size(file: tifffile.TiffFile, page: tifffile.TiffPage) -> PixelSize | None:
    """Return the size of a pixel: by OME, by a microscope, by ImageJ, or by the resolution.

    Raises:
      Exception: of any type, if the metadata are damaged.
    """
    if size := _ome_size(file):
        return size
    for size in _vendor_sizes(file, page):
        if size:
            return size
    if file.is_imagej and (size := _imagej_size(file, page)):
        return size
    unit = MICROMETRES_PER_RESOLUTION_UNIT.get(int(page.resolutionunit), 0)
    across, down = page.resolution
    return units.from_resolution(down, across, unit, "TIFF resolution") if unit else None


def image_height(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int | None:
    """Return the number of rows above the data bar, or None if the microscope does not state it.

    Raises:
      Exception: of any type, if the metadata are damaged.
    """
    height, width = int(page.imagelength), int(page.imagewidth)
    fei = file.fei_metadata or {}
    image, private = fei.get("Image") or {}, fei.get("PrivateFei") or {}
    if private.get("DatabarHeight"):
        return height - int(private["DatabarHeight"])
    if int(image.get("ResolutionX", 0)) == width and "ResolutionY" in image:
        return int(image["ResolutionY"])
    text = _vendor_text(file, page)
    if "imagestripsize" in text:
        return height - int(text["imagestripsize"])
    for key in ("datasize", "$cm_full_size"):
        numbers = [int(number) for number in re.findall(r"\d+", text.get(key, ""))]
        if len(numbers) == 2 and numbers[0] == width:
            return numbers[1]
    return None


def white_level(file: tifffile.TiffFile, page: tifffile.TiffPage) -> int | None:
    """Return the level of white in 16 bits that the metadata state, or None.

    Raises:
      Exception: of any type, if the metadata are damaged.
    """
    if page.bitspersample in (10, 12, 14):
        return 2**page.bitspersample - 1
    bits = int(_ome_pixels(file).get("SignificantBits", 0))
    tag = page.tags.get(MAX_SAMPLE_VALUE_TAG)
    if not bits and tag is not None:
        # The largest level that occurs, or that may occur: the bits that it takes are the same.
        value = max(tag.value) if isinstance(tag.value, tuple) else tag.value
        bits = next(bits for bits in (8, 10, 12, 14, 16) if int(value) < 2**bits)
    return 2**bits - 1 if 8 <= bits <= 16 else None
