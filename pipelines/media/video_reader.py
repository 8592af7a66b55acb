"""Decoding of videos by FFmpeg. Of a damaged file, all readable frames are decoded and missing ones are counted."""

from collections.abc import Iterator
from pathlib import Path

import av
import av.error
import numpy as np
from av.codec import CodecContext, codecs_available
from av.container import InputContainer
from av.packet import Packet
from av.stream import Disposition
from av.video.codeccontext import VideoCodecContext
from av.video.stream import VideoStream
from jaxtyping import UInt8

from .frame_reader import MAX_PIXELS, DecodingError, FrameReader, check_pixels, reason
from .frame_times import Gap, time_gaps
from .shown_frames import FrameConverter
from .structure import find_damage

VIDEO_ERRORS = (av.error.FFmpegError, OSError, ValueError)
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
TIMED_HEADERS = ("matroska,webm", "flv", "asf")
"""Containers whose header contains the duration. For others FFmpeg estimates it from the file, which may be cut off."""
PARSED = ("matroska,webm", "flv")
"""Containers without an index in which `find_damage` visits every frame. Pauses in undamaged files are not gaps."""
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""Decoders that keep transparency, by codec. FFmpeg's own decoders of these codecs drop it."""


class VideoReader(FrameReader):
    """Reads the video stream of a file that a player would show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at_end: list[str] = []
        """Differences from the header, known after the last frame."""
        self.damage: str | None = None
        """Damage in the structure of the container, known after the last frame."""
        self.times: list[int | None] = []
        """Presentation time of each decoded frame in units of the time base, None if unknown."""
        self.durations: list[int] = []  # 0 if unknown
        self.num_packets = self.num_undecodable = self.num_concealed = 0
        self.packet_times: list[int] = []
        self.lost_times: list[int] = []
        self.positions: set[int] = set()
        """First byte of each packet in the file."""
        self.end = 0.0
        """End of the last packet of the file, in seconds."""
        self.error: str | None = None
        """First error of the decoder."""
        try:
            self.container = av.open(path, metadata_errors="ignore")
            self.container_name = self.container.format.name
        except VIDEO_ERRORS as error:
            raise DecodingError(reason(error)) from error
        try:
            self.stream = video_stream(self.container)
            self.frame_pixels = check_pixels(self.stream.height, self.stream.width)
            self.decoder = decoder_of(self.stream)
            self.fps, self.num_frames = rate_and_count(path, self.stream)
            self.is_indexed = self.container_name == MP4 and self.stream.frames > 0  # fragmented files have no index
            self.convert = FrameConverter(self.stream.sample_aspect_ratio)
        except (*VIDEO_ERRORS, DecodingError) as error:
            self.close()
            raise DecodingError(reason(error)) from error

    def close(self) -> None:
        self.container.close()

    def __iter__(self) -> Iterator[UInt8[np.ndarray, "_ _ 3"]]:
        for packet in self._packets():
            try:
                for frame in self.decoder.decode(packet):
                    pixels = self.convert(frame)
                    self.times.append(frame.pts)
                    self.durations.append(frame.duration)
                    self.num_concealed += frame.is_corrupt
                    self.time = self._time()
                    yield pixels
            except VIDEO_ERRORS as error:
                self._count(error)
                if packet is not None and packet.pts is not None:
                    self.lost_times.append(packet.pts)
        if not self.times:
            raise DecodingError(self.error or "no frame can be decoded")
        self.at_end = self._compare_with_header()

    def _packets(self) -> Iterator[Packet | None]:
        """Yield the packets of the stream, then None to flush the decoder."""
        is_timed = self.container_name in TIMED_HEADERS
        try:
            for packet in self.container.demux(*(self.container.streams if is_timed else [self.stream])):
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None:
                    self.end = max(self.end, float((time + (packet.duration or 0)) * packet.time_base))
                if packet.pos is not None:
                    self.positions.add(packet.pos)
                if packet.stream_index != self.stream.index or (time is None and not packet.size):
                    continue
                self.num_packets += not packet.is_discard
                if packet.size:  # an empty packet would flush the decoder
                    if packet.pts is not None and not packet.is_discard:
                        self.packet_times.append(packet.pts)
                    yield packet
        except IndexError:
            pass  # PyAV raises it at the end of a file if streams have appeared while reading
        except VIDEO_ERRORS as error:
            self._count(error)
        yield None

    def _count(self, error: Exception) -> None:
        self.num_undecodable += 1
        self.error = self.error or reason(error)

    def _time(self) -> float | None:
        first, latest = self.times[0], self.times[-1]
        if first is None or latest is None:
            return (len(self.times) - 1) / self.fps if self.fps else None
        return float((latest - first) * (self.stream.time_base or 0))

    @property
    def gaps(self) -> list[int]:
        return [gap.frame for gap in self._gaps()]

    def _gaps(self) -> list[Gap]:
        is_complete = self.is_indexed or (self.container_name in PARSED and self.damage is None)
        return time_gaps(self.times, self.durations, self.lost_times, self.packet_times if is_complete else None)

    @property
    def lost(self) -> str | None:
        problems = list(self.at_end)
        if self.num_undecodable:
            problems.append(f"{quantity(self.num_undecodable, 'packet')} cannot be decoded ({self.error})")
        if self.num_concealed:
            problems.append(f"the decoder concealed errors in {quantity(self.num_concealed, 'frame')}")
        if gaps := self.gaps:
            problems.append(
                f"frames are missing before frame {', '.join(map(str, gaps[:5]))}{', ...' if gaps[5:] else ''}"
            )
        if self.convert.has_wrong_colours:
            problems.append("HDR could not be converted, so colours are wrong")
        return "; ".join(problems) or None

    def _compare_with_header(self) -> list[str]:
        """Return descriptions of what is missing, after the last frame."""
        problems = []
        self.damage = find_damage(self.path, self.container_name, self.positions)
        num_read, num_expected = len(self.times), self._count_by_header()
        num_cut_off = max(0, num_expected - self.num_packets)
        times = [time for time in self.times if time is not None]
        outside = sum(not min(times) <= time <= max(times) for time in self.packet_times) if times else 0
        between = sum(gap.num_missing for gap in self._gaps())
        num_lost = num_cut_off + max(self.num_undecodable, outside + between)
        if num_expected:
            num_lost = min(num_lost, num_expected - num_read)
        if num_lost > 0:
            problems.append(f"{num_read} of {'' if num_expected else 'about '}{num_read + num_lost} frames can be read")
        found, expected = self._seconds_and_expected()
        if found + self._tolerance() < expected:
            problems.append(f"{found:.2f} of {expected:.2f} seconds can be read")
        if self.damage:
            problems.append(self.damage)
        return problems

    def _count_by_header(self) -> int:
        """Return the number of frames in the header, 0 for containers that do not store it."""
        match self.container_name:
            case "avi":
                return self.stream.frames
            case _ if self.is_indexed:
                return sum(not entry.is_discard for entry in self.stream.index_entries)
        return 0

    def _seconds_and_expected(self) -> tuple[float, float]:
        """Return the duration that was read and the one in the header (0 if it has none), in seconds."""
        name, duration = self.container_name, self.stream.duration
        if name in TIMED_HEADERS:
            return self.end, (self.container.duration or 0) / av.time_base
        times = [time for time in self.times if time is not None]
        if name != MP4 or not duration or not times:
            return 0, 0
        tick = float(self.stream.time_base or 0)
        return (max(times) + self.durations[-1] - min(times)) * tick, duration * tick

    def _tolerance(self) -> float:
        """Return the tolerance of durations in seconds: 1.5 frames, since headers may omit the last frame."""
        return 1.5 / self.fps + 0.05 if self.fps else 1


def quantity(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' if number > 1 else ''}"


def video_stream(container: InputContainer) -> VideoStream:
    """Return the stream that a player would show.

    Raises:
        DecodingError: if there is no video stream, or if its frames are the tiles of an image.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & NO_VIDEO]
    if not videos:
        only = ", only a cover image" if container.streams.video else ""
        raise DecodingError(f"no video stream{only}")
    if any(stream.disposition & Disposition.dependent for stream in videos):
        raise DecodingError("images in tiles (HEIC) are not supported; convert them, for example with pillow-heif")
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in videos else videos[0]
    if stream.codec_context is None:
        raise DecodingError("FFmpeg has no decoder for the video stream")
    return stream


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """Return a decoder that keeps transparency and refuses frames of more than `MAX_PIXELS` pixels."""
    decoder = stream.codec_context
    name = ALPHA_DECODERS.get(decoder.name, "") if stream.metadata.get("alpha_mode") == "1" else ""
    if name in codecs_available:
        decoder = CodecContext.create(name, "r")
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    decoder.thread_count = 1  # what threads fill in for damaged slices differs from run to run
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def rate_and_count(path: Path, stream: VideoStream) -> tuple[float | None, int | None]:
    """Return frames per second and number of frames according to the header, None where unknown."""
    guess = float(stream.guessed_rate or 0)
    if stream.codec_context.name != "gif":
        return float(stream.average_rate or guess) or None, stream.frames or None
    with av.open(path, metadata_errors="ignore") as container:
        delays = [packet.duration or 0 for packet in container.demux(video=0) if packet.dts is not None]
    seconds = sum(delays) * float(stream.time_base or 0)
    if len(delays) < 2 or not seconds:
        return None, len(delays)
    # A .gif stores no frame rate, only the delays of frames, rounded to 0.01 seconds.
    is_guess_right = guess > 0 and abs(len(delays) / guess - seconds) < 0.011
    return guess if is_guess_right else len(delays) / seconds, len(delays)
