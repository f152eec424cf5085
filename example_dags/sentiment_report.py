"""What a run of the sentiment example came to, as a table for people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc


def describe(run: Mapping[str, Any], results: pa.Table) -> str:
    """
    Return the table.

    :param run: what ``RunHFModelOperator`` returned.
    :param results: the output it wrote, with the columns of the prepared table if it was the input.
    """
    lines = {
        "model": f"{run['model_name']}/{run['version_name']}  {run['content_digest'][:19]}…",
        "run": _status(run),
        "rows in": f"{run['rows_in']:,}",
        "  ok": f"{run['rows_ok']:,}{_cut(run['rows_truncated'])}",
        "  quarantined": f"{run['rows_quarantined']:,}",
        "rows/s": f"{run['rows_per_s']:,.0f}",
        **_accuracy(results),
        "output": run["output"],
    }
    if run["errors_url"]:
        lines["quarantined rows"] = run["errors_url"]
    return "\n".join(f"{name:<{max(map(len, lines))}}  {value}" for name, value in lines.items())


def _status(run: Mapping[str, Any]) -> str:
    if run["status"] == "already_completed":
        return f"{run['batch_run_id']}, completed earlier: nothing was computed again"
    resumed = f", {run['shards_resumed']} of them there already" if run["shards_resumed"] else ""
    return f"{run['batch_run_id']}, completed in {run['elapsed_s']:.1f} s, {run['shards_total']} shards{resumed}"


def _cut(rows: int) -> str:
    return f", {rows:,} of them cut to what the model can read" if rows else ""


def _accuracy(results: pa.Table) -> dict[str, str]:
    """
    Compare predicted and given labels on the rows held out of training; a table of one's own may have none.

    >>> rows = {"split": ["train"] + ["held_out"] * 4, "label": list("ABBAA"), "predicted_label": list("ABBBA")}
    >>> _accuracy(pa.table(rows))  # doctest: +NORMALIZE_WHITESPACE
    {'accuracy': '0.7500 on the 4 rows held out of training',
     'majority': '0.5000, by always giving the more frequent label'}
    """
    if not {"split", "label"} <= set(results.column_names):
        return {}
    held_out = results.filter(pc.equal(results["split"], "held_out"))
    if not held_out.num_rows:
        return {}
    right = pc.sum(pc.equal(held_out["label"], held_out["predicted_label"])).as_py()
    most = Counter(held_out["label"].to_pylist()).most_common(1)[0][1]
    rows = held_out.num_rows
    return {
        "accuracy": f"{right / rows:.4f} on the {rows:,} rows held out of training",
        "majority": f"{most / rows:.4f}, by always giving the more frequent label",
    }
