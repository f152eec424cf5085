"""
Where the objects of a run lie below its output folder. No other file spells a key.

.. code-block:: text

    part-00007-<batch_run_id>.parquet                          a committed shard: the part is its own marker
    _SUCCESS                                                   the finished runs of this folder and their parts
    _hfreg/<batch_run_id>/run.json                             plan, fingerprint, request; written before any part
    _hfreg/<batch_run_id>/errors/00007-<attempt>.parquet       quarantined rows of that shard
    _hfreg/<batch_run_id>/claims/00007.json                    who of an executor pool works on that shard, how far
    _hfreg/<batch_run_id>/claims/stopped-<sender>              what this sender sent is to stop
    _hfreg/<batch_run_id>/abandoned.json                       another run took this one's place
    _hfreg/<batch_run_id>/report.json                          the run is finished
    _hfreg/staged/<who>-<question>-<n>/00007-<attempt>.parquet rows of a query or of the call, until the run is finished
    _hfreg/staged/<who>-<question>-<n>/staged.json             they are complete; written when all of them are there
"""

from __future__ import annotations

import re

SUCCESS = "_SUCCESS"
RUNS_FOLDER = "_hfreg/"
STAGED_FOLDER = f"{RUNS_FOLDER}staged/"
_STAGED_DOCUMENT = re.compile(re.escape(STAGED_FOLDER) + r"[0-9a-f]{10}-[0-9a-f]{10}-([0-9]+)/staged\.json")
_PART = re.compile(r"part-([0-9]{5,})-([0-9a-f]{10}-[0-9a-f]{10}(?:-[0-9]+)?)\.parquet")


def part_key(shard: int, batch_run_id: str) -> str:
    """
    Return the key of a shard's part.

    >>> part_key(7, "6d0629b7eb-0123456789")
    'part-00007-6d0629b7eb-0123456789.parquet'
    """
    return f"part-{shard:05d}-{batch_run_id}.parquet"


def find_part(name: str) -> tuple[int, str] | None:
    """
    Return shard and batch_run_id of a part's name, or None for the name of anything else.

    >>> find_part("part-00007-6d0629b7eb-0123456789-2.parquet"), find_part("part-00007.parquet")
    ((7, '6d0629b7eb-0123456789-2'), None)
    """
    match = _PART.fullmatch(name)
    return (int(match[1]), match[2]) if match else None


def run_folder(batch_run_id: str) -> str:
    """Return the folder of a run's own objects."""
    return f"{RUNS_FOLDER}{batch_run_id}/"


def run_key(batch_run_id: str) -> str:
    """Return the key of a run's document."""
    return f"{run_folder(batch_run_id)}run.json"


def report_key(batch_run_id: str) -> str:
    """Return the key of a finished run's report."""
    return f"{run_folder(batch_run_id)}report.json"


def abandoned_key(batch_run_id: str) -> str:
    """Return the key that tells that another run took this one's place."""
    return f"{run_folder(batch_run_id)}abandoned.json"


def errors_folder(batch_run_id: str) -> str:
    """Return the folder of a run's quarantined rows."""
    return f"{run_folder(batch_run_id)}errors/"


def errors_key(shard: int, attempt: str, batch_run_id: str) -> str:
    """Return the key of the quarantined rows of one attempt at a shard."""
    return f"{errors_folder(batch_run_id)}{shard:05d}-{attempt}.parquet"


def claims_folder(batch_run_id: str) -> str:
    """Return the folder of the claims of a run that an executor pool works on."""
    return f"{run_folder(batch_run_id)}claims/"


def claim_key(shard: int, batch_run_id: str) -> str:
    """Return the key of the claim of a shard: who works on it, and how far."""
    return f"{claims_folder(batch_run_id)}{shard:05d}.json"


def find_claim(key: str, batch_run_id: str) -> int | None:
    """
    Return the shard of a claim's key, or None for another key.

    >>> find_claim(claim_key(7, "a-b"), "a-b"), find_claim("_hfreg/a-b/run.json", "a-b")
    (7, None)
    """
    name = key.removeprefix(claims_folder(batch_run_id)).removesuffix(".json")
    return int(name) if name.isdigit() else None


def stopped_key(sender: str, batch_run_id: str) -> str:
    """Return the key that tells workers to stop what a sender sent."""
    return f"{claims_folder(batch_run_id)}stopped-{sender}"


def staged_prefix(identity_prefix: str, question: str) -> str:
    """Return what the folders of all stagings of an identity's question begin with."""
    return f"{STAGED_FOLDER}{identity_prefix}{question[:10]}-"


def staged_folder(identity_prefix: str, question: str, generation: int) -> str:
    """
    Return the folder of a staging.

    >>> staged_folder("6d0629b7eb-", "0123456789abcdef", 0)
    '_hfreg/staged/6d0629b7eb-0123456789-0/'
    """
    return f"{staged_prefix(identity_prefix, question)}{generation}/"


def staged_key(folder: str) -> str:
    """Return the key that commits a staging."""
    return f"{folder}staged.json"


def find_staged_document(key: str) -> int | None:
    """
    Return the generation of the key that commits a staging, or None for another key.

    >>> find_staged_document(staged_key(staged_folder("6d0629b7eb-", "0123456789abcdef", 3)))
    3
    """
    match = _STAGED_DOCUMENT.fullmatch(key)
    return int(match[1]) if match else None
