"""
The immutable document whose existence is a version.

Invariants:

- ``content_digest`` depends on what a worker loads, how it reads texts, and what a caller is promised, on nothing else:
  not on the name, the time, the machine or the nonce. Equal digests mean interchangeable versions.
- Files lie in the order of their paths, so that one content has one manifest.
- A path never leaves the folder that the version is exported to.

The tags, metrics and comment given at logging stand in the manifest itself (``logged``) and not in the state
document: so the one put that makes the version visible makes them visible too, and no crash leaves a version without
its metrics. The state document is born with the first edit.

A signature over a version will be a document of its own over the digest of the manifest's bytes, which never change; so
nothing is reserved for it in here. Readers ignore keys that they do not know.
"""

from __future__ import annotations

import functools
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import PurePosixPath
from typing import Any

from airflow_provider_hfreg.errors import FunctionNotFoundError, UnknownFormatError
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature
from airflow_provider_hfreg.versions.documents import (
    canonical_json,
    digest_of,
    document_json,
    field_of,
    read_document,
    texts_of,
)
from airflow_provider_hfreg.versions.layout import digest_hex


@dataclass(frozen=True)
class VersionFile:
    """
    One file of a version: a path in the exported folder, and the blob that holds its bytes.

    :param key: of the blob; kept although the digest tells it, because a later generation of a blob has another key.
    """

    path: str
    key: str
    digest: str
    size_bytes: int

    def __post_init__(self) -> None:
        # A manifest is read from a bucket that others can write: its paths become paths of this machine.
        parts = PurePosixPath(self.path).parts
        if not parts or self.path.startswith("/") or ".." in parts or "\\" in self.path or "\0" in self.path:
            raise UnknownFormatError(f"{self.path!r} is no path inside a version's folder; this manifest is refused.")
        digest_hex(self.digest)

    def to_json(self) -> dict[str, Any]:
        """Return the file as plain JSON values."""
        return {"path": self.path, "key": self.key, "digest": self.digest, "size_bytes": self.size_bytes}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> VersionFile:
        """Rebuild what :meth:`to_json` gave."""
        return cls(plain["path"], plain["key"], plain["digest"], plain["size_bytes"])


@dataclass(frozen=True)
class ModelFunction:
    """
    One function of a version.

    :param target_method: the method of the pipeline object, such as ``__call__``.
    """

    target_method: str
    signature: ModelSignature

    @property
    def name(self) -> str:
        """The function's public name: the method's in upper case, as warehouses show it."""
        return self.target_method.upper()

    def to_json(self) -> dict[str, Any]:
        """Return the function as plain JSON values."""
        return {"name": self.name, "target_method": self.target_method, "signature": self.signature.to_json()}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> ModelFunction:
        """Rebuild what :meth:`to_json` gave."""
        return cls(plain["target_method"], ModelSignature.from_json(plain["signature"]))


@dataclass(frozen=True)
class Annotations:
    """What people say about a version: small, never part of its content, edited later without a new version."""

    tags: Mapping[str, str] = field(default_factory=dict)
    metrics: Mapping[str, Any] = field(default_factory=dict)
    comment: str | None = None

    def to_json(self) -> dict[str, Any]:
        """Return the annotations as plain JSON values."""
        return {"tags": dict(self.tags), "metrics": dict(self.metrics), "comment": self.comment}

    @classmethod
    def from_json(cls, plain: Mapping[str, Any]) -> Annotations:
        """Rebuild what :meth:`to_json` gave."""
        metrics = field_of(plain, "metrics", dict, {})
        return cls(texts_of(plain, "tags"), metrics, field_of(plain, "comment", str | None))


