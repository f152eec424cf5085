"""
Publishing and collecting lose no version, whatever the interleaving; and every change of their order does.

The second half binds the model to the code: the real ``publish`` and ``collect`` ask the store in the model's order.
"""

import pytest

from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import FaultyStore
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout

from .protocol import ANYONE, GOOD, OWNER, Protocol, World, beginning, explore, successors

TWO = ("a", "b")

# The figures stand in docs/format.md: a change of the model or of its steps shows here.
SAFE = {
    "two writers and two collectors": (World(), 42_396),
    "a writer, a collector, two blobs, time": (World(1, 1, TWO, leases_age=True, markers_age=True), 6_953),
    "two writers, a collector, two blobs": (World(2, 1, TWO), 15_326),
    "a writer, two collectors, two blobs": (World(1, 2, TWO), 11_509),
    "two writers, a collector, time": (World(2, 1, leases_age=True, markers_age=True), 66_499),
    "a writer, two collectors, time": (World(1, 2, leases_age=True, markers_age=True), 59_996),
}
SAFE_BUT_SLOW = {
    "two writers and two collectors, leases age": (World(leases_age=True), 390_202),
    "two writers and two collectors, markers age": (World(markers_age=True), 519_633),
    "two writers, a collector, two blobs, leases age": (World(2, 1, TWO, leases_age=True), 160_182),
    "two writers, a collector, two blobs, markers age": (World(2, 1, TWO, markers_age=True), 79_675),
    "a writer, two collectors, two blobs, time": (World(1, 2, TWO, leases_age=True, markers_age=True), 881_937),
}
TIME = World(1, 2, leases_age=True, markers_age=True)
MUTATIONS = {
    "a writer looks for blobs before it takes its lease": (
        Protocol(writer=("look", "head", "lease", "upload", "check", "manifest", "drop")),
        World(1, 1),
    ),
    "a writer looks for markers before it takes its lease": (
        Protocol(writer=("look", "lease", "head", "upload", "check", "manifest", "drop")),
        World(1, 1),
    ),
    "a writer looks for the blob before it looks for its marker": (
        Protocol(writer=("lease", "head", "look", "upload", "check", "manifest", "drop"), makes_new_generations=True),
        World(1, 1),
    ),
    "a writer does not look for markers": (
        Protocol(writer=("lease", "head", "upload", "check", "manifest", "drop")),
        World(1, 1),
    ),
    "a writer uploads what is condemned under the same key": (Protocol(makes_new_generations=False), World(1, 1)),
    "a writer drops its lease before the manifest": (
        Protocol(writer=("lease", "look", "head", "upload", "check", "drop", "manifest")),
        World(1, 1),
    ),
    "a collector lists the manifests before the leases": (
        Protocol(collector=("list", "mark", "manifests", "leases", "delete", "unmark")),
        World(1, 1),
    ),
    "a collector lists the leases before it marks": (
        Protocol(collector=("list", "leases", "mark", "manifests", "delete", "unmark")),
        World(1, 1),
    ),
    "a collector removes its marker before it deletes": (
        Protocol(collector=("list", "mark", "leases", "manifests", "unmark", "delete")),
        World(1, 1),
    ),
    "a lease names the first blob only": (Protocol(leased=1), World(1, 1, TWO)),
    "a writer publishes under a lapsed lease": (
        Protocol(writer=("lease", "look", "head", "upload", "manifest", "drop")),
        TIME,
    ),
    "a collector disregards a lease on which its owner may still act": (Protocol(leases_count_until=OWNER), TIME),
    "a collector deletes until its marker is past for others": (Protocol(deletes_until=ANYONE), TIME),
    "a collector deletes whatever the age of its marker": (Protocol(deletes_until=ANYONE + 1), TIME),
    "a marker is removed while its owner may still delete": (Protocol(markers_stay_until=GOOD), TIME),
}


def check_safe(world, states):
    explored = explore(Protocol(), world)
    print(f"{world}: {explored.states:,} states")
    assert explored.loss is None
    assert explored.states == states


@pytest.mark.parametrize(("world", "states"), SAFE.values(), ids=SAFE)
def test_no_interleaving_loses_a_version(world, states):
    check_safe(world, states)


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize(("world", "states"), SAFE_BUT_SLOW.values(), ids=SAFE_BUT_SLOW)
def test_no_interleaving_of_more_loses_a_version(world, states):
    check_safe(world, states)


@pytest.mark.parametrize(("protocol", "world"), MUTATIONS.values(), ids=MUTATIONS)
def test_every_change_of_the_protocol_loses_one(protocol, world):
    loss = explore(protocol, world).loss
    assert loss is not None
    assert not any(state.has_lost for state in loss[:-1])


def test_the_model_publishes_and_collects_at_all():
    """A model in which nobody ever finishes would be safe, too."""

    world = World(1, 1)
    ends, waiting = set(), [beginning(world)]
    seen = set(waiting)
    while waiting:
        state = waiting.pop()
        following = [other for other in successors(state, Protocol(), world) if other not in seen]
        seen.update(following)
        waiting += following
        if not list(successors(state, Protocol(), world)):
            ends.add((state.manifests[0], state.blobs))
    names = {frozenset(key.generation for key in manifest) for manifest, _ in ends}
    assert names == {frozenset({0}), frozenset({1})}  # the blob that was there, and a new generation
    assert any(frozenset({0}) == {key.generation for key in blobs} for _, blobs in ends)
    assert any(frozenset({1}) == {key.generation for key in blobs} for _, blobs in ends)  # the old one was collected


# --- the code


@pytest.fixture
def asked(file_url):
    """A store and the requests it was asked, as the model calls them, each once."""
    store = FaultyStore(LocalStore(file_url))
    ensure_format(store, created="")

    def steps():
        names = [name for operation, key in store.faults.log if (name := step_of(operation, key))]
        store.faults.log.clear()
        return tuple(dict.fromkeys(names))

    store.faults.log.clear()
    return store, steps


def step_of(operation, key):
    folder = next((name for name in ("gc/leases/", "gc/condemned/", "blobs/", "/versions/") if name in key), key)
    return {
        ("put", "gc/leases/"): "lease",
        ("list_names", "gc/condemned/"): "look",
        ("find_info", "blobs/"): "head",
        ("upload", "blobs/"): "upload",
        ("put_if_absent", "/versions/"): "manifest",
        ("delete", "gc/leases/"): "drop",
        ("put", "gc/condemned/"): "mark",
        ("list_infos", "gc/leases/"): "leases",
        ("list_infos", "models/"): "manifests",
        ("delete", "blobs/"): "delete",
        ("delete", "gc/condemned/"): "unmark",
        ("list_infos", "blobs/"): "list",
    }.get((operation, folder))


def test_the_code_publishes_in_the_models_order(asked, model_folder, publish_folder):
    store, steps = asked
    publish_folder(store, model_folder())
    order = [name for name in Protocol().writer if name != "check"]
    assert [name for name in steps() if name != "list"] == order  # other generations are listed where one is missing


def test_the_code_collects_in_the_models_order(asked, model_folder, publish_folder):
    store, steps = asked
    publish_folder(store, model_folder())
    store.delete([Layout.manifest("finbert", "v1")])
    store.faults.log.clear()
    collect(store, dry_run=False)
    log = store.faults.log
    first_mark = next(number for number, asked in enumerate(log) if step_of(*asked) == "mark")
    before = [step_of(*asked) for asked in log[:first_mark]]
    assert "list" in before
    del log[:first_mark]
    assert [name for name in steps() if name not in ("lease", "drop")] == list(Protocol().collector[1:])
