"""
The contract of a store as tests: inherit :class:`StoreContract`, give a fixture ``store``, and run pytest.

.. code-block:: python

    class TestMyStore(StoreContract):
        @pytest.fixture
        def store(self):
            return MyStore("my://empty/place")

Every test gets an empty store. Nothing is timed and nothing is imitated: the store stands on its real backend. What
these tests cannot see: durability after a power cut, and races among processes (the stores of this package test those
themselves).
"""

from __future__ import annotations

import hashlib
import io
import uuid
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier
from typing import TypeVar

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    DigestMismatchError,
    KeyExistsError,
    KeyNotFoundError,
    ObjectChangedError,
    StorageUrlError,
)
from airflow_provider_hfreg.storage.base import ObjectState, ObjectStore
from airflow_provider_hfreg.storage.probe import ProbeResult, probe_conditional_writes

_T = TypeVar("_T")
_WRITERS = 16
_LARGE_BYTES = 20_000_000  # above every store's limit for one request, and no multiple of a part

ODD_KEYS = (
    "models/한글 모델/versions/v1.json",
    "spaces in/a name .txt",
    "plus+and%20percent%/100%",
    "q?x=1&y#fragment",
    "~!@$^*()_={}|;:,<>'\"`",
    "dot.s/.hidden/..two/trailing.",
    "emoji/🤗/é",
    "l" * 200 + "/" + "ong" * 60,
    "day=2026-11-22/part-00000.parquet",
    "[brackets]/*",
)

_SEGMENTS = st.sampled_from(["a", "a-b", "a.b", "a0", "ab", "A", "z", "é", "日本", "x y", "100%"])
# A name with an even number of segments is never the folder of another one, as the contract asks.
_KEYS = st.tuples(_SEGMENTS, _SEGMENTS).map(lambda pair: f"{pair[0]}/d/{pair[1]}.bin")
_CONTENTS = st.binary(max_size=40)
_STEPS = st.one_of(
    st.tuples(st.just("put"), _KEYS, _CONTENTS),
    st.tuples(st.just("put_if_absent"), _KEYS, _CONTENTS),
    st.tuples(st.just("replace"), _KEYS, _CONTENTS),
    st.tuples(st.just("replace_stale"), _KEYS, _CONTENTS),
    st.tuples(st.just("copy"), _KEYS, _KEYS),
    st.tuples(st.just("delete"), _KEYS, st.just(b"")),
)


