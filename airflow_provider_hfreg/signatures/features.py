"""
Typed columns: what a version takes and gives, named as in MLflow and Snowflake.

A feature is a named column; ``shape`` is None for a scalar per row, ``(-1,)`` for a list of any length, ``(-1, 2)`` for
a list of pairs.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from airflow_provider_hfreg.errors import UnknownFormatError


class DataType(Enum):
    """Element type of a feature or parameter. The value is the name used in JSON."""

    INT8 = "INT8"
    INT16 = "INT16"
    INT32 = "INT32"
    INT64 = "INT64"
    FLOAT = "FLOAT"
    DOUBLE = "DOUBLE"
    BOOL = "BOOL"
    STRING = "STRING"
    BYTES = "BYTES"

    def __repr__(self) -> str:
        return f"DataType.{self.name}"


def _data_type(name: object) -> DataType:
    try:
        return DataType(name)
    except ValueError:
        known = ", ".join(dtype.value for dtype in DataType)
        raise UnknownFormatError(f"{name!r} is no data type of this version of the package; known: {known}.") from None


@dataclass(frozen=True, repr=False)
class FeatureSpec:
    """
    One column.

    >>> FeatureSpec(name="inputs", dtype=DataType.STRING)
    FeatureSpec(dtype=DataType.STRING, name='inputs')
    >>> FeatureSpec(name="cells", dtype=DataType.STRING, shape=(-1,))
    FeatureSpec(dtype=DataType.STRING, name='cells', shape=(-1,))
    """

    name: str
    dtype: DataType
    shape: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        shape = "" if self.shape is None else f", shape={self.shape!r}"
        return f"FeatureSpec(dtype={self.dtype!r}, name={self.name!r}{shape})"

    def to_json(self) -> dict[str, Any]:
        """Return the feature as plain JSON values."""
        plain: dict[str, Any] = {"name": self.name, "dtype": self.dtype.value}
        return plain if self.shape is None else plain | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> FeatureSpec:
        """Rebuild what :meth:`to_json` gave."""
        shape = plain.get("shape")
        return cls(plain["name"], _data_type(plain["dtype"]), None if shape is None else tuple(shape))


@dataclass(frozen=True, repr=False)
class ParamSpec:
    """
    One run-time parameter, its type, and the value in force when a run does not give it.

    ``default_value`` None means: not given, so the model's or the family's own default holds.

    >>> ParamSpec(name="top_k", dtype=DataType.INT64, default_value=2)
    ParamSpec(dtype=DataType.INT64, name='top_k', default_value=2)
    """

    name: str
    dtype: DataType
    default_value: Any = None
    shape: tuple[int, ...] | None = None

    def __repr__(self) -> str:
        shape = "" if self.shape is None else f", shape={self.shape!r}"
        return f"ParamSpec(dtype={self.dtype!r}, name={self.name!r}, default_value={self.default_value!r}{shape})"

    def to_json(self) -> dict[str, Any]:
        """Return the parameter as plain JSON values."""
        plain: dict[str, Any] = {"name": self.name, "dtype": self.dtype.value, "default_value": self.default_value}
        return plain if self.shape is None else plain | {"shape": list(self.shape)}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ParamSpec:
        """Rebuild what :meth:`to_json` gave."""
        shape = plain.get("shape")
        return cls(
            plain["name"],
            _data_type(plain["dtype"]),
            plain.get("default_value"),
            None if shape is None else tuple(shape),
        )
