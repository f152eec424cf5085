"""
Every error of this package: one tree, one root.

.. code-block:: text

    HfregError
    ├── NotFoundError
    │   ├── KeyNotFoundError               an object is not in the store
    │   ├── ModelNotFoundError
    │   ├── VersionNotFoundError           also: deleted
    │   ├── AliasNotFoundError
    │   ├── FunctionNotFoundError          (ValueError)
    │   └── RunNotFoundError               no batch run of this id wrote to the output folder
    ├── ConflictError
    │   ├── KeyExistsError                 put-if-absent met an object
    │   ├── VersionExistsError             the version name is taken by other content
    │   ├── VersionInUseError              a default or aliased version cannot be deleted
    │   ├── ObjectChangedError             an object is not the one that was seen before
    │   ├── FolderTakenError               (FileExistsError) an export goes into a new folder
    │   ├── CompareAndSwapLostError        retryable: another writer was faster
    │   └── LeaseLapsedError               retryable: a writer was silent for so long that its blobs may be collected
    ├── PublishStateUnknownError           retryable: the answer to the commit was lost and could not be read back
    ├── IntegrityError
    │   ├── BlobMissingError               a version's bytes are gone from the store
    │   ├── DigestMismatchError            the bytes are not those that were stored
    │   └── UnknownFormatError             written by a newer version of this package, or not by it
    ├── StorageError
    │   ├── StorageUrlError                (ValueError)
    │   ├── BucketNotFoundError
    │   ├── StorageDeniedError
    │   ├── StorageUnavailableError        retryable
    │   ├── LocalFileError                 a file or folder of this machine cannot be read or written
    │   └── ConditionalWritesUnsupportedError
    ├── SignatureError
    │   ├── InvalidNameError               (ValueError) of a model, a version, an alias
    │   ├── ModelReferenceError            (ValueError) text that is no reference to a version
    │   ├── SignatureRequiredError         (ValueError) the task is none of the inferred ones
    │   ├── UnsupportedPipelineError       (NotImplementedError) an option or a kind of pipeline that cannot be logged
    │   ├── InvalidOptionError             (ValueError) in log_model's options
    │   ├── ColumnMissingError
    │   ├── ColumnTypeError
    │   └── UnknownParameterError          (ValueError)
    ├── UnsafeModelError                   a pickle, unconsented remote code, a secret
    ├── InferenceError
    │   ├── InferenceExtraMissingError     torch or transformers is not installed here
    │   ├── ModelLoadError
    │   ├── ModelTooLargeError             refused before loading
    │   ├── DeviceMemoryError              retryable, with a smaller budget
    │   ├── DeviceLostError                retryable, in another process
    │   └── RowsFailedError                carries the good rows and the errors of the others
    ├── SettingsError                      a connection is missing, incomplete, or needs an extra that is not there
    │   └── RenderedValueError             (ValueError) what a template gave is not of the field's type
    ├── WorkerError
    │   ├── NoWorkerError                  retryable: none of the pool answers
    │   ├── BrokerUnavailableError         retryable
    │   ├── PoolMismatchError              the version cannot run on what the pool offers
    │   ├── MessageRefusedError            unsigned, of another protocol, or pointing outside
    │   │   └── MessageExpiredError        too old; it was sent again
    │   ├── ShardFailedError               retryable: a shard failed on its workers, for no reason of ours
    │   ├── ShardIgnoredError              retryable: a shard was sent several times, and idle workers do not take it
    │   └── ShardAbandonedError            a shard was begun several times and ended never: its workers died
    ├── StackError                         of `make stack`: a part of it does not start, or is not there
    └── RunError
        ├── InvalidRunOptionError          (ValueError) an option of a batch run that cannot be
        ├── InputNotFoundError
        ├── InputFormatError
        ├── QueryFailedError               a database refuses the query, or gives what no table holds
        ├── DatabaseUnavailableError       retryable
        ├── InputChangedError              an unfinished run meets other inputs
        ├── OutputExistsError              the folder holds something else
        ├── TooManyRowErrorsError
        ├── RowsNotConservedError          rows in are not rows ok + rows quarantined
        ├── RunCancelledError              stopped as asked; running again goes on
        └── RunAbandonedError              another run took this one's place

``retryable`` is read where an operator turns an error into a retry or into ``AirflowFailException``, and where a run on
a pool decides whether a shard is sent again; nothing else hides an error by it. A bad row is no exception but a
value: :class:`airflow_provider_hfreg.signatures.rows.RowError`. A message says what happened, where, and what to do,
in one paragraph.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Sequence


class HfregError(Exception):
    """Root of the tree. ``retryable``: the same call may succeed later, unchanged."""

    retryable: bool = False


def find_error_class(name: str) -> type[HfregError] | None:
    """
    Return the class of an error that another process told by its name, or None where it cannot be made from a message.

    >>> find_error_class("ModelLoadError").retryable, find_error_class("ZeroDivisionError")
    (False, None)
    """
    kind = globals().get(name)
    is_ours = isinstance(kind, type) and issubclass(kind, HfregError) and kind is not RowsFailedError  # that has rows
    return kind if is_ours else None


class NotFoundError(HfregError):
    """Something named is not there."""


class KeyNotFoundError(NotFoundError):
    """An object is not in the store."""


class ModelNotFoundError(NotFoundError):
    """No version of a model of this name was ever logged."""


class VersionNotFoundError(NotFoundError):
    """The model has no such version, or it was deleted."""


class AliasNotFoundError(NotFoundError):
    """The model has no such alias."""


class FunctionNotFoundError(NotFoundError, ValueError):
    """The version has no such function; the message lists those it has."""


class RunNotFoundError(NotFoundError):
    """No batch run of this id wrote to the output folder, or several begin so."""


class ConflictError(HfregError):
    """Something is there already, or was changed meanwhile."""


class KeyExistsError(ConflictError):
    """A put-if-absent met an object."""


class VersionExistsError(ConflictError):
    """The version name is taken by other content. Versions are immutable: choose another name."""


class VersionInUseError(ConflictError):
    """A version that is the default or has an alias is not deleted."""


class ObjectChangedError(ConflictError):
    """An object that is read is not, or not any more, the one that was seen before."""


class FolderTakenError(ConflictError, FileExistsError):
    """An export goes into a new folder, and there is a file, or a folder that holds something."""


class CompareAndSwapLostError(ConflictError):
    """Another writer changed the object between our read and our write."""

    retryable = True


class LeaseLapsedError(ConflictError):
    """A writer could not renew its lease in time: a collector may have deleted what it relied on."""

    retryable = True


class PublishStateUnknownError(HfregError):
    """The commit was sent, its answer lost, and the store could not be asked. Logging again is safe and settles it."""

    retryable = True


class IntegrityError(HfregError):
    """What is stored is not what was written."""


class BlobMissingError(IntegrityError):
    """A version's manifest is there, and the bytes of one of its files are gone from the store."""


