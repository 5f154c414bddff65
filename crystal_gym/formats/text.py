"""Text of files: compression, encodings and line ends."""

import bz2
import codecs
import gzip
import io
import lzma
import re
import zlib
from pathlib import Path

from crystal_gym.errors import DamagedFileError

# Extensions of compressed files, which are read like the files they contain.
COMPRESSIONS = (".gz", ".bz2", ".xz")
# A compressed file may contain this many bytes, or this multiple of its own size if that is more.
_MOST_BYTES = 2**26
_LARGEST_RATIO = 50

_OPENERS = {b"\x1f\x8b": gzip.open, b"BZh": bz2.open, b"\xfd7zXZ\x00": lzma.open}
# The byte-order mark of UTF-32 starts with that of UTF-16.
_MARKS = (
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Characters besides \n and \r at which Python splits lines and file formats do not.
_OTHER_LINE_ENDS = re.compile("[\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")


def read_bytes(path: Path) -> bytes:
    """Read the bytes of a file as they are.

    Raises:
        DamagedFileError: If the file is missing or cannot be read.
    """
    try:
        return path.read_bytes()
    except (OSError, ValueError) as error:  # a ValueError if the path contains a null character
        raise DamagedFileError(f"{path} cannot be read: {error}. Check the path.") from error


def read_text(path: Path) -> str:
    """Read the text of a file; see ``decode``.

    Raises:
        DamagedFileError: If the file cannot be read or is not text.
    """
    return decode(read_bytes(path), str(path))


def decode(content: bytes, where: str) -> str:
    r"""Decode the bytes of a text file, compressed or not.

    Compression by gzip, bzip2 or xz is recognized by the first bytes. A byte-order mark selects
    UTF-8, UTF-16 or UTF-32. Otherwise, the text is UTF-8, or Latin-1 if it is not valid UTF-8.

    Args:
        content: The bytes of the file.
        where: Place for messages.

    Returns:
        The text, with ``\n`` at the ends of all lines.

    Raises:
        DamagedFileError: If the compressed data are damaged or too large, or if the content is not
            text.
    """
    content = _decompress(content, where)
    encoding = next((name for mark, name in _MARKS if content.startswith(mark)), "utf-8")
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise DamagedFileError(
                f"{where} cannot be read: {error}. Save it as text in UTF-8."
            ) from error
        text = content.decode("latin-1")
    if "\0" in text:
        raise DamagedFileError(
            f"{where} cannot be read: expected text, got binary data or UTF-16 without a "
            "byte-order mark. Save it as text in UTF-8."
        )
    return _OTHER_LINE_ENDS.sub(" ", text.replace("\r\n", "\n").replace("\r", "\n"))


def _decompress(content: bytes, where: str) -> bytes:
    """Return decompressed bytes; bytes that are not compressed are returned unchanged."""
    opener = next((o for start, o in _OPENERS.items() if content.startswith(start)), None)
    if opener is None:
        if where.lower().endswith(COMPRESSIONS):
            raise DamagedFileError(
                f"{where} cannot be read: expected compressed data, got other data. Rename the "
                "file if it is not compressed."
            )
        return content
    limit = max(_MOST_BYTES, _LARGEST_RATIO * len(content))
    try:
        with opener(io.BytesIO(content)) as file:
            data = file.read(limit + 1)
    except (OSError, EOFError, zlib.error, lzma.LZMAError) as error:
        raise DamagedFileError(
            f"{where} cannot be read: {error}. The compressed data are damaged or truncated; copy "
            "the file again."
        ) from error
    if len(data) > limit:
        raise DamagedFileError(
            f"{where} cannot be read: expected at most {limit:,} bytes after decompression, got "
            "more. Decompress the file if its size is correct."
        )
    return data
