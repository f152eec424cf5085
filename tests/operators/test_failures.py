"""What a failing task leaves: its state, and a log that ends with one paragraph."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from uuid import uuid4

import pytest

import airflow_provider_hfreg.errors as errors_module
from airflow_provider_hfreg.errors import HfregError

DAG = """
import logging

from airflow.sdk import DAG, BaseOperator, task

from airflow_provider_hfreg.errors import HfregError, StorageUnavailableError, VersionNotFoundError
from airflow_provider_hfreg.operators.failures import end_task


class Failing(BaseOperator):
    def __init__(self, *, leaf, **kwargs):
        super().__init__(**kwargs)
        self.leaf = leaf

    def execute(self, context):
        try:
            try:
                raise OSError("a library's own words")
            except OSError as error:
                raise self.leaf("Model 'finbert' has no version 'v9'; it has 'v1'. Choose one of them.") from error
        except HfregError as error:
            end_task(self, error)


def told(context):
    # Logged and not printed: what is printed takes another way to the log, and its place in it is left to chance.
    logging.getLogger(__name__).info("the DAG's own callback was told: %s", type(context["exception"]).__name__)


with DAG("failing", schedule=None):
    Failing(task_id="final", leaf=VersionNotFoundError, on_failure_callback=told, retries=1)
    Failing(task_id="passing", leaf=StorageUnavailableError, on_retry_callback=told, retries=1)
"""
PARAGRAPH = "Model 'finbert' has no version 'v9'; it has 'v1'. Choose one of them."


@pytest.fixture(scope="module")
def supervise(tmp_path_factory):
    """Run a task of the DAG above under Airflow's supervisor; returns its last state and its log's records."""
    folder = tmp_path_factory.mktemp("dags")
    dag_file = folder / "failing.py"
    dag_file.write_text(DAG)

    def run(task_id, *, retries_left=True):
        log_file = folder / f"{uuid4()}.log"
        arguments = [dag_file, "failing", task_id, log_file, retries_left]
        program = [sys.executable, "-m", "airflow_provider_hfreg.testing.supervised", *map(str, arguments)]
        environment = os.environ | {"AIRFLOW__CORE__DAGS_FOLDER": str(folder)}
        ended = subprocess.run(program, env=environment, capture_output=True, text=True, check=False, timeout=240)
        assert ended.returncode == 0, ended.stderr
        records = [json.loads(line) for line in log_file.read_text().splitlines()]
        return ended.stdout.split()[-1], records

    return run


def last_visible(records):
    """Return the last record that the log's page shows unfolded."""
    return [record for record in records if not record["event"].startswith(("::group::", "::endgroup::"))][-1]


def open_groups_before(records, wanted):
    """Return how many folded groups are open where a record stands."""
    before = records[: records.index(wanted)]
    opened = sum(record["event"].startswith("::group::") for record in before)
    return opened - sum(record["event"].startswith("::endgroup::") for record in before)


@pytest.mark.parametrize(
    ("task_id", "retries_left", "state", "exc_type"),
    [
        ("final", True, "failed", "AirflowFailException"),
        ("passing", True, "up_for_retry", "StorageUnavailableError"),
        ("passing", False, "failed", "StorageUnavailableError"),
    ],
)
def test_the_log_of_a_failed_task_ends_with_the_errors_paragraph(supervise, task_id, retries_left, state, exc_type):
    reported, records = supervise(task_id, retries_left=retries_left)
    assert reported == state
    last = last_visible(records)
    assert (last["event"], last["level"]) == (PARAGRAPH, "error")
    assert "error_detail" not in last
    assert open_groups_before(records, last) == 0, "a line inside a group is folded away"
    [runner] = [record for record in records if "error_detail" in record]
    [exception] = runner["error_detail"]  # one: the library's own is not shown
    assert (exception["exc_type"], exception["exc_value"]) == (exc_type, PARAGRAPH)
    assert "a library's own words" not in json.dumps([record for record in records if record["level"] != "debug"])


def test_the_dags_own_callbacks_still_run(supervise):
    _, records = supervise("final")
    assert "the DAG's own callback was told: AirflowFailException" in [record["event"] for record in records]


def test_every_retryable_leaf_is_one_on_purpose():
    leaves = [leaf for leaf in vars(errors_module).values() if isinstance(leaf, type) and issubclass(leaf, HfregError)]
    retryable = {leaf.__name__ for leaf in leaves if leaf.retryable}
    lost = {"CompareAndSwapLostError", "LeaseLapsedError", "PublishStateUnknownError", "StorageUnavailableError"}
    away = {"BrokerUnavailableError", "DatabaseUnavailableError", "NoWorkerError", "ShardFailedError"}
    assert retryable == lost | away | {"DeviceMemoryError", "DeviceLostError", "ShardIgnoredError"}
