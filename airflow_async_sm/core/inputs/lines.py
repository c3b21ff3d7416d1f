"""The lines of an object, made of its bytes as they arrive: no more than one of them is in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator
from itertools import chain
from typing import Final

from airflow_async_sm.core.limits import INPUT_OBJECT_BYTES, InvalidInput

__all__ = ["numbered", "split_lines", "unpacked"]

_GZIP: Final = b"\x1f\x8b"
_GZIP_WINDOW: Final = 31
_BOM: Final = b"\xef\xbb\xbf"
# However much one packed block becomes, so much of it is in memory.
_BLOCK: Final = 1024 * 1024


def unpacked(blocks: Iterable[bytes], source: str) -> Iterator[bytes]:
    """
    Yield what was packed with gzip, and anything else as it is. No text begins with what gzip begins with.

    :param blocks: The content, in blocks of any size.
    :param source: What the error calls it.
    :raises InvalidInput: it begins as gzip, and is not or has no end.
    """
    arriving, head = iter(blocks), b""
    for block in arriving:
        head += block
        if len(head) >= len(_GZIP):
            break
    content = chain([head], arriving)
    return _gunzipped(content, source) if head.startswith(_GZIP) else content


def _gunzipped(blocks: Iterable[bytes], source: str) -> Iterator[bytes]:
    member = zlib.decompressobj(_GZIP_WINDOW)
    for block in blocks:
        packed = block
        while packed:
            # A file may consist of several, one after the other.
            member = zlib.decompressobj(_GZIP_WINDOW) if member.eof else member
            try:
                plain = member.decompress(packed, _BLOCK)
            except zlib.error as error:
                raise InvalidInput(f"{source} begins as gzip and cannot be unpacked: {error}.") from error
            yield plain
            packed = member.unused_data or member.unconsumed_tail
    if not member.eof:
        raise InvalidInput(f"{source} is packed with gzip, and its end is missing.")


def split_lines(blocks: Iterable[bytes], *, limit: int = INPUT_OBJECT_BYTES) -> Iterator[bytes]:
    r"""
    Yield the lines without the ``\n`` at their ends.

    :param blocks: The content, in blocks of any size.
    :param limit: Bytes that a line may have. Of a longer one, as many and one more are yielded, so that it is
        still known for too long. Default: 1,000,000,000.
    """
    begun = bytearray()
    for block in blocks:
        first, *others = block.split(b"\n")
        begun += first[: limit + 1 - len(begun)]
        for part in others:
            yield bytes(begun)
            begun = bytearray(part[: limit + 1])
    if begun:
        yield bytes(begun)


def numbered(lines: Iterable[bytes | str]) -> Iterator[tuple[int, bytes]]:
    r"""
    Yield the lines as bytes with their numbers, from 1, without a byte order mark and the ``\n`` at the end.

    :param lines: Lines as text or bytes.
    """
    for number, line in enumerate(lines, start=1):
        # What UTF-8 cannot hold stays what it is, and is found where the text is read.
        found = line.encode(errors="surrogatepass") if isinstance(line, str) else line
        found = found.removeprefix(_BOM) if number == 1 else found
        yield number, found.removesuffix(b"\n")
