"""Capacity that follows the queue: metrics, alarms and policies."""
