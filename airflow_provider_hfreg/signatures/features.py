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

from airflow_provider_hfreg.errors import InvalidOptionError, UnknownFormatError


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


def _check(spec: FeatureSpec | ParamSpec) -> None:
    """
    Refuse what has no meaning, and write the rest in one way: a shape is a tuple, that of a scalar None.

    :raises InvalidOptionError: a name, type or shape that is none.
    """
    name, dtype = vars(spec)["name"], vars(spec)["dtype"]  # whatever was given for them
    if not isinstance(name, str) or not name:
        raise InvalidOptionError(f"name={name!r} of a {type(spec).__name__} must be text.")
    if not isinstance(dtype, DataType):
        known = ", ".join(f"DataType.{known.name}" for known in DataType)
        raise InvalidOptionError(f"dtype={dtype!r} of {name!r} must be one of {known}.")
    given = vars(spec)["shape"]
    if given is not None and not isinstance(given, list | tuple):
        raise InvalidOptionError(f"shape={given!r} of {name!r} must be a tuple of lengths, such as (-1,), or None.")
    shape = tuple(given or ())
    if not all(isinstance(length, int) and not isinstance(length, bool) and length >= -1 for length in shape):
        raise InvalidOptionError(
            f"shape={spec.shape!r} of {spec.name!r} must hold a length for each list in a list, -1 for any length."
        )
    object.__setattr__(spec, "shape", shape or None)


def _plain(value: Any) -> Any:
    """Return numpy's values and tuples as JSON has them, so that a spec equals what is read back of it."""
    if hasattr(value, "tolist"):
        return value.tolist()
    return [_plain(element) for element in value] if isinstance(value, list | tuple) else value


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

    def __post_init__(self) -> None:
        _check(self)

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

    def __post_init__(self) -> None:
        _check(self)
        object.__setattr__(self, "default_value", _plain(self.default_value))

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
