"""What waits for something that somebody else manages."""
