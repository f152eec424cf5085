"""
The cache of a host: verified copies of blobs, shared by every process, and folders that ``from_pretrained`` reads.

.. code-block:: text

    <cache>/sha256/<hex>                 a blob, read-only; only ever a whole, verified one
    <cache>/records/<hex>.json           how the file looked when it was verified; changed last when it was used last
    <cache>/folders/<content hex>/<path> relative links to blobs: a version's folder
    <cache>/locks/<hex>.lock             one download at a time
    <cache>/locks/held-<content hex>     shared by those who read the folder
    <cache>/locks/eviction               alone to evict, shared to begin to hold
    <cache>/scratch/<name>, <name>.lock  downloads under way, and folders being packaged

    host.py      HostCache: a version's folder, held while it is read
    entries.py   one blob on the disk: is it what it was when it was verified
    holds.py     who reads a folder now
    links.py     a version's folder of links, mended while it is read
    eviction.py  what goes when the room is short; which it is, is decided without I/O
    places.py    names, modes, locks and scratch folders

Invariants:

- A name below ``sha256`` appears by rename, after the digest was verified and the bytes were flushed: a kill at any
  moment leaves no partial entry.
- Every lock is ``flock``, which the system drops with its process: nothing waits for one that was killed. No lock file
  is ever removed but a scratch folder's, whose name is nobody else's.
- A folder is held (its lock, shared) and its links are made before its blobs are looked for, and both under the lock of
  eviction, shared. So whoever evicts, alone, sees every blob that a reader has or waits for, and none is added.
- An entry is looked at on every use: size, times of change and, where they differ from what this process saw and from
  the record, the digest. So an ordinary write into the cache is noticed without reading gigabytes at every load;
  ``verify=True`` reads them, which also finds what a disk changed by itself.
- A damaged entry is fetched once more; if the store's copy is damaged too, :class:`DigestMismatchError`.
- Who may read and write is what the cache folder's own mode says, whatever a process' umask is.
"""

from __future__ import annotations

from airflow_provider_hfreg.versions.cache.holds import HeldFolder, trim_after_readers
from airflow_provider_hfreg.versions.cache.host import HostCache

__all__ = ["HeldFolder", "HostCache", "trim_after_readers"]
