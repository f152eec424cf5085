"""
The registry: logging versions, and finding them.

A registry is a URL and what is needed to reach it; it holds no connection open and caches nothing but files, so it is
cheap to make and never out of date. Importing this module loads no torch; :meth:`Registry.log_model` does, and logging
from a folder does not.
"""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Unpack

from airflow_provider_hfreg.errors import (
    DigestMismatchError,
    ModelReferenceError,
    StorageDeniedError,
    VersionExistsError,
)
from airflow_provider_hfreg.pipelines.folder import describe_folder
from airflow_provider_hfreg.registry.catalogue import Catalogue
from airflow_provider_hfreg.registry.environment import describe_environment, describe_writer, now
from airflow_provider_hfreg.registry.frames import frame_of
from airflow_provider_hfreg.registry.hub import download_snapshot
from airflow_provider_hfreg.registry.model import Model
from airflow_provider_hfreg.registry.request import (
    Described,
    LogRequest,
    check_methods_callable,
    check_signed,
    check_task,
    functions_of,
    make_request,
)
from airflow_provider_hfreg.registry.search import Query, make_query
from airflow_provider_hfreg.registry.summaries import MODEL_COLUMNS, ModelSummary, VersionSummary
from airflow_provider_hfreg.registry.transfers import (
    check_said,
    check_same_files,
    check_storable,
    moved,
    read_exported,
)
from airflow_provider_hfreg.registry.verification import Verification, verify_stored
from airflow_provider_hfreg.registry.version import ModelVersion
from airflow_provider_hfreg.registry.version_names import random_version_name
from airflow_provider_hfreg.storage.base import ObjectStore
from airflow_provider_hfreg.storage.disk import explained
from airflow_provider_hfreg.storage.probe import ProbeResult, probe_conditional_writes
from airflow_provider_hfreg.storage.read_only import ReadOnlyStore
from airflow_provider_hfreg.storage.urls import open_store
from airflow_provider_hfreg.versions.cache import HostCache
from airflow_provider_hfreg.versions.cache_settings import CHOOSE_FOLDER, default_cache_folder, default_cache_size_gib
from airflow_provider_hfreg.versions.format import ensure_format
from airflow_provider_hfreg.versions.garbage import GarbageReport, collect
from airflow_provider_hfreg.versions.intake import look_into, select, transfer_progress, upload_missing
from airflow_provider_hfreg.versions.layout import ModelReference, check_name, parse_reference
from airflow_provider_hfreg.versions.manifest import Annotations, Manifest, VersionFile
from airflow_provider_hfreg.versions.publish import Published, Upload, find_manifest, publish
from airflow_provider_hfreg.versions.secrets import check_no_secret
from airflow_provider_hfreg.versions.sources import LocalFolder, Source, source_of, told_as

if TYPE_CHECKING:
    from airflow_provider_hfreg.pipelines.spec import PipelineSpec
    from airflow_provider_hfreg.storage.settings import S3Settings

_NAMES_DRAWN = 5


