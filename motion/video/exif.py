"""The EXIF user comment, where the WebUI hosts keep the generation parameters of formats without text chunks.

The block is spelled out byte by byte because image libraries disagree on the type of the tag, and the hosts read it
only as UNDEFINED with big-endian UTF-16 (Exif 2.32, section 4.6.5, tag 0x9286).
"""

from __future__ import annotations

import struct

EXIF_IFD = 0x8769
USER_COMMENT = 0x9286

_LONG, _UNDEFINED = 4, 7
_TIFF_HEADER = struct.Struct(">2sHL")
_ONE_ENTRY_IFD = struct.Struct(">HHHLLL")  # count, tag, type, values, value or offset, next IFD


def encode_user_comment(text: str) -> bytes:
    """A big-endian TIFF block that holds `text` as its one user comment."""
    comment = b"UNICODE\0" + text.encode("utf-16-be")
    second_ifd = _TIFF_HEADER.size + _ONE_ENTRY_IFD.size
    return b"".join(
        (
            _TIFF_HEADER.pack(b"MM", 42, _TIFF_HEADER.size),
            _ONE_ENTRY_IFD.pack(1, EXIF_IFD, _LONG, 1, second_ifd, 0),
            _ONE_ENTRY_IFD.pack(1, USER_COMMENT, _UNDEFINED, len(comment), second_ifd + _ONE_ENTRY_IFD.size, 0),
            comment,
        )
    )


def decode_user_comment(comment: bytes) -> str:
    """The text of a user comment's value: its first 8 bytes name the encoding."""
    encoding = "utf-16-be" if comment[:8] == b"UNICODE\0" else "utf-8"
    return comment[8:].decode(encoding, errors="replace")
