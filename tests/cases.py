"""Files of the kinds that people have, drawn, with what they mean: the cases of test_cases.py.

All images show `GREY` or `COLOUR`, all masks show `MASK`.
"""

import io
import pathlib
import struct
import zlib
from collections.abc import Callable

import numpy as np
import tifffile
import zarr
from PIL import Image


def _mask(height: int = 128, width: int = 160) -> np.ndarray:
    """Return wires that are not symmetric, `[H, W]` bool."""
    mask = np.zeros((height, width), bool)
    mask[10:26, 8:120] = mask[40:56, 30:152] = mask[70:86, 8:80] = True
    mask[26:70, 60:76] = mask[96:112, 50:152] = True
    return mask


MASK = _mask()
NOISE = np.random.default_rng(0).normal(0, 6, MASK.shape)
GREY = np.clip(np.where(MASK, 190, 80) + NOISE, 0, 255).astype(np.uint8)
GREY[0, 0] = 255  # so that the level of white of images of 16 bits is what its depth says
COLOUR = np.stack([GREY, 255 - GREY, GREY // 2], -1)
WIDE = GREY.astype(np.uint16) * 257
OPAQUE = np.full((*MASK.shape, 1), 255, np.uint8)

Writer = Callable[[pathlib.Path], None]
"""Writes a file at a path."""


def tiff(image: np.ndarray, **options) -> Writer:
    """Return a writer of a TIFF; `options` are tifffile's."""
    return lambda path: tifffile.imwrite(path, image, **options)


def pillow(image: Image.Image | np.ndarray, **options) -> Writer:
    """Return a writer of a PNG, JPEG, BMP or TIFF by Pillow, in the format of the path's ending."""
    picture = image if isinstance(image, Image.Image) else Image.fromarray(image)
    return lambda path: picture.save(path, **options)


def _inks(colour: np.ndarray) -> np.ndarray:
    """Return an RGB image as CMYK without black."""
    return np.concatenate([255 - colour, np.zeros((*MASK.shape, 1), np.uint8)], -1)


def _padded_png(path: pathlib.Path):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG")
    path.write_bytes(file.getvalue() + bytes(4096))


def _exif(orientation: int) -> bytes:
    exif = Image.Exif()
    exif[274] = orientation
    return exif.tobytes()


STORED = {
    2: lambda image: image[:, ::-1],
    3: lambda image: image[::-1, ::-1],
    4: lambda image: image[::-1],
    5: lambda image: image.swapaxes(0, 1),
    6: lambda image: np.rot90(image),
    7: lambda image: image[::-1, ::-1].swapaxes(0, 1),
    8: lambda image: np.rot90(image, -1),
}
"""How an image is stored that each orientation turns upright."""


def _upright(orientation: int, image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(STORED[orientation](image))


def _reduced_first(path: pathlib.Path):
    with tifffile.TiffWriter(path) as file:
        file.write(np.ascontiguousarray(COLOUR[::4, ::4]), photometric="rgb", subfiletype=1)
        file.write(COLOUR, photometric="rgb")


def _zarr(image: np.ndarray, **attributes) -> Writer:
    def write(path: pathlib.Path):
        array = zarr.create_array(
            str(path), shape=image.shape, dtype=image.dtype, chunks=image.shape, zarr_format=2
        )
        array[...] = image
        array.attrs.update(attributes)

    return write


def _bioformats2raw(path: pathlib.Path):
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    group.attrs["bioformats2raw.layout"] = 3
    image = group.create_group("0")
    array = image.create_array("0", shape=GREY.shape, chunks=(64, 64), dtype="u1")
    array[...] = GREY
    axes = [{"name": name, "type": "space"} for name in "yx"]
    scale = [{"type": "scale", "scale": [1, 1]}]
    datasets = [{"path": "0", "coordinateTransformations": scale}]
    image.attrs["multiscales"] = [{"version": "0.4", "axes": axes, "datasets": datasets}]


def significant_bits(bits: int) -> bytes:
    """Return OME metadata of an image of 16 bits that has fewer."""
    height, width = MASK.shape
    return (
        '<?xml version="1.0" encoding="UTF-8"?><OME xmlns="http://www.openmicroscopy.org/Schemas/'
        'OME/2016-06"><Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" '
        f'Type="uint16" SignificantBits="{bits}" SizeX="{width}" SizeY="{height}" SizeZ="1" '
        'SizeC="1" SizeT="1"><TiffData IFD="0"/></Pixels></Image></OME>'
    ).encode()


TWELVE = np.rint(GREY.astype(float) * 4095 / 255).astype(np.uint16)

IMAGES: dict[str, tuple[str, Writer, np.ndarray]] = {
    "grey PNG": ("a.png", pillow(GREY), GREY),
    "16-bit PNG": ("a.png", pillow(WIDE), GREY),
    "RGB PNG": ("a.png", pillow(COLOUR), COLOUR),
    "PNG with bytes after its end": ("a.png", _padded_png, GREY),
    "opaque RGBA PNG": ("a.png", pillow(np.concatenate([COLOUR, OPAQUE], -1)), COLOUR),
    "grey PNG with alpha": (
        "a.png",
        pillow(Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(OPAQUE[..., 0])])),
        np.repeat(GREY[..., None], 3, -1),
    ),
    "transparent white PNG": (
        "a.png",
        pillow(np.dstack([np.where(MASK[..., None], COLOUR, 255), 255 * MASK.astype(np.uint8)])),
        np.where(MASK[..., None], COLOUR, 0),
    ),
    "BMP": ("a.bmp", pillow(COLOUR), COLOUR),
    "RGB TIFF": ("a.tif", tiff(COLOUR, photometric="rgb"), COLOUR),
    "planar RGB TIFF": (
        "a.tif",
        tiff(np.moveaxis(COLOUR, -1, 0), photometric="rgb", planarconfig="separate"),
        COLOUR,
    ),
    "planar 16-bit RGB TIFF": (
        "a.tif",
        tiff(np.moveaxis(COLOUR, -1, 0).astype(np.uint16) * 257, photometric="rgb",
             planarconfig="separate"),
        COLOUR,
    ),
    "white is 0, 8 bits": ("a.tif", tiff(255 - GREY, photometric="miniswhite"), GREY),
    "white is 0, 16 bits": ("a.tif", tiff(65535 - WIDE, photometric="miniswhite"), GREY),
    "big-endian BigTIFF": ("a.tif", tiff(WIDE, byteorder=">", bigtiff=True), GREY),
    "CMYK TIFF": ("a.tif", tiff(_inks(COLOUR), photometric="separated"), COLOUR),
    "CMYK TIFF by Pillow": ("a.tif", pillow(Image.fromarray(COLOUR).convert("CMYK")), COLOUR),
    "RGBA TIFF": (
        "a.tif",
        tiff(np.concatenate([COLOUR, OPAQUE], -1), photometric="rgb",
             extrasamples=["unassalpha"]),
        COLOUR,
    ),
    "RGB TIFF and a sample of unknown kind": (
        "a.tif",
        tiff(np.concatenate([COLOUR, OPAQUE], -1), photometric="rgb",
             extrasamples=["unspecified"]),
        COLOUR,
    ),
    "palette TIFF": (
        "a.tif",
        tiff(GREY, photometric="palette",
             colormap=np.stack([np.arange(256)[::step] for step in (1, -1, 1)]).astype("u2") * 257),
        np.stack([GREY, 255 - GREY, GREY], -1),
    ),
    **{
        f"{codec} TIFF": ("a.tif", tiff(COLOUR, photometric="rgb", compression=codec), COLOUR)
        for codec in ("lzw", "deflate", "packbits", "zstd", "lzma")
    },
    "lossless JPEG 2000 TIFF": (
        "a.tif",
        tiff(COLOUR, photometric="rgb", compression="jpeg2000", compressionargs={"level": 0}),
        COLOUR,
    ),
    "lossless WebP TIFF": (
        "a.tif",
        tiff(COLOUR, photometric="rgb", compression="webp", compressionargs={"lossless": True}),
        COLOUR,
    ),
    "tiles of 48": ("a.tif", tiff(COLOUR, photometric="rgb", tile=(48, 48)), COLOUR),
    "thumbnail before the image": ("a.tif", _reduced_first, COLOUR),
    **{
        f"TIFF orientation {turn}": (
            "a.tif",
            tiff(_upright(turn, COLOUR), photometric="rgb",
                 extratags=[(274, "H", 1, turn, True)]),
            COLOUR,
        )
        for turn in STORED
    },
    **{
        f"PNG orientation {turn}": (
            "a.png", pillow(_upright(turn, COLOUR), exif=_exif(turn)), COLOUR
        )
        for turn in STORED
    },
    "12 bits in 16": ("a.tif", tiff(TWELVE), GREY),
    "12 bits in 16, stated by OME": (
        "a.ome.tif",
        tiff(TWELVE // 2, description=significant_bits(12), metadata=None),
        TWELVE // 2 * (255 / 4095),
    ),
    "12 bits in 16, stated by the tag MaxSampleValue": (
        "a.tif",
        tiff(TWELVE // 2, extratags=[(281, "H", 1, 4095, True)]),
        TWELVE // 2 * (255 / 4095),
    ),
    "8 bits in 16": ("a.png", pillow(GREY.astype(np.uint16)), GREY),
    "bioformats2raw": ("a.zarr", _bioformats2raw, GREY),
    "Zarr of planes": ("a.zarr", _zarr(np.moveaxis(COLOUR, -1, 0)), COLOUR),
    "Zarr of RGBA": ("a.zarr", _zarr(np.concatenate([COLOUR, OPAQUE], -1)), COLOUR),
}  # fmt: skip
"""File name, writer and the image in levels from 0 to 255, `[H, W]` or `[H, W, 3]`."""


def _jpeg(image: np.ndarray, tail: bytes = b"", **options) -> Writer:
    def write(path: pathlib.Path):
        file = io.BytesIO()
        Image.fromarray(image).save(file, "JPEG", quality=95, **options)
        path.write_bytes(file.getvalue() + tail)

    return write


LOSSY_IMAGES: dict[str, tuple[str, Writer, np.ndarray]] = {
    "JPEG": ("a.jpg", _jpeg(GREY), GREY),
    "JPEG with bytes after its end": ("a.jpg", _jpeg(GREY, bytes(8192)), GREY),
    **{
        f"JPEG orientation {turn}": ("a.jpg", _jpeg(_upright(turn, GREY), exif=_exif(turn)), GREY)
        for turn in STORED
    },
    "CMYK JPEG": ("a.jpg", pillow(Image.fromarray(COLOUR).convert("CMYK"), quality=95), COLOUR),
    "JPEG in TIFF": (
        "a.tif",
        pillow(np.repeat(GREY[..., None], 3, -1), compression="jpeg", quality=95),
        GREY,
    ),
    "JPEG XL in TIFF": ("a.tif", tiff(GREY, compression="jpegxl", compressionargs={"level": 95}),
                        GREY),
}  # fmt: skip
"""Likewise, of lossy formats."""

IDS = np.where(MASK, 1 + np.arange(MASK.shape[0])[:, None] // 30, 0)
BLURRED = np.clip(
    sum(np.roll(MASK * 64.0, (dy, dx), (0, 1)) for dy in (0, 1) for dx in (0, 1)), 0, 255
).astype(np.uint8)
RED, BLUE, DARK_RED = ((np.array(rgb) * MASK[..., None]).astype(np.uint8)
                       for rgb in ((255, 0, 0), (0, 0, 255), (128, 0, 0)))  # fmt: skip


def _palette(colour: tuple[int, ...]) -> Image.Image:
    image = Image.fromarray(MASK.astype(np.uint8), "P")
    image.putpalette([0, 0, 0, *colour])
    return image


def _two(low: int, high: int, dtype: str = "uint8") -> np.ndarray:
    return np.where(MASK, high, low).astype(dtype)


MASKS: dict[str, tuple[str, Writer, str]] = {
    "0 and 255": ("a.png", pillow(_two(0, 255)), ""),
    "0 and 1": ("a.png", pillow(_two(0, 1)), ""),
    "one bit": ("a.png", pillow(Image.fromarray(MASK)), ""),
    "one bit, white is 0": ("a.tif", tiff(~MASK, photometric="miniswhite"), ""),
    "0 and 65535": ("a.tif", tiff(_two(0, 65535, "uint16")), ""),
    "0 and 255 in 16 bits": ("a.tif", tiff(_two(0, 255, "uint16")), ""),
    "0 and 1 in 16 bits": ("a.png", pillow(_two(0, 1, "uint16")), ""),
    "0 and 128": ("a.png", pillow(_two(0, 128)), "has the levels 0 and 128: 128 is foreground"),
    "1 and 2": ("a.tif", tiff(_two(1, 2)), "has the levels 1 and 2: 2 is foreground"),
    "region numbers": ("a.tif", tiff(IDS.astype(np.uint16)), "(0, 1, 2, 3, 4): all but 0"),
    "classes": ("a.png", pillow((IDS * 50).astype(np.uint8)), "all but 0 are foreground"),
    "antialiased": ("a.png", pillow(BLURRED), "those above 127.5 are foreground"),
    "JPEG": ("a.jpg", _jpeg(_two(0, 255)), "are foreground"),
    "red": ("a.png", pillow(RED), ""),
    "blue": ("a.png", pillow(BLUE), ""),
    "dark red palette": ("a.png", pillow(_palette((128, 0, 0))), ""),
    "red JPEG": ("a.jpg", _jpeg(RED, subsampling=0), "are foreground"),
    "red on blue": (
        "a.png",
        pillow(np.where(MASK[..., None], (255, 0, 0), (0, 0, 255)).astype(np.uint8)),
        "the brighter is foreground",
    ),
    "white on transparent": (
        "a.png", pillow(np.dstack([np.full((*MASK.shape, 3), 255, np.uint8), _two(0, 255)])), ""
    ),
    "Zarr": ("a.zarr", _zarr(_two(0, 255)), ""),
}  # fmt: skip
"""File name, writer, and a part of what is said about the levels."""

NO_MASKS = {
    "three levels without 0": (
        "a.png", pillow((IDS + 7).astype(np.uint8)), r"no mask: it has 5 levels \(7, 8, 9, 10, 11\)"
    ),
    "noise": (
        "a.png",
        pillow(np.random.default_rng(0).integers(0, 256, MASK.shape).astype(np.uint8)),
        "no mask: it has 256 levels",
    ),
}  # fmt: skip
"""Files that are refused as masks: file name, writer and a part of the error."""


def _fei(path: pathlib.Path):
    image = np.concatenate([GREY, np.full((9, GREY.shape[1]), 3, np.uint8)])
    height, width = GREY.shape
    text = "[Scan]\r\nPixelWidth=2e-008\r\nPixelHeight=2e-008\r\n[Image]\r\n"
    text += f"ResolutionX={width}\r\nResolutionY={height}\r\n"
    tifffile.imwrite(path, image, extratags=[(34682, "s", 0, text, True)])


def _zeiss(path: pathlib.Path):
    text = "\r\n0\r\n0\r\n2e-008\r\n" + "0\r\n" * 40
    text += "AP_IMAGE_PIXEL_SIZE\r\nImage Pixel Size = 20.00 nm\r\n"
    tifffile.imwrite(path, GREY, extratags=[(34118, "s", 0, text, True)])


def _tescan(path: pathlib.Path):
    image = np.concatenate([GREY, np.full((9, GREY.shape[1]), 3, np.uint8)])
    text = b"[MAIN]\r\nImageStripSize=9\r\nPixelSizeX=2e-08\r\nPixelSizeY=2e-08\r\n[SEM]\r\n"
    tifffile.imwrite(path, image, extratags=[(50431, 1, len(text), text, True)])


def _with_companion(text: str, encoding: str = "latin-1") -> Writer:
    def write(path: pathlib.Path):
        image = np.concatenate([GREY, np.full((9, GREY.shape[1]), 3, np.uint8)])
        tifffile.imwrite(path, image)
        path.with_suffix(".txt").write_bytes(text.encode(encoding))

    return write


def _ome(size: str, unit: str) -> Writer:
    metadata = {"axes": "YX"}
    for axis in "XY":
        metadata |= {f"PhysicalSize{axis}": size, f"PhysicalSize{axis}Unit": unit}
    return tiff(GREY, ome=True, metadata=metadata)


def _png_resolution(path: pathlib.Path):
    file = io.BytesIO()
    Image.fromarray(GREY).save(file, "PNG")
    data = file.getvalue()
    content = b"pHYs" + struct.pack(">IIB", 50_000_000, 50_000_000, 1)
    chunk = struct.pack(">I", 9) + content + struct.pack(">I", zlib.crc32(content))
    path.write_bytes(data[:33] + chunk + data[33:])


def _whole_pyramid(path: pathlib.Path):
    group = zarr.open_group(str(path), mode="w", zarr_format=2)
    array = group.create_array("0", shape=GREY.shape, chunks=GREY.shape, dtype="u1")
    array[...] = GREY
    axes = [{"name": name, "type": "space", "unit": "micrometer"} for name in "yx"]
    own, whole = ([{"type": "scale", "scale": [size, size]}] for size in (2, 0.01))
    datasets = [{"path": "0", "coordinateTransformations": own}]
    group.attrs["multiscales"] = [
        {"version": "0.4", "axes": axes, "datasets": datasets, "coordinateTransformations": whole}
    ]


HEIGHT, WIDTH = GREY.shape

SIZED: dict[str, tuple[str, Writer]] = {
    "ImageJ, um": ("a.tif", tiff(GREY, imagej=True, resolution=(50, 50), metadata={"unit": "um"})),
    "ImageJ, micron": (
        "a.tif", tiff(GREY, imagej=True, resolution=(50, 50), metadata={"unit": "micron"})
    ),
    "ImageJ, escaped mu": (
        "a.tif", tiff(GREY, imagej=True, resolution=(50, 50), metadata={"unit": "\\u00B5m"})
    ),
    "ImageJ, nm": ("a.tif", tiff(GREY, imagej=True, resolution=(0.05, 0.05),
                                 metadata={"unit": "nm"})),
    "FEI": ("a.tif", _fei),
    "Zeiss": ("a.tif", _zeiss),
    "TESCAN": ("a.tif", _tescan),
    "Hitachi": (
        "a.tif",
        _with_companion(
            f"[SemImageFile]\r\nDataSize={WIDTH}x{HEIGHT}\r\nPixelSize=20\r\n", "utf-16"
        ),
    ),
    "JEOL": (
        "a.tif",
        _with_companion(
            f"$CM_FULL_SIZE {WIDTH} {HEIGHT}\r\n$$SM_MICRON_BAR 50\r\n$$SM_MICRON_MARKER 1um\r\n"
        ),
    ),
    "OME, micro sign": ("a.ome.tif", _ome("0.02", "\u00b5m")),
    "OME, Greek mu": ("a.ome.tif", _ome("0.02", "\u03bcm")),
    "OME, pm": ("a.ome.tif", _ome("20000", "pm")),
    "OME, angstrom": ("a.ome.tif", _ome("200", "\u00c5")),
    "OME, angstrom sign": ("a.ome.tif", _ome("200", "\u212b")),
    "inch": ("a.tif", tiff(GREY, resolution=(1270000, 1270000), resolutionunit="INCH")),
    "centimetre": ("a.tif", tiff(GREY, resolution=(500000, 500000), resolutionunit="CENTIMETER")),
    "PNG resolution": ("a.png", _png_resolution),
    "scale of a whole pyramid": ("a.zarr", _whole_pyramid),
}  # fmt: skip
"""File name and writer of `GREY` with pixels of 20 nm. Some have a data bar below."""


def _stack(path: pathlib.Path):
    tifffile.imwrite(path, np.stack([GREY, 255 - GREY]), photometric="minisblack")


def _two_images(path: pathlib.Path):
    with tifffile.TiffWriter(path) as file:
        file.write(GREY[:64, :80].copy())
        file.write(GREY)


def _missing_part(path: pathlib.Path):
    text = (
        significant_bits(16)
        .replace(b'SizeZ="1"', b'SizeZ="2"')
        .replace(
            b'<TiffData IFD="0"/>',
            b'<TiffData FirstZ="0" IFD="0" PlaneCount="1"><UUID FileName="a.ome.tif">urn:uuid:'
            b'00000000-0000-0000-0000-000000000001</UUID></TiffData><TiffData FirstZ="1" IFD="0" '
            b'PlaneCount="1"><UUID FileName="b.ome.tif">urn:uuid:'
            b"00000000-0000-0000-0000-000000000002</UUID></TiffData>",
        )
    )
    tifffile.imwrite(path, WIDE, description=text, metadata=None)


REFUSED: dict[str, tuple[str, Writer, str]] = {
    "stack": ("a.tif", _stack, "which are 2 planes: name one with --page, from 1 to 2"),
    "two images": ("a.tif", _two_images, r"holds 2 images \(64x80, 128x160\): name one"),
    "a part of an image": ("a.ome.tif", _missing_part, r"other files are missing \(b.ome.tif\)"),
    "CIELAB": ("a.tif", pillow(Image.fromarray(COLOUR).convert("LAB")), "has CIELAB colours"),
    "float": ("a.tif", tiff(GREY.astype(np.float32)), "has float32 pixels"),
    "signed": ("a.tif", tiff(GREY.astype(np.int16)), "has int16 pixels"),
    "five samples": (
        "a.tif",
        tiff(np.concatenate([COLOUR, OPAQUE, OPAQUE], -1), photometric="rgb",
             extrasamples=["unspecified", "unspecified"]),
        "has 5 samples per pixel, and RGB needs 3",
    ),
    "Zarr of four planes": ("a.zarr", _zarr(np.stack([GREY] * 4)), "which are 4 planes"),
    "transparent everywhere": (
        "a.png", pillow(np.concatenate([COLOUR, 0 * OPAQUE], -1)), "is transparent everywhere"
    ),
}  # fmt: skip
"""File name, writer and a part of the error."""
