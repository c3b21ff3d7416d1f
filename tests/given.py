"""The environment of whoever started the tests, as it was before the tests cleaned it."""

from __future__ import annotations

import os

ENVIRONMENT = dict(os.environ)


def aws() -> dict[str, str]:
    """Return the variables that AWS's clients read: credentials, profile, region."""
    return {name: value for name, value in ENVIRONMENT.items() if name.startswith("AWS_")}
