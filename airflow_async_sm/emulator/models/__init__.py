"""Model containers: what stands for an image, and how it is started and called."""
