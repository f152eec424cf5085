"""
One batch run: an input table, a model version, an output folder that holds each row once.

The way of a row: ``inputs`` (which files) → ``tables`` (their columns, in bounded memory) → ``plan`` (shards) →
``execute`` (one shard to one part) → ``commit`` (the part is put if absent) → ``batch`` (all shards, then the report).
"""
