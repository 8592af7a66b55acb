"""Damage in the structure of container files: the byte at which a file is cut off or damaged.

Decoders skip such places silently. Only the types and lengths of elements are read, not their contents.
"""

import re
from collections.abc import Callable, Collection
from functools import partial
from mmap import ACCESS_READ, mmap
from pathlib import Path

import numpy as np

GIF_CONTROL = re.compile(rb"\x00!\xf9\x04....\x00[,!]", re.DOTALL)
HEAD_BYTES = 24
"""Enough for the header of any element."""
END = 0
DAMAGED = -1
Step = Callable[[bytes, int], int]
"""Function of the first bytes of an element and the number of bytes left in the file.

Returns the distance to the next element, END after the last one, or DAMAGED.
"""


def find_damage(path: Path, container: str, read: Collection[int]) -> str | None:
    """Describe the damage in the structure of a file; None if there is none or the container is unknown.

    Args:
        container: FFmpeg's name of the format.
        read: positions of all packets that were read, which may miss some of Matroska or WebM.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        if container == "mpegts":
            return find_packet_damage(file.read(HEAD_BYTES * 32), path)
        if container == "gif":
            with mmap(file.fileno(), 0, access=ACCESS_READ) as content:
                return find_gif_damage(content)
        if container not in STEPS or (container == "mpeg" and file.read(4) != b"\0\0\1\xba"):
            return None
        step, at = STEPS[container]
        if container == "matroska,webm":
            step = partial(ebml_step, read={size - position for position in read})
        while at < size:
            file.seek(at)
            distance = step(file.read(HEAD_BYTES), size - at)
            if distance == END:
                return None
            if distance == DAMAGED:
                return damaged(at, size)
            at += distance
    return cut_off(size) if at > size or container == "apng" else None


def cut_off(size: int) -> str:
    return f"the file is cut off at byte {size:,}"


def damaged(at: int, size: int) -> str:
    return f"the file is damaged at byte {at:,} of {size:,}"


def riff_step(head: bytes, left: int) -> int:
    """Step through AVI or WebP, entering lists."""
    name, length = head[:4], int.from_bytes(head[4:8], "little")
    if not name.isascii() or not name.decode().isprintable():
        return DAMAGED
    if name == b"RIFF" and 8 + length > left:
        return left + 1
    return 12 if name in (b"RIFF", b"LIST") else 8 + length + length % 2


def box_step(head: bytes, left: int) -> int:
    """Step through MP4 or QuickTime."""
    length, name = int.from_bytes(head[:4]), head[4:8]
    if not name.isascii() or not name.decode().isprintable():
        return DAMAGED
    if length == 0:
        return END  # the box extends to the end of the file
    length = int.from_bytes(head[8:16]) if length == 1 else length
    return length if length >= 8 else DAMAGED


def png_step(head: bytes, left: int) -> int:
    length, name = int.from_bytes(head[:4]), head[4:8]
    if name == b"IEND":
        return END
    return 12 + length if name.isalpha() else DAMAGED


def flv_step(head: bytes, left: int) -> int:
    kind, content = head[0] & 0x1F, head[11:12]
    return DAMAGED if kind not in (8, 9, 18) or (kind == 9 and content == b"\0") else 15 + int.from_bytes(head[1:4])


def asf_step(head: bytes, left: int) -> int:
    length = int.from_bytes(head[16:24], "little")
    return length if length >= 24 else DAMAGED


def ps_step(head: bytes, left: int) -> int:
    """Step through an MPEG program stream."""
    if len(head) < 6 or head[:3] != b"\0\0\1":
        return DAMAGED
    match head[3]:
        case 0xB9:
            return 4
        case 0xBA:
            return 14 + (head[13] & 7) if len(head) > 13 and head[4] >> 6 == 1 else 12
        case code if code > 0xBA:
            return 6 + int.from_bytes(head[4:6])
    return DAMAGED


MASTERS = (b"\x18\x53\x80\x67", b"\x1f\x43\xb6\x75", b"\xa0")
"""Segment, Cluster and BlockGroup of Matroska. They are entered, since the length of the first two may be unknown."""
BLOCKS = (b"\xa3", b"\xa1")
ELEMENTS = tuple(
    bytes.fromhex(name)
    for name in (
        *("1A45DFA3", "114D9B74", "1549A966", "1654AE6B", "1C53BB6B", "1254C367", "1043A770", "1941A469"),
        *("E7", "A7", "AB", "5854", "AF", "EC", "BF"),
        *("A3", "A1", "9B", "FB", "FD", "FA", "A4", "75A1", "75A2", "8E"),
    )
)


def ebml_step(head: bytes, left: int, read: Collection[int] | None = None) -> int:
    """Step through Matroska or WebM.

    Args:
        read: blocks that were read, as the number of bytes from their contents to the end of the file.
    """
    name = head[: max(1, 9 - head[0].bit_length())]
    rest = head[len(name) :]
    if name not in (*MASTERS, *ELEMENTS) or not rest or not rest[0]:
        return DAMAGED
    width = 9 - rest[0].bit_length()
    bits = 7 * width
    length = int.from_bytes(rest[:width]) & ((1 << bits) - 1)
    is_known = length < (1 << bits) - 1
    if name in MASTERS:
        return left + 1 if is_known and len(name) + width + length > left else len(name) + width
    is_skipped = name in BLOCKS and read is not None and left - len(name) - width not in read
    return len(name) + width + length if is_known and not is_skipped else DAMAGED


STEPS: dict[str, tuple[Step, int]] = {
    "avi": (riff_step, 0),
    "webp": (riff_step, 0),
    "mov,mp4,m4a,3gp,3g2,mj2": (box_step, 0),
    "matroska,webm": (ebml_step, 0),
    "apng": (png_step, 8),
    "flv": (flv_step, 13),
    "asf": (asf_step, 0),
    "mpeg": (ps_step, 0),
}


def find_packet_damage(head: bytes, path: Path) -> str | None:
    """Describe the damage of an MPEG transport stream: packets of 188, 192 (camcorders) or 204 bytes."""
    for length, first in ((188, 0), (192, 4), (204, 0)):
        if head[first::length][:3] == b"GGG":  # the sync byte 0x47
            break
    else:
        return damaged(0, path.stat().st_size)
    content = np.memmap(path, np.uint8, mode="r")
    num_damaged = int((content[first::length] != 0x47).sum())
    if num_damaged:
        return f"{num_damaged} packet(s) are damaged"
    return cut_off(len(content)) if len(content) % length else None


def find_gif_damage(content: bytes | mmap) -> str | None:
    """Describe the damage of a GIF. If a wrong length skips frames, their control blocks lie inside another block."""
    size = len(content)
    at, num_controls = 13 + table_length(content[10]), 0
    while at < size:
        kind, head = content[at : at + 1], content[at : at + 11]
        if kind == b";":  # the end
            is_whole = not content[at + 1 :].strip(b"\0") and num_controls >= len(GIF_CONTROL.findall(content))
            return None if is_whole else damaged(at, size)
        if kind not in (b",", b"!"):
            return damaged(at, size)
        num_controls += head[1:2] == b"\xf9"
        at += 2 if kind == b"!" else 11 + table_length(head[9]) if len(head) == 11 else 11
        while at < size and content[at]:
            at += 1 + content[at]
        at += 1
    return cut_off(size)


def table_length(flags: int) -> int:
    """Return the number of bytes of the colour table, 0 if there is none."""
    return 3 * 2 ** (1 + (flags & 7)) if flags & 0x80 else 0


def webp_durations(path: Path) -> list[int]:
    """Return the duration of each frame of an animated WebP in milliseconds; no durations for a still image."""
    durations, at, size = [], 0, path.stat().st_size
    with path.open("rb") as file:
        while at < size:
            file.seek(at)
            head = file.read(HEAD_BYTES)
            if head[:4] == b"ANMF":
                durations.append(int.from_bytes(head[20:23], "little"))
            if (distance := riff_step(head, size - at)) <= 0:
                break
            at += distance
    return durations