class StoreContract:
    """What every store promises; see :mod:`airflow_provider_hfreg.storage.base`."""

    @pytest.fixture
    def store(self) -> ObjectStore:
        """Return the store to test, empty."""
        raise NotImplementedError("give a fixture `store` that returns an empty one")

    # --- one object

    def test_what_was_put_is_read_back(self, store: ObjectStore) -> None:
        store.put("folder/name", b"content")
        assert store.get("folder/name") == b"content"

    def test_put_replaces_what_was_there(self, store: ObjectStore) -> None:
        store.put("key", b"a longer first one")
        store.put("key", b"second")
        assert store.get("key") == b"second"

    def test_an_empty_object_is_an_object(self, store: ObjectStore) -> None:
        store.put("empty", b"")
        assert store.get("empty") == b""
        assert store.get("empty", start=3, length=2) == b""
        assert store.get("empty", start=-3) == b""
        with store.open_reader("empty") as reader:
            assert reader.read() == b""
        info = store.find_info("empty")
        assert info is not None
        assert info.size_bytes == 0

    def test_a_range_is_cut_from_the_object(self, store: ObjectStore) -> None:
        store.put("key", b"0123456789")
        assert store.get("key", start=2, length=3) == b"234"
        assert store.get("key", start=7) == b"789"
        assert store.get("key", start=8, length=100) == b"89"
        assert store.get("key", start=0, length=0) == b""
        assert store.get("key", start=10, length=5) == b""
        assert store.get("key", start=99) == b""
        assert store.get("key", start=-3) == b"789"
        assert store.get("key", start=-100) == b"0123456789"

    def test_a_state_that_was_seen_is_read_or_none(self, store: ObjectStore) -> None:
        content = _pattern(3_000_000)
        store.put("key", content)
        seen = store.find_info("key")
        assert seen is not None
        state = ObjectState(seen.size_bytes, seen.etag)
        assert store.get("key", start=2_999_990, etag=seen.etag) == content[-10:]
        reader = store.open_reader("key", state=state)
        assert reader.read(10) == content[:10]
        for other in (b"shorter", content[:-1] + b"!"):
            store.put("key", other)
            for start in (0, 2_000_000):
                with pytest.raises(ObjectChangedError, match="key was changed"):
                    store.get("key", start=start, length=10, etag=seen.etag)
                with pytest.raises(ObjectChangedError, match="key was changed"):
                    store.open_reader("key", state=state).read(10)
            with pytest.raises(ObjectChangedError, match="key was changed"):
                reader.read()
        store.delete(["key"])
        with pytest.raises(KeyNotFoundError, match="key"):
            store.open_reader("key", state=state).read(10)

    @pytest.mark.parametrize("key", ODD_KEYS)
    def test_odd_names_are_only_names(self, store: ObjectStore, key: str) -> None:
        store.put(key, key.encode())
        assert store.get(key) == key.encode()
        assert [info.key for info in store.list_infos()] == [key]
        store.copy(key, "copy/of it")
        assert store.get("copy/of it") == key.encode()
        store.delete([key])
        assert store.find_info(key) is None

    @pytest.mark.parametrize(
        "key", ["", "/a", "a/", "a//b", "../a", "a/./b", "a/..", "nul\0", "back\\slash", ".hfreg.lock"]
    )
    def test_what_is_no_key_is_refused(self, store: ObjectStore, key: str) -> None:
        with pytest.raises(StorageUrlError):
            store.put(key, b"")
        with pytest.raises(StorageUrlError):
            store.get(key)

    def test_a_copy_onto_itself_changes_nothing(self, store: ObjectStore) -> None:
        store.put("key", b"content")
        store.copy("key", "key")
        assert store.get("key") == b"content"

    def test_a_conditional_write_returns_the_etag_of_what_it_wrote(self, store: ObjectStore, tmp_path: Path) -> None:
        large = tmp_path / "large"
        large.write_bytes(_pattern(2_000_000))
        first = store.put_if_absent("key", b"first")
        assert store.get_with_etag("key") == (b"first", first)
        second = store.replace_if_match("key", b"second", first)
        assert store.get_with_etag("key") == (b"second", second)
        etag = store.put_if_absent("of a file", large)
        info = store.find_info("of a file")
        assert info is not None
        assert info.etag == etag

    def test_an_absent_object_is_told(self, store: ObjectStore, tmp_path: Path) -> None:
        store.put("there/is", b"another")
        reads: list[Callable[[str], object]] = [
            store.get,
            store.get_with_etag,
            store.open_reader,
            lambda key: store.get(key, length=0),
            lambda key: store.download(key, tmp_path / "file"),
            lambda key: store.copy(key, "target"),
            lambda key: store.copy(key, key),
        ]
        for key in ("absent", "there", "there/is/not"):
            assert store.find_info(key) is None
            for read in reads:
                with pytest.raises(KeyNotFoundError, match=key):
                    read(key)

    def test_info_tells_size_etag_and_time(self, store: ObjectStore) -> None:
        store.put("key", b"12345")
        info = store.find_info("key")
        assert info is not None
        assert (info.key, info.size_bytes) == ("key", 5)
        assert info.modified.tzinfo is not None
        assert info.etag == store.get_with_etag("key")[1]
        assert [(found.key, found.size_bytes, found.etag) for found in store.list_infos()] == [("key", 5, info.etag)]

    def test_deleting_is_final_and_absence_no_error(self, store: ObjectStore) -> None:
        store.put("a/1", b"")
        store.put("a/2", b"")
        store.delete(["a/1", "a/absent", "nowhere/at/all"])
        store.delete([])
        assert [info.key for info in store.list_infos()] == ["a/2"]

    # --- conditions

    def test_put_if_absent_changes_nothing_that_exists(self, store: ObjectStore, tmp_path: Path) -> None:
        path = tmp_path / "file"
        path.write_bytes(b"from a file")
        store.put_if_absent("key", b"first")
        with pytest.raises(KeyExistsError, match="key"):
            store.put_if_absent("key", b"second")
        with pytest.raises(KeyExistsError, match="key"):
            store.put_if_absent("key", path)
        assert store.get("key") == b"first"
        store.put_if_absent("other", path)
        assert store.get("other") == b"from a file"

    def test_put_if_absent_works_again_after_deletion(self, store: ObjectStore) -> None:
        store.put_if_absent("key", b"first")
        store.delete(["key"])
        store.put_if_absent("key", b"second")
        assert store.get("key") == b"second"

    def test_replace_needs_the_current_etag(self, store: ObjectStore) -> None:
        store.put("key", b"first")
        _, etag = store.get_with_etag("key")
        store.replace_if_match("key", b"second", etag)
        with pytest.raises(CompareAndSwapLostError, match="key"):
            store.replace_if_match("key", b"third", etag)
        assert store.get("key") == b"second"

    def test_replace_of_a_deleted_object_is_lost(self, store: ObjectStore) -> None:
        store.put("key", b"first")
        _, etag = store.get_with_etag("key")
        store.delete(["key"])
        with pytest.raises(CompareAndSwapLostError, match="key"):
            store.replace_if_match("key", b"second", etag)
        with pytest.raises(CompareAndSwapLostError, match="never"):
            store.replace_if_match("never/there", b"second", etag)
        assert list(store.list_infos()) == []

    def test_one_of_many_puts_if_absent_wins(self, store: ObjectStore) -> None:
        def put(writer: int) -> bool:
            return _succeeds(lambda: store.put_if_absent("key", str(writer).encode()), KeyExistsError)

        won = _at_once(put)
        assert won.count(True) == 1
        assert store.get("key") == str(won.index(True)).encode()

    def test_no_compare_and_swap_is_lost(self, store: ObjectStore) -> None:
        store.put("counter", b"0")

        def count(_: int) -> None:
            for _ in range(3):
                while not _succeeds(lambda: _increment(store, "counter"), CompareAndSwapLostError):
                    pass

        _at_once(count)
        assert store.get("counter") == str(3 * _WRITERS).encode()

    def test_readers_see_whole_objects_while_it_is_replaced(self, store: ObjectStore) -> None:
        contents = {bytes([letter]) * 100_000 for letter in b"abcd"}
        store.put("key", b"a" * 100_000)

        def work(worker: int) -> set[bytes]:
            if worker < len(contents):
                for content in contents:
                    store.put("key", content)
                return set()
            return {store.get("key") for _ in range(5)}

        seen = set().union(*_at_once(work))
        assert seen <= contents

    def test_the_probe_passes_and_leaves_nothing(self, store: ObjectStore) -> None:
        assert probe_conditional_writes(store) == ProbeResult(writers=16)
        assert list(store.list_infos()) == []

    # --- listing

    def test_listing_is_in_the_order_of_bytes(self, store: ObjectStore) -> None:
        keys = ["a/b/c", "a-b", "a.b", "a/a", "a0", "ab/c", "B", "z", "é", "日本/x", "😀", "～"]
        for key in keys:
            store.put(key, b"1")
        assert [info.key for info in store.list_infos()] == sorted(keys, key=str.encode)

    def test_a_prefix_need_not_end_at_a_folder(self, store: ObjectStore) -> None:
        for key in ["run-1/a", "run-1/b", "run-10/a", "run-2", "other/run-1"]:
            store.put(key, b"")
        assert [info.key for info in store.list_infos("run-1")] == ["run-1/a", "run-1/b", "run-10/a"]
        assert [info.key for info in store.list_infos("run-1/")] == ["run-1/a", "run-1/b"]
        assert [info.key for info in store.list_infos("run-1/b")] == ["run-1/b"]
        assert list(store.list_infos("absent/")) == []

    def test_names_are_those_directly_below(self, store: ObjectStore) -> None:
        for key in ["m/v/1.json", "m/v/2.json", "m/head.json", "m-2/x", "top"]:
            store.put(key, b"")
        assert list(store.list_names()) == ["m-2/", "m/", "top"]
        assert list(store.list_names("m/")) == ["head.json", "v/"]
        assert list(store.list_names("m/v/")) == ["1.json", "2.json"]
        assert list(store.list_names("absent/")) == []

    def test_an_emptied_folder_holds_nothing_and_can_be_filled_again(self, store: ObjectStore) -> None:
        store.put("a/b/c", b"")
        store.delete(["a/b/c"])
        assert list(store.list_infos()) == []
        assert set(store.list_names()) <= {"a/"}
        store.put("a/b/d", b"")
        assert [info.key for info in store.list_infos()] == ["a/b/d"]

    # --- large ones

    def test_a_large_file_makes_the_round_trip(self, store: ObjectStore, tmp_path: Path) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(_pattern(_LARGE_BYTES))
        up: list[int] = []
        down: list[int] = []
        store.upload("large", source, on_bytes=up.append)
        store.download("large", target, on_bytes=down.append)
        assert sum(up) == sum(down) == _LARGE_BYTES
        assert target.read_bytes() == source.read_bytes()
        store.copy("large", "copy")
        assert store.get("copy", start=_LARGE_BYTES - 5) == source.read_bytes()[-5:]
        store.put_if_absent("other", source)
        with pytest.raises(KeyExistsError):
            store.put_if_absent("large", source)
        info = store.find_info("other")
        assert info is not None
        assert info.size_bytes == _LARGE_BYTES

    @pytest.mark.parametrize("size_bytes", [0, 1000, _LARGE_BYTES])
    def test_bytes_are_compared_with_their_digest_while_they_move(
        self, store: ObjectStore, tmp_path: Path, size_bytes: int
    ) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(_pattern(size_bytes))
        right, wrong = f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}", f"sha256:{'0' * 64}"
        with pytest.raises(DigestMismatchError, match=f"expected {wrong}, got {right}"):
            store.upload("key", source, digest=wrong)
        assert store.find_info("key") is None
        store.upload("key", source, digest=right)
        with pytest.raises(DigestMismatchError, match=f"key.* expected {wrong}, got {right}"):
            store.download("key", target, digest=wrong)
        store.download("key", target, digest=right)
        assert target.read_bytes() == source.read_bytes()

    @pytest.mark.parametrize("size_bytes", [0, 1000, _LARGE_BYTES])
    def test_what_an_object_has_is_downloaded_whatever_size_it_was_said_to_have(
        self, store: ObjectStore, tmp_path: Path, size_bytes: int
    ) -> None:
        source, target = tmp_path / "source", tmp_path / "target"
        source.write_bytes(_pattern(size_bytes))
        digest = f"sha256:{hashlib.sha256(source.read_bytes()).hexdigest()}"
        store.upload("key", source)
        for said in (0, 1, size_bytes, size_bytes + 1, 3 * _LARGE_BYTES):
            down: list[int] = []
            store.download("key", target, on_bytes=down.append, digest=digest, size_bytes=said)
            assert target.read_bytes() == source.read_bytes()
            assert sum(down) == size_bytes

    def test_a_compare_and_swap_of_a_large_object(self, store: ObjectStore) -> None:
        first, second = _pattern(3_000_000), _pattern(3_000_001)[1:]
        store.put("large", first)
        content, etag = store.get_with_etag("large")
        assert content == first
        store.replace_if_match("large", second, etag)
        with pytest.raises(CompareAndSwapLostError):
            store.replace_if_match("large", first, etag)
        assert store.get("large") == second

    def test_a_reader_seeks_as_a_file_does(self, store: ObjectStore) -> None:
        content = _pattern(300_000)
        store.put("key", content)
        with store.open_reader("key") as reader:
            expected = io.BytesIO(content)
            assert reader.seekable()
            for offset, whence, count in [(-8, 2, 8), (0, 0, 10), (100_000, 0, 150_000), (-5, 1, 7), (299_999, 0, 9)]:
                assert reader.seek(offset, whence) == expected.seek(offset, whence)
                assert reader.read(count) == expected.read(count)
            assert reader.seek(7) == 7
            assert reader.read() == content[7:]
            assert reader.read(1) == b""

    def test_parquet_is_read_through_a_reader(self, store: ObjectStore) -> None:
        table = pa.table({"number": range(50_000), "text": [f"row {number}" for number in range(50_000)]})
        buffer = io.BytesIO()
        pq.write_table(table, buffer, row_group_size=10_000)
        store.put("rows.parquet", buffer.getvalue())
        with store.open_reader("rows.parquet") as reader:
            parquet = pq.ParquetFile(reader)
            assert parquet.num_row_groups == 5
            assert parquet.read_row_group(3).equals(table.slice(30_000, 10_000))
            assert parquet.read(columns=["number"]).equals(table.select(["number"]))

    # --- places

    def test_a_store_below_is_a_part_of_it(self, store: ObjectStore) -> None:
        inner = store.below("team/a")
        inner.put("key", b"1")
        assert store.get("team/a/key") == b"1"
        assert [info.key for info in inner.list_infos()] == ["key"]
        assert inner.location("key") == store.location("team/a/key")
        _, etag = store.get_with_etag("team/a/key")
        inner.replace_if_match("key", b"2", etag)
        with pytest.raises(KeyExistsError):
            store.put_if_absent("team/a/key", b"3")

    def test_a_location_names_the_object(self, store: ObjectStore) -> None:
        assert store.location("a/b").startswith(store.url)
        assert store.location("") == store.url

    # --- all of it

    def test_it_is_a_dictionary(self, store: ObjectStore) -> None:
        @settings(max_examples=20, deadline=None)
        @given(steps=st.lists(_STEPS, max_size=12))
        def check(steps: list[tuple[str, str, str | bytes]]) -> None:
            place = store.below(f"example-{uuid.uuid4().hex}")
            model: dict[str, bytes] = {}
            for step in steps:
                _apply(place, model, *step)
            assert {info.key: place.get(info.key) for info in place.list_infos()} == model
            assert [info.key for info in place.list_infos()] == sorted(model, key=str.encode)
            names = list(place.list_names())
            assert names == sorted(names, key=str.encode)
            assert set(names) >= {key.split("/")[0] + "/" for key in model}

        check()


