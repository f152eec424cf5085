"""
From an error of ours to the end of an Airflow task: will it be tried again, and what does its log say last.

Invariants:

- Errors that are not ours pass untouched, with their traceback: they are somebody's bug, or Airflow's own signals.
- A retryable one leaves the task as itself, so a retry policy can match its class; any other one becomes
  ``AirflowFailException``, so that no retry is wasted on what cannot change.
- The last line of the task's log is the error's one paragraph. Airflow 3.3 writes the exception with the frames of its
  own runner and opens a folded group after it; only callbacks run later. So one is added to the task instance that
  failed, in its own process: the DAG as it was parsed, and what the scheduler knows of it, stay without callback.

Whose library raised below our error is of no interest to who reads the log: it is logged at debug level only.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, NoReturn

from airflow.sdk.exceptions import AirflowFailException

from airflow_provider_hfreg.errors import HfregError, RunCancelledError

if TYPE_CHECKING:
    from airflow.sdk import BaseOperator, Context


def may_be_retried(error: HfregError) -> bool:
    """
    Tell whether another try of the same task can succeed, unchanged.

    A cancelled run can: a worker that is shut down terminates its tasks, and what they committed stays. Who marks
    a task as failed or clears it has decided already, and Airflow ignores what the terminated try says. An abandoned
    run cannot: its retry would abandon the run that took its place, whose retry would do the same.

    >>> from airflow_provider_hfreg.errors import RunAbandonedError
    >>> may_be_retried(RunCancelledError("stopped")), may_be_retried(RunAbandonedError("replaced"))
    (True, False)
    """
    return error.retryable or isinstance(error, RunCancelledError)


def end_task(operator: BaseOperator, error: HfregError) -> NoReturn:
    """
    End the task that met ``error``; to be called where ``execute`` catches :class:`HfregError`, and nowhere deeper.

    :raises HfregError: ``error`` itself, without its causes, if it may be retried.
    :raises AirflowFailException: otherwise, with the same text.
    """
    operator.log.debug("The error below, with its causes:", exc_info=error)
    say_last = partial(_say_last, operator, str(error))
    operator.on_failure_callback = [*operator.on_failure_callback, say_last]
    operator.on_retry_callback = [*operator.on_retry_callback, say_last]
    if may_be_retried(error):
        raise error.with_traceback(None) from None
    raise AirflowFailException(str(error)) from None


def _say_last(operator: BaseOperator, paragraph: str, _context: Context) -> None:
    # Airflow has just opened "Post Execute"; a line inside a group is folded away.
    operator.log.info("::endgroup::")
    operator.log.error("%s", paragraph)
