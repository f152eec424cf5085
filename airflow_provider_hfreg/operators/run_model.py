"""Run a logged version over a table: :class:`RunHFModelOperator`."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, NoReturn

from airflow.sdk import BaseOperator, conf

from airflow_provider_hfreg.errors import HfregError, RenderedValueError, RunCancelledError, SettingsError
from airflow_provider_hfreg.hooks.connections import get_connection, s3_settings_of, storage_url
from airflow_provider_hfreg.hooks.hfreg import HFREG_CONN_ID, HFRegistryHook
from airflow_provider_hfreg.hooks.pools import executor_pool as configured_pool
from airflow_provider_hfreg.hooks.pools import on_pool
from airflow_provider_hfreg.operators.deferred import check_event, finish_deferred
from airflow_provider_hfreg.operators.failures import end_task
from airflow_provider_hfreg.operators.identity import task_identity
from airflow_provider_hfreg.operators.inputs import check_inputs, row_source
from airflow_provider_hfreg.operators.rendered import (
    read_choice,
    read_flag,
    read_mapping,
    read_names,
    read_number,
    read_params,
    read_reference,
    read_text,
    read_whole,
    require_text,
)
from airflow_provider_hfreg.runs.report import RunReport
from airflow_provider_hfreg.runs.spec import BatchRequest
from airflow_provider_hfreg.triggers.batch_run import BatchRunTrigger
from airflow_provider_hfreg.triggers.deferral import Deferral

if TYPE_CHECKING:
    import jinja2
    from airflow.sdk import Context
    from airflow.sdk.definitions.mappedoperator import OperatorPartial

    from airflow_provider_hfreg.registry import ModelVersion
    from airflow_provider_hfreg.runs.begun import BegunRun
    from airflow_provider_hfreg.runs.execution import Execution
    from airflow_provider_hfreg.runs.row_sources import RowSource
    from airflow_provider_hfreg.storage.settings import S3Settings

log = logging.getLogger(__name__)

RUN_IN = ("workers", "task")


def routed_to(executor_pool: str) -> dict[str, str]:
    """
    Return the operator arguments that route a task to where an executor pool is.

    :raises SettingsError: there is no such pool. The DAG's import fails: a task without a worker would wait for ever.
    """
    pool = configured_pool(executor_pool)
    return {"queue": pool.queue, "pool": pool.airflow_pool}


class RunHFModelOperator(BaseOperator):
    """
    Run a model version over files, rows or a query, and write Parquet: here, or spread over an executor pool.

    The input is one of three: Parquet, CSV or JSON lines (``input_url``), the rows themselves (``rows``), or a query
    through any SQL connection of Airflow's (``sql`` and ``sql_conn_id``), whose rows are first staged in the output's
    hidden ``_hfreg`` folder.

    The input is cut into shards; a shard is committed whole or not at all. What a retry does: it finds the run of this
    task instance (dag, task, dag run, map index; never the try) and goes on with the shards that are missing. A
    finished run with the same version, inputs and parameters is returned as it is. A query's rows are those that its
    first try staged; with ``rerun`` the database is asked again once the run is finished. A row that cannot be run is
    quarantined with its reason, and the others have their results.

    Returns, by XCom, the run's report as a small dict: version, digest, counts of rows and shards, and where the
    output, the quarantined rows and the full report lie.

    .. code-block:: python

        RunHFModelOperator(task_id="score", model="finbert@champion", input_url="s3://lake/texts/*.parquet",
                           output_url="s3://lake/scores/{{ ds }}", columns={"text": "body"})

    Mapped over many inputs, each instance is a run of its own and needs an output of its own:
    ``RunHFModelOperator.partial(task_id="score", model=…, output_url="s3://lake/scores/{{ ds }}/{{ ti.map_index }}",
    map_index_template="{{ task.input_url }}").expand(input_url=[…])``. The template names each instance by its input.

    :param model: ``finbert/v1``, ``finbert@champion``, ``finbert`` for its default version, or what
        :class:`~airflow_provider_hfreg.operators.log_model.LogHFModelOperator` returned. (templated)
    :param input_url: a file, a folder or a glob: URL (``s3://…``, ``file:///…``) or absolute path. (templated)
    :param rows: instead: some thousands of rows, each a mapping of column names to values; such as what another task
        returned. (templated)
    :param sql: instead: one query that gives rows, or the name of a ``.sql`` file that holds it. (templated)
    :param sql_conn_id: the query's connection: PostgreSQL, MySQL, SQLite, Snowflake, … (templated)
    :param sql_params: the query's parameters, a list or a mapping as the database's driver takes them. (templated)
    :param output_url: a folder: URL or absolute path. (templated)
    :param input_format: ``parquet``, ``csv`` or ``jsonl``; default: by the files' endings. (templated)
    :param hive_partitioning: whether folders named ``key=value`` are columns. Default: those below ``input_url`` are;
        True: also those that it names itself; False: none is. (templated)
    :param columns: signature column → the table's column, where the names differ. (templated)
    :param passthrough: input columns to write beside the results; default: all, ``[]``: none. (templated)
    :param output_prefix: put before the names of the model's output columns. (templated)
    :param model_params: the model's run-time parameters, such as ``{"max_new_tokens": 50}``. (templated)
    :param function_name: which of the version's functions. (templated)
    :param output_format: ``json`` or ``struct``: what stands in a column that holds lists of objects, their JSON text
        or Parquet's own lists of structs. (templated)
    :param on_row_error: ``quarantine`` or ``fail``. (templated)
    :param max_row_errors: a number of rows (``100``) or a share (``0.01``) above which the run fails. (templated)
    :param if_output_exists: for a folder that holds other tasks' results: ``error``, ``replace`` or ``append``. What
        this task instance wrote there before, from another version or input, is replaced once the new run is
        complete. (templated)
    :param rows_per_shard: how many rows are committed at a time. (templated)
    :param token_budget: tokens of one forward pass; default: what suits the device; halved where memory
        runs out. (templated)
    :param precision: ``bfloat16`` or ``float16`` for other numbers than the version's own, ``float32`` for those of a
        version that was logged in fewer bits; default: the version's own. The report says what it ran in and what that
        means. (templated)
    :param threads: of torch on the CPU, in the task's own process; default: the container's cores. On a pool's workers
        it is the pool's setting, and refused here. (templated)
    :param trust_remote_code: consent to running the Python files that the version holds; on a pool its own setting must
        allow them, too. Never a template: a value of the trigger form must not choose whether code runs.
    :param seed: of generated text; default: derived from the run, and recorded. (templated)
    :param rerun: run again even if the same run is finished. (templated)
    :param executor_pool: name of a pool of ``[hfreg] executor_pools``, whose resident workers execute the shards;
        default: the task's own process. (templated)
    :param run_in: ``workers``: the pool's resident workers, this task only follows them. ``task``: the task's own
        process, routed to the pool's Celery queue and Airflow pool, for Airflow's own workers on the GPU machines.
    :param deferrable: while the pool's resident workers compute, hold no Airflow worker: the triggerer follows them.
        Default: Airflow's ``[operators] default_deferrable``. Without a pool, and with ``run_in="task"``, the work is
        this process's own, and the parameter means nothing. An ``execution_timeout`` holds for the whole try.
    :param hfreg_conn_id: the registry's connection. (templated)
    :param storage_conn_id: for input and output, of type ``hfreg`` or ``aws``; default: the registry's. (templated)
    """

    template_fields: Sequence[str] = (
        "model",
        "input_url",
        "output_url",
        "rows",
        "sql",
        "sql_conn_id",
        "sql_params",
        "input_format",
        "hive_partitioning",
        "columns",
        "passthrough",
        "output_prefix",
        "model_params",
        "function_name",
        "output_format",
        "on_row_error",
        "max_row_errors",
        "if_output_exists",
        "rows_per_shard",
        "token_budget",
        "precision",
        "threads",
        "seed",
        "rerun",
        "executor_pool",
        "hfreg_conn_id",
        "storage_conn_id",
    )
    template_fields_renderers: ClassVar[dict[str, str]] = {
        "sql": "sql",
        **dict.fromkeys(("model", "rows", "sql_params", "columns", "passthrough", "model_params"), "json"),
    }
    ui_color = "#ffd98a"

    def __init__(
        self,
        *,
        model: str | Mapping[str, Any],
        input_url: str | None = None,
        output_url: str,
        rows: Sequence[Mapping[str, Any]] | str | None = None,
        sql: str | None = None,
        sql_conn_id: str | None = None,
        sql_params: Mapping[str, Any] | Sequence[Any] | str | None = None,
        input_format: str | None = None,
        hive_partitioning: bool | str | None = None,
        columns: Mapping[str, str] | str | None = None,
        passthrough: Sequence[str] | str | None = None,
        output_prefix: str | None = None,
        model_params: Mapping[str, Any] | str | None = None,
        function_name: str = "__call__",
        output_format: str = "json",
        on_row_error: str = "quarantine",
        max_row_errors: float | str | None = None,
        if_output_exists: str = "error",
        rows_per_shard: int | str | None = None,
        token_budget: int | str | None = None,
        precision: str | None = None,
        threads: int | str | None = None,
        trust_remote_code: bool = False,
        seed: int | str | None = None,
        rerun: bool | str = False,
        executor_pool: str | None = None,
        run_in: str = "workers",
        deferrable: bool = conf.getboolean("operators", "default_deferrable", fallback=False),
        hfreg_conn_id: str = HFREG_CONN_ID,
        storage_conn_id: str | None = None,
        **kwargs: Any,
    ) -> None:
        if run_in == "task" and executor_pool is not None:
            kwargs = routed_to(executor_pool) | kwargs
        super().__init__(**kwargs)
        check_inputs(
            self.task_id, input_url=input_url, rows=rows, sql=sql, sql_conn_id=sql_conn_id, sql_params=sql_params
        )
        self.model = model
        self.input_url = input_url
        self.output_url = output_url
        self.rows = rows
        self.sql = sql
        self.sql_conn_id = sql_conn_id
        self.sql_params = sql_params
        self.input_format = input_format
        self.hive_partitioning = hive_partitioning
        self.columns = columns
        self.passthrough = passthrough
        self.output_prefix = output_prefix
        self.model_params = model_params
        self.function_name = function_name
        self.output_format = output_format
        self.on_row_error = on_row_error
        self.max_row_errors = max_row_errors
        self.if_output_exists = if_output_exists
        self.rows_per_shard = rows_per_shard
        self.token_budget = token_budget
        self.precision = precision
        self.threads = threads
        self.trust_remote_code = trust_remote_code
        self.seed = seed
        self.rerun = rerun
        self.executor_pool = executor_pool
        self.run_in = run_in
        self.deferrable = deferrable
        self.hfreg_conn_id = hfreg_conn_id
        self.storage_conn_id = storage_conn_id
        # A plain flag: the operator is copied and pickled, and the signal handler runs in the thread that reads it.
        self._is_cancelled = False

    @classmethod
    def partial(cls, **kwargs: Any) -> OperatorPartial:
        """
        Return the task to be mapped, as every operator does; with ``run_in="task"`` routed to the pool's queue.

        Airflow routes a mapped task by what stands here, before an instance of it is made.

        :raises SettingsError: ``run_in="task"`` without the pool: instances of one task share their queue, so the pool
            cannot be mapped over.
        """
        if kwargs.get("run_in") == "task":
            if kwargs.get("executor_pool") is None:
                raise SettingsError(
                    "partial(run_in='task') needs its executor_pool beside it: all instances of a mapped task have one "
                    "queue, so the pool cannot come from expand. Map over a pool's resident workers instead, or write "
                    "one task for each pool."
                )
            kwargs = routed_to(kwargs["executor_pool"]) | kwargs
        # Said here or not at all: what is mapped may come from a form, and that is no consent.
        return super().partial(**{"trust_remote_code": False} | kwargs)

    def render_template(
        self,
        content: Any,
        context: Context,
        jinja_env: jinja2.Environment | None = None,
        seen_oids: set[int] | None = None,
    ) -> Any:
        """
        Render as Airflow does; what is the field ``sql`` and ends with ``.sql`` is the name of a file.

        Airflow's own ``template_ext`` would look for a file for whatever field, parameter or row of the call ends so.
        """
        if content is self.sql and isinstance(content, str) and content.endswith(".sql"):
            jinja_env = jinja_env or self.get_template_env()
            content = jinja_env.loader.get_source(jinja_env, content)[0]  # type: ignore[union-attr]  # a DAG's has one
        return super().render_template(content, context, jinja_env, seen_oids)

    def execute(self, context: Context) -> dict[str, Any]:
        """Plan the run, execute the shards that are missing or defer until they are executed, and return its report."""
        try:
            return self._run(context)
        except HfregError as error:
            end_task(self, error)

    def execute_complete(self, context: Context, event: Mapping[str, Any], deferral: Mapping[str, Any]) -> Any:  # noqa: ARG002 - Airflow's
        """
        Finish the run that the trigger followed, and return its report.

        :param event: what the trigger yielded.
        :param deferral: what the first half of the task left behind.
        :raises AirflowTaskTimeout: ``execution_timeout`` was over before the run was; its shards are stopped.
        """
        left = Deferral.from_json(deferral)
        try:
            check_event(event, left.batch_run_id)
            return self._finished_or_deferred(left.reopen(log), left.again())
        except HfregError as error:
            end_task(self, error)

    def on_kill(self) -> None:
        """Ask the run to stop between two batches; Airflow kills the process five seconds later."""
        self.log.info(
            "Stopping after the current batch; shards that are committed stay, and a retry goes on from there."
        )
        self._is_cancelled = True

    def _run(self, context: Context) -> dict[str, Any]:
        from airflow_provider_hfreg.runs.asking import prepare  # noqa: PLC0415 - a DAG's parse needs none
        from airflow_provider_hfreg.runs.batch import begin_run, run_prepared  # noqa: PLC0415

        began_at = time.time()
        hook = HFRegistryHook(require_text("hfreg_conn_id", self.hfreg_conn_id))
        version = hook.registry.resolve(read_reference("model", self.model))
        self.log.info("Running %s (%s)", version.reference, version.content_digest)
        execution = self._execution()
        ask = prepare(
            self._request(version),
            version=version,
            identity=task_identity(context),
            registry_url=hook.url,
            s3=self._storage(hook),
            rerun=read_flag("rerun", self.rerun),
            source=self._source(),
            execution=execution,
            log=log,
        )
        if not self._defers:
            return run_prepared(ask, execution=execution).to_json()
        begun = begin_run(ask, execution)
        return begun.to_json() if isinstance(begun, RunReport) else self._followed(begun, began_at)

    @property
    def _defers(self) -> bool:
        """Only a run on resident workers has anything to wait for; any other one is this process's own work."""
        on_workers = read_text("executor_pool", self.executor_pool) is not None and self.run_in == "workers"
        return self.deferrable and on_workers

    def _followed(self, begun: BegunRun, began_at: float) -> dict[str, Any]:
        if self._is_cancelled:
            raise RunCancelledError("The task was stopped before anything was sent; running it again goes on with it.")
        deferral = Deferral.of(
            begun,
            executor_pool=require_text("executor_pool", self.executor_pool),
            conn_id=read_text("storage_conn_id", self.storage_conn_id)
            or require_text("hfreg_conn_id", self.hfreg_conn_id),
            began_at=began_at,
            limit=self.execution_timeout,
        )
        return self._finished_or_deferred(begun, deferral)

    def _finished_or_deferred(self, begun: BegunRun, deferral: Deferral) -> dict[str, Any]:
        if begun.missing:
            self._defer(begun, deferral)
        return finish_deferred(begun, deferral).to_json()

    def _defer(self, begun: BegunRun, deferral: Deferral) -> NoReturn:
        self.log.info(
            "The triggerer follows %d shards of the run %s on the executor pool %r.",
            len(begun.missing),
            deferral.batch_run_id,
            deferral.executor_pool,
        )
        self.defer(
            trigger=BatchRunTrigger(deferral.to_json()),
            method_name="execute_complete",
            kwargs={"deferral": deferral.to_json()},
            timeout=deferral.timeout(),
        )

    def _request(self, version: ModelVersion) -> BatchRequest:
        """Return the fields as a request; what is absent takes the request's own default."""
        function_name = read_text("function_name", self.function_name) or "__call__"
        params = read_params(read_mapping("model_params", self.model_params), version.signature(function_name).params)
        given: dict[str, Any] = {
            "input": storage_url(read_text("input_url", self.input_url) or ""),
            "output": storage_url(require_text("output_url", self.output_url)),
            "input_format": read_text("input_format", self.input_format),
            "hive_partitioning": read_choice("hive_partitioning", self.hive_partitioning),
            "columns": read_mapping("columns", self.columns),
            "passthrough": read_names("passthrough", self.passthrough),
            "output_prefix": read_text("output_prefix", self.output_prefix),
            "params": params,
            "function_name": function_name,
            "output_format": read_text("output_format", self.output_format),
            "on_row_error": read_text("on_row_error", self.on_row_error),
            "max_row_errors": read_number("max_row_errors", self.max_row_errors),
            "if_output_exists": read_text("if_output_exists", self.if_output_exists),
            "rows_per_shard": read_whole("rows_per_shard", self.rows_per_shard),
            "token_budget": read_whole("token_budget", self.token_budget),
            "precision": read_text("precision", self.precision),
            "threads": read_whole("threads", self.threads),
            "trust_remote_code": self.trust_remote_code,
            "seed": read_whole("seed", self.seed),
        }
        return BatchRequest(**{name: value for name, value in given.items() if value is not None})

    def _source(self) -> RowSource | None:
        return row_source(
            input_url=self.input_url,
            rows=self.rows,
            sql=self.sql,
            sql_conn_id=self.sql_conn_id,
            sql_params=self.sql_params,
            cancelled=lambda: self._is_cancelled,
        )

    def _execution(self) -> Execution:
        name = read_text("executor_pool", self.executor_pool)
        if self.run_in not in RUN_IN:
            raise RenderedValueError(f"run_in is {self.run_in!r}; write one of {', '.join(map(repr, RUN_IN))}.")
        if name is None or self.run_in == "task":
            from airflow_provider_hfreg.runs.execution import InProcess  # noqa: PLC0415 - a DAG's parse needs none

            return InProcess(cancelled=lambda: self._is_cancelled)
        return on_pool(name, cancelled=lambda: self._is_cancelled)

    def _storage(self, hook: HFRegistryHook) -> S3Settings:
        conn_id = read_text("storage_conn_id", self.storage_conn_id)
        if conn_id is None:
            return hook.s3_settings
        return s3_settings_of(get_connection(conn_id, hint="of type 'hfreg' or 'aws', with access to input and output"))
