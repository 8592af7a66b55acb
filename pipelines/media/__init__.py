"""Reading, writing and resizing of videos and images."""