@dataclass(frozen=True)
class Manifest:
    """
    All that is known of a version when it is published, for good.

    :param options: ``target_methods`` and ``cuda_version``.
    :param environment: versions of Python and of the libraries that logged it; for people, never compared.
    :param logged: the tags, metrics and comment given at logging.
    :param logged_by: user and host, or DAG, task and run: whom an error about a taken name may point to.
    :param nonce: of the writer's attempt; by it a writer recognises its own success after a lost answer.
    :param created: ISO 8601 in UTC, the writer's clock.
    :param lineage: what else is known of where it comes from, as JSON by name: ``training_data`` and what the logger
        wished to add; ``copied_from`` for a copy. Says nothing of the content, so it has no part in its digest.
    """

    model_name: str
    version_name: str
    spec: PipelineSpec
    functions: tuple[ModelFunction, ...]
    options: Mapping[str, Any]
    environment: Mapping[str, str]
    files: tuple[VersionFile, ...]
    logged: Annotations
    logged_by: Mapping[str, str]
    nonce: str
    created: str
    lineage: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        object.__setattr__(self, "files", tuple(sorted(self.files, key=lambda file: file.path)))

    @functools.cached_property
    def content_digest(self) -> str:
        """Digest of what a worker loads and a caller is promised; see :func:`content_digest`."""
        return content_digest(self.spec, self.functions, self.options, self.files)

    @property
    def code_digest(self) -> str | None:
        """
        Digest of its Python files, by path and content: what somebody read who consents to them. None: it has none.

        The same whatever weights lie beside them, so that a model trained anew needs no new consent.
        """
        code = {file.path: file.digest for file in self.files if file.path.endswith(".py")}
        return digest_of(canonical_json(code)) if code else None

    @property
    def reference(self) -> str:
        """``model/version``."""
        return f"{self.model_name}/{self.version_name}"

    @property
    def size_bytes(self) -> int:
        """Size of the version's folder."""
        return sum(file.size_bytes for file in self.files)

    def function(self, name: str = "__call__") -> ModelFunction:
        """
        Return a function by its method's name or by its public one.

        :raises FunctionNotFoundError: there is none; the message lists those there are.
        """
        for function in self.functions:
            if name in (function.target_method, function.name):
                return function
        known = ", ".join(f"{function.target_method!r} (shown as {function.name})" for function in self.functions)
        raise FunctionNotFoundError(f"{self.model_name}/{self.version_name} has no function {name!r}; it has {known}.")

    def to_bytes(self) -> bytes:
        """Return the document as it is stored."""
        return document_json(
            {
                "model_name": self.model_name,
                "version_name": self.version_name,
                "content_digest": self.content_digest,
                "pipeline": self.spec.to_json(),
                "functions": [function.to_json() for function in self.functions],
                "options": dict(self.options),
                "environment": dict(self.environment),
                "files": [file.to_json() for file in self.files],
                "logged": self.logged.to_json(),
                "logged_by": dict(self.logged_by),
                "lineage": dict(self.lineage),
                "nonce": self.nonce,
                "created": self.created,
            }
        )

    @classmethod
    def from_bytes(cls, content: bytes, location: str) -> Manifest:
        """
        Read a stored manifest.

        :param location: where it was read, for messages.
        :raises UnknownFormatError: a newer format, or a document that does not say what its digest says.
        """
        plain = read_document(content, location)
        try:
            manifest = cls._from_plain(plain)
        except (KeyError, TypeError, AttributeError) as error:
            raise UnknownFormatError(f"{location} is no manifest of this package: {error!r} in it.") from error
        if manifest.content_digest != plain.get("content_digest"):
            raise UnknownFormatError(
                f"{location} was changed after it was published: its content has the digest {manifest.content_digest}, "
                f"and it says {plain.get('content_digest')}. Log the model again under another version name."
            )
        return manifest

    @classmethod
    def _from_plain(cls, plain: Mapping[str, Any]) -> Manifest:
        return cls(
            model_name=plain["model_name"],
            version_name=plain["version_name"],
            spec=PipelineSpec.from_json(plain["pipeline"]),
            functions=tuple(ModelFunction.from_json(function) for function in plain["functions"]),
            options=plain["options"],
            environment=plain["environment"],
            files=tuple(VersionFile.from_json(file) for file in plain["files"]),
            logged=Annotations.from_json(plain["logged"]),
            logged_by=plain["logged_by"],
            nonce=plain["nonce"],
            created=plain["created"],
            lineage=field_of(plain, "lineage", dict, {}),  # absent in versions that were logged before there was one
        )


def content_digest(
    spec: PipelineSpec,
    functions: tuple[ModelFunction, ...],
    options: Mapping[str, Any],
    files: tuple[VersionFile, ...],
) -> str:
    """
    Return the digest by which two versions are the same.

    Of the spec, what decides how the files are loaded and run counts, and of the transformers that logged them only the
    major version: texts become tokens as there. Where the files came from and what they say themselves (architecture,
    sizes) does not count: the same weights logged from a folder and from a hub are one content.
    """
    return digest_of(
        canonical_json(
            {
                "task": spec.task,
                "parameters": dict(spec.parameters),
                "generation": dict(spec.generation),
                "dtype": spec.dtype,
                "attn_implementation": spec.attn_implementation,
                "remote_code": spec.remote_code,
                "family": spec.family,
                "functions": [function.to_json() for function in functions],
                "options": dict(options),
                "files": {file.path: file.digest for file in files},
            }
        )
    )
