"""
Where everything lies below a registry's prefix, and which names may stand in a key.

Invariants:

- Every key of the bucket is built here and nowhere else.
- A name is ASCII, so that it has one spelling only: no percent-encoding, no Unicode normal forms, no white space.
  It begins and ends with a letter or a digit, so it is never hidden, never ``..``, and reads well in a sentence.
- A name holds no ``/`` and no ``@``: ``model/version`` and ``model@alias`` can be read in one way only. A hub id such
  as ``ProsusAI/finbert`` is therefore no model name; the manifest keeps it as the source instead.
- Names keep their case and are compared exactly, as S3 does.

It does no I/O and knows no document's content.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from airflow_provider_hfreg.errors import InvalidNameError, ModelReferenceError, UnknownFormatError

SYSTEM_ALIASES = ("DEFAULT", "FIRST", "LAST")
"""Aliases that every model has and nobody sets: the default version, the oldest, the newest; in any case of letters."""

EXPORTED_MANIFEST = "hfreg_manifest.json"
"""Our document in an exported folder; a name that no Hugging Face loader reads."""

_NAME = re.compile(r"[A-Za-z0-9]([A-Za-z0-9._-]{0,126}[A-Za-z0-9])?")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
_BLOB = re.compile(r"blobs/sha256/([0-9a-f]{2})/(\1[0-9a-f]{62})(\.[A-Za-z0-9]{1,64})?")
_LEASE = re.compile(r"gc/leases/[A-Za-z0-9]{1,64}\.json")
_MARKER = re.compile(r"gc/condemned/([0-9a-f]{64})\.[A-Za-z0-9]{1,64}")
_OF_A_VERSION = re.compile(r"models/([^/]+)/(versions|state)/([^/]+)\.json")
_OF_A_MODEL = re.compile(r"models/([^/]+)/(?:head\.json|signatures/.+)")


class Layout:
    """
    The keys, relative to the registry's prefix.

    >>> Layout.manifest("finbert", "v1")
    'models/finbert/versions/v1.json'
    >>> Layout.blob("sha256:" + "ab" * 32)
    'blobs/sha256/ab/abababababababababababababababababababababababababababababababab'
    """

    FORMAT = "format.json"
    MODELS = "models/"
    BLOBS = "blobs/"
    GARBAGE = "gc/"
    LEASES = "gc/leases/"
    CONDEMNED = "gc/condemned/"

    @staticmethod
    def blob(digest: str, generation: str = "") -> str:
        """
        Return the key of a blob; a manifest names the generation that it was published with.

        :param generation: letters and digits; ``""`` is the first one.
        """
        hexadecimal = digest_hex(digest)
        return f"blobs/sha256/{hexadecimal[:2]}/{hexadecimal}" + (generation and f".{generation}")

    @staticmethod
    def lease(transaction: str) -> str:
        """Return the key by which a writer keeps his digests from the collectors."""
        return f"gc/leases/{transaction}.json"

    @staticmethod
    def condemned(digest: str, run: str) -> str:
        """Return the key by which a collector's run tells writers that it may delete what there is of a digest."""
        return f"gc/condemned/{digest_hex(digest)}.{run}"

    @staticmethod
    def versions(model_name: str) -> str:
        """Return the folder of a model's manifests; its listing is the list of versions."""
        return f"models/{model_name}/versions/"

    @staticmethod
    def manifest(model_name: str, version_name: str) -> str:
        """Return the key whose existence is the version."""
        return f"models/{model_name}/versions/{version_name}.json"

    @staticmethod
    def state(model_name: str, version_name: str) -> str:
        """Return the key of a version's edited tags, metrics and comment."""
        return f"models/{model_name}/state/{version_name}.json"

    @staticmethod
    def states(model_name: str) -> str:
        """Return the folder of the states of a model's versions; only versions that were edited have one."""
        return f"models/{model_name}/state/"

    @staticmethod
    def head(model_name: str) -> str:
        """Return the key of a model's pointers: default, aliases, tombstones, its own tags and comment."""
        return f"models/{model_name}/head.json"

    @staticmethod
    def version_of(manifest_key: str) -> str | None:
        """
        Return the version that a key below :meth:`versions` or :meth:`states` stands for; None where it is not ours.

        >>> Layout.version_of("models/finbert/versions/v1.json")
        'v1'
        """
        name = manifest_key.rsplit("/", 1)[-1]
        version_name = name.removesuffix(".json")
        return version_name if name.endswith(".json") and is_name(version_name) else None


def digest_of_blob(key: str) -> str | None:
    """
    Return the digest of a blob's key, of whatever generation; None for something that is not ours.

    >>> digest_of_blob("blobs/sha256/ab/" + "ab" * 32 + ".5f") == "sha256:" + "ab" * 32
    True
    >>> digest_of_blob("blobs/sha256/ff/" + "ab" * 32), digest_of_blob("blobs/notes.txt")
    (None, None)
    """
    match = _BLOB.fullmatch(key)
    return f"sha256:{match[2]}" if match else None


