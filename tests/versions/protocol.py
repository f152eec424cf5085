"""
A model of publishing and collecting, small enough to look at every interleaving of it.

Writers and collectors are programs of steps; each step is one request to the store, and between any two of them every
other process may do anything. A process that is killed is one that takes no further step, so every kill is explored
with the rest. Time is an age: a lease or marker is ``GOOD``, then too old for its ``OWNER`` to act on it, then too old
for ``ANYONE``; it may grow older at any moment, save that what was sent while it was good arrives before it is too old
for anyone (that is the gap of :mod:`airflow_provider_hfreg.versions.terms`, and the one assumption about time).

Listings are read entry by entry, uploads and deletes arrive some time after they were decided upon, and the first
generation of every blob is there at the beginning and named by nobody: all of it is garbage that a writer may reuse.

A protocol is safe if in no reachable state a published manifest names a blob that is not there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

GOOD, OWNER, ANYONE = 0, 1, 2
FIRST = 0
"""The generation of a blob that is there at the beginning; a writer's own has his number, from 1."""


class Key(NamedTuple):
    """Of a blob."""

    digest: str
    generation: int


class Step(NamedTuple):
    """One request: what, and about which digest or writer."""

    name: str
    about: object = None


@dataclass(frozen=True)
class Protocol:
    """
    The order of the steps and the rules of time; the defaults are what ``publish`` and ``collect`` do.

    :param leased: how many of its digests a lease names.
    """

    writer: tuple[str, ...] = ("lease", "look", "head", "upload", "check", "manifest", "drop")
    collector: tuple[str, ...] = ("list", "mark", "leases", "manifests", "delete", "unmark")
    makes_new_generations: bool = True
    leases_count_until: int = ANYONE
    markers_stay_until: int = ANYONE
    deletes_until: int = OWNER
    leased: int | None = None


@dataclass(frozen=True)
class World:
    """Who is there, and whether time passes."""

    writers: int = 2
    collectors: int = 2
    digests: tuple[str, ...] = ("a",)
    leases_age: bool = False
    markers_age: bool = False


@dataclass(frozen=True, slots=True)
class Writer:
    """
    :param at: number of the next step.
    :param lease: its age; None: it is not in the store.
    :param condemned: digests of which a marker was seen.
    :param missing: digests to upload.
    :param keys: what the manifest is to name.
    """

    at: int = 0
    lease: int | None = None
    condemned: frozenset[str] = frozenset()
    missing: frozenset[str] = frozenset()
    keys: frozenset[Key] = frozenset()


@dataclass(frozen=True, slots=True)
class Collector:
    """
    :param markers: digests of which its marker is in the store; ``age`` is that of the oldest.
    :param doomed: keys that were listed, and not spared so far.
    :param sent: a key whose delete is on its way; ``is_late``: it was sent when the marker was good no more.
    """

    at: int = 0
    markers: frozenset[str] = frozenset()
    age: int = GOOD
    doomed: frozenset[Key] = frozenset()
    sent: Key | None = None
    is_late: bool = False


@dataclass(frozen=True, slots=True)
class State:
    """
    :param manifests: by writer; None: not published.
    """

    blobs: frozenset[Key]
    writers: tuple[Writer, ...]
    collectors: tuple[Collector, ...]
    manifests: tuple[frozenset[Key] | None, ...]

    @property
    def has_lost(self) -> bool:
        """Whether a published version misses a blob."""
        return any(keys is not None and not keys <= self.blobs for keys in self.manifests)

    def with_writer(self, number: int, writer: Writer) -> State:
        return replace(self, writers=(*self.writers[:number], writer, *self.writers[number + 1 :]))

    def with_collector(self, number: int, collector: Collector) -> State:
        return replace(self, collectors=(*self.collectors[:number], collector, *self.collectors[number + 1 :]))


def beginning(world: World) -> State:
    blobs = frozenset(Key(digest, FIRST) for digest in world.digests)
    return State(blobs, (Writer(),) * world.writers, (Collector(),) * world.collectors, (None,) * world.writers)


@cache
def programs(protocol: Protocol, world: World) -> tuple[tuple[Step, ...], tuple[Step, ...]]:
    """Return the steps of a writer and of a collector: what concerns each digest or each writer is a step for each."""
    about = {
        **dict.fromkeys(("look", "head", "upload", "mark", "unmark"), world.digests),
        **dict.fromkeys(("leases", "manifests"), range(world.writers)),
    }
    return tuple(  # type: ignore[return-value]
        tuple(Step(name, one) for name in names for one in about.get(name, (None,)))
        for names in (protocol.writer, protocol.collector)
    )


# --- one step


