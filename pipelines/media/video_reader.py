"""Videos by FFmpeg: what a damaged file still holds is decoded, and what is missing is counted."""

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
from .structure import break_of

VIDEO_ERRORS = (av.error.FFmpegError, OSError, ValueError)
NO_VIDEO = Disposition.attached_pic | Disposition.timed_thumbnails
MP4 = "mov,mp4,m4a,3gp,3g2,mj2"
TIMED_HEADERS = ("matroska,webm", "flv", "asf")
"""Containers whose header tells the duration. For others FFmpeg estimates it from what is left of the file."""
WALKED = ("matroska,webm", "flv")
"""Containers without an index of frames whose every frame is passed by `break_of`. Pauses in them are no gaps."""
ALPHA_DECODERS = {"vp8": "libvpx", "vp9": "libvpx-vp9"}
"""FFmpeg's own decoders of these codecs drop the transparency."""


class VideoReader(FrameReader):
    """The stream of a file that a player would show."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.at_end: list[str] = []
        """What is missing compared with the header, known when all is read."""
        self.broken: str | None = None
        """Where the structure of the container is broken, known when all is read."""
        self.times: list[int | None] = []
        """When each frame is shown."""
        self.durations: list[int] = []
        self.num_packets = self.num_undecodable = self.num_concealed = 0
        self.packet_times: list[int] = []
        self.lost_times: list[int] = []
        self.end = 0.0
        """Where the last packet of the file ends, in seconds."""
        self.error: str | None = None
        """The first error of the decoder."""
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
            self.is_indexed = self.container_name == MP4 and self.stream.frames > 0  # not in fragments
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
                    yield pixels
            except VIDEO_ERRORS as error:
                self._count(error)
                if packet is not None and packet.pts is not None:
                    self.lost_times.append(packet.pts)
        if not self.times:
            raise DecodingError(self.error or "no frame can be decoded")
        self.at_end = self._compared_with_header()

    def _packets(self) -> Iterator[Packet | None]:
        """Packets of the stream, then None for the frames that the decoder holds back."""
        is_timed = self.container_name in TIMED_HEADERS
        try:
            for packet in self.container.demux(*(self.container.streams if is_timed else [self.stream])):
                time = packet.dts if packet.pts is None else packet.pts
                if time is not None:
                    self.end = max(self.end, float((time + (packet.duration or 0)) * packet.time_base))
                if packet.stream_index != self.stream.index or (time is None and not packet.size):
                    continue
                self.num_packets += not packet.is_discard
                if packet.size:  # an empty one would make the decoder stop
                    if packet.pts is not None and not packet.is_discard:
                        self.packet_times.append(packet.pts)
                    yield packet
        except IndexError:
            pass  # at the end, PyAV looks for streams that appeared in between
        except VIDEO_ERRORS as error:
            self._count(error)
        yield None

    def _count(self, error: Exception) -> None:
        self.num_undecodable += 1
        self.error = self.error or reason(error)

    @property
    def gaps(self) -> list[int]:
        return [gap.frame for gap in self._gaps()]

    def _gaps(self) -> list[Gap]:
        is_whole = self.is_indexed or (self.container_name in WALKED and self.broken is None)
        return time_gaps(self.times, self.durations, self.lost_times, self.packet_times if is_whole else None)

    @property
    def lost(self) -> str | None:
        said = list(self.at_end)
        if self.num_undecodable:
            said.append(f"{counted(self.num_undecodable, 'packet')} cannot be decoded ({self.error})")
        if self.num_concealed:
            said.append(f"the decoder filled in parts of {counted(self.num_concealed, 'frame')}")
        if gaps := self.gaps:
            said.append(f"frames are missing before frame {', '.join(map(str, gaps[:5]))}{', ...' if gaps[5:] else ''}")
        if self.convert.is_off_colour:
            said.append("HDR cannot be converted, its colours are wrong")
        return "; ".join(said) or None

    def _compared_with_header(self) -> list[str]:
        """Return what is missing of a file that was read to its end."""
        said = []
        self.broken = break_of(self.path, self.container_name)
        num_read, counted = len(self.times), self._count_by_header()
        num_cut = max(0, counted - self.num_packets)
        times = [time for time in self.times if time is not None]
        outside = sum(not min(times) <= time <= max(times) for time in self.packet_times) if times else 0
        between = sum(gap.num_missing for gap in self._gaps())
        num_lost = num_cut + max(self.num_undecodable, outside + between)
        if counted:
            num_lost = min(num_lost, counted - num_read)
        if num_lost > 0:
            said.append(f"{num_read} of {'' if counted else 'about '}{num_read + num_lost} frames can be read")
        found, seconds = self._seconds_and_claim()
        if found + self._tolerance() < seconds:
            said.append(f"{found:.2f} of {seconds:.2f} seconds can be read")
        if self.broken:
            said.append(self.broken)
        return said

    def _count_by_header(self) -> int:
        """Return the number of frames by the header of a container that counts them, 0 for others."""
        match self.container_name:
            case "avi":
                return self.stream.frames
            case _ if self.is_indexed:
                return sum(not entry.is_discard for entry in self.stream.index_entries)
        return 0

    def _seconds_and_claim(self) -> tuple[float, float]:
        """Return the duration that was found, and that by the header, 0 for containers whose header has none."""
        name, duration = self.container_name, self.stream.duration
        if name in TIMED_HEADERS:
            return self.end, (self.container.duration or 0) / av.time_base
        times = [time for time in self.times if time is not None]
        if name != MP4 or not duration or not times:
            return 0, 0
        tick = float(self.stream.time_base or 0)
        return (max(times) + self.durations[-1] - min(times)) * tick, duration * tick

    def _tolerance(self) -> float:
        """Return the seconds by which a header may be wrong: a frame and a half, since its duration may be missing."""
        return 1.5 / self.fps + 0.05 if self.fps else 1


def counted(number: int, thing: str) -> str:
    return f"{number} {thing}{'s' if number > 1 else ''}"


def video_stream(container: InputContainer) -> VideoStream:
    """Return the stream that a player would show.

    Raises:
        DecodingError: if there is none, or only tiles of a picture.
    """
    videos = [stream for stream in container.streams.video if not stream.disposition & NO_VIDEO]
    if not videos:
        only = " (but a cover picture)" if container.streams.video else ""
        raise DecodingError(f"no video stream{only}")
    if any(stream.disposition & Disposition.dependent for stream in videos):
        raise DecodingError(
            "a picture in tiles (HEIC), which are not put together; convert it, pillow-heif can read it"
        )
    best = container.streams.best("video")
    stream = best if isinstance(best, VideoStream) and best in videos else videos[0]
    if stream.codec_context is None:
        raise DecodingError("there is no decoder for its video stream")
    return stream


def decoder_of(stream: VideoStream) -> VideoCodecContext:
    """Return a decoder that keeps transparency and refuses frames that are too large."""
    decoder = stream.codec_context
    name = ALPHA_DECODERS.get(decoder.name, "") if stream.metadata.get("alpha_mode") == "1" else ""
    if name in codecs_available:
        decoder = CodecContext.create(name, "r")
    decoder.options = {"max_pixels": str(MAX_PIXELS)}
    decoder.thread_count = 1  # what threads fill in for damaged slices differs from run to run
    assert isinstance(decoder, VideoCodecContext)
    return decoder


def rate_and_count(path: Path, stream: VideoStream) -> tuple[float | None, int | None]:
    """Return frames per second and number of frames by the header, None for what it does not tell."""
    guess = float(stream.guessed_rate or 0)
    if stream.codec_context.name != "gif":
        return float(stream.average_rate or guess) or None, stream.frames or None
    with av.open(path, metadata_errors="ignore") as container:
        delays = [packet.duration or 0 for packet in container.demux(video=0) if packet.dts is not None]
    seconds = sum(delays) * float(stream.time_base or 0)
    if len(delays) < 2 or not seconds:
        return None, len(delays)
    # The header of a .gif has no rate, and its delays are rounded to a hundredth of a second.
    is_guess_right = guess > 0 and abs(len(delays) / guess - seconds) < 0.011
    return guess if is_guess_right else len(delays) / seconds, len(delays)
