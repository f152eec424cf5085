"""
A model version: what it is, what people say about it, and running it.

A version's content never changes, so its manifest is read once. Tags, metrics and comment do change, and are read at
every look. Importing this module loads no torch; :meth:`ModelVersion.run`, :meth:`~ModelVersion.load` and
:meth:`~ModelVersion.engine` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from airflow_provider_hfreg.errors import InvalidOptionError, UnsupportedPipelineError
from airflow_provider_hfreg.pipelines.catalog import find_column_task
from airflow_provider_hfreg.pipelines.objects import with_structs
from airflow_provider_hfreg.registry.catalogue import Catalogue
from airflow_provider_hfreg.registry.exporting import new_folder, write_export
from airflow_provider_hfreg.registry.frames import named_values
from airflow_provider_hfreg.registry.lineage import Lineage
from airflow_provider_hfreg.registry.request import check_metrics, check_tag_changes, make_annotations
from airflow_provider_hfreg.signatures.arrow import arrow_schema
from airflow_provider_hfreg.signatures.output_format import OUTPUT_FORMATS, OutputFormat
from airflow_provider_hfreg.signatures.params import check_params
from airflow_provider_hfreg.versions.intake import transfer_progress
from airflow_provider_hfreg.versions.layout import Layout
from airflow_provider_hfreg.versions.refs import State
from airflow_provider_hfreg.versions.sources import StoredVersion
from airflow_provider_hfreg.versions.swap import edit

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    import pyarrow as pa

    from airflow_provider_hfreg.inference.calls import AnyEngine
    from airflow_provider_hfreg.pipelines.spec import PipelineSpec
    from airflow_provider_hfreg.signatures.signature import ModelSignature
    from airflow_provider_hfreg.storage.base import ObjectStore
    from airflow_provider_hfreg.versions.cache import HeldFolder, HostCache
    from airflow_provider_hfreg.versions.manifest import Annotations, Manifest


class ModelVersion:
    """
    One immutable version. Made by a registry, not by hand.

    :ivar manifest: all that is known of its content.
    :ivar created: logging it made it; False where the same content was there already, and for a version that was found.
    """

    def __init__(self, store: ObjectStore, cache: HostCache, manifest: Manifest, *, created: bool = False) -> None:
        self._store = store
        self._cache = cache
        self._catalogue = Catalogue(store)
        self.manifest = manifest
        self.created = created

    def __repr__(self) -> str:
        return f"ModelVersion({self.reference!r}, {self.content_digest[:19]}…, {self._store.url!r})"

    # --- what it is

    @property
    def model_name(self) -> str:
        """Name of the model."""
        return self.manifest.model_name

    @property
    def version_name(self) -> str:
        """Name of the version."""
        return self.manifest.version_name

    @property
    def reference(self) -> str:
        """``model/version``, which means this version for ever."""
        return self.manifest.reference

    @property
    def registry_url(self) -> str:
        """URL of the registry that holds it."""
        return self._store.url

    @property
    def content_digest(self) -> str:
        """``sha256:<hex>``; equal digests run alike."""
        return self.manifest.content_digest

    @property
    def spec(self) -> PipelineSpec:
        """The pipeline apart from its files."""
        return self.manifest.spec

    @property
    def task(self) -> str:
        """The pipeline task."""
        return self.manifest.spec.task

    def optional_inputs(self, function_name: str = "__call__") -> frozenset[str]:
        """Return the input columns that a table may lack; only tasks that are run by columns have such."""
        task = find_column_task(self.task, self.manifest.function(function_name).target_method)
        return frozenset() if task is None else task.optional_inputs_under(self.spec.parameters)

    def signature(self, function_name: str = "__call__") -> ModelSignature:
        """Return the columns and parameters of a function."""
        return self.manifest.function(function_name).signature

    def show_functions(self) -> list[dict[str, Any]]:
        """Return name, target method and signature of each function."""
        return [
            {"name": function.name, "target_method": function.target_method, "signature": function.signature}
            for function in self.manifest.functions
        ]

    def output_schema(
        self,
        output_format: str = "json",
        *,
        function_name: str = "__call__",
        params: Mapping[str, Any] | None = None,
    ) -> pa.Schema:
        """
        Return the exact columns that a run gives; they follow from the manifest, nothing is loaded.

        :param output_format: as for :meth:`run`, and so the others.
        :param params: they may decide a type: with ``num_return_sequences`` above 1 a text becomes a list of texts.
        :raises InvalidOptionError: no such format.
        :raises UnknownParameterError: a parameter that a run would refuse, in either format.
        :raises UnsupportedPipelineError: structs of a function whose signature was given.
        """
        if output_format not in OUTPUT_FORMATS:
            known = " or ".join(map(repr, OUTPUT_FORMATS))
            raise InvalidOptionError(f"output_format is {output_format!r:.80}; write {known}.")
        function = self.manifest.function(function_name)
        given = check_params(params, function.signature.params, self.reference)
        columns = arrow_schema(function.signature.outputs)
        if output_format == OutputFormat.JSON.value:
            return columns
        task = find_column_task(self.task, function.target_method)
        if task is None:
            raise UnsupportedPipelineError(
                f"The signature of {function.target_method!r} in {self.reference} was given when it was logged, and "
                "does not say what its texts hold, so it gives no structs. Run it with output_format='json'."
            )
        return with_structs(columns, task.structs({**self.spec.parameters, **given}, self.spec.generation))

    def to_reference(self) -> dict[str, Any]:
        """
        Return plain values that name exactly this version, for XCom; :meth:`Registry.resolve` takes them back.

        A version of the same name with other content, in another registry say, is then refused instead of run.
        """
        return {
            "registry": self._store.url,
            "model_name": self.model_name,
            "version_name": self.version_name,
            "content_digest": self.content_digest,
            "task": self.task,
            "created": self.created,
        }

    def lineage(self) -> Lineage:
        """
        Return where it comes from: who logged it, on what training data, through which copies.

        The batch runs that used it are found where their outputs lie, by ``runs.uses.find_uses``.
        """
        return Lineage.of(self.manifest)

    # --- what people say about it

    def annotations(self) -> Annotations:
        """Return tags, metrics and comment as they are now, read at once."""
        return self._catalogue.annotations(self.manifest)

    def show_tags(self) -> Any:
        """Return the tags now as a ``pandas.DataFrame`` of ``tag_name`` and ``value``."""
        return named_values("tag", self.tags)

    def show_metrics(self) -> Any:
        """Return the metrics now as a ``pandas.DataFrame`` of ``metric_name`` and ``value``, any JSON values."""
        return named_values("metric", self.metrics)

    @property
    def tags(self) -> dict[str, str]:
        """The tags now."""
        return dict(self.annotations().tags)

    @property
    def metrics(self) -> dict[str, Any]:
        """The metrics now; any JSON values."""
        return dict(self.annotations().metrics)

    @property
    def comment(self) -> str | None:
        """The comment now."""
        return self.annotations().comment

    def set_tags(self, tags: Mapping[str, str | None]) -> None:
        """Set some tags; one given as None is removed. The others stay."""
        check_tag_changes(tags)
        self._edit(lambda state: state.with_tags(tags))

    def set_metrics(self, metrics: Mapping[str, Any]) -> None:
        """Set some metrics to any JSON values. The others stay."""
        plain = check_metrics(metrics)
        self._edit(lambda state: state.with_metrics(plain))

    def delete_metric(self, name: str) -> None:
        """Remove a metric; an absent one is no error."""
        self._edit(lambda state: state.without_metric(name))

    def set_comment(self, comment: str | None) -> None:
        """Set or remove the comment."""
        checked = make_annotations(comment=comment).comment
        self._edit(lambda state: state.with_comment(checked))

    def _edit(self, transition: Callable[[State], State]) -> None:
        """
        Edit what is said, of a version that is there before and after.

        Before, so that nothing is written that only a collection would remove; after, because head and state are two
        documents, and a deletion between them would let a caller believe that somebody can read what he said.

        :raises VersionNotFoundError: it was deleted.
        """
        self._catalogue.check_not_deleted(self.model_name, self.version_name)
        key = Layout.state(self.model_name, self.version_name)
        edit(self._store, key, State.from_plain, State(self.manifest.logged), transition)
        self._catalogue.check_not_deleted(self.model_name, self.version_name)

    # --- its files

    def local_folder(self, *, verify: bool = False) -> Path:
        """
        Return a folder on this host that ``from_pretrained`` reads; do not change it, others read it too.

        It stays until this process ends. Who reads it for a while only uses :meth:`hold_folder`.

        :param verify: read every byte again and compare digests, instead of trusting what was verified at download.
        :raises DigestMismatchError: the store's copy is damaged.
        """
        return self._cache.folder_of(
            self._store, self.manifest, verify=verify, progress=lambda file: transfer_progress("downloaded", file)
        )

    def hold_folder(self, *, verify: bool = False) -> HeldFolder:
        """
        Return that folder for as long as it is held: afterwards it may be evicted to make room for others.

        .. code-block:: python

            with version.hold_folder() as folder:
                model = AutoModel.from_pretrained(folder)

        :param verify: as for :meth:`local_folder`, and so the errors.
        """
        return self._cache.hold(
            self._store, self.manifest, verify=verify, progress=lambda file: transfer_progress("downloaded", file)
        )

    def prefetch(self) -> None:
        """Fetch the files that this host lacks, for a load that comes soon."""
        self.hold_folder().release()

    def source(self, scratch: Path, *, verify: bool = True) -> StoredVersion:
        """Return the version's files as something that can be logged elsewhere; for :meth:`Registry.copy_version`."""
        return StoredVersion(
            self._store,
            self.manifest,
            scratch,
            progress=lambda file: transfer_progress("downloaded", file),
            verify=verify,
        )

    def export(self, folder: str | Path, *, verify: bool = False) -> Path:
        """
        Copy the version into a folder of its own: a plain Hugging Face folder, and our manifest beside it.

        The manifest holds tags, metrics and comment as they are now, and is written last: an export that was cut short
        has none. :meth:`Registry.import_version` takes the folder back, here or in another registry.

        :param folder: absent or empty; a path or ``file:///folder``.
        :param verify: as for :meth:`local_folder`.
        :raises FolderTakenError: it holds something, or is a file.
        :raises LocalFileError: it cannot be written.
        :raises StorageUrlError: a URL of another place than this machine.
        """
        target = new_folder(folder)
        with self.hold_folder(verify=verify) as files:
            write_export(target, files, replace(self.manifest, logged=self.annotations()))
        return target

    # --- running it

    def engine(
        self,
        function_name: str = "__call__",
        *,
        device: str | None = None,
        trust_remote_code: bool = False,
        precision: str | None = None,
    ) -> AnyEngine:
        """
        Return the loaded model, ready to run rows. It stays in this process: the next call of an equal version gets it.

        :param function_name: as for :meth:`run`.
        :param device: ``cpu``, ``cuda:0`` …; None chooses.
        :param trust_remote_code: consent to running the Python files that the version holds.
        :param precision: as for :meth:`run`.
        :raises ModelTooLargeError: the weights do not fit into the free memory; nothing was downloaded.
        """
        from airflow_provider_hfreg.registry.residency import get_resident  # noqa: PLC0415 - loads torch

        function = self.manifest.function(function_name)
        resident = get_resident(self, function, device=device, trust_remote_code=trust_remote_code, precision=precision)
        resident.engine.fit()
        return resident.engine

    def load(self, *, device: str | None = None, trust_remote_code: bool = False, verify: bool = False) -> Any:
        """
        Return a callable pipeline: transformers' own class where the installed family has it, ours where it has not.

        For ``feature-extraction`` it is always ours: ``pipe("a text")["embedding"]`` is the one vector of the text,
        where transformers' own gives those of all its tokens.

        :param verify: read every byte of this host's copy again and compare digests before loading it; a damaged one
            is fetched anew.
        :raises DigestMismatchError: the store's copy is damaged.
        :raises ModelTooLargeError: the weights do not fit into the free memory; nothing was downloaded.
        """
        from airflow_provider_hfreg.registry.residency import load_pipeline_object  # noqa: PLC0415 - loads torch

        return load_pipeline_object(self, device=device, trust_remote_code=trust_remote_code, verify=verify)

    def run(
        self,
        frame: Any,
        *,
        function_name: str = "__call__",
        params: Mapping[str, Any] | None = None,
        on_row_error: str = "raise",
        output_format: str = "json",
        seed: int | None = None,
        device: str | None = None,
        trust_remote_code: bool = False,
        precision: str | None = None,
        token_budget: int | None = None,
        threads: int | None = None,
    ) -> Any:
        """
        Run a frame: one output row per row, in its order, with its index. The frame is not changed.

        :param frame: a ``pandas.DataFrame``; its columns named as the signature's inputs in any order, or unnamed
            (0, 1, …) in the signature's order. Others are ignored.
        :param function_name: as :meth:`show_functions` shows it, or the method's name.
        :param params: parameters of this run, over those that the pipeline was built with.
        :param on_row_error: ``raise`` after all rows ran, or ``null``: the failed rows' outputs are null.
        :param output_format: ``json``: columns that hold lists of objects hold them as JSON text, as the signature
            says. ``struct``: as Arrow values, ``list<struct<…>>`` in a column of ``pandas.ArrowDtype``;
            :meth:`output_schema` tells their types. The other columns are the same in both.
        :param seed: of sampling; None draws one. It is in the result's ``attrs["hfreg"]``.
        :param precision: ``bfloat16`` or ``float16`` for other numbers than the version's own, ``float32`` for those of
            a version that was logged in fewer bits; None: the version's own. ``attrs["hfreg"]`` says what it ran in and
            what that means.
        :param token_budget: tokens of one forward pass, padding and all; None: what suits the machine. It is halved
            where memory runs out.
        :param threads: of torch on the CPU, for this run; None: those of the process, within the container's cores.
        :returns: a ``pandas.DataFrame`` with the signature's output columns.
        :raises RowsFailedError: some rows failed; it carries the others' results.
        :raises ColumnMissingError: the frame lacks a column.
        :raises UnknownParameterError: a parameter that the signature does not have.
        :raises InvalidOptionError: an option that there is not.
        """
        from airflow_provider_hfreg.registry.residency import get_resident  # noqa: PLC0415 - loads torch
        from airflow_provider_hfreg.registry.running import run_frame  # noqa: PLC0415 - loads pandas

        function = self.manifest.function(function_name)
        return run_frame(
            self,
            frame,
            function=function,
            params=params,
            on_row_error=on_row_error,
            output_format=output_format,
            seed=seed,
            token_budget=token_budget,
            threads=threads,
            resident=lambda: get_resident(
                self, function, device=device, trust_remote_code=trust_remote_code, precision=precision
            ),
        )
