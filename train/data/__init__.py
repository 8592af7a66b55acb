"""Video data: the shipped clips, moving shapes, arcade games, or a folder of videos and images."""

from .batches import TrainingBatches
from .config import DataConfig
from .loading import load_data
from .video_data import Clips, VideoData

__all__ = ["Clips", "DataConfig", "TrainingBatches", "VideoData", "load_data"]
