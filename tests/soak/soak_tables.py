"""The tables of a soak: ragged texts of which some cannot be run; and what a run made of them, next to a clean run."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from airflow_provider_hfreg.runs import layout
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.testing.models import CORPUS

_FILES = 4
_GROUP_ROWS = 2_500
_SCORES_WITHIN = 1e-5


def make_texts(rows: int, seed: int = 0) -> pa.Table:
    """
    Return texts of 1 to 90 words, most of them short, some longer than the model reads, and one in a hundred null.

    >>> table = make_texts(5_000)
    >>> table.num_rows, 20 < table["text"].null_count < 100, len(set(table["id"].to_pylist()))
    (5000, True, 5000)
    """
    draw = np.random.default_rng(seed)
    words = np.array(" ".join(CORPUS).split(), dtype=object)
    short, long = np.minimum(draw.geometric(0.12, rows), 40), draw.integers(50, 91, rows)
    lengths = np.where(draw.random(rows) < 0.02, long, short)
    ends = np.cumsum(lengths)
    chosen = words[draw.integers(0, len(words), int(ends[-1]))]
    texts = [" ".join(chosen[end - length : end]) for end, length in zip(ends, lengths, strict=True)]
    is_null = draw.random(rows) < 0.01
    return pa.table({"id": pa.array(range(rows)), "text": pa.array(texts, pa.string(), mask=is_null)})


def put_texts(store: ObjectStore, rows: int) -> None:
    """Write the table of so many rows, unless it is there."""
    if store.find_info("complete") is not None:
        return
    table = make_texts(rows)
    each = -(-rows // _FILES)
    for number in range(_FILES):
        sink = pa.BufferOutputStream()
        pq.write_table(table.slice(number * each, each), sink, row_group_size=_GROUP_ROWS)
        store.put(f"texts-{number}.parquet", sink.getvalue().to_pybytes())
    store.put("complete", b"")


def count_shards(rows: int, rows_per_shard: int) -> int:
    """
    Return into how many shards that table is cut: none reaches from one file into the next.

    >>> count_shards(100_000, 5_000), count_shards(40_000, 4_000)
    (20, 12)
    """
    return _FILES * -(-(rows // _FILES) // rows_per_shard)


@dataclass(frozen=True)
class Outcome:
    """
    What a run made of a table.

    :param ok: ``id``, ``predicted_label``, ``predicted_score``, in the order of the ids.
    :param quarantined: ``row``, ``code``, in the order of the rows.
    """

    ok: pa.Table
    quarantined: pa.Table

    @property
    def rows(self) -> int:
        """How many rows there are of both."""
        return int(self.ok.num_rows + self.quarantined.num_rows)


def read_outcome(output: ObjectStore, batch_run_id: str) -> Outcome:
    """Return what lies in an output folder; its parts are all that a reader of ``*.parquet`` sees."""
    parts = [info.key for info in output.list_infos("part-")]
    errors = [info.key for info in output.list_infos(layout.errors_folder(batch_run_id))]
    return Outcome(
        _read(output, parts, ["id", "predicted_label", "predicted_score"]).sort_by("id"),
        _read(output, errors, ["row", "code"]).sort_by("row"),
    )


def _read(output: ObjectStore, keys: list[str], columns: list[str]) -> pa.Table:
    tables = [pq.read_table(output.open_reader(key), columns=columns) for key in keys]
    empty = pa.table({column: pa.array([], pa.null()) for column in columns})
    return pa.concat_tables(tables) if tables else empty


def differences(clean: Outcome, got: Outcome, rows: int) -> list[str]:
    """
    Return in what a run differs from a clean one, in words; nothing where it does not.

    >>> ok = pa.table({"id": [1, 2], "predicted_label": ["a", "b"], "predicted_score": [0.5, 0.25]})
    >>> bad = pa.table({"row": [0], "code": ["null"]})
    >>> differences(Outcome(ok, bad), Outcome(ok, bad), 3)
    []
    >>> differences(Outcome(ok, bad), Outcome(pa.concat_tables([ok, ok.slice(1)]), bad), 3)
    ['4 rows came of 3', '1 ids are there twice, the first 2']
    >>> differences(Outcome(ok, bad), Outcome(ok.slice(1), bad), 3)
    ['2 rows came of 3', '1 ids are missing, the first 1']
    """
    found = [] if got.rows == rows else [f"{got.rows} rows came of {rows}"]
    ids, clean_ids = got.ok["id"].to_numpy(), clean.ok["id"].to_numpy()
    unique, counts = np.unique(ids, return_counts=True)
    for what, which in {
        "there twice": unique[counts > 1],
        "missing": np.setdiff1d(clean_ids, unique),
        "too many": np.setdiff1d(unique, clean_ids),
    }.items():
        if len(which):
            found.append(f"{len(which)} ids are {what}, the first {which[0]}")
    if not got.quarantined.equals(clean.quarantined):
        found.append(f"{got.quarantined.num_rows} rows are quarantined, {clean.quarantined.num_rows} in a clean run")
    return found or _other_results(clean.ok, got.ok)


def _other_results(clean: pa.Table, got: pa.Table) -> list[str]:
    """
    Compare results of the same ids.

    >>> clean = pa.table({"id": [1, 2], "predicted_label": ["a", "b"], "predicted_score": [0.5, 0.25]})
    >>> other = pa.table({"id": [1, 2], "predicted_label": ["a", "a"], "predicted_score": [0.5, 0.26]})
    >>> _other_results(clean, other)
    ['1 labels differ, the first of id 2', '1 scores differ, the first of id 2']
    """
    labels = pc.not_equal(clean["predicted_label"], got["predicted_label"]).to_numpy()
    scores = np.abs(clean["predicted_score"].to_numpy() - got["predicted_score"].to_numpy()) > _SCORES_WITHIN
    return [
        f"{which.sum()} {what} differ, the first of id {clean['id'].to_numpy()[which][0]}"
        for what, which in {"labels": labels, "scores": scores}.items()
        if which.any()
    ]
