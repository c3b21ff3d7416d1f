"""Requests: how they are taken, queued, run and ended."""