class Registry:
    """
    Models under one URL.

    .. code-block:: python

        registry = Registry("s3://bucket/prefix")            # or Registry("file:///srv/hfreg")
        mv = registry.log_model(pipe, model_name="finbert", version_name="v1", metrics={"accuracy": 0.91})
        mv.run(frame)

    :param url: ``s3://bucket/prefix`` or ``file:///folder``, or a store of your own; nothing is asked of it yet.
    :param s3: how to reach S3; None takes what boto3 finds.
    :param cache_folder: files of versions on this host; None for ``$HFREG_CACHE``, else ``~/.cache/hfreg``.
    :param cache_size_gib: above it, files that were used least recently go; None for ``$HFREG_CACHE_SIZE_GIB``, else
        half of the disk; ``inf`` for no bound.
    :param read_only: refuse to change anything: to log, edit, delete or collect.
    :raises StorageUrlError: no such URL.
    """

    def __init__(
        self,
        url: str | ObjectStore,
        *,
        s3: S3Settings | None = None,
        cache_folder: str | Path | None = None,
        cache_size_gib: float | None = None,
        read_only: bool = False,
    ) -> None:
        store = url if isinstance(url, ObjectStore) else open_store(url, s3)
        self._store = ReadOnlyStore(store) if read_only else store
        self._s3 = s3
        self._cache = HostCache(
            default_cache_folder() if cache_folder is None else Path(cache_folder),
            size_gib=default_cache_size_gib() if cache_size_gib is None else cache_size_gib,
        )
        self._catalogue = Catalogue(self._store)
        self._is_read_only = read_only

    def __repr__(self) -> str:
        return f"Registry({self.url!r})"

    @property
    def url(self) -> str:
        """The registry's root; holds no credential."""
        return self._store.url

    # --- finding

    def models(self) -> list[Model]:
        """Return the models, by name: one request. One whose versions were all deleted may still be among them."""
        return [self._model(name) for name in self._catalogue.model_names()]

    def model_summaries(self) -> list[ModelSummary]:
        """Return what is known of each model, by name: one request, and two for each model."""
        return self._catalogue.model_summaries()

    def show_models(self) -> Any:
        """Return the models as a ``pandas.DataFrame``: versions, default, aliases, metrics, tags, comment."""
        return frame_of(MODEL_COLUMNS, (summary.plain() for summary in self.model_summaries()))

    def search(
        self,
        *,
        task: str | None = None,
        tags: Mapping[str, str | None] | None = None,
        metrics: str | Sequence[str] = (),
        models: str = "*",
    ) -> list[ModelVersion]:
        """
        Return the versions that fit, by model and age.

        .. code-block:: python

            registry.search(task="text-classification", tags={"team": "risk"}, metrics=["accuracy >= 0.9"])

        There is no index to grow stale, so every version of the models in question is read: for each model three
        requests, for each version one, and one more for each that was ever edited. Narrow ``models`` where a registry
        holds many.

        :param task: the pipeline task, under any of its names.
        :param tags: of the version, not of its model: key → value; None as a value means that the tag is there.
        :param metrics: of the version: comparisons with ``>= <= == != > <``, all of which must hold. Dots lead into a
            metric that is a JSON object. A version without the metric never fits.
        :param models: a pattern of model names with ``*`` and ``?``.
        :raises InvalidOptionError: no comparison.
        """
        found = self.search_summaries(make_query(task=task, tags=tags, metrics=metrics, models=models))
        return [ModelVersion(self._store, self._cache, summary.manifest) for summary in found]

    def search_summaries(self, query: Query) -> list[VersionSummary]:
        """Return what is known of the versions that fit; see :meth:`search`."""
        names = filter(query.fits_model, self._catalogue.model_names())
        return [summary for name in names for summary in self._catalogue.summaries(name) if query.fits(summary)]

    def get_model(self, name: str) -> Model:
        """
        Return a model.

        :raises ModelNotFoundError: it has no version; the message lists models that have.
        """
        self._catalogue.check_model(name)
        return self._model(name)

    def resolve(self, reference: str | Mapping[str, Any] | ModelVersion) -> ModelVersion:
        """
        Return the version that a reference means now.

        :param reference: ``finbert/v1``, ``finbert@champion``, ``finbert`` for its default, or the dict that
            :meth:`ModelVersion.to_reference` gave, whose digest is then compared; or a version, which is that dict.
        :raises ModelReferenceError: no reference.
        :raises DigestMismatchError: the version here has other content than the dict says.
        """
        if isinstance(reference, str):
            return self._found(parse_reference(reference))
        if isinstance(reference, ModelVersion):
            return self.resolve(reference.to_reference())
        if not isinstance(reference, Mapping):
            raise ModelReferenceError(
                f"{reference!r:.80} refers to no version: give text such as 'finbert/v1', what "
                "ModelVersion.to_reference returned, or a version."
            )
        try:
            names = ModelReference(str(reference["model_name"]), str(reference["version_name"]))
        except KeyError as error:
            raise ModelReferenceError(
                f"{dict(reference)!r} refers to no version: it lacks {error}. Give what "
                "ModelVersion.to_reference returned, or text such as 'finbert/v1'."
            ) from None
        version = self._found(names)
        expected = reference.get("content_digest", version.content_digest)
        if version.content_digest != expected:
            raise DigestMismatchError(
                f"{version.reference} in {self.url} has the digest {version.content_digest}, and the reference says "
                f"{expected} (logged in {reference.get('registry', 'an unknown registry')}). It is another model under "
                "the same name: use the registry that it was logged in."
            )
        return version

    def _found(self, reference: ModelReference) -> ModelVersion:
        check_name(reference.model_name, "model")
        manifest = self._catalogue.get_manifest(reference.model_name, self._catalogue.resolve(reference))
        return ModelVersion(self._store, self._cache, manifest)

    def _model(self, name: str) -> Model:
        return Model(self._store, self._cache, name)

    # --- logging

    def log_model(self, pipe: Any, *, model_name: str, **described: Unpack[Described]) -> ModelVersion:
        """
        Log a pipeline object.

        :param pipe: a ``transformers.Pipeline``, or what ``airflow_provider_hfreg.inference.pipeline`` returned.
        :param model_name: the registered name; it begins with its first version.
        :param described: version name, comment, metrics, tags, options …: see :class:`.request.Described`.
        :returns: the version; ``created`` is False if this very content was there under this name.
        :raises VersionExistsError: the name holds other content.
        :raises SignatureRequiredError: nothing can be inferred for the task.
        :raises UnsafeModelError: a pickle, Python without consent, an access token.
        :raises LocalFileError: the cache folder, where it is packaged, cannot be written, or its disk is full.
        """
        from airflow_provider_hfreg.inference.packaging import (  # noqa: PLC0415 - loads torch
            check_methods_kept,
            check_self_contained,
            package_pipeline,
        )

        request = make_request(model_name=model_name, **described)
        check_self_contained(pipe)
        check_methods_callable(pipe, request.options["target_methods"])
        check_methods_kept(pipe, request.options["target_methods"])
        check_signed(request, pipe.task)
        self._begin()
        with self._cache.scratch() as scratch:
            folder = scratch / "package"
            with explained("Writing", folder, also=CHOOSE_FOLDER):
                spec = package_pipeline(pipe, folder)
            return self._log(LocalFolder(folder), request, lambda _: spec)

    def log_folder(
        self,
        folder: str | Path,
        *,
        model_name: str,
        task: str,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        **described: Unpack[Described],
    ) -> ModelVersion:
        """
        Log a Hugging Face folder. Its files are streamed; no weights are loaded, and torch is not needed.

        :param folder: a path, ``file:///…`` or ``s3://…`` (reached as the registry is).
        :param task: the pipeline task, such as ``text-classification``.
        :param pipeline_kwargs: what ``transformers.pipeline`` would be given beside the model: ``top_k``,
            ``max_new_tokens`` … Kept, and used at every run.
        :param described: as for :meth:`log_model`.
        """
        check_task(task)
        request = make_request(model_name=model_name, **described)
        check_signed(request, task)
        self._begin()
        with source_of(folder, self._s3, self._cache.scratch) as source:
            return self._log(source, request, lambda sketch: describe_folder(sketch, task, pipeline_kwargs or {}))

    def log_hub_model(
        self,
        repo_id: str,
        *,
        model_name: str,
        task: str,
        revision: str | None = None,
        token: str | None = None,
        pipeline_kwargs: Mapping[str, Any] | None = None,
        **described: Unpack[Described],
    ) -> ModelVersion:
        """
        Log a model of the Hugging Face hub, pinned to its commit. No weights are loaded.

        :param repo_id: such as ``ProsusAI/finbert``.
        :param revision: a branch, tag or commit; the commit that it means now is kept in the version.
        :param token: for this download alone; it is stored nowhere.
        :param task: as for :meth:`log_folder`, like ``pipeline_kwargs``.
        :param described: as for :meth:`log_model`.
        """
        check_task(task)
        request = make_request(model_name=model_name, **described)
        check_signed(request, task)
        self._begin()
        with self._cache.scratch() as scratch:
            snapshot = download_snapshot(
                repo_id, scratch / "snapshot", revision=revision, token=token, remote_code=request.trust_remote_code
            )

            def describe(sketch: Path) -> PipelineSpec:
                spec = describe_folder(sketch, task, pipeline_kwargs or {})
                return replace(spec, source={"repo_id": repo_id, "commit": snapshot.commit})

            source = LocalFolder(snapshot.folder, location=f"{repo_id} at {snapshot.commit[:12]}")
            return self._log(source, request, describe)

    # --- looking after it

    def verify(
        self, versions: Iterable[ModelVersion] | None = None, *, models: Iterable[str] | None = None
    ) -> Verification:
        """
        Read every stored byte of some versions, or of all, and compare digests. Nothing is kept on this machine.

        :param versions: default: every version of every model.
        :param models: names of models, all of whose versions are read.
        :returns: what was read, and all that is missing, damaged or cannot be read, documents included.
        """
        if versions is None and models is None:
            models = self._catalogue.model_names()
        manifests = [version.manifest for version in versions or ()]
        return verify_stored(self._store, models or (), manifests, lambda file: transfer_progress("read", file))

    def probe(self) -> ProbeResult:
        """
        Try whether the store keeps conditional writes, on objects of its own; the first logging does so, too.

        :raises ConditionalWritesUnsupportedError: it ignores a condition: two loggers of one version would both win.
        :raises StorageDeniedError: this user, or a registry that is read only, may write nothing.
        """
        return probe_conditional_writes(self._store)

    def collect_garbage(self, *, dry_run: bool = True) -> GarbageReport:
        """
        Delete what no version needs: blobs, documents of deleted versions, what killed writers left behind.

        Safe beside loggers and other collections; see :func:`airflow_provider_hfreg.versions.garbage.collect`.

        :param dry_run: change nothing and say what would be freed.
        """
        return collect(self._store, dry_run=dry_run)

    # --- from another place

    def copy_version(
        self,
        version: str | Mapping[str, Any] | ModelVersion,
        *,
        model_name: str | None = None,
        version_name: str | None = None,
        keep_annotations: bool = True,
        trust_remote_code: bool = False,
        verify: bool = True,
    ) -> ModelVersion:
        """
        Copy a version to another name, or from another registry into this one.

        .. code-block:: python

            production.copy_version(registry.resolve("finbert@champion"), version_name="2026-01")

        The content digest stays. Within a registry no byte moves; between two on one server, reached by the same keys,
        the server copies what was read here and found undamaged; else the files come through this machine one at a
        time. What comes from another registry passes the same rules as a folder that is logged here.

        :param version: of any registry; text is a reference in this one.
        :param model_name: default: the same.
        :param version_name: default: the same.
        :param keep_annotations: take tags, metrics and comment along as they are now. Aliases never come along.
        :param trust_remote_code: consent to storing the Python files of a version that comes from another registry.
        :param verify: read and hash what a server copies by itself. False saves the reading, and lets a blob that is
            damaged there lie under the same digest here, where every later version with that file relies on it.
        :raises BlobMissingError: the other registry has lost a file.
        :raises DigestMismatchError: a file there is damaged.
        :raises UnsafeModelError: it holds what may not be stored here.
        :raises VersionExistsError: the name holds other content.
        """
        origin = version if isinstance(version, ModelVersion) else self.resolve(version)
        copy = moved(
            origin.manifest,
            model_name=check_name(model_name or origin.model_name, "model"),
            version_name=check_name(version_name or origin.version_name, "version"),
            annotations=origin.annotations() if keep_annotations else Annotations(),
            registry_url=origin.registry_url,
        )
        check_said(copy, "the manifest")  # of one held here, too: its tags there may be a stranger's
        self._begin()
        with self._cache.scratch() as scratch:
            source = origin.source(scratch, verify=verify)
            if not self._holds(origin.manifest):
                check_storable(copy, source, trust_remote_code=trust_remote_code)
            return self._published(source, copy)

    def _holds(self, manifest: Manifest) -> bool:
        """Tell whether this very version lies here: two registries may have one URL, and any reader knows a nonce."""
        here = find_manifest(self._store, manifest.model_name, manifest.version_name)
        return here is not None and here.to_bytes() == manifest.to_bytes()

    def import_version(
        self,
        folder: str | Path,
        *,
        model_name: str | None = None,
        version_name: str | None = None,
        trust_remote_code: bool = False,
    ) -> ModelVersion:
        """
        Log what :meth:`ModelVersion.export` wrote, with its name, tags, metrics and lineage.

        :param folder: a path, ``file:///…`` or ``s3://…`` (reached as the registry is).
        :param model_name: default: as exported.
        :param version_name: default: as exported.
        :param trust_remote_code: consent to storing the Python files that the version holds.
        :raises DigestMismatchError: a file was changed, added or removed since; log such a folder as new content.
        :raises UnknownFormatError: the folder is no export, or its manifest was changed.
        :raises UnsafeModelError: it holds what may not be stored.
        :raises VersionExistsError: the name holds other content.
        """
        with source_of(folder, self._s3, self._cache.scratch) as source:
            exported = read_exported(source, trust_remote_code=trust_remote_code)
            self._begin()
            paths = select(source, remote_code=trust_remote_code)
            files = look_into(source, paths, remote_code=trust_remote_code)
            check_same_files(exported, files, source.location)
            copy = moved(
                exported,
                model_name=check_name(model_name or exported.model_name, "model"),
                version_name=check_name(version_name or exported.version_name, "version"),
                annotations=exported.logged,
                registry_url=None,
            )
            return self._published(source, copy)

    def _published(self, source: Source, manifest: Manifest) -> ModelVersion:
        published = publish(self._store, manifest, lambda missing: upload_missing(self._store, source, missing))
        return ModelVersion(self._store, self._cache, published.manifest, created=published.created)

    def _begin(self) -> None:
        """
        Prove, once per prefix, that the store keeps its word; before anything is packaged or sent.

        :raises StorageDeniedError: this registry was opened to read.
        """
        if self._is_read_only:
            raise StorageDeniedError(f"The registry {self.url} was opened with read_only=True: nothing can be logged.")
        ensure_format(self._store, created=now())

    def _log(self, source: Source, request: LogRequest, describe: Callable[[Path], PipelineSpec]) -> ModelVersion:
        """
        Publish a source's files as a version.

        :param describe: the source's sketch → what the pipeline is.
        """
        paths = select(source, remote_code=request.trust_remote_code)
        sketch = source.sketch(paths)
        with told_as(source.location, sketch):
            spec = describe(sketch)
        check_no_secret(spec.to_json(), "pipeline")
        functions_of(request, spec)  # a signature that is missing is told before gigabytes are hashed
        files = look_into(source, paths, remote_code=request.trust_remote_code)
        published = self._publish(request, spec, files, lambda missing: upload_missing(self._store, source, missing))
        return ModelVersion(self._store, self._cache, published.manifest, created=published.created)

    def _publish(
        self, request: LogRequest, spec: PipelineSpec, files: tuple[VersionFile, ...], upload: Upload
    ) -> Published:
        if request.version_name is not None:
            return publish(self._store, _manifest(request, request.version_name, spec, files), upload)
        for _ in range(_NAMES_DRAWN - 1):
            try:
                return publish(self._store, _manifest(request, random_version_name(), spec, files), upload)
            except VersionExistsError:
                continue  # nobody asked for this name: draw another
        return publish(self._store, _manifest(request, random_version_name(), spec, files), upload)


def _manifest(request: LogRequest, version_name: str, spec: PipelineSpec, files: tuple[VersionFile, ...]) -> Manifest:
    return Manifest(
        model_name=request.model_name,
        version_name=version_name,
        spec=spec,
        functions=functions_of(request, spec),
        options=request.options,
        environment=describe_environment(),
        files=files,
        logged=request.annotations,
        logged_by=request.logged_by or describe_writer(),
        lineage=request.lineage,
        nonce=uuid.uuid4().hex,
        created=now(),
    )
