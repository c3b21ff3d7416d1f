"""A caller's change of the number of instances: how long its endpoint is ``Updating``."""

from __future__ import annotations

from dataclasses import dataclass

from airflow_async_sm.emulator.work.tools import Tools


@dataclass(frozen=True, slots=True)
class Resizing:
    """
    A change that is going on. Moments are epoch seconds of the emulator's clock.

    :param not_before: It takes until then also when nothing has to start.
    :param give_up_at: It takes no longer than that, also when not every instance has come up.
    """

    not_before: float
    give_up_at: float

    @classmethod
    def begin(cls, tools: Tools, *, now: float, start_timeout: float) -> Resizing:
        """
        Return a change that begins now.

        :param tools: How long things take, and how fast time passes.
        :param now: The time.
        :param start_timeout: Seconds that a container has to come up; they are real ones.
        """
        behaviour = tools.knobs.behaviour
        not_before = now + behaviour.update_seconds
        first_start = now + behaviour.instance_start_seconds
        return cls(not_before, max(not_before, first_start + start_timeout * tools.clock.speed))

    def is_over(self, now: float, *, complete: bool) -> bool:
        """
        Return whether it has ended.

        :param now: The time.
        :param complete: Whether there are as many instances as there shall be.
        """
        return now >= (self.not_before if complete else self.give_up_at)
