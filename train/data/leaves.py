"""Dead leaves: an endless source without files whose statistics are like those of photographs.

A picture is a pile of opaque shapes with a power law of sizes, each with its own colour, shading and 1/f texture (Lee,
Mumford and Huang 2001; Baradad et al. 2021 train visual encoders on such pictures). Two or three of them lie behind one
another, the nearer ones with holes, and a camera moves, zooms and turns in front of them.
"""

import math
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Float, UInt8

Numbers = np.random.Generator

VERSION = 1  # increase it if the same seed gives other clips; otherwise old tables of codes would be reused
LABELS = ("leaves",)
NUM_PICTURES = 256  # of each kind; a clip shows a random part of two or three of them
PICTURE_SIZE = 3  # in widths of a frame
SMALLEST, LARGEST = (0.06, 0.3), 0.7  # radius of the leaves of a picture, in widths of a frame
BEHIND, IN_FRONT = 0, 1  # kinds of pictures: covered completely, and with holes
LEAVES_IN_FRONT = 10
STILL = 0.15  # share of clips in which the camera does not move
FASTEST_SHIFT, FASTEST_TURN, FASTEST_ZOOM = 0.03, math.radians(2), 0.02  # standard deviation per frame, in frame widths


class Camera(NamedTuple):
    """Path of the camera over a picture."""

    x: Float[np.ndarray, " T"]  # of the centre, in widths of a frame
    y: Float[np.ndarray, " T"]
    angle: Float[np.ndarray, " T"]  # in radians
    scale: Float[np.ndarray, " T"]  # magnification


def render_clip(
    seed: tuple[int, ...], index: int, *, num_frames: int, stride: int, resolution: int
) -> UInt8[np.ndarray, "T H W 3"]:
    """Return clip number `index`."""
    numbers = np.random.default_rng((*seed, index))
    path = camera_path(numbers, (num_frames - 1) * stride + 1)
    shown = Camera(*(values[::stride] for values in path))
    frames = torch.zeros(num_frames, 3, resolution, resolution)
    for depth in range(numbers.integers(2, 4)):
        kind = BEHIND if depth == 0 else IN_FRONT
        picture = draw_picture((*seed, kind, int(numbers.integers(NUM_PICTURES))), kind, resolution)
        nearness = 0.6 + 0.4 * depth
        seen = look(picture, shown, numbers, nearness, resolution)
        frames = seen[:, :3] + (1 - seen[:, 3:]) * frames
    gain, contrast = numbers.uniform(0.6, 1.1), numbers.uniform(0.8, 1.2)
    pixels = (gain * frames).clamp(0, 1) ** contrast
    return (255 * pixels).round().byte().permute(0, 2, 3, 1).numpy()


def camera_path(numbers: Numbers, num_frames: int) -> Camera:
    """Return a smooth random path that begins at the origin."""
    speeds = np.array([FASTEST_SHIFT, FASTEST_SHIFT, FASTEST_TURN, FASTEST_ZOOM]) * numbers.normal(size=4)
    speeds *= numbers.random() ** 2 * (numbers.random() >= STILL)
    changes = speeds * numbers.normal(scale=0.08, size=4)
    time = np.arange(num_frames)[:, None]
    x, y, angle, zoom = (time * speeds + time**2 * changes / 2).T
    # Within limits, so that long clips do not leave the picture.
    return Camera(np.sin(x), np.sin(y), angle, np.exp(0.5 * np.tanh(2 * zoom)))


def look(
    picture: Float[torch.Tensor, "4 S S"], camera: Camera, numbers: Numbers, nearness: float, resolution: int
) -> Float[torch.Tensor, "T 4 H W"]:
    """Return what the camera sees of a picture, a random part of which lies in front of it at the beginning.

    Args:
        nearness: factor of the motion and of the size of the leaves.
    """
    start, turn = numbers.uniform(-0.4, 0.4, size=2), numbers.uniform(0, 2 * math.pi)
    zoom = nearness * camera.scale * numbers.uniform(0.8, 1.2)
    angle = camera.angle + turn
    # From a frame in [-1, 1] to the picture in [-1, 1].
    cosine, sine = (function(angle) / (PICTURE_SIZE * zoom) for function in (np.cos, np.sin))
    x, y = (2 * (s + nearness * c / PICTURE_SIZE) for s, c in zip(start, (camera.x, camera.y), strict=True))
    rows = np.stack([np.stack([cosine, -sine, x], -1), np.stack([sine, cosine, y], -1)], axis=1)
    places = F.affine_grid(torch.from_numpy(rows).float(), [len(rows), 4, resolution, resolution], align_corners=False)
    return F.grid_sample(picture.expand(len(rows), -1, -1, -1), places, padding_mode="reflection", align_corners=False)


