"""``@task.sagemaker_async``: a function makes the payload, the task returns the model's answer."""

from __future__ import annotations

import copy
import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, ClassVar

from airflow_async_sm._compat import (
    BaseOperator,
    Context,
    DecoratedOperator,
    determine_kwargs,
    task_decorator_factory,
)
from airflow_async_sm.core.limits import InvalidInput
from airflow_async_sm.core.payloads import Concealed, revealed
from airflow_async_sm.operators.batch import SageMakerAsyncBatchOperator
from airflow_async_sm.operators.invoke import SageMakerAsyncInvokeOperator

if TYPE_CHECKING:
    from airflow_async_sm._compat import TaskDecorator

__all__ = ["sagemaker_async_task"]


_PAYLOAD = ("payload", "payload_path", "input_location")
_INPUTS = ("inputs", "input_locations", "input_prefix", "input_manifest", "input_records")
_OF_INPUTS = ("input_pattern", "records_per_request", "csv_header")


def _fields_of(operator: type[BaseOperator], made: Collection[str]) -> tuple[str, ...]:
    return (
        *DecoratedOperator.template_fields,
        *(name for name in operator.template_fields if name not in made),
    )


class _CallsFunction(DecoratedOperator):
    """A task whose input a function makes. What is passed to the function is shown nowhere."""

    template_fields_renderers: ClassVar[dict[str, str]] = {**DecoratedOperator.template_fields_renderers}
    custom_operator_name = "@task.sagemaker_async"
    # The function's arguments are concealed one by one, so that their names can be seen.
    concealed_fields: Sequence[str] = ()
    # Airflow 3.0 passes this method on, which it has taken away from its operators, and does not use it.
    xcom_push = inspect.getattr_static(DecoratedOperator, "xcom_push", None)

    def execute(self, context: Context) -> Any:
        """Call the function, send what it returns, and wait unless told not to."""
        # Airflow has stored by now what may be seen of the arguments, and looks for assets among them.
        self.op_args = [revealed(value) for value in self.op_args]
        self.op_kwargs = {name: revealed(value) for name, value in self.op_kwargs.items()}
        return super().execute(context)

    def made(self, context: Context) -> Any:
        """Return what the function makes of its arguments, and of what it wants to know of the context."""
        known = copy.copy(context)
        known.update(self.op_kwargs)  # type: ignore[typeddict-item]
        made = self.python_callable(
            *self.op_args, **determine_kwargs(self.python_callable, self.op_args, known)
        )
        if made is None:
            raise InvalidInput(
                f"{self.python_callable.__name__}() returned None; what it returns is the payload: JSON "
                "values, text, bytes or a path; of a batch, many of them."
            )
        return made

    def _do_render_template_fields(self, parent: Any, *args: Any, **kwargs: Any) -> None:
        super()._do_render_template_fields(parent, *args, **kwargs)
        if parent is self:
            self.op_args = [_concealed(value) for value in self.op_args]
            self.op_kwargs = {name: _concealed(value) for name, value in self.op_kwargs.items()}


class _SageMakerAsyncDecoratedOperator(_CallsFunction, SageMakerAsyncInvokeOperator):
    """
    The invoke operator with a payload that a function makes.

    :param python_callable: The function.
    :param op_args: Its arguments by position. (templated)
    :param op_kwargs: Its arguments by name. (templated)
    :param result: What the task returns. Default ``"json"``.
    """

    template_fields: Sequence[str] = _fields_of(SageMakerAsyncInvokeOperator, _PAYLOAD)

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
        kwargs |= dict.fromkeys(_PAYLOAD)
        super().__init__(
            python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, result=result, **kwargs
        )

    def payload_value(self, context: Context) -> Any:
        """Return what the function makes."""
        return self.made(context)


