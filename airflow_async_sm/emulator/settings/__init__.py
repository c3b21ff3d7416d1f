"""What can be set about the emulated service."""
