"""Video data: the shipped clips, moving shapes, arcade games, dead leaves, or folders of videos and images."""

from .batches import TrainingBatches
from .config import DataConfig
from .loading import load_data, load_sources
from .video_data import Clips, TrainingWindows, VideoData

__all__ = ["Clips", "DataConfig", "TrainingBatches", "TrainingWindows", "VideoData", "load_data", "load_sources"]
