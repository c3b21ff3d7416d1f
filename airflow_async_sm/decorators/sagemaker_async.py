"""``@task.sagemaker_async``: a function makes the payload, the task returns the model's answer."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_async_sm._compat import (
    Context,
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.payloads import Concealed, revealed
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

if TYPE_CHECKING:
    from airflow_async_sm._compat import TaskDecorator

__all__ = ["sagemaker_async_task"]

_MADE_BY_THE_FUNCTION = ("payload", "payload_path", "input_location")


class _SageMakerAsyncDecoratedOperator(DecoratedOperator, SageMakerAsyncInvokeOperator):
    """
    The invoke operator with a payload that a function makes.

    :param python_callable: The function.
    :param op_args: Its arguments by position. (templated)
    :param op_kwargs: Its arguments by name. (templated)
    :param result: What the task returns. Default ``"json"``.
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *(name for name in SageMakerAsyncInvokeOperator.template_fields if name not in _MADE_BY_THE_FUNCTION),
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    custom_operator_name = "@task.sagemaker_async"
    # The function's arguments are concealed one by one, so that their names can be seen.
    concealed_fields: Sequence[str] = ()

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        result: str | Callable[[bytes], Any] = "json",
        **kwargs: Any,
    ) -> None:
        _check(python_callable, kwargs)
        # Said here, because a DAG's default_args could say something else.
        kwargs |= dict.fromkeys(_MADE_BY_THE_FUNCTION)
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, result=result, **kwargs
        )

    def execute(self, context: Context) -> Any:
        """Call the function, send what it returns, and wait unless told not to."""
        # Airflow has stored by now what may be seen of the arguments, and looks for assets among them.
        self.op_args = [revealed(value) for value in self.op_args]
        self.op_kwargs = {name: revealed(value) for name, value in self.op_kwargs.items()}
        return super().execute(context)

    def payload_value(self, context: Context) -> Any:
        """Return what the function makes of its arguments, and of what it wants to know of the context."""
        known = copy.copy(context)
        known.update(self.op_kwargs)  # type: ignore[typeddict-item]
        payload = self.python_callable(
            *self.op_args, **determine_kwargs(self.python_callable, self.op_args, known)
        )
        if payload is None:
            raise InvalidInput(
                f"{self.python_callable.__name__}() returned None; what it returns is the payload: JSON "
                "values, text, bytes or a path."
            )
        return payload

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self:
            self.op_args = [_concealed(value) for value in self.op_args]
            self.op_kwargs = {name: _concealed(value) for name, value in self.op_kwargs.items()}


def sagemaker_async_task(
    python_callable: Callable[..., Any] | None = None,
    *,
    multiple_outputs: bool = False,
    **kwargs: Any,
) -> TaskDecorator:
    """
    Make a task of a function that returns the payload of a request; the task returns the model's answer.

    In a DAG this is ``@task.sagemaker_async(endpoint_name="...")``. The function gets its arguments, and what
    it wants to know of Airflow's context, as with ``@task``. It returns JSON values, text, bytes, a
    ``pathlib.Path`` or an ``ObjectStoragePath``. It is called once in each try, also where the task takes up
    the request of an earlier try: that is done only if the function returns the same payload again.

    What is passed to the function is shown nowhere, as the payload is not.

    :param python_callable: The function. It may not be a coroutine function.
    :param multiple_outputs: Whether each item of an answer that is a dictionary becomes an XCom of its own.
        What the function is annotated to return has no part in it, since that is not what the task returns.
        Default ``False``.
    :param kwargs: Arguments of
        :class:`~airflow_async_sm.operators.invoke.SageMakerAsyncInvokeOperator`, but for ``payload``,
        ``payload_path`` and ``input_location``. Default of ``result``: ``"json"``.
    :raises InvalidInput: one of these three is given, or the function is a coroutine function.
    """
    _check(python_callable, kwargs)
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=_SageMakerAsyncDecoratedOperator,
        **kwargs,
    )


def _check(function: Any, arguments: Mapping[str, Any]) -> None:
    if given := [name for name in _MADE_BY_THE_FUNCTION if name in arguments]:
        raise InvalidInput(
            f"@task.sagemaker_async takes no {' and no '.join(given)}: what the function returns is sent."
        )
    if inspect.iscoroutinefunction(function):
        raise InvalidInput(
            f"{function.__name__} is a coroutine function; @task.sagemaker_async needs a plain one."
        )


def _concealed(value: Any) -> Any:
    return value if isinstance(value, Concealed) else Concealed(value)