class DigestMismatchError(IntegrityError):
    """The bytes read do not have the digest recorded in the manifest."""


class UnknownFormatError(IntegrityError):
    """A document of a format version that this package does not read."""


class StorageError(HfregError):
    """The store refused, or cannot do what is needed."""


class StorageUrlError(StorageError, ValueError):
    """A text that is no ``s3://bucket/prefix`` and no ``file:///folder``."""


class BucketNotFoundError(StorageError):
    """The bucket does not exist. (A folder is created by the first write.)"""


class StorageDeniedError(StorageError):
    """Wrong credentials, or no permission."""


class StorageUnavailableError(StorageError):
    """The store did not answer, or answered 5xx, after the client's own retries."""

    retryable = True


class LocalFileError(StorageError):
    """A file or folder of this machine cannot be read or written: no right, no room, something else in its place."""


class ConditionalWritesUnsupportedError(StorageError):
    """The store accepts conditional writes and ignores the condition: two loggers could both believe they won."""


class SignatureError(HfregError):
    """Names, types and parameters that do not fit."""


class InvalidNameError(SignatureError, ValueError):
    """A model, version or alias name outside the allowed alphabet."""


class ModelReferenceError(SignatureError, ValueError):
    """A text that is none of ``model``, ``model/version``, ``model@alias``."""


class SignatureRequiredError(SignatureError, ValueError):
    """No signature is inferred for this task: give ``signatures``."""


class UnsupportedPipelineError(SignatureError, NotImplementedError):
    """A pipeline, or an option of one, that a registry cannot hold."""