@lru_cache(maxsize=2 * NUM_PICTURES)
def draw_picture(seed: tuple[int, ...], kind: int, resolution: int) -> Float[torch.Tensor, "4 S S"]:
    """Return a picture in [0, 1]: red, green and blue, each times the opacity, and the opacity."""
    numbers = np.random.default_rng(seed)
    size = PICTURE_SIZE * resolution
    noise = [pink_noise(own, size) for own in numbers.spawn(2)]  # the scene does not depend on the size
    palette = colours(numbers)
    picture = np.zeros((4, size, size), np.float32)
    if kind == BEHIND:
        picture[:3] = palette[0][:, None, None] + 0.1 * noise[0]
        picture[3] = 1
    for radius in leaf_sizes(numbers, LEAVES_IN_FRONT if kind == IN_FRONT else None):
        paint_leaf(picture, numbers, radius * resolution, palette[numbers.integers(len(palette))], noise)
    return torch.from_numpy(np.clip(picture, 0, 1))


def leaf_sizes(numbers: Numbers, number: int | None) -> Float[np.ndarray, " n"]:
    """Return the radii of the leaves, in widths of a frame.

    Their density is that of radius^-3, for which pictures look alike at every distance, from a random smallest one on.
    None: as many as cover the picture about three times.
    """
    smallest = math.exp(numbers.uniform(*np.log(SMALLEST)))
    radii = (smallest**-2 - numbers.random(1000) * (smallest**-2 - LARGEST**-2)) ** -0.5
    if number is None:
        number = 1 + int(np.searchsorted(np.cumsum(math.pi * radii**2), 3 * PICTURE_SIZE**2))
    return radii[:number]


def paint_leaf(
    picture: Float[np.ndarray, "4 S S"],
    numbers: Numbers,
    radius: float,
    colour: Float[np.ndarray, "3"],
    noise: list[Float[np.ndarray, "S S"]],
) -> None:
    """Paint an ellipse or a polygon over the picture, in place, at a random position."""
    size = picture.shape[1]
    centre = numbers.uniform(0, size, size=2)
    first = np.maximum(np.floor(centre - radius).astype(int), 0)
    last = np.minimum(np.ceil(centre + radius).astype(int), size)
    rows, columns = (slice(a, b) for a, b in zip(first, last, strict=True))
    y = (np.arange(first[0], last[0], dtype=np.float32) + 0.5 - np.float32(centre[0]))[:, None] / np.float32(radius)
    x = (np.arange(first[1], last[1], dtype=np.float32) + 0.5 - np.float32(centre[1]))[None, :] / np.float32(radius)
    coverage = np.clip(0.5 - distance_to_edge(numbers, x, y) * np.float32(radius), 0, 1)
    slope = numbers.normal(scale=0.1, size=2).astype(np.float32)
    roughness = np.float32(0.15 * numbers.random() ** 2)
    texture = noise[numbers.integers(len(noise))][rows, columns]
    light = 1 + slope[0] * y + slope[1] * x + roughness * texture
    tint = colour + np.float32(numbers.normal(scale=0.06))
    part = picture[:, rows, columns]
    part *= 1 - coverage
    part[:3] += coverage * np.clip(tint[:, None, None] * light, 0, 1)
    part[3] += coverage


def distance_to_edge(
    numbers: Numbers, x: Float[np.ndarray, "1 w"], y: Float[np.ndarray, "h 1"]
) -> Float[np.ndarray, "h w"]:
    """Return about the distance from each position to the edge of a random shape inside the unit circle: negative
    inside."""
    angle, flatness = numbers.uniform(0, math.pi), np.float32(numbers.uniform(0.3, 1))
    cosine, sine = np.float32(math.cos(angle)), np.float32(math.sin(angle))
    along, across = cosine * x + sine * y, (cosine * y - sine * x) / flatness
    num_corners = numbers.integers(2, 7)
    if num_corners == 2:  # ellipse
        return (np.sqrt(along**2 + across**2) - 1) * flatness
    angles = 2 * math.pi * np.arange(num_corners) / num_corners
    edges = [along * np.float32(math.cos(a)) + across * np.float32(math.sin(a)) for a in angles]
    return (np.maximum.reduce(edges) - np.float32(math.cos(math.pi / num_corners))) * flatness


def colours(numbers: Numbers) -> Float[np.ndarray, "n 3"]:
    """Return a few colours in [0, 1] that lie around a common one, some of them grey."""
    common = numbers.uniform(0.1, 0.8) + numbers.normal(scale=0.08, size=3)
    brightness = numbers.normal(scale=0.22, size=(12, 1))
    tint = numbers.normal(scale=0.2, size=(12, 3)) * numbers.random((12, 1)) ** 2
    return np.clip(common + brightness + tint, 0.02, 0.98).astype(np.float32)


def pink_noise(numbers: Numbers, size: int) -> Float[np.ndarray, "size size"]:
    """Return noise whose amplitude falls with a random power of the frequency, with mean 0 and standard deviation 1."""
    frequency = np.hypot(np.fft.fftfreq(size)[:, None], np.fft.rfftfreq(size)[None])
    frequency[0, 0] = np.inf
    spectrum = np.fft.rfft2(numbers.normal(size=(size, size))) * frequency ** -numbers.uniform(0.8, 1.6)
    noise = np.fft.irfft2(spectrum, s=(size, size))
    return (noise / noise.std()).astype(np.float32)
