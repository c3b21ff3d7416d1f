"""How Airflow's programs open a SQLite database in which many of them write at the same time."""

from __future__ import annotations

# Seconds to wait for a lock. The default, 5, is short on a busy machine, and Airflow then loses the write.
PATIENT = {"timeout": 15}
