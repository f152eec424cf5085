"""The signature of one function of a version: the columns it takes, the columns it gives, the parameters it allows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.signatures.features import FeatureSpec, ParamSpec

if TYPE_CHECKING:
    import pyarrow as pa


def _block(name: str, specs: tuple[FeatureSpec, ...]) -> str:
    if not specs:
        return f"{name}=[]"
    lines = ",\n".join(f"        {spec!r}" for spec in specs)
    return f"{name}=[\n{lines}\n    ]"


@dataclass(frozen=True, repr=False)
class ModelSignature:
    """
    Inputs, outputs and parameters, each a tuple in its order.

    It prints as ``show_functions`` is documented to print it, inputs and outputs alone: a generating task has some
    thirty parameters, which would hide them. ``params`` and :meth:`to_json` give the parameters.

    :raises InvalidOptionError: what is no list of specs, or two parameters of one name. Which columns a function needs
        is judged when a model is logged: any table has a signature.

    >>> from airflow_provider_hfreg.signatures.features import DataType
    >>> ModelSignature((FeatureSpec("inputs", DataType.STRING),), (FeatureSpec("outputs", DataType.STRING),))
    ModelSignature(
        inputs=[
            FeatureSpec(dtype=DataType.STRING, name='inputs')
        ],
        outputs=[
            FeatureSpec(dtype=DataType.STRING, name='outputs')
        ]
    )
    """

    inputs: tuple[FeatureSpec, ...]
    outputs: tuple[FeatureSpec, ...]
    params: tuple[ParamSpec, ...] = ()

    def __post_init__(self) -> None:
        for name, kind in (("inputs", FeatureSpec), ("outputs", FeatureSpec), ("params", ParamSpec)):
            given = getattr(self, name)
            if not isinstance(given, list | tuple) or not all(isinstance(spec, kind) for spec in given):
                raise InvalidOptionError(
                    f"{name}={given!r:.200} of a ModelSignature must be a list of {kind.__name__}."
                )
            # Lists are what people write; equality and hashing want tuples.
            object.__setattr__(self, name, tuple(given))
        names = [param.name for param in self.params]
        twice = next((name for name in names if names.count(name) > 1), None)
        if twice is not None:
            raise InvalidOptionError(
                f"params of a ModelSignature has {twice!r} twice; each parameter has its own name."
            )

    def __repr__(self) -> str:
        return f"ModelSignature(\n    {_block('inputs', self.inputs)},\n    {_block('outputs', self.outputs)}\n)"

    def to_json(self) -> dict[str, Any]:
        """Return the signature as plain JSON values."""
        return {
            "inputs": [feature.to_json() for feature in self.inputs],
            "outputs": [feature.to_json() for feature in self.outputs],
            "params": [param.to_json() for param in self.params],
        }

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ModelSignature:
        """Rebuild what :meth:`to_json` gave."""
        return cls(
            tuple(FeatureSpec.from_json(feature) for feature in plain["inputs"]),
            tuple(FeatureSpec.from_json(feature) for feature in plain["outputs"]),
            tuple(ParamSpec.from_json(param) for param in plain.get("params", ())),
        )

    def to_arrow(self) -> tuple[pa.Schema, pa.Schema]:
        """
        Return the Arrow schemas of the input and the output table.

        The types tell every feature exactly; the parameters, which are no columns, stand in the metadata of the first.
        """
        from airflow_provider_hfreg.signatures.arrow import arrow_schema, with_params  # noqa: PLC0415 - pyarrow

        return with_params(arrow_schema(self.inputs), self.params), arrow_schema(self.outputs)

    @classmethod
    def from_arrow(cls, inputs: pa.Schema, outputs: pa.Schema) -> ModelSignature:
        """
        Rebuild what :meth:`to_arrow` gave; any table's schema will do, it has no parameters then.

        :raises ColumnTypeError: a column of a type that no feature has.
        """
        from airflow_provider_hfreg.signatures.arrow import features_of, params_in  # noqa: PLC0415 - pyarrow

        return cls(features_of(inputs), features_of(outputs), params_in(inputs))
