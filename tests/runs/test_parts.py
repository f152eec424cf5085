"""How parts lie on disk."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from airflow_provider_hfreg.runs.parts import ParquetPart

_OBJECTS = pa.list_(pa.struct([("label", pa.string()), ("score", pa.float64())]))
_COUNTS = pa.map_(pa.string(), pa.int32())


def test_numbers_that_hardly_repeat_are_stored_without_a_dictionary(tmp_path: Path) -> None:
    rows = 500
    vectors = np.random.default_rng(0).standard_normal(rows * 8).astype(np.float32)
    columns = {
        "text": pa.array(["a", "b"] * (rows // 2)),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors), 8).cast(pa.list_(pa.float32())),
        "objects": pa.array([[{"label": "pos", "score": row / rows}] for row in range(rows)], _OBJECTS),
        "counts": pa.array([[("k", row % 3)] for row in range(rows)], _COUNTS),
    }
    batch = pa.RecordBatch.from_pydict(columns)
    path = tmp_path / "part.parquet"

    with ParquetPart(path, batch.schema) as part:
        part.add(batch)
        part.finish()

    group = pq.read_metadata(path).row_group(0)
    leaves = [group.column(place) for place in range(group.num_columns)]
    assert {leaf.path_in_schema for leaf in leaves if not leaf.has_dictionary_page} == {
        "vector.list.element",
        "objects.list.element.score",
    }
    assert pq.read_table(path).equals(pa.table(columns))


def test_a_part_of_numbers_alone_has_no_dictionary(tmp_path: Path) -> None:
    batch = pa.RecordBatch.from_pydict({"score": pa.array([0.5, 0.5])})

    with ParquetPart(tmp_path / "part.parquet", batch.schema) as part:
        part.add(batch)
        part.finish()

    assert not pq.read_metadata(tmp_path / "part.parquet").row_group(0).column(0).has_dictionary_page
