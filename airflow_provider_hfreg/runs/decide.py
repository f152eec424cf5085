"""
What to do when a run is asked for, given what lies in the output folder: pure, so that every case is a line of a test.

Who asks is the ``identity``; what is asked is the fingerprint. The cases, first match:

1. an unfinished run of both → it is resumed, with ``rerun`` too: its retry must not begin again;
2. an unfinished run of the identity with another fingerprint → refused; ``rerun`` abandons it;
3. a finished run of both, its parts all there → returned as it is, unless ``rerun``;
4. else a new run. It replaces whatever its identity wrote there before, as a task that is cleared replaces its result;
   ``if_output_exists`` speaks of everybody else's.

With ``rerun``, a try that ends after the run was finished and before its caller heard of it makes the next try do it
over: from here that cannot be told from being asked again. It costs work, never a row.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from airflow_provider_hfreg.runs.spec import Fingerprint, batch_run_id, identity_prefix


@dataclass(frozen=True)
class RunState:
    """
    One run that left traces in an output folder.

    :param parts: how many of its parts are there.
    :param planned: it has a ``run.json``.
    :param finished: it has a report.
    :param whole: it is finished, and all parts of its report are still there.
    :param abandoned: another run took its place.
    """

    batch_run_id: str
    parts: int = 0
    planned: bool = True
    finished: bool = False
    whole: bool = False
    abandoned: bool = False

    @property
    def is_open(self) -> bool:
        """It can go on."""
        return self.planned and not self.finished and not self.abandoned

    @property
    def is_in_the_way(self) -> bool:
        """It has, or will have, parts in the folder."""
        return self.parts > 0 or self.is_open


@dataclass(frozen=True)
class OutputState:
    """
    What an output folder holds.

    :param foreign: names that no batch run wrote, hidden ones left out.
    """

    runs: tuple[RunState, ...] = ()
    foreign: tuple[str, ...] = ()


class Action(Enum):
    """What is to be done."""

    BEGIN = "begin"
    RESUME = "resume"
    RETURN = "return"
    REFUSE_CHANGED = "refuse_changed"
    REFUSE_OUTPUT = "refuse_output"


@dataclass(frozen=True)
class Decision:
    """
    :param batch_run_id: to begin, resume or return; of the other run, where refused because of it.
    :param replaces: runs whose parts go when the new one is complete.
    :param blocking: what is in the way, by name.
    """

    action: Action
    batch_run_id: str = ""
    replaces: tuple[str, ...] = ()
    blocking: tuple[str, ...] = ()


def decide(
    identity: str,
    fingerprint: Fingerprint,
    output: OutputState,
    *,
    if_output_exists: str = "error",
    rerun: bool = False,
) -> Decision:
    """
    Return what to do.

    >>> ask = Fingerprint("v1", "r", "f")
    >>> run_id = batch_run_id("me", ask)
    >>> def case(*runs, foreign=(), **options):
    ...     decision = decide("me", ask, OutputState(runs, foreign), **options)
    ...     return decision.action.value, decision.batch_run_id.removeprefix(run_id) or "same", len(decision.replaces)
    >>> case()
    ('begin', 'same', 0)
    >>> case(RunState(run_id, parts=2))
    ('resume', 'same', 0)
    >>> case(RunState(run_id, parts=3, finished=True, whole=True))
    ('return', 'same', 0)
    >>> case(RunState(run_id, parts=3, finished=True, whole=True), rerun=True)
    ('begin', '-1', 1)
    >>> other = batch_run_id("me", Fingerprint("v2", "r", "f"))
    >>> case(RunState(other, parts=1))[0], case(RunState(other, parts=1), rerun=True)
    ('refuse_changed', ('begin', 'same', 1))
    >>> case(RunState(other, parts=3, finished=True))
    ('begin', 'same', 1)
    >>> stranger = batch_run_id("you", ask)
    >>> case(RunState(stranger, parts=1, finished=True))[0]
    'refuse_output'
    >>> case(RunState(stranger, parts=1, finished=True), if_output_exists="replace")
    ('begin', 'same', 1)
    >>> case(RunState(stranger, parts=1, finished=True), if_output_exists="append")
    ('begin', 'same', 0)
    """
    mine = [run for run in output.runs if run.batch_run_id.startswith(identity_prefix(identity))]
    repetitions = {_repetition(run, identity, fingerprint): run for run in mine}
    repetition = max(repetitions, default=-1)
    same = repetitions.get(repetition) if repetition >= 0 else None
    if same and same.is_open:
        return Decision(Action.RESUME, same.batch_run_id)
    changed = [run for run in mine if run.is_open]
    if changed and not rerun:
        return Decision(Action.REFUSE_CHANGED, changed[-1].batch_run_id)
    if same and same.whole and not same.abandoned and not rerun:
        return Decision(Action.RETURN, same.batch_run_id)
    new_id = batch_run_id(identity, fingerprint, repetition + 1)
    return _begin(new_id, output, own=mine, if_output_exists=if_output_exists)


def _begin(new_id: str, output: OutputState, *, own: Sequence[RunState], if_output_exists: str) -> Decision:
    others = [run for run in output.runs if run.is_in_the_way and run not in own]
    replaced = [run.batch_run_id for run in own if run.is_in_the_way]
    if if_output_exists == "append":
        return Decision(Action.BEGIN, new_id, tuple(replaced))
    if if_output_exists == "replace":
        replaced += [run.batch_run_id for run in others]
        others = []
    blocking = [run.batch_run_id for run in others] + list(output.foreign)
    if blocking:
        return Decision(Action.REFUSE_OUTPUT, blocking=tuple(blocking))
    return Decision(Action.BEGIN, new_id, tuple(replaced))


def _repetition(run: RunState, identity: str, fingerprint: Fingerprint) -> int:
    """Return which repetition of this identity and fingerprint a run is, or -1."""
    first = batch_run_id(identity, fingerprint)
    if run.batch_run_id == first:
        return 0
    number = run.batch_run_id.removeprefix(f"{first}-")
    return int(number) if number != run.batch_run_id else -1
