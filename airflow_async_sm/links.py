"""
Links from a task to its endpoint, and to its request, in the AWS console.

Region and partition are known to the worker only, so it stores the addresses as XCom ``pages`` when the work
is submitted. Airflow 2.11 reads them in its web server, and shows the links from then on. Airflow 3 reads
them on the worker whenever the task leaves it: when the task is deferred, and at its end. A task that waits
on the worker therefore shows its links there at the end.

There are no links where the console does not show the endpoint: another address than AWS's own is used, such
as an emulator's, or the partition's console is not known; and none with ``do_xcom_push=False``. The objects
of a request have links once their exact locations are known.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, ClassVar, Final

from airflow_async_sm._compat import BaseOperator, BaseOperatorLink, Context, read_xcom
from airflow_async_sm.core.consoles import (
    DATA_LOG_PAGE,
    ENDPOINT_PAGE,
    FAILURE_PAGE,
    LOGS_PAGE,
    OUTPUT_PAGE,
    console_pages,
)
from airflow_async_sm.core.handles import Handle

if TYPE_CHECKING:
    from airflow_async_sm.hooks.sagemaker_async import SageMakerAsyncHook

__all__ = [
    "ENDPOINT_LINKS",
    "INVOCATION_LINKS",
    "PAGES_KEY",
    "SageMakerDataLogLink",
    "SageMakerEndpointLink",
    "SageMakerEndpointLogsLink",
    "SageMakerFailureLink",
    "SageMakerOutputLink",
    "store_pages",
]

PAGES_KEY: Final = "pages"

_log = logging.getLogger(__name__)


def store_pages(task: BaseOperator, hook: SageMakerAsyncHook, handle: Handle, context: Context) -> None:
    """
    Store where the links of a task lead to. What goes wrong is logged: it must not end the task.

    It may be called again when more is known of the handle; the last call counts.

    :param task: The operator or sensor.
    :param hook: The way to AWS that it uses itself.
    :param handle: Its endpoint, or its request.
    :param context: The context it runs in.
    """
    if not task.do_xcom_push:
        return
    try:
        pages = console_pages(
            handle,
            region=hook.region,
            partition=hook.partition,
            api_url=hook.endpoint_url,
        )
        if pages:
            context["ti"].xcom_push(key=PAGES_KEY, value=pages)
    except Exception as error:  # noqa: BLE001 - the work is paid for: no link to it is worth losing it
        task.log.warning("%s has no links to the AWS console: %s", handle.subject, error)


class _PageLink(BaseOperatorLink):
    """A link to one of the stored pages."""

    page: ClassVar[str]

    def get_link(self, operator: Any, *, ti_key: Any) -> str:  # noqa: ARG002 - Airflow's own signature
        """
        Return the address of the page, or an empty text if there is none.

        :param operator: The task.
        :param ti_key: Which of its runs.
        """
        try:
            pages = read_xcom(ti_key, PAGES_KEY)
        except Exception:  # noqa: BLE001 - in Airflow 3.0 the worker would end in error, in 2.11 the page
            _log.warning("The links of %s cannot be read", ti_key, exc_info=True)
            return ""
        return str(pages.get(self.page, "")) if isinstance(pages, dict) else ""


class SageMakerEndpointLink(_PageLink):
    """Leads to the endpoint in the console of SageMaker."""

    name = "SageMaker endpoint"
    page = ENDPOINT_PAGE


class SageMakerEndpointLogsLink(_PageLink):
    """Leads to what the endpoint's containers wrote, in the console of CloudWatch."""

    name = "CloudWatch logs"
    page = LOGS_PAGE


class SageMakerOutputLink(_PageLink):
    """Leads to the object with the answer, in the console of S3."""

    name = "Output object"
    page = OUTPUT_PAGE


class SageMakerFailureLink(_PageLink):
    """Leads to the object with the failure, in the console of S3. It is there if the request failed."""

    name = "Failure object"
    page = FAILURE_PAGE


class SageMakerDataLogLink(_PageLink):
    """Leads to what the service logged about this request, in the console of CloudWatch."""

    name = "CloudWatch data log"
    page = DATA_LOG_PAGE


ENDPOINT_LINKS: Final = (SageMakerEndpointLink(), SageMakerEndpointLogsLink())
"""The links of everything that has an endpoint name."""

INVOCATION_LINKS: Final = (
    *ENDPOINT_LINKS,
    SageMakerOutputLink(),
    SageMakerFailureLink(),
    SageMakerDataLogLink(),
)
"""The links of everything that has a request."""
