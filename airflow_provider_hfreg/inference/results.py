"""
Arrow columns to a pandas frame: nullable dtypes, the caller's index, lists as objects, structs as Arrow has them.

pandas' own conversion would make int64 with a null to float and a text column to ``object``; a frame of no rows has the
same columns and types as one of many.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pyarrow as pa

from airflow_provider_hfreg.signatures.arrow import arrow_type
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

if TYPE_CHECKING:
    import pandas as pd

_DTYPES = {
    DataType.INT8: "Int8",
    DataType.INT16: "Int16",
    DataType.INT32: "Int32",
    DataType.INT64: "Int64",
    DataType.FLOAT: "Float32",
    DataType.DOUBLE: "Float64",
    DataType.BOOL: "boolean",
    DataType.STRING: "string",
    DataType.BYTES: "object",
}


def to_frame(
    outputs: pa.RecordBatch | pa.Table, signature: ModelSignature, index: Any, *, truncated_rows: int = 0
) -> pd.DataFrame:
    """
    Return the output columns as a frame.

    :param outputs: one column per output of the signature; one of another type than its feature's keeps that type, as a
        ``pandas.ArrowDtype``.
    :param index: the caller's, of as many rows.
    :param truncated_rows: kept in ``frame.attrs["truncated_rows"]``, so that a cut text is never silent.
    """
    import pandas as pd

    columns = {feature.name: _values(outputs.column(feature.name), feature, index) for feature in signature.outputs}
    frame = pd.DataFrame(columns, index=index)
    frame.attrs["truncated_rows"] = truncated_rows
    return frame


def _values(column: pa.Array | pa.ChunkedArray, feature: FeatureSpec, index: Any) -> Any:
    """Return a column's values; a series, which costs as much as the column, only where pandas would look into them."""
    import pandas as pd

    if column.type != arrow_type(feature):
        return pd.arrays.ArrowExtensionArray(column)
    dtype = "object" if feature.shape is not None else _DTYPES[feature.dtype]
    if dtype == "object":
        return pd.Series(column.to_pylist(), index=index, dtype=dtype)
    return pd.array(column.to_pylist(), dtype=dtype)
