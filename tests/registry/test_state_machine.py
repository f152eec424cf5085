"""
Everything that the face of a registry can do, in any order, killed after any request; beside it, what should be true in
plain Python.

A kill ends every request of that process, as ``kill -9`` does: also those that would tidy up. What it interrupted must
be done or not be done, nothing else. After every step each listed version's files are read and compared.
"""

import copy
import hashlib
import os
import shutil
import tempfile
import time
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from airflow_provider_hfreg.errors import (
    AliasNotFoundError,
    ModelNotFoundError,
    VersionExistsError,
    VersionInUseError,
    VersionNotFoundError,
)
from airflow_provider_hfreg.registry import Registry
from airflow_provider_hfreg.storage.local import LocalStore
from airflow_provider_hfreg.testing.faults import ANY, Fault, Faults, FaultyStore
from airflow_provider_hfreg.testing.models import text_classifier
from airflow_provider_hfreg.versions.garbage import collect
from airflow_provider_hfreg.versions.layout import Layout

MODELS = st.sampled_from(["finbert", "other"])
VERSIONS = st.sampled_from(["v1", "v2", "v3"])
CONTENTS = st.sampled_from([(0, 1), (0, 2), (1, 1)])  # which weights, and a parameter: two contents share weights
ALIASES = st.sampled_from(["champion", "candidate"])
TASK = "text-classification"


class Killed(BaseException):
    """The process is no more: from the chosen request on, none is made."""


class ExpectedModel:
    """What a model should hold."""

    def __init__(self):
        self.versions, self.deleted, self.aliases, self.default = {}, set(), {}, None
        self.tags, self.metrics = {}, {}

    def seen(self):
        names = ("versions", "aliases", "tags", "metrics", "default")
        return {name: getattr(self, name) for name in names}

    def oldest(self):
        return next(iter(self.versions), None)