def digest_of_marker(key: str) -> str | None:
    """
    Return the digest that a marker condemns; None for something that is not ours.

    >>> digest_of_marker("gc/condemned/" + "ab" * 32 + ".5f") == "sha256:" + "ab" * 32
    True
    """
    match = _MARKER.fullmatch(key)
    return f"sha256:{match[1]}" if match else None


def is_lease(key: str) -> bool:
    """
    Tell whether a key is a lease's.

    >>> is_lease("gc/leases/5f.json"), is_lease("gc/leases/notes.txt")
    (True, False)
    """
    return _LEASE.fullmatch(key) is not None


@dataclass(frozen=True)
class ModelKey:
    """
    Whose document a key below ``models/`` is.

    :param folder: ``versions`` or ``state``; None for what is the model's own.
    """

    model_name: str
    folder: str | None = None
    version_name: str | None = None


def model_key(key: str) -> ModelKey | None:
    """
    Return what a key below ``models/`` is; None for something that this version of the package does not write.

    A new kind of document has to be known here, or no collector will work in a bucket that holds one: it cannot know
    whether the document refers to blobs.

    >>> model_key("models/finbert/versions/v1.json")
    ModelKey(model_name='finbert', folder='versions', version_name='v1')
    >>> model_key("models/finbert/head.json").folder, model_key("models/finbert/adapters/v1.json")
    (None, None)
    """
    if (match := _OF_A_VERSION.fullmatch(key)) and is_name(match[1]) and is_name(match[3]):
        return ModelKey(match[1], match[2], match[3])
    if (match := _OF_A_MODEL.fullmatch(key)) and is_name(match[1]):
        return ModelKey(match[1])
    return None


def digest_hex(digest: str) -> str:
    """
    Return the 64 hexadecimal digits of ``sha256:<hex>``.

    :raises UnknownFormatError: it is no such digest. A path is made of it, so nothing else may pass.
    """
    match = _DIGEST.fullmatch(digest)
    if match is None:
        raise UnknownFormatError(f"{digest!r} is no digest of the form 'sha256:<64 hexadecimal digits>'.")
    return match[1]


def is_name(text: str) -> bool:
    r"""
    Tell whether ``text`` may name a model, a version or an alias.

    >>> [is_name(text) for text in ("v1.2-beta_3", "", ".hidden", "a/b", "größe", "50%", "v1\n", "x" * 129)]
    [True, False, False, False, False, False, False, False]
    """
    return _NAME.fullmatch(text) is not None


def check_name(text: str, what: str) -> str:
    """
    Return ``text`` if it may name a model, a version or an alias, else raise.

    :param what: ``"model"``, ``"version"`` or ``"alias"``, for the message.
    :raises InvalidNameError: it may not; the message gives the alphabet and, where it can, a name that would do.
    """
    if not isinstance(text, str):
        raise InvalidNameError(f"{text!r:.80} cannot be the name of a {what}: a name is text, such as 'v1'.")
    if is_name(text):
        return text
    proposal = re.sub(r"[^A-Za-z0-9._-]+", "-", text)[:128].strip("._-")
    hint = f" {proposal!r} would do." if is_name(proposal) else ""
    raise InvalidNameError(
        f"{text!r} cannot be the name of a {what}: 1 to 128 of the letters A-Z and a-z, the digits, '.', '_' and '-', "
        f"beginning and ending with a letter or a digit.{hint}"
    )


def check_alias(text: str) -> str:
    """
    Return ``text`` if somebody may set it as an alias.

    :raises InvalidNameError: no name, or one of :data:`SYSTEM_ALIASES`.
    """
    check_name(text, "alias")
    if text.upper() in SYSTEM_ALIASES:
        raise InvalidNameError(
            f"The alias {text!r} is reserved: {', '.join(SYSTEM_ALIASES)} always point to the default, the oldest "
            "and the newest version. Choose another name, or set the default version instead."
        )
    return text


@dataclass(frozen=True)
class ModelReference:
    """
    A version as people write it: by name, by alias, or the model's default where both are None.

    >>> str(ModelReference("finbert", alias="champion"))
    'finbert@champion'
    """

    model_name: str
    version_name: str | None = None
    alias: str | None = None

    def __str__(self) -> str:
        if self.version_name is not None:
            return f"{self.model_name}/{self.version_name}"
        return self.model_name if self.alias is None else f"{self.model_name}@{self.alias}"


def parse_reference(text: str) -> ModelReference:
    """
    Read ``model``, ``model/version`` or ``model@alias``.

    >>> parse_reference("finbert/v1")
    ModelReference(model_name='finbert', version_name='v1', alias=None)
    >>> parse_reference("finbert@champion").alias
    'champion'

    :raises ModelReferenceError: it is none of them.
    """
    match = re.fullmatch(r"([^/@]+)(?:([/@])([^/@]+))?", text)
    names = [] if match is None else [name for name in (match[1], match[3]) if name is not None]
    if match is None or not all(map(is_name, names)):
        raise ModelReferenceError(
            f"{text!r} refers to no version: write 'model/version', 'model@alias', or 'model' for its default version."
        )
    if match[2] == "@":
        return ModelReference(match[1], alias=match[3])
    return ModelReference(match[1], version_name=match[3])
