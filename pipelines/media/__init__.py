"""Media files in and out: frames, pictures, GIFs, clips, and their one resizing."""