class InvalidOptionError(SignatureError, ValueError):
    """An option of ``log_model`` that does not exist, or a value it cannot have."""


class ColumnMissingError(SignatureError):
    """The table lacks a column that the signature requires."""


class ColumnTypeError(SignatureError):
    """A column of a type that cannot be read as the signature's."""


class UnknownParameterError(SignatureError, ValueError):
    """A run-time parameter that the version's signature does not list, or a value of the wrong type."""


class UnsafeModelError(HfregError):
    """Refused before upload: a pickle, remote code without consent, an access token in the metadata."""


class InferenceError(HfregError):
    """Loading or running a model failed."""


class InferenceExtraMissingError(InferenceError):
    """torch or transformers is not installed: ``pip install 'airflow-provider-hfreg[inference]'``."""


class ModelLoadError(InferenceError):
    """The files are there and whole, but transformers cannot build the model from them."""


class ModelTooLargeError(InferenceError):
    """The weights do not fit into the memory that is free; nothing was loaded."""


class DeviceMemoryError(InferenceError):
    """Out of memory even with the smallest batch."""

    retryable = True


class DeviceLostError(InferenceError):
    """The device answers nothing any more in this process."""

    retryable = True


class RowsFailedError(InferenceError):
    """
    Some rows of a frame failed; the others are in ``result``.

    :param message: what failed, in one paragraph.
    :param result: the good rows, a ``pandas.DataFrame`` with their index of the caller's frame.
    :param errors: one :class:`~airflow_provider_hfreg.signatures.rows.RowError` per failed row.
    """

    def __init__(self, message: str, *, result: Any, errors: Sequence[Any]) -> None:
        super().__init__(message)
        self.result = result
        self.errors = tuple(errors)


class SettingsError(HfregError):
    """A connection or a setting is missing or incomplete, or needs an extra that is not installed."""


class RenderedValueError(SettingsError, ValueError):
    """What a template gave, or a trigger form, is not of the field's type."""


class WorkerError(HfregError):
    """Something about executor pools and their workers."""


class NoWorkerError(WorkerError):
    """No worker of the pool answers."""

    retryable = True


class BrokerUnavailableError(WorkerError):
    """The message broker does not answer."""

    retryable = True


class PoolMismatchError(WorkerError):
    """The version cannot run on what the executor pool offers."""


class MessageRefusedError(WorkerError):
    """A message that a worker does not obey: unsigned, of another protocol, or pointing outside."""


class MessageExpiredError(MessageRefusedError):
    """A message that waited for too long, and was sent again meanwhile."""


class ShardFailedError(WorkerError):
    """A shard failed on its workers with an error that is none of this package's."""

    retryable = True


class ShardIgnoredError(WorkerError):
    """A shard was sent several times, and a worker that has nothing else to do does not take it."""

    retryable = True


class ShardAbandonedError(WorkerError):
    """A shard was begun several times and ended never: something about it ends its workers."""


class StackError(HfregError):
    """A part of a stack on one machine does not start, or there is no such part, or no stack."""


class RunError(HfregError):
    """A batch run cannot start, go on or finish."""


class InvalidRunOptionError(RunError, ValueError):
    """An option of a batch run has a value it cannot have; nothing was read or written."""


class InputNotFoundError(RunError):
    """No file matches the input."""


class InputFormatError(RunError):
    """An input file is not what its format says, or two files disagree on a column."""


class QueryFailedError(RunError):
    """A database refuses the query of an input, or gives a value that no column of a table holds."""


class DatabaseUnavailableError(RunError):
    """The database of an input's query did not answer, refused the login, or went away."""

    retryable = True


class InputChangedError(RunError):
    """An unfinished run of this identity has other inputs, parameters or another model version."""


class OutputExistsError(RunError):
    """The output folder holds something that this run did not write."""


class TooManyRowErrorsError(RunError):
    """More rows failed than ``max_row_errors`` allows."""


class RowsNotConservedError(RunError):
    """Rows in are not rows ok plus rows quarantined. The run has failed and says where the counts differ."""


class RunCancelledError(RunError):
    """Stopped between two batches because somebody asked for it; what was committed stays."""


class RunAbandonedError(RunError):
    """Another run took this one's place in the output folder: a retry would only take it back, and so on for ever."""
