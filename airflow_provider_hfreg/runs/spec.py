"""
What a batch run is asked to do, and what makes two runs the same.

A :class:`BatchRequest` is plain values, as an operator's arguments or a message give them. Its :class:`Fingerprint` is
taken over what the results depend on: the version's content, the parts of the request that change a row's result, and
the input files with their sizes and etags. Policies (``max_row_errors``, ``if_output_exists``, ``on_row_error``,
``trust_remote_code``) and sizes (``rows_per_shard``, ``token_budget``, ``threads``) are left out on purpose: an
unfinished run is resumed with a larger ``max_row_errors``, instead of being another run.

The id of a run is a function of who asks (``identity``) and of the fingerprint, so that a retry finds its run without a
pointer that somebody must keep.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from airflow_provider_hfreg.errors import InvalidRunOptionError
from airflow_provider_hfreg.pipelines.precisions import PRECISION_NAMES, find_precision
from airflow_provider_hfreg.runs.inputs import InputFile, TableFormat
from airflow_provider_hfreg.signatures.output_format import OUTPUT_FORMATS

ON_ROW_ERROR = ("quarantine", "fail")
IF_OUTPUT_EXISTS = ("error", "replace", "append")
LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True)
class BatchRequest:
    """
    One batch run as it is asked for.

    :param input: URL of a file, a folder or a glob, on ``s3://`` or ``file://``; ``""`` for rows that no file holds.
    :param output: URL of the folder that gets the result.
    :param input_format: ``parquet``, ``csv`` or ``jsonl``; None: by the files' endings.
    :param hive_partitioning: whether folders named ``key=value`` are columns. None: those below the input are; True:
        also those that the input's URL names, and there must be some; False: none is.
    :param columns: the signature's feature name → the table's column name, where they differ.
    :param passthrough: table columns to copy to the output; None: all of them, ``[]``: none. Those of a CSV file that
        no feature reads are copied as text, as they stand.
    :param output_prefix: put before the names of the model's output columns.
    :param params: run-time parameters of the version's function.
    :param function_name: the version's function.
    :param output_format: what stands in an output column of lists of objects: ``json`` (its text, as the signature
        says) or ``struct`` (Arrow values).
    :param on_row_error: ``quarantine`` (the other rows go on) or ``fail`` (the first bad row fails the run).
    :param max_row_errors: how many rows may be quarantined, or which share of them (a float below 1); None: any.
    :param if_output_exists: for an output folder that holds other results: ``error``, ``replace``, ``append``.
    :param rows_per_shard: most rows in one part of the output.
    :param token_budget: tokens in one batch; None: the engine's choice.
    :param precision: ``float32``, ``bfloat16`` or ``float16`` for other numbers than the version's own; None: those.
    :param threads: of torch on the CPU, in this process; None: the process's own. A pool's workers have theirs.
    :param trust_remote_code: consent to running the Python files that the version holds.
    :param seed: of sampling; None: derived from the fingerprint. Either way it is recorded.
    """

    input: str
    output: str
    input_format: str | None = None
    hive_partitioning: bool | None = None
    columns: Mapping[str, str] = field(default_factory=dict)
    passthrough: Sequence[str] | None = None
    output_prefix: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    function_name: str = "__call__"
    output_format: str = "json"
    on_row_error: str = "quarantine"
    max_row_errors: int | float | None = None
    if_output_exists: str = "error"
    rows_per_shard: int = 50_000
    token_budget: int | None = None
    precision: str | None = None
    threads: int | None = None
    trust_remote_code: bool = False
    seed: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the request as plain JSON values."""
        passthrough = None if self.passthrough is None else list(self.passthrough)
        return asdict(self) | {
            "columns": dict(self.columns),
            "passthrough": passthrough,
            "params": dict(self.params),
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> BatchRequest:
        """Rebuild what :meth:`to_json` gave; what only a newer version of this package knows is left out."""
        return cls(**known_fields(cls, plain))


def known_fields(kind: type[Any], plain: Mapping[str, Any]) -> dict[str, Any]:
    """
    Return those of the values that are fields of a dataclass.

    >>> known_fields(Fingerprint, {"version": "v", "colour": "red"})
    {'version': 'v'}
    """
    names = {known.name for known in fields(kind)}
    return {name: value for name, value in plain.items() if name in names}


def check_request(request: BatchRequest) -> BatchRequest:
    """
    Return the request if every option can be, else raise; reads nothing but the request.

    >>> check_request(BatchRequest(input="in.csv", output="out", rows_per_shard=0))
    Traceback (most recent call last):
    ...
    airflow_provider_hfreg.errors.InvalidRunOptionError: rows_per_shard must be a whole number from 1 on, not 0.

    :raises InvalidRunOptionError: the first option that cannot be, named, with what it may be.
    """
    for option in ("input", "output", "function_name"):
        _require(request, option, _is_text(getattr(request, option)), "a non-empty text")
    formats = [known.value for known in TableFormat]
    _require(request, "input_format", request.input_format in (None, *formats), f"one of {', '.join(formats)}, or None")
    is_flag = request.hive_partitioning is None or isinstance(request.hive_partitioning, bool)
    _require(request, "hive_partitioning", is_flag, "None, True or False")
    _require(request, "columns", _is_text_mapping(request.columns), "a mapping of feature names to column names")
    _require(request, "passthrough", _is_names(request.passthrough), "None or a list of different column names")
    _require(request, "output_prefix", isinstance(request.output_prefix, str), "a text")
    _require(request, "params", _is_json_mapping(request.params), "a mapping of names to JSON values")
    allowed = f"one of {', '.join(OUTPUT_FORMATS)}"
    _require(request, "output_format", request.output_format in OUTPUT_FORMATS, allowed)
    _require(request, "on_row_error", request.on_row_error in ON_ROW_ERROR, f"one of {', '.join(ON_ROW_ERROR)}")
    allowed = f"one of {', '.join(IF_OUTPUT_EXISTS)}"
    _require(request, "if_output_exists", request.if_output_exists in IF_OUTPUT_EXISTS, allowed)
    limit = "None, a number of rows such as 100, or a share of them such as 0.01 (1.0: all of them)"
    _require(request, "max_row_errors", _is_limit(request.max_row_errors), limit)
    _require(request, "rows_per_shard", _is_count(request.rows_per_shard), "a whole number from 1 on")
    budget = request.token_budget
    _require(request, "token_budget", budget is None or _is_count(budget), "None or a whole number from 1 on")
    is_precision = request.precision is None or find_precision(request.precision) is not None
    _require(request, "precision", is_precision, f"one of {', '.join(PRECISION_NAMES)}, or None")
    threads = request.threads
    _require(request, "threads", threads is None or _is_count(threads), "None or a whole number from 1 on")
    _require(request, "trust_remote_code", isinstance(request.trust_remote_code, bool), "True or False")
    _require(request, "seed", _is_seed(request.seed), f"None or a whole number from 0 to {LARGEST_SEED}")
    return request


def _require(request: BatchRequest, option: str, holds: bool, expected: str) -> None:  # noqa: FBT001 - private, one caller
    if not holds:
        raise InvalidRunOptionError(f"{option} must be {expected}, not {getattr(request, option)!r}.")


def _is_text(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_text_mapping(value: object) -> bool:
    return isinstance(value, Mapping) and all(_is_text(key) and _is_text(text) for key, text in value.items())


def _is_names(value: object) -> bool:
    if value is None:
        return True
    # A bare text is a sequence too, of its letters: never what was meant.
    if not isinstance(value, Sequence) or isinstance(value, str):
        return False
    return all(isinstance(name, str) for name in value) and len(set(value)) == len(value)


def _is_json_mapping(value: object) -> bool:
    try:
        json.dumps(value, allow_nan=False)
    except (TypeError, ValueError):
        return False
    return isinstance(value, Mapping) and all(isinstance(key, str) for key in value)


def _is_whole(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: object) -> bool:
    return isinstance(value, int) and _is_whole(value) and value >= 1


def _is_seed(value: object) -> bool:
    return value is None or (isinstance(value, int) and _is_whole(value) and 0 <= value <= LARGEST_SEED)


def _is_limit(value: object) -> bool:
    if isinstance(value, float):
        return 0 <= value <= 1
    return value is None or (isinstance(value, int) and _is_whole(value) and value >= 0)


def most_row_errors(max_row_errors: float | None, rows: int) -> int | None:
    """
    Return how many rows of a run may be quarantined, or None for any number.

    The rows are known when a run is planned, so a share is a number from the start and a run stops as soon as it
    can no longer pass.

    >>> most_row_errors(0.01, 1000), most_row_errors(0.01, 50), most_row_errors(7, 50), most_row_errors(None, 50)
    (10, 0, 7, None)
    """
    if isinstance(max_row_errors, float):
        return math.floor(max_row_errors * rows + 1e-9)  # 0.29 × 100 is 28.999… in binary, and means 29
    return max_row_errors


@dataclass(frozen=True)
class Fingerprint:
    """
    What a run's results depend on, as three digests, so that a difference can be named.

    :param version: of the version's content.
    :param request: of the parts of the request that change a row's result.
    :param files: of the input files: keys, sizes, etags, in order.
    """

    version: str
    request: str
    files: str

    @classmethod
    def of(cls, content_digest: str, request: BatchRequest, files: Sequence[InputFile]) -> Fingerprint:
        """Return the fingerprint of a version applied to files."""
        changing = (
            "input",
            "input_format",
            "hive_partitioning",
            "columns",
            "passthrough",
            "output_prefix",
            "params",
            "function_name",
            "output_format",
            "seed",
        )
        plain = request.to_json()
        # Named only where it is given: runs that were begun before there was a choice are resumed.
        given = {"precision": find_precision(request.precision)} if request.precision is not None else {}
        return cls(
            version=_digest(content_digest),
            request=_digest({name: plain[name] for name in changing} | given),
            files=_digest([[file.key, file.size_bytes, file.etag] for file in files]),
        )

    @property
    def hexdigest(self) -> str:
        """The three as one."""
        return _digest(asdict(self))

    def differences(self, earlier: Fingerprint) -> list[str]:
        """
        Return what differs from an earlier run's, in words.

        >>> Fingerprint("v1", "r", "f").differences(Fingerprint("v2", "r", "g"))
        ['the model version', 'the input files']
        """
        words = {"version": "the model version", "request": "the request", "files": "the input files"}
        return [word for name, word in words.items() if getattr(self, name) != getattr(earlier, name)]


def _digest(plain: object) -> str:
    text = json.dumps(plain, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()


def identity_prefix(identity: str) -> str:
    """
    Return what the ids of all runs of one identity start with.

    >>> identity_prefix("nightly/score/2025-01-01/-1")
    '6d0629b7eb-'
    """
    return hashlib.sha256(identity.encode()).hexdigest()[:10] + "-"


def batch_run_id(identity: str, fingerprint: Fingerprint, repetition: int = 0) -> str:
    """
    Return the id of a run: the same for the same identity and fingerprint, whoever asks and whenever.

    :param identity: who asks, the same at every try: in Airflow the DAG, task, run and map index.
    :param repetition: 0, or how often a finished run was done over.
    """
    run_id = identity_prefix(identity) + fingerprint.hexdigest[:10]
    return f"{run_id}-{repetition}" if repetition else run_id


def derived_seed(fingerprint: Fingerprint) -> int:
    """Return the seed of a run that was given none: fixed by what it runs, so that a retry draws the same."""
    return int(fingerprint.hexdigest[:8], 16)
