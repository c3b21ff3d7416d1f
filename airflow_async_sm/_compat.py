"""
The one place that knows where each Airflow keeps what we use.

=========================  ==========================  =============================
name                       Airflow 3                   Airflow 2.11
=========================  ==========================  =============================
``BaseOperator``           ``airflow.sdk``             ``airflow.models``
``BaseSensorOperator``, …  ``airflow.sdk``             ``airflow.sensors.base``
``TaskGroup``              ``airflow.sdk``             ``airflow.utils.task_group``
``EmptyOperator``          the standard provider       ``airflow.operators.empty``
``BaseOperatorLink``       ``airflow.sdk``             ``airflow.models``
``Context``                ``airflow.sdk``             ``airflow.utils.context``
``AirflowException``, …    ``airflow.sdk.exceptions``  ``airflow.exceptions``
``conf``                   ``airflow.configuration``   ``airflow.configuration``
``BaseTrigger``, …         ``airflow.triggers.base``   ``airflow.triggers.base``
``XCom``                   ``airflow.sdk``, inside     ``airflow.models.xcom``
``DecoratedOperator``, …   ``airflow.sdk``, inside     ``airflow.decorators.base``
=========================  ==========================  =============================

The compatibility provider has most of these names too, but in releases newer than those that managed Airflow
2.11 and 3.0 are pinned to.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from airflow.configuration import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from datetime import datetime

    from airflow.providers.standard.operators.empty import EmptyOperator
    from airflow.sdk import (
        BaseOperator,
        BaseOperatorLink,
        BaseSensorOperator,
        Context,
        PokeReturnValue,
        TaskGroup,
    )
    from airflow.sdk.bases.decorator import (
        DecoratedOperator,
        TaskDecorator,
        determine_kwargs,
        task_decorator_factory,
    )
    from airflow.sdk.exceptions import (
        AirflowException,
        AirflowFailException,
        AirflowSensorTimeout,
        AirflowSkipException,
    )
else:
    try:
        from airflow.providers.standard.operators.empty import EmptyOperator
        from airflow.sdk import (
            BaseOperator,
            BaseOperatorLink,
            BaseSensorOperator,
            Context,
            PokeReturnValue,
            TaskGroup,
        )
    except ImportError:  # Airflow 2.11
        from airflow.models import BaseOperator, BaseOperatorLink
        from airflow.operators.empty import EmptyOperator
        from airflow.sensors.base import BaseSensorOperator, PokeReturnValue
        from airflow.utils.context import Context
        from airflow.utils.task_group import TaskGroup
    try:
        from airflow.sdk.bases.decorator import DecoratedOperator, TaskDecorator, task_decorator_factory
    except ImportError:  # Airflow 2.11
        from airflow.decorators.base import DecoratedOperator, TaskDecorator, task_decorator_factory
    try:
        from airflow.sdk.bases.decorator import determine_kwargs
    except ImportError:  # before Airflow 3.2
        from airflow.utils.operator_helpers import determine_kwargs
    try:
        from airflow.sdk.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )
    except ImportError:  # before Airflow 3.2
        from airflow.exceptions import (
            AirflowException,
            AirflowFailException,
            AirflowSensorTimeout,
            AirflowSkipException,
        )

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "AirflowSensorTimeout",
    "AirflowSkipException",
    "BaseOperator",
    "BaseOperatorLink",
    "BaseSensorOperator",
    "BaseTrigger",
    "Context",
    "DecoratedOperator",
    "EmptyOperator",
    "PokeReturnValue",
    "TaskDecorator",
    "TaskGroup",
    "TriggerEvent",
    "conf",
    "determine_kwargs",
    "first_poked_at",
    "read_xcom",
    "task_decorator_factory",
]


def first_poked_at(sensor: BaseSensorOperator, context: Context) -> datetime | None:
    """
    Return when a sensor that is rescheduled between its looks looked first; ``None``: it never did.

    Each of its looks is made by another process, so only Airflow knows.

    :param sensor: The sensor.
    :param context: The context of the process that looks now.
    """
    ti: Any = context["ti"]
    found: datetime | None
    if hasattr(ti, "get_first_reschedule_date"):
        found = ti.get_first_reschedule_date(context)
    else:
        # Airflow 2.11 has no public way to what its own sensors ask for their timeout.
        found = import_module("airflow.sensors.base")._orig_start_date(
            dag_id=ti.dag_id,
            task_id=ti.task_id,
            run_id=ti.run_id,
            map_index=ti.map_index,
            try_number=(ti.max_tries or 0) - (sensor.retries or 0) + 1,
        )
    return found


def read_xcom(ti_key: Any, key: str) -> Any:
    """
    Return what a task instance stored as XCom, or ``None``.

    In Airflow 3 this works on the worker; in Airflow 2.11 wherever the database can be reached.

    :param ti_key: The task instance: whatever has ``dag_id``, ``task_id``, ``run_id`` and ``map_index``.
    :param key: The key of the XCom.
    """
    # Loads the XCom backend of the installation, which may load anything.
    try:
        module = import_module("airflow.sdk.execution_time.xcom")
    except ModuleNotFoundError:  # Airflow 2.11
        module = import_module("airflow.models.xcom")
    return module.XCom.get_value(ti_key=ti_key, key=key)


def storage_path(address: str) -> Any:
    """
    Return Airflow's ``ObjectStoragePath`` for a URL. Its module loads fsspec, which not every task needs.

    :param address: The URL, of any store that Airflow has a way to.
    """
    try:
        kind = import_module("airflow.sdk").ObjectStoragePath
    except ModuleNotFoundError:  # Airflow 2.11
        kind = import_module("airflow.io.path").ObjectStoragePath
    return kind(address)
