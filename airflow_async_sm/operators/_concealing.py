"""Payloads among a task's arguments, out of the sight of others."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from airflow_async_sm._compat import BaseOperator
from airflow_async_sm.core.payloads import Concealed

__all__ = ["ConcealsFields"]


class ConcealsFields(BaseOperator):
    """A task with template fields whose values nobody may see."""

    concealed_fields: Sequence[str] = ()

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        """
        Render as usual, then put the payload out of sight.

        Airflow stores what template fields are rendered to, for its page, in the metadata database. This
        method is the one that plain and mapped tasks have in common.
        """
        super()._do_render_template_fields(parent, *args, **kwargs)
        for name in self.concealed_fields if parent is self else ():
            value = getattr(self, name)
            if value is not None and not isinstance(value, Concealed):
                setattr(self, name, Concealed(value))