def write(state: State, number: int, program: tuple[Step, ...], protocol: Protocol, world: World) -> Iterator[State]:
    """Yield what may be after a writer's next step."""
    me = state.writers[number]
    if me.at == len(program):
        return
    step, on = program[me.at], replace(me, at=me.at + 1)
    digest = str(step.about)
    if step.name == "lease":
        yield state.with_writer(number, replace(on, lease=GOOD))
    elif step.name == "look":
        is_condemned = any(digest in collector.markers for collector in state.collectors)
        yield state.with_writer(number, replace(on, condemned=me.condemned | {digest}) if is_condemned else on)
    elif step.name == "head":
        for key in _found(state, digest, me, protocol):
            chosen = {"missing": me.missing | {digest}} if key is None else {"keys": me.keys | {key}}
            yield state.with_writer(number, replace(on, **chosen))
    elif step.name == "upload":
        if digest in me.missing:
            is_new = protocol.makes_new_generations and digest in me.condemned
            key = Key(digest, number + 1 if is_new else FIRST)
            state, on = replace(state, blobs=state.blobs | {key}), replace(on, keys=me.keys | {key})
        yield state.with_writer(number, replace(on, missing=me.missing - {digest}))
    elif step.name == "check":
        gives_up = Writer(at=len(program), lease=me.lease)
        yield state.with_writer(number, on if me.lease == GOOD else gives_up)
    elif step.name == "manifest":
        manifests = (*state.manifests[:number], me.keys, *state.manifests[number + 1 :])
        yield replace(state, manifests=manifests).with_writer(number, Writer(on.at, me.lease))
    elif step.name == "drop":
        yield state.with_writer(number, replace(on, lease=None))


def _found(state: State, digest: str, me: Writer, protocol: Protocol) -> list[Key | None]:
    """Return the blobs that a writer may find; None: it has to upload."""
    if digest in me.condemned and protocol.makes_new_generations:
        return [None]
    if Key(digest, FIRST) in state.blobs:
        return [Key(digest, FIRST)]
    return [key for key in state.blobs if key.digest == digest] or [None]


def collect(state: State, number: int, program: tuple[Step, ...], protocol: Protocol, world: World) -> Iterator[State]:
    """Yield what may be after a collector's next step."""
    me = state.collectors[number]
    if me.at == len(program):
        return
    step, on = program[me.at], replace(me, at=me.at + 1)
    if step.name == "list":
        yield state.with_collector(number, replace(on, doomed=state.blobs))
    elif step.name == "mark":
        yield state.with_collector(number, replace(on, markers=me.markers | {step.about}))
    elif step.name == "leases":
        lease = state.writers[step.about].lease
        counts = lease is not None and lease < protocol.leases_count_until
        spared = world.digests[: protocol.leased] if counts else ()
        doomed = frozenset(key for key in me.doomed if key.digest not in spared)
        yield state.with_collector(number, replace(on, doomed=doomed))
    elif step.name == "manifests":
        yield state.with_collector(number, replace(on, doomed=me.doomed - (state.manifests[step.about] or frozenset())))
    elif step.name == "delete":
        yield from _delete(state, number, on, protocol)
    elif step.name == "unmark":
        yield state.with_collector(number, replace(on, markers=me.markers - {step.about}))


def _delete(state: State, number: int, on: Collector, protocol: Protocol) -> Iterator[State]:
    me = state.collectors[number]
    if me.sent is not None:  # it arrives
        yield replace(state, blobs=state.blobs - {me.sent}).with_collector(
            number, replace(me, sent=None, is_late=False)
        )
    elif not me.doomed or me.age >= protocol.deletes_until:
        yield state.with_collector(number, replace(on, doomed=frozenset()))
    else:
        for key in me.doomed:
            yield state.with_collector(number, replace(me, sent=key, is_late=me.age > GOOD, doomed=me.doomed - {key}))


def pass_time(state: State, program: tuple[Step, ...], protocol: Protocol, world: World) -> Iterator[State]:
    """Yield what may be when a lease or marker has grown older, or a later collector removed a marker."""
    for number, writer in enumerate(state.writers):
        is_on_its_way = writer.at < len(program) and program[writer.at].name == "manifest"
        if world.leases_age and writer.lease is not None and writer.lease < (OWNER if is_on_its_way else ANYONE):
            yield state.with_writer(number, replace(writer, lease=writer.lease + 1))
    for number, collector in enumerate(state.collectors):
        if not world.markers_age or not collector.markers:
            continue
        if collector.age < (OWNER if collector.sent and not collector.is_late else ANYONE):
            yield state.with_collector(number, replace(collector, age=collector.age + 1))
        if collector.age >= protocol.markers_stay_until:
            yield state.with_collector(number, replace(collector, markers=frozenset()))


# --- all of them


@dataclass(frozen=True)
class Explored:
    """
    :param loss: the shortest way to a lost version; None: there is none.
    """

    states: int
    loss: tuple[State, ...] | None


def explore(protocol: Protocol, world: World) -> Explored:
    """Visit every reachable state, the nearest first, until a version is lost."""
    start = beginning(world)
    came_from: dict[State, State | None] = {start: None}
    waiting = deque([start])
    while waiting:
        state = waiting.popleft()
        if state.has_lost:
            return Explored(len(came_from), tuple(_way(state, came_from)))
        for following in successors(state, protocol, world):
            if following not in came_from:
                came_from[following] = state
                waiting.append(following)
    return Explored(len(came_from), None)


def successors(state: State, protocol: Protocol, world: World) -> Iterable[State]:
    """Return what may be next."""
    of_writers, of_collectors = programs(protocol, world)
    for number in range(world.writers):
        yield from write(state, number, of_writers, protocol, world)
    for number in range(world.collectors):
        yield from collect(state, number, of_collectors, protocol, world)
    yield from pass_time(state, of_writers, protocol, world)


def _way(state: State | None, came_from: dict[State, State | None]) -> list[State]:
    way = []
    while state is not None:
        way.append(state)
        state = came_from[state]
    return way[::-1]
