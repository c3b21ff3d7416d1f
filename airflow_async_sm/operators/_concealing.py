"""Payloads among a task's arguments, out of the sight of others."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from airflow_async_sm._compat import BaseOperator
from airflow_async_sm.core.payloads import Concealed

__all__ = ["ConcealsFields"]


class ConcealsFields(BaseOperator):
    """A task with template fields whose values nobody may see."""

    concealed_fields: Sequence[str] = ()
    # Those that may be a function of the user's. Airflow would call it, with arguments that it does not take.
    function_fields: Sequence[str] = ()

    def _do_render_template_fields(
        self, parent: Any, template_fields: Iterable[str], *args: Any, **kwargs: Any
    ) -> None:
        """
        Render as usual, then put the payload out of sight.

        Airflow stores what template fields are rendered to, for its page, in the metadata database. This
        method is the one that plain and mapped tasks have in common.
        """
        functions = self.function_fields if parent is self else ()
        rendered = [
            name for name in template_fields if name not in functions or not callable(getattr(self, name))
        ]
        super()._do_render_template_fields(parent, rendered, *args, **kwargs)
        for name in self.concealed_fields if parent is self else ():
            value = getattr(self, name)
            if value is not None and not isinstance(value, Concealed):
                setattr(self, name, Concealed(value))
