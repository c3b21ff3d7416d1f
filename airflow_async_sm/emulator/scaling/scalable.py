"""What the scaler needs to know of an endpoint, and may do to it."""

from __future__ import annotations

from typing import Protocol

from airflow_async_sm.emulator.scaling.metrics import Load


class CapacityUnavailable(Exception):
    """Instances cannot be had right now. Its text says why and is shown with the scaling activity."""


class Scalable(Protocol):
    """
    One production variant whose number of instances can be changed.

    Endpoints that are not up yet, or have failed, are not scalable: the service does not let them be
    registered either.
    """

    @property
    def name(self) -> str:
        """The endpoint's name, spelled as its creator did."""

    @property
    def region(self) -> str:
        """The endpoint's region."""

    @property
    def variant_name(self) -> str:
        """The variant's name."""

    def load(self) -> Load:
        """Return how much there is to do and how many instances there are, at this moment."""

    def set_desired(self, count: int) -> None:
        """
        Begin to have ``count`` instances, and return at once. :meth:`load` shows the new number from now on.

        :param count: How many instances; 0 or more.
        :raises ValueError: the quota does not allow so many.
        :raises CapacityUnavailable: instances cannot be had.
        :raises AwsError: the endpoint is in a state in which its capacity cannot be changed.
        """
