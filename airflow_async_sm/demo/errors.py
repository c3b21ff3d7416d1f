"""What can go wrong with a local Airflow. Each text says which part, and carries the end of its log."""

from __future__ import annotations


class LocalAirflowError(RuntimeError):
    """Root of the errors raised by this package."""


class ComponentFailed(LocalAirflowError):
    """
    A program of Airflow ended although it should be running, or ended with an error.

    :param component: Name of the program, for example ``scheduler``.
    :param exit_code: Its exit code; negative is the number of the signal that ended it.
    :param log_tail: The last lines it wrote.
    """

    def __init__(self, component: str, exit_code: int, log_tail: str) -> None:
        super().__init__(component, exit_code, log_tail)
        self.component = component
        self.exit_code = exit_code
        self.log_tail = log_tail

    def __str__(self) -> str:
        return f"{self.component} ended with exit code {self.exit_code}. The end of its log:\n{self.log_tail}"


class NotReady(LocalAirflowError):
    """
    Airflow did not get ready in time.

    :param waiting_for: What was missing when the time was up.
    :param timeout: Seconds that were allowed.
    :param log_tail: The last lines written by the part that was missing.
    """

    def __init__(self, waiting_for: str, timeout: float, log_tail: str) -> None:
        super().__init__(waiting_for, timeout, log_tail)
        self.waiting_for = waiting_for
        self.timeout = timeout
        self.log_tail = log_tail

    def __str__(self) -> str:
        return (
            f"{self.waiting_for} was not ready after {self.timeout:g} s. The end of its log:\n{self.log_tail}"
        )


class DagNotFound(LocalAirflowError):
    """
    A DAG did not appear, or its file cannot be imported.

    :param dag_id: The DAG that was waited for.
    :param import_errors: Error text per DAG file, for every file that cannot be imported.
    """

    def __init__(self, dag_id: str, import_errors: dict[str, str]) -> None:
        super().__init__(dag_id, import_errors)
        self.dag_id = dag_id
        self.import_errors = import_errors

    def __str__(self) -> str:
        if not self.import_errors:
            return f"No DAG {self.dag_id!r} in the DAGs folder, and no file of it failed to import."
        broken = "\n".join(f"{name}:\n{text.rstrip()}" for name, text in self.import_errors.items())
        return f"No DAG {self.dag_id!r}. These DAG files cannot be imported:\n{broken}"


class RunNotFound(LocalAirflowError):
    """
    Airflow did not make the run that was waited for.

    :param dag_id: The DAG.
    :param timeout: Seconds that were allowed.
    """

    def __init__(self, dag_id: str, timeout: float) -> None:
        super().__init__(dag_id, timeout)
        self.dag_id = dag_id
        self.timeout = timeout

    def __str__(self) -> str:
        return f"No run of DAG {self.dag_id!r} began within {self.timeout:g} s."


class RestError(LocalAirflowError):
    """
    Airflow's REST API refused a request or could not be reached.

    :param request: Method and path.
    :param status: HTTP status, ``None`` if there was no answer.
    :param detail: The start of the answer, or why there was none.
    """

    def __init__(self, request: str, status: int | None, detail: str) -> None:
        super().__init__(request, status, detail)
        self.request = request
        self.status = status
        self.detail = detail

    def __str__(self) -> str:
        answer = "no answer" if self.status is None else f"HTTP {self.status}"
        return f"{self.request}: {answer}: {self.detail}"
