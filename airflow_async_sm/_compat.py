"""
The one place that knows where each Airflow keeps what we use.

=========================  ==========================  =============================
name                       Airflow 3                   Airflow 2.11
=========================  ==========================  =============================
``BaseOperator``           ``airflow.sdk``             ``airflow.models``
``Context``                ``airflow.sdk``             ``airflow.utils.context``
``AirflowException``, …    ``airflow.sdk.exceptions``  ``airflow.exceptions``
``conf``                   ``airflow.configuration``   ``airflow.configuration``
``BaseTrigger``, …         ``airflow.triggers.base``   ``airflow.triggers.base``
=========================  ==========================  =============================

The compatibility provider has most of these names too, but in releases newer than those that managed Airflow
2.11 and 3.0 are pinned to.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from airflow.configuration import conf
from airflow.triggers.base import BaseTrigger, TriggerEvent

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context
    from airflow.sdk.exceptions import AirflowException, AirflowFailException
else:
    try:
        from airflow.sdk import BaseOperator, Context
    except ImportError:  # Airflow 2.11
        from airflow.models import BaseOperator
        from airflow.utils.context import Context
    try:
        from airflow.sdk.exceptions import AirflowException, AirflowFailException
    except ImportError:  # before Airflow 3.2
        from airflow.exceptions import AirflowException, AirflowFailException

__all__ = [
    "AirflowException",
    "AirflowFailException",
    "BaseOperator",
    "BaseTrigger",
    "Context",
    "TriggerEvent",
    "conf",
]
