"""Editing one document from many places."""

import json
from concurrent.futures import ThreadPoolExecutor

import pytest

from airflow_provider_hfreg.errors import (
    CompareAndSwapLostError,
    StorageUnavailableError,
    UnknownFormatError,
    VersionInUseError,
    VersionNotFoundError,
)
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import Fault, Faults, FaultyStore, raising
from airflow_provider_hfreg.versions.manifest import Annotations
from airflow_provider_hfreg.versions.refs import Head, State
from airflow_provider_hfreg.versions.swap import edit, read

KEY = "models/finbert/head.json"
LOST = raising(StorageUnavailableError("the answer was lost"))


def edit_head(store, transition, **limits):
    return edit(store, KEY, Head.from_plain, Head(), transition, **limits)


def add_tag(name):
    return lambda head: head.with_tags({name: "set"})


@pytest.mark.parametrize(
    ("from_plain", "damage"),
    [
        *(
            (Head.from_plain, {name: 7})
            for name in ("default", "aliases", "tombstones", "tags", "metrics", "comment", "operations")
        ),
        (Head.from_plain, {"revision": "7"}),
        (Head.from_plain, {"aliases": {"champion": None}}),
        *((State.from_plain, {name: [7]}) for name in ("tags", "metrics", "comment", "revision")),
        (State.from_plain, {"operations": None}),
    ],
)
def test_a_document_that_something_else_wrote_is_told_with_its_location(file_url, from_plain, damage):
    store = LocalStore(file_url)
    store.put(KEY, json.dumps({"format_version": 1} | damage).encode())
    with pytest.raises(UnknownFormatError, match=f"{KEY} is not as this package writes it: '.*' is ") as caught:
        read(store, KEY, from_plain, None)
    with pytest.raises(UnknownFormatError):
        edit(store, KEY, from_plain, None, lambda document: document)
    assert store.location(KEY) in str(caught.value)


def test_edits_from_many_threads_are_all_there(store):
    with ThreadPoolExecutor(8) as threads:
        list(threads.map(lambda number: edit_head(store, add_tag(str(number))), range(40)))
    head = read(store, KEY, Head.from_plain, Head())
    assert set(head.tags) == {str(number) for number in range(40)}
    assert head.revision == 40


def test_tags_and_metrics_from_many_threads_are_all_there(store):
    start = State(Annotations({"logged": "yes"}))

    def one(number):
        change = State.with_tags if number % 2 else State.with_metrics
        edit(store, "state.json", State.from_plain, start, lambda state: change(state, {str(number): "1"}))

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(one, range(40)))
    state = read(store, "state.json", State.from_plain, start)
    assert {*state.annotations.tags, *state.annotations.metrics} == {"logged", *map(str, range(40))}


@pytest.mark.parametrize("operation", ["put_if_absent", "replace_if_match"])
def test_an_edit_whose_answer_was_lost_is_applied_once(store, operation):
    if operation == "replace_if_match":
        edit_head(store, add_tag("first"))
    faulty = FaultyStore(store, Faults(Fault(operation, LOST, when="after")))
    applied = []

    def transition(head):
        applied.append(head.revision)
        return add_tag("mine")(head)

    head = edit_head(faulty, transition)
    assert "mine" in head.tags
    assert len(applied) == 1
    assert read(store, KEY, Head.from_plain, Head()).revision == head.revision


def test_an_edit_is_told_as_done_even_if_others_edited_after_it_before_its_answer_was_lost(store):
    def others_then_lose():
        for number in range(5):
            edit_head(store, add_tag(f"other-{number}"))
        LOST()

    faulty = FaultyStore(store, Faults(Fault("put_if_absent", others_then_lose, when="after")))
    head = edit_head(faulty, add_tag("mine"))
    assert head.revision == 6
    assert read(store, KEY, Head.from_plain, Head()).revision == 6


def test_an_edit_of_a_store_that_stays_away_says_so(file_url):
    faulty = FaultyStore(LocalStore(file_url), Faults(Fault("put_if_absent", LOST, call=None)))
    with pytest.raises(StorageUnavailableError):
        edit_head(faulty, add_tag("mine"))


def test_a_writer_that_is_always_too_late_gives_up_after_a_bound(file_url):
    store = LocalStore(file_url)
    edit_head(store, add_tag("first"))
    counter = iter(range(100))
    race = Fault("replace_if_match", lambda: edit_head(store, add_tag(f"other-{next(counter)}")), call=None)
    with pytest.raises(CompareAndSwapLostError, match="each of 4 attempts"):
        edit_head(FaultyStore(store, Faults(race)), add_tag("mine"), attempts=4)


def test_an_edit_that_changes_nothing_writes_nothing(file_url):
    store = FaultyStore(LocalStore(file_url))
    edit_head(store, lambda head: head)
    assert store.faults.calls == {"get_with_etag": 1}


def test_what_a_transition_refuses_is_not_written(file_url):
    store = LocalStore(file_url)
    edit_head(store, lambda head: head.with_tombstone("v1", "2026-01-01"))
    with pytest.raises(VersionNotFoundError, match="was deleted at 2026-01-01"):
        edit_head(store, lambda head: head.with_alias("champion", "v1"))
    assert read(store, KEY, Head.from_plain, Head()).revision == 1


def test_deleting_cannot_race_an_alias_being_set(store):
    def point(alias):
        try:
            edit_head(store, lambda head: head.with_alias(alias, "v1"))
        except VersionNotFoundError:
            return

    def delete():
        try:
            edit_head(store, lambda head: head.with_tombstone("v1", "2026-01-01"))
        except VersionInUseError:
            return

    with ThreadPoolExecutor(5) as threads:
        threads.submit(delete)
        list(threads.map(point, ["a", "b", "c", "d"]))
    head = read(store, KEY, Head.from_plain, Head())
    assert bool(head.tombstones) != bool(head.aliases)