class _SageMakerAsyncBatchDecoratedOperator(_CallsFunction, SageMakerAsyncBatchOperator):
    """
    The batch operator with inputs that a function makes.

    :param python_callable: The function.
    :param op_args: Its arguments by position. (templated)
    :param op_kwargs: Its arguments by name. (templated)
    """

    template_fields: Sequence[str] = _fields_of(SageMakerAsyncBatchOperator, _INPUTS)

    def __init__(
        self,
        *,
        python_callable: Callable[..., Any],
        op_args: Collection[Any] | None = None,
        op_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        _check(python_callable, kwargs)
        kwargs |= dict.fromkeys(_INPUTS)
        super().__init__(python_callable=python_callable, op_args=op_args, op_kwargs=op_kwargs, **kwargs)

    def input_values(self, context: Context) -> Any:
        """Return what calls the function: a retry compares what it makes before anything is done with it."""
        return partial(self.made, context)


def sagemaker_async_task(
    python_callable: Callable[..., Any] | None = None,
    *,
    batch: bool | None = None,
    multiple_outputs: bool = False,
    **kwargs: Any,
) -> TaskDecorator:
    """
    Make a task of a function that returns the payload of a request; the task returns the model's answer.

    In a DAG this is ``@task.sagemaker_async(endpoint_name="...")``. The function gets its arguments, and what
    it wants to know of Airflow's context, as with ``@task``. It returns JSON values, text, bytes, a
    ``pathlib.Path`` or an ``ObjectStoragePath``. It is called once in each try, also where the task takes up
    the request of an earlier try: that is done only if the function returns the same payload again.

    A function that yields payloads makes a batch, and so does one that returns many with ``batch=True``. A
    list alone does not: it is a payload as well. The task of a batch returns what
    :class:`~airflow_async_sm.operators.batch.SageMakerAsyncBatchOperator` does. A try that goes on with the
    batch of an earlier one calls the function too, and a second time if the inputs have changed.

    What is passed to the function is shown nowhere, as the payload is not.

    :param python_callable: The function. It may not be a coroutine function.
    :param batch: Whether what the function returns is many payloads. Default: whether it is a generator
        function.
    :param multiple_outputs: Whether each item of an answer that is a dictionary becomes an XCom of its own.
        What the function is annotated to return has no part in it, since that is not what the task returns.
        Default ``False``.
    :param kwargs: Arguments of
        :class:`~airflow_async_sm.operators.invoke.SageMakerAsyncInvokeOperator`, but for ``payload``,
        ``payload_path`` and ``input_location``. Default of ``result``: ``"json"``. For a batch those of
        :class:`~airflow_async_sm.operators.batch.SageMakerAsyncBatchOperator`, but for what says which the
        inputs are.
    :raises InvalidInput: one of these is given, or the function is a coroutine function.
    """
    _check(python_callable, kwargs)
    if python_callable is None:
        # The function tells what is made of it.
        again: Any = partial(sagemaker_async_task, batch=batch, multiple_outputs=multiple_outputs, **kwargs)
        return again  # type: ignore[no-any-return]
    is_batch = inspect.isgeneratorfunction(python_callable) if batch is None else batch
    kind = _SageMakerAsyncBatchDecoratedOperator if is_batch else _SageMakerAsyncDecoratedOperator
    return task_decorator_factory(
        python_callable=python_callable,
        multiple_outputs=multiple_outputs,
        decorated_operator_class=kind,
        **kwargs,
    )


def _check(function: Any, arguments: Mapping[str, Any]) -> None:
    if given := [name for name in (*_PAYLOAD, *_INPUTS, *_OF_INPUTS) if name in arguments]:
        raise InvalidInput(
            f"@task.sagemaker_async takes no {' and no '.join(given)}: what the function returns is sent."
        )
    if inspect.isasyncgenfunction(function) or inspect.iscoroutinefunction(function):
        raise InvalidInput(
            f"{function.__name__} is a coroutine function; @task.sagemaker_async needs a plain one."
        )


def _concealed(value: Any) -> Any:
    return value if isinstance(value, Concealed) else Concealed(value)