class RegistryMachine(RuleBasedStateMachine):
    """One registry on a folder; one process at a time, which may be killed."""

    folders: tuple[Path, ...] = ()

    def __init__(self):
        super().__init__()
        self.root = Path(tempfile.mkdtemp(prefix="hfreg-machine-"))
        self.store = LocalStore((self.root / "registry").as_uri())
        self.expected = {}
        self.kill_after = None

    def teardown(self):
        shutil.rmtree(self.root)

    # --- doing

    def do(self, action, *refusals):
        """Let one process do something, and end it at the chosen request; True if it got to its end."""
        faulty = FaultyStore(self.store, self._faults())
        registry = Registry(faulty, cache_folder=self.root / "cache")
        try:
            action(registry)
        except Killed:
            return False
        except refusals:
            return None
        return True

    def _faults(self):
        calls, self.kill_after = self.kill_after, None
        if calls is None:
            return Faults()
        passed = iter(range(calls))

        def die():
            if next(passed, None) is None:
                raise Killed

        return Faults(Fault(ANY, die, call=None))

    def change(self, action, apply, *refusals):
        """Do something that, done or not, is all or nothing; ``apply`` changes what is expected, or says False."""
        after = copy.deepcopy(self.expected)
        is_refused = apply(after) is False
        done = self.do(action, *refusals)
        if done is None:
            assert is_refused
        elif done:
            assert not is_refused
            self.expected = after
        elif not is_refused and self._seen() == _seen_of(after):
            self.expected = after  # killed when it was done

    def _model(self, expected, name):
        return expected.setdefault(name, ExpectedModel())

    # --- the face

    @initialize()
    def begin(self):
        """A model whose default is set, so that garbage is possible from the first step on."""
        for version in ("v1", "v2"):
            self.log("finbert", version, (1, 1))
        self.set_default("finbert", "v1")

    @rule(model=MODELS, version=VERSIONS, content=CONTENTS)
    def log(self, model, version, content):
        weights, top_k = content

        def action(registry):
            registry.log_folder(
                self.folders[weights],
                model_name=model,
                version_name=version,
                task=TASK,
                pipeline_kwargs={"top_k": top_k},
                metrics={"top_k": top_k},
            )

        def apply(expected):
            known = self._model(expected, model)
            if version in known.deleted or known.versions.get(version, content) != content:
                return False
            known.versions.setdefault(version, content)
            return True

        self.change(action, apply, VersionExistsError)

    @rule(model=MODELS, version=VERSIONS, other=MODELS, other_version=VERSIONS)
    def copy_version(self, model, version, other, other_version):
        def action(registry):
            registry.copy_version(f"{model}/{version}", model_name=other, version_name=other_version)

        def apply(expected):
            content = self._model(expected, model).versions.get(version)
            known = self._model(expected, other)
            if content is None or other_version in known.deleted:
                return False
            return known.versions.setdefault(other_version, content) == content

        self.change(action, apply, *NOT_THERE, VersionExistsError)

    @rule(model=MODELS, version=VERSIONS)
    def set_default(self, model, version):
        def apply(expected):
            known = self._model(expected, model)
            if version not in known.versions:
                return False
            known.default = version
            return True

        self.change(lambda registry: _of(registry, model).set_default(version), apply, *NOT_THERE)

    @rule(model=MODELS, alias=ALIASES, version=VERSIONS)
    def set_alias(self, model, alias, version):
        def apply(expected):
            known = self._model(expected, model)
            if version not in known.versions:
                return False
            known.aliases[alias] = version
            return True

        self.change(lambda registry: _of(registry, model).set_alias(alias, version), apply, *NOT_THERE)

    @rule(model=MODELS, alias=ALIASES)
    def delete_alias(self, model, alias):
        def apply(expected):
            known = self._model(expected, model)
            if not known.versions:
                return False
            return known.aliases.pop(alias, False) is not False

        self.change(lambda registry: _of(registry, model).delete_alias(alias), apply, *NOT_THERE, AliasNotFoundError)

    @rule(model=MODELS, value=st.sampled_from(["risk", None]))
    def set_tag(self, model, value):
        def apply(expected):
            known = self._model(expected, model)
            if not known.versions:
                return False
            known.tags = {} if value is None else {"team": value}
            return True

        self.change(lambda registry: _of(registry, model).set_tags({"team": value}), apply, *NOT_THERE)

    @rule(model=MODELS, value=st.sampled_from([0.5, None, {"f1": [1]}]))
    def set_metric(self, model, value):
        def apply(expected):
            known = self._model(expected, model)
            if not known.versions:
                return False
            known.metrics = {"least": value}
            return True

        self.change(lambda registry: _of(registry, model).set_metrics({"least": value}), apply, *NOT_THERE)

    @rule(model=MODELS)
    def delete_metric(self, model):
        def apply(expected):
            known = self._model(expected, model)
            if not known.versions:
                return False
            known.metrics = {}
            return True

        self.change(lambda registry: _of(registry, model).delete_metric("least"), apply, *NOT_THERE)

    @rule(model=MODELS, version=VERSIONS)
    def delete_version(self, model, version):
        def apply(expected):
            known = self._model(expected, model)
            is_default = version == known.default or (
                known.default is None and len(known.versions) > 1 and version == known.oldest()
            )
            if version not in known.versions or is_default or version in known.aliases.values():
                return False
            del known.versions[version]
            known.deleted.add(version)
            if not known.versions:  # the last one: what was said is of a model that is no more
                known.tags, known.metrics = {}, {}
            return True

        refusals = (*NOT_THERE, VersionInUseError)
        self.change(lambda registry: _of(registry, model).delete_version(version), apply, *refusals)

    @rule(model=MODELS)
    def delete_model(self, model):
        def apply(expected):
            known = self._model(expected, model)
            if not known.versions or known.default or known.aliases:
                return False
            known.deleted |= known.versions.keys()
            known.versions, known.tags, known.metrics = {}, {}, {}
            return True

        self.change(lambda registry: _of(registry, model).delete(), apply, *NOT_THERE, VersionInUseError)

    @rule()
    def collect(self):
        self.change(lambda registry: collect(registry._store, dry_run=False), lambda _: True)

    # --- what happens to it

    @rule(calls=st.integers(0, 40))
    def kill_the_next(self, calls):
        """The process of the next step dies at this request, if it makes as many."""
        self.kill_after = calls

    @rule()
    def pass_time(self):
        """Whatever a killed process left in the store gets too old for anyone."""
        long_ago = time.time() - 24 * 3600
        for folder in (Layout.LEASES, Layout.CONDEMNED):
            for info in self.store.list_infos(folder):
                os.utime(self.store.root / info.key, (long_ago, long_ago))

    # --- what is always true

    @invariant()
    def what_is_listed_is_what_should_be(self):
        assert self._seen() == _seen_of(self.expected)

    @invariant()
    def every_listed_version_has_all_its_bytes(self):
        for model in Registry(self.store, cache_folder=self.root / "cache").models():
            for version in model.versions():
                for file in version.manifest.files:
                    assert f"sha256:{hashlib.sha256(self.store.get(file.key)).hexdigest()}" == file.digest

    def _seen(self):
        registry = Registry(self.store, cache_folder=self.root / "cache")
        return {
            model.name: {
                "versions": {version.version_name: _content_of(version) for version in model.versions()},
                "aliases": model.aliases(),
                "tags": model.tags,
                "metrics": model.metrics,
                "default": model.default.version_name,
            }
            for model in registry.models()
            if model.version_names()
        }


NOT_THERE = (ModelNotFoundError, VersionNotFoundError)


def _of(registry, name):
    return registry.get_model(name)


def _content_of(version):
    (weights,) = (file.digest for file in version.manifest.files if file.path.endswith(".safetensors"))
    assert version.metrics == {"top_k": version.spec.parameters["top_k"]}
    return RegistryMachine.weights.index(weights), version.spec.parameters["top_k"]


def _seen_of(expected):
    return {
        name: known.seen() | {"default": known.default or known.oldest()}
        for name, known in expected.items()
        if known.versions
    }


@pytest.fixture(scope="module")
def machine(tmp_path_factory):
    folders = tuple(text_classifier(tmp_path_factory.mktemp("m") / str(seed), seed=seed) for seed in (0, 1))
    RegistryMachine.folders = folders
    RegistryMachine.weights = [
        f"sha256:{hashlib.sha256((folder / 'model.safetensors').read_bytes()).hexdigest()}" for folder in folders
    ]
    return RegistryMachine


def check(machine, examples, steps):
    unhurried = settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, suppress_health_check=list(HealthCheck)
    )
    run_state_machine_as_test(machine, settings=unhurried)


def test_whatever_is_done_and_killed_leaves_what_should_be(machine):
    check(machine, examples=10, steps=20)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_whatever_is_done_and_killed_leaves_what_should_be_for_long(machine):
    check(machine, examples=300, steps=40)
