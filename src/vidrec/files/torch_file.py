"""The file of ``torch.save``, written around frames that are already in it.

Such a file is a ZIP archive without compression: the bytes of a tensor, and a pickle that describes it. Here the bytes
come first, `HEAD_BYTES` into the file, so that they can be written while the shape is not yet known.
"""

import math
import pickle
import sys
import zipfile
from pathlib import Path
from typing import Any, BinaryIO

HEAD_BYTES = 64
"""How much stands before the tensor: the ZIP header of `ENTRY`, with room for sizes beyond 4 GB."""

ENTRY = "archive/data/0"


def complete(file: BinaryIO, shape: tuple[int, ...], crc: int) -> None:
    """Make `file` one that ``torch.load`` reads as a contiguous uint8 tensor of `shape`.

    Args:
        file: open for writing, with nothing after the tensor.
        shape: of the tensor, whose bytes stand at `HEAD_BYTES`.
        crc: their ``zlib.crc32``.
    """
    entry = zipfile.ZipInfo(ENTRY)
    entry.file_size = entry.compress_size = math.prod(shape)
    entry.CRC, entry.header_offset = crc, 0
    head = entry.FileHeader(zip64=True)
    assert len(head) == HEAD_BYTES
    file.seek(0)
    file.write(head)
    file.seek(HEAD_BYTES + entry.file_size)
    with zipfile.ZipFile(file, "w") as archive:
        archive.filelist.append(entry)
        texts = {"data.pkl": _describe(shape), "byteorder": sys.byteorder, "version": "3\n"}
        for name, text in texts.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}"), text)  # not of now: the file depends on no clock


def measure(path: Path) -> tuple[int, str | None]:
    """Return how many bytes the tensor in a file has, and the name of what in it is damaged, None if nothing is.

    Raises:
        BadZipFile, ValueError, NotImplementedError: it is no such file.
    """
    with zipfile.ZipFile(path) as archive:
        sizes = [entry.file_size for entry in archive.infolist() if entry.filename.endswith("/data/0")]
        if not sizes:
            raise ValueError("it holds no tensor")
        return sizes[0], archive.testzip()


def _describe(shape: tuple[int, ...]) -> bytes:
    """Return the pickle by which ``torch.load`` makes entry 0 of the archive a contiguous uint8 tensor.

    It is put together here, because `pickle` would import torch to name its classes.
    """
    strides = tuple(math.prod(shape[axis + 1 :]) for axis in range(len(shape)))
    values = ("storage", "0", "cpu", math.prod(shape), 0, shape, strides)
    kind, key, device, count, offset, size, stride = map(_pickled, values)
    storage = b"(" + kind + b"ctorch\nByteStorage\n" + key + device + count + b"tQ"
    hooks = b"ccollections\nOrderedDict\n)R"
    arguments = b"(" + storage + offset + size + stride + pickle.NEWFALSE + hooks + b"t"
    return pickle.PROTO + b"\x02" + b"ctorch._utils\n_rebuild_tensor_v2\n" + arguments + b"R."


def _pickled(value: Any) -> bytes:
    """Return the pickle of a value that stands inside another."""
    return pickle.dumps(value, protocol=2).removeprefix(pickle.PROTO + b"\x02").removesuffix(pickle.STOP)
