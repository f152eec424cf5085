import pandas as pd
import pyarrow as pa

from airflow_provider_hfreg.inference.results import to_frame
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

SIGNATURE = ModelSignature(
    inputs=(),
    outputs=(
        FeatureSpec("answer", DataType.STRING),
        FeatureSpec("start", DataType.INT64),
        FeatureSpec("score", DataType.DOUBLE),
        FeatureSpec("found", DataType.BOOL),
        FeatureSpec("cells", DataType.STRING, shape=(-1,)),
    ),
)
DTYPES = {"answer": "string", "start": "Int64", "score": "Float64", "found": "boolean", "cells": "object"}


def outputs(rows):
    types = [pa.string(), pa.int64(), pa.float64(), pa.bool_(), pa.list_(pa.string())]
    columns = list(zip(*rows, strict=True)) or [()] * len(types)
    arrays = [pa.array(list(column), type_) for column, type_ in zip(columns, types, strict=True)]
    return pa.record_batch(arrays, names=list(DTYPES))


def test_columns_are_nullable_and_lists_are_objects():
    index = pd.Index(["b", "a"], name="key")

    frame = to_frame(outputs([("x", 1, 0.5, True, ["p", "q"]), (None, None, None, None, None)]), SIGNATURE, index)

    assert frame.dtypes.astype(str).to_dict() == DTYPES
    assert frame.index.equals(index)
    assert frame.loc["b"].tolist() == ["x", 1, 0.5, True, ["p", "q"]]
    assert frame.loc["a"].isna().all()


def test_a_frame_of_no_rows_has_the_same_columns_and_types():
    frame = to_frame(outputs([]), SIGNATURE, pd.RangeIndex(0))

    assert frame.dtypes.astype(str).to_dict() == DTYPES
    assert len(frame) == 0


def test_the_signatures_order_and_no_other_column():
    batch = outputs([("x", 1, 0.5, True, [])])
    shuffled = batch.select(["found", "cells", "score", "answer", "start"]).append_column("more", pa.array([1]))

    assert list(to_frame(shuffled, SIGNATURE, [7], truncated_rows=3).columns) == list(DTYPES)
    assert to_frame(shuffled, SIGNATURE, [7], truncated_rows=3).attrs == {"truncated_rows": 3}