def _apply(store: ObjectStore, model: dict[str, bytes], operation: str, key: str, given: str | bytes) -> None:
    """Do one step on both, and compare what they say."""
    content = given if isinstance(given, bytes) else b""
    if operation == "put":
        store.put(key, content)
        model[key] = content
    elif operation == "put_if_absent":
        assert _succeeds(lambda: store.put_if_absent(key, content), KeyExistsError) == (key not in model)
        model.setdefault(key, content)
    elif operation == "replace":
        assert _succeeds(lambda: _replace(store, key, content), KeyNotFoundError) == (key in model)
        model.update({key: content} if key in model else {})
    elif operation == "replace_stale":
        assert not _succeeds(lambda: store.replace_if_match(key, content, '"stale"'), CompareAndSwapLostError)
    elif operation == "copy":
        assert _succeeds(lambda: store.copy(key, str(given)), KeyNotFoundError) == (key in model)
        model.update({str(given): model[key]} if key in model else {})
    else:
        store.delete([key])
        model.pop(key, None)


def _replace(store: ObjectStore, key: str, content: bytes) -> None:
    store.replace_if_match(key, content, store.get_with_etag(key)[1])


def _increment(store: ObjectStore, key: str) -> None:
    content, etag = store.get_with_etag(key)
    store.replace_if_match(key, str(int(content) + 1).encode(), etag)


def _succeeds(act: Callable[[], object], refusal: type[Exception]) -> bool:
    try:
        act()
    except refusal:
        return False
    return True


def _at_once(work: Callable[[int], _T]) -> list[_T]:
    """Run ``work`` in 16 threads that begin together; return what each returned."""
    together = Barrier(_WRITERS)

    def begin(worker: int) -> _T:
        together.wait()
        return work(worker)

    with ThreadPoolExecutor(_WRITERS) as threads:
        return list(threads.map(begin, range(_WRITERS)))


def _pattern(size_bytes: int) -> bytes:
    """Return bytes in which no two places of 256 look alike, so that a shifted read is seen."""
    block = b"".join(number.to_bytes(4, "big") for number in range(1 << 16))
    return (block * (size_bytes // len(block) + 1))[:size_bytes]
