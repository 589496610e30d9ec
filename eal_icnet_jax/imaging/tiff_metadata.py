"""What the metadata of a TIFF state: pixel size, height without data bar, level of white."""

import functools
import pathlib
import re
from collections.abc import Iterable, Iterator
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


def _settings(text: str) -> dict[str, str]:
    """Return the settings of lines such as `Key=value` or `$KEY value`."""
    pairs = re.findall(r"^\W*?(\$*\w+)(?:\s*=\s*|\s+)([^\r\n]+)", text, re.M)
    return {key.lower(): value.strip() for key, value in pairs}


def _file_names(nodes: Iterable) -> set[str]:
    """Return the names of files that elements of OME metadata state."""
    return {node.get("FileName") for node in nodes if node.tag.endswith("}UUID")} - {None}


class TiffMetadata:
    """What the metadata of a page state. Damaged metadata raise exceptions of any type.

    Args:
      file: that is open.
      page: of the file.
      name: of the file, by which OME metadata of several files find what is in this one.
    """

    def __init__(self, file: tifffile.TiffFile, page: tifffile.TiffPage, name: str):
        self._file, self._page, self._name = file, page, name

    @functools.cached_property
    def _ome_nodes(self) -> list:
        """The elements of the OME metadata: those of the images in this file, if it is named."""
        if not self._file.is_ome:
            return []
        root = defusedxml.ElementTree.fromstring(self._file.ome_metadata)
        images = [node for node in root if node.tag.endswith("}Image")]
        own = [image for image in images if self._name in _file_names(image.iter())]
        others = [image for image in images if image not in own] if own else []
        return [node for part in root if part not in others for node in part.iter()]

    def _ome_tagged(self, tag: str) -> list[Any]:
        return [node for node in self._ome_nodes if node.tag.endswith(f"}}{tag}")]

    @property
    def _ome_pixels(self) -> Any:
        """The first `Pixels` element of the OME metadata, or an empty dict."""
        return next(iter(self._ome_tagged("Pixels")), {})

    @functools.cached_property
    def _vendor_text(self) -> dict[str, str]:
        """TESCAN's settings, or those of the text file of Hitachi or JEOL beside the image.

        The keys are in lower case. The entry "source" names where they come from.
        """
        tag = self._page.tags.get(TESCAN_TAG)
        if tag is not None:
            text = tag.value if isinstance(tag.value, bytes) else str(tag.value).encode()
            return {**_settings(text.decode("latin-1")), "source": "TESCAN metadata"}
        path = getattr(self._file.filehandle, "path", None)
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

    def other_parts(self) -> list[str]:
        """Return the names of the other files over which the image of an OME-TIFF is spread.

        The file's own name may differ from the one that it was written under.
        """
        names = _file_names(self._ome_nodes)
        others = names - {self._name} if len(names) > 1 else set()
        others |= {node.get("MetadataFile") for node in self._ome_tagged("BinaryOnly")}
        return sorted(others - {None, self._name})

    def _vendor_sizes(self) -> Iterator[PixelSize | None]:
        """Yield the pixel size from each microscope's metadata that are there."""
        fei = self._file.fei_metadata or {}
        for section in ("Scan", "EScan", "IScan"):
            scan = fei.get(section) or {}
            if {"PixelWidth", "PixelHeight"} <= scan.keys():
                sides = (1e6 * float(scan[key]) for key in ("PixelHeight", "PixelWidth"))
                yield units.pixel_size(*sides, "FEI metadata")
        zeiss = self._file.sem_metadata or {}
        for key in ("ap_image_pixel_size", "ap_pixel_size"):
            if key in zeiss:
                _, value, unit = zeiss[key][:3]
                side = float(value) * (units.micrometres(unit) or 0)
                yield units.pixel_size(side, side, "Zeiss metadata")
        olympus = self._file.sis_metadata or {}
        if "pixelsizex" in olympus:
            sides = (1e6 * float(olympus[f"pixelsize{axis}"]) for axis in "yx")
            yield units.pixel_size(*sides, "Olympus SIS metadata")
        lsm = (self._file.lsm_metadata or {}) if self._file.is_lsm else {}
        if "VoxelSizeX" in lsm:
            sides = (1e6 * float(lsm[f"VoxelSize{axis}"]) for axis in "YX")
            yield units.pixel_size(*sides, "LSM metadata")
        text = self._vendor_text
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

    def _imagej_size(self) -> PixelSize | None:
        unit = units.micrometres(str((self._file.imagej_metadata or {}).get("unit", "")))
        across, down = self._page.resolution
        if not unit or min(across, down) <= 0:
            return None
        return units.pixel_size(unit / down, unit / across, "ImageJ metadata")

    def _ome_size(self) -> PixelSize | None:
        pixels = self._ome_pixels
        sides = (
            float(pixels.get(f"PhysicalSize{axis}", 0))
            * (units.micrometres(pixels.get(f"PhysicalSize{axis}Unit", "µm")) or 0)
            for axis in "YX"
        )
        return units.pixel_size(*sides, "OME metadata")

    def stage_position(self) -> tuple[float, float] | None:
        """Return the place (x, y) of the stage in micrometres by OME, or None if it is not stated.

        OME's usual unit, "reference frame", is no length. Nothing is stated either if the metadata
        have several images and none is said to be in this file.
        """
        if len(self._ome_tagged("Image")) > 1:
            return None
        plane = next(iter(self._ome_tagged("Plane")), {})
        if not all(plane.get(f"Position{axis}") for axis in "XY"):
            return None
        factors = [units.micrometres(plane.get(f"Position{axis}Unit", "")) for axis in "XY"]
        if None in factors:
            return None
        x, y = (float(plane.get(f"Position{axis}")) * factor
                for axis, factor in zip("XY", factors, strict=True))  # fmt: skip
        return x, y

    def pixel_size(self) -> PixelSize | None:
        """Return the size of a pixel: by OME, by a microscope, by ImageJ, or by the resolution."""
        if size := self._ome_size():
            return size
        for size in self._vendor_sizes():
            if size:
                return size
        if self._file.is_imagej and (size := self._imagej_size()):
            return size
        unit = MICROMETRES_PER_RESOLUTION_UNIT.get(int(self._page.resolutionunit), 0)
        across, down = self._page.resolution
        return units.from_resolution(down, across, unit, "TIFF resolution") if unit else None

    def image_height(self) -> int | None:
        """Return the number of rows above the data bar, or None if it is not stated."""
        height, width = int(self._page.imagelength), int(self._page.imagewidth)
        fei = self._file.fei_metadata or {}
        image, private = fei.get("Image") or {}, fei.get("PrivateFei") or {}
        if private.get("DatabarHeight"):
            return height - int(private["DatabarHeight"])
        if int(image.get("ResolutionX", 0)) == width and "ResolutionY" in image:
            return int(image["ResolutionY"])
        text = self._vendor_text
        if "imagestripsize" in text:
            return height - int(text["imagestripsize"])
        for key in ("datasize", "$cm_full_size"):
            numbers = [int(number) for number in re.findall(r"\d+", text.get(key, ""))]
            if len(numbers) == 2 and numbers[0] == width:
                return numbers[1]
        return None

    def white_level(self) -> int | None:
        """Return the level of white in 16 bits that the metadata state, or None."""
        if self._page.bitspersample in (10, 12, 14):
            return 2**self._page.bitspersample - 1
        bits = int(self._ome_pixels.get("SignificantBits", 0))
        tag = self._page.tags.get(MAX_SAMPLE_VALUE_TAG)
        if not bits and tag is not None:
            # The largest level that occurs, or that may occur: the bits that it takes are the same.
            value = max(tag.value) if isinstance(tag.value, tuple) else tag.value
            bits = next(bits for bits in (8, 10, 12, 14, 16) if int(value) < 2**bits)
        return 2**bits - 1 if 8 <= bits <= 16 else None
