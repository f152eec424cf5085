"""
Which versions of a registry fit: by task, by tags, by metrics.

A question is parsed and answered by pure functions; :meth:`Registry.search` brings the versions. A version that lacks a
metric fits no comparison of it, not even ``!=``: an unmeasured model must not pass for a good one. Numbers are compared
with numbers and texts with texts; anything else does not fit, and is no error, because metrics are any JSON values and
two teams may mean two things by one name.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import Any

from airflow_provider_hfreg.errors import InvalidOptionError
from airflow_provider_hfreg.pipelines.catalog import find_task
from airflow_provider_hfreg.registry.request import check_mapping
from airflow_provider_hfreg.registry.summaries import VersionSummary
from airflow_provider_hfreg.signatures.typed_values import read_typed

_COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    ">=": operator.ge,
    "<=": operator.le,
    "==": operator.eq,
    "!=": operator.ne,
    ">": operator.gt,
    "<": operator.lt,
}
_CONDITION = re.compile(r"\s*([^<>=!]*[^<>=!\s])\s*(>=|<=|==|!=|>|<)\s*([^<>=!\s].*?)\s*")
_ABSENT = object()


@dataclass(frozen=True)
class MetricCondition:
    """
    A comparison of one metric.

    >>> MetricCondition.parse("accuracy >= 0.9")
    MetricCondition(name='accuracy', comparison='>=', value=0.9)
    >>> MetricCondition.parse("report.f1 > 0.5").fits({"report": {"f1": 0.7}})
    True
    >>> MetricCondition.parse("accuracy != 1").fits({})
    False

    :param name: of the metric; where none has this very name, dots lead into a metric that is a JSON object.
    """

    name: str
    comparison: str
    value: Any

    @classmethod
    def parse(cls, text: str) -> MetricCondition:
        """
        Read a comparison; what is no JSON value is text.

        :raises InvalidOptionError: it is none.
        """
        match = _CONDITION.fullmatch(text) if isinstance(text, str) else None
        if match is None:
            raise InvalidOptionError(
                f"{text!r:.80} compares no metric: write a name, one of {' '.join(_COMPARISONS)} and a value, such as "
                "'accuracy >= 0.9'."
            )
        return cls(match[1], match[2], _value(match[3], text))

    def fits(self, metrics: Mapping[str, Any]) -> bool:
        """Tell whether a version's metrics fit."""
        found = _lookup(metrics, self.name)
        if found is _ABSENT or _kind(found) != _kind(self.value):
            return False
        if self.comparison not in ("==", "!=") and _kind(found) not in ("number", "text"):
            return False
        return _COMPARISONS[self.comparison](found, self.value)


def _value(text: str, comparison: str) -> Any:
    """
    Return the JSON value that a text is, else the text.

    :param comparison: for messages.
    :raises InvalidOptionError: it was meant as a number and is none: as a text it would fit no metric, and say nothing.
    """
    try:
        return read_typed(text)
    except ValueError as error:
        raise InvalidOptionError(
            f"{comparison!r:.80} compares with {error}; or in double quotes if the metric is a text."
        ) from None


@dataclass(frozen=True)
class Query:
    """
    What a version must be; a part that is left out fits all.

    :param tags: key → value; None as a value means that the tag is there.
    :param models: a pattern of model names with ``*`` and ``?``.
    """

    task: str | None = None
    tags: Mapping[str, str | None] = field(default_factory=dict)
    metrics: Sequence[MetricCondition] = ()
    models: str = "*"

    def fits_model(self, name: str) -> bool:
        """Tell whether a model's versions are to be looked at."""
        return fnmatchcase(name, self.models)

    def fits(self, summary: VersionSummary) -> bool:
        """Tell whether a version fits."""
        tags = summary.annotations.tags
        return (
            (self.task is None or _same_task(self.task, summary.manifest.spec.task))
            and all(key in tags and value in (None, tags[key]) for key, value in self.tags.items())
            and all(condition.fits(summary.annotations.metrics) for condition in self.metrics)
        )


def make_query(
    *,
    task: str | None = None,
    tags: Mapping[str, str | None] | None = None,
    metrics: str | Sequence[str] = (),
    models: str = "*",
) -> Query:
    """
    Return a query of a caller's arguments.

    :raises InvalidOptionError: one of them cannot be.
    """
    check_mapping({} if tags is None else tags, "tags")
    conditions = [metrics] if isinstance(metrics, str) else metrics
    if isinstance(conditions, Mapping):
        raise InvalidOptionError("metrics is a dict; write comparisons, such as ['accuracy >= 0.9'].")
    return Query(task, tags or {}, tuple(map(MetricCondition.parse, conditions)), models)


def _same_task(one: str, other: str) -> bool:
    """
    Tell whether two names mean one task.

    >>> _same_task("ner", "token-classification"), _same_task("ner", "fill-mask"), _same_task("image-to-text", "x")
    (True, False, False)
    """
    found = find_task(one)
    return one == other or (found is not None and found is find_task(other))


def _lookup(metrics: Mapping[str, Any], name: str) -> Any:
    if name in metrics:
        return metrics[name]
    inner: Any = metrics
    for part in name.split("."):
        if not isinstance(inner, Mapping) or part not in inner:
            return _ABSENT
        inner = inner[part]
    return inner


def _kind(value: Any) -> str:
    """
    Return what a JSON value can be compared with.

    >>> [_kind(value) for value in (1, 0.5, True, "a", None, [1])]
    ['number', 'number', 'boolean', 'text', 'null', 'structure']
    """
    if isinstance(value, bool):
        return "boolean"
    if isinstance(value, int | float):
        return "number"
    if isinstance(value, str):
        return "text"
    return "null" if value is None else "structure"
