"""What makes tasks of functions."""
