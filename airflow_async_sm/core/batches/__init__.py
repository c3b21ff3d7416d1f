"""Decisions about a batch: its items, how far they are, how fast they are sent, and what became of them."""
