"""
The extension point: one Hugging Face pipeline task, by columns.

A row's way through the engine, and which step a task owns (*):

.. code-block:: text

    window of rows (Arrow, the signature's input columns, required ones not null)
      → preprocess *        → sequences: texts, and the row each belongs to; rows that cannot be run become RowErrors
      → tokenise once, sort by length, cut into batches by token budget, forward    (inference/, told by ``forward``)
      → postprocess *       → the signature's output columns, one value per row

A task file names no torch and no other task. It works on columns: numpy and Arrow; a Python loop over rows stands only
where an object per row must be built. The engine brings deduplication, batching, devices, isolation of failing rows and
the caller's order to every task alike; a task must therefore be a pure function of its arguments.

Learnt from text-embeddings-inference (text → encoding → batch → output, tokenised once) and from the one-file-per-task
handlers of Snowflake's registry.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from airflow_provider_hfreg.pipelines.ragged import Ragged
from airflow_provider_hfreg.signatures.output_format import OutputFormat
from airflow_provider_hfreg.signatures.rows import RowError
from airflow_provider_hfreg.signatures.signature import ModelSignature

IntArray = npt.NDArray[np.int64]


class Forward(Enum):
    """What the engine runs on the encoded sequences, and what it hands to ``postprocess``."""

    SEQUENCE_LOGITS = "sequence_logits"  # values["logits"]: float32 [sequences, labels]
    TOKEN_LOGITS = "token_logits"  # noqa: S105  no password, but ragged["logits"]: float32 [tokens, labels]
    SPAN_LOGITS = "span_logits"  # ragged["start"], ragged["end"]: float32 [tokens]
    # ragged["score"]: float32 [masks, k], ragged["token"]: int64 [masks, k], best first, for each mask token of the
    # sequence; k is ``top_k``, among ``target_ids`` where there are some.
    MASK_LOGITS = "mask_logits"
    # The second text is a table, {column: [texts]} in JSON. ragged["logits"]: float32 [tokens]; values["aggregation"]:
    # float32 [sequences, aggregators], which a network without that head does not give.
    TABLE = "table"
    EMBEDDING = "embedding"  # values["embedding"]: float32 [sequences, size], by ``pooling`` and ``normalize``
    GENERATE = "generate"  # generated: per sequence, ``num_return_sequences`` lists of new token ids


class TokenFact(Enum):
    """What a task may ask the tokenizer about each token, special ones included."""

    SPECIAL = "special"  # bool [tokens]: put there by the tokenizer
    TYPES = "types"  # int64 [tokens, …]: ``token_type_ids``, which in a table tell row and column
    # The following are known to fast tokenizers alone; others leave them out.
    CHARACTERS = "characters"  # int64 [tokens, 2]: first character in its text and the one after the last
    WORD = "word"  # int64 [tokens]: number of its word in its text, -1 for none
    TEXT = "text"  # int64 [tokens]: 0 of the first text, 1 of the second, -1 of neither


class PromptCut(Enum):
    """What becomes of a prompt that leaves no room for new tokens. A cut one keeps its end and leaves all the room."""

    NEVER = "never"  # the tokenizer cut it already, as the user said
    TOO_LONG = "too_long"  # cut only what the model could not read even without a new token
    MAKE_ROOM = "make_room"  # cut whatever does not leave all the room


@dataclass(frozen=True)
class TaskContext:
    """
    What a task may know of the loaded model. Nothing here is torch.

    :param tokenizer: the Hugging Face tokenizer; called by ``inference/``, read here (mask token, chat template).
    :param config: the model's configuration as plain values (``id2label``, ``problem_type``, ``prefix`` …).
    :param parameters: the version's pipeline parameters with the run's own over them; only what somebody gave.
    :param generation: the generation settings that hold where ``parameters`` are silent.
    :param transformers_version: of the family that the version was logged under, which decides how token ids become
        text; None where it is not known.
    :param positions: tokens that the network can read; None where it has no table of positions.
    :param output_format: of the output columns that hold lists of objects.
    """

    tokenizer: Any
    config: Mapping[str, Any]
    parameters: Mapping[str, Any] = field(default_factory=dict)
    generation: Mapping[str, Any] = field(default_factory=dict)
    transformers_version: str | None = None
    positions: int | None = None
    output_format: OutputFormat = OutputFormat.JSON


@dataclass(frozen=True)
class Sequences:
    """
    Model inputs before tokenisation.

    A text longer than a model reads may become several sequences, where ``encoding`` says so
    (``return_overflowing_tokens``, with a ``stride``); they come back next to each other, under the row of the text.

    :param row: int64 [sequences], ascending: the position, in the window given to ``preprocess``, of each one's row.
    :param text: string [sequences].
    :param text_pair: string [sequences], null where the sequence has no second text; None where none has.
    :param encoding: keyword arguments for the tokenizer (``truncation``, ``max_length``, ``add_special_tokens`` …);
        ``truncation`` without ``max_length`` means: to what the model can read.
    :param facts: what :class:`Outputs` shall tell about the tokens.
    :param prompt_cut: for ``Forward.GENERATE``.
    :param settings: of the forward, where they follow from the parameters and the tokenizer together (the first token
        of a translation says its language); they go before all others.
    :param errors: rows that have no sequence, and why.
    """

    row: IntArray
    text: pa.StringArray
    text_pair: pa.StringArray | None = None
    encoding: Mapping[str, Any] = field(default_factory=dict)
    facts: frozenset[TokenFact] = frozenset()
    prompt_cut: PromptCut = PromptCut.NEVER
    settings: Mapping[str, Any] = field(default_factory=dict)
    errors: tuple[RowError, ...] = ()


@dataclass(frozen=True)
class Outputs:
    """
    What the model gave, in the order of the sequences; sequences that failed are left out.

    :param row: int64 [sequences], as in :class:`Sequences`.
    :param values: stacked arrays, first axis the sequences; which ones, :class:`Forward` says.
    :param ragged: what differs in length between sequences; which ones, :class:`Forward` says.
    :param facts: what the task asked about the tokens, as far as the tokenizer knows it.
    :param generated: for ``Forward.GENERATE``: per sequence, a list of token-id lists (without the prompt).
    :param input_ids: per sequence, its token ids as the model saw them, without padding; for tasks that decode them.
    """

    row: IntArray
    values: Mapping[str, npt.NDArray[Any]] = field(default_factory=dict)
    ragged: Mapping[str, Ragged] = field(default_factory=dict)
    facts: Mapping[TokenFact, Ragged] = field(default_factory=dict)
    generated: Sequence[Sequence[Sequence[int]]] = ()
    input_ids: Ragged = field(default_factory=lambda: Ragged.of_lists([]))


@dataclass(frozen=True)
class Results:
    """
    Output columns of the rows that worked.

    :param row: int64 [results], ascending positions in the window.
    :param columns: name → Arrow array [results], the signature's output columns in its order; of JSON text or of
        :meth:`PipelineTask.structs`, as the context's ``output_format`` says.
    :param errors: rows whose outputs could not be read.
    """

    row: IntArray
    columns: Mapping[str, pa.Array]
    errors: tuple[RowError, ...] = ()


class PipelineTask(ABC):
    """
    One pipeline task. Subclasses are stateless; the catalogue holds one instance each.

    A subclass that lacks a class attribute fails when it is defined, not when a row meets it.

    :cvar auto_class: of transformers, such as ``AutoModelForSequenceClassification``.
    :cvar heads: how the names of the classes end that ``auto_class`` builds.
    :cvar optional_inputs: columns that a table may lack, and that may be null.
    :cvar arguments: what the pipeline's factory takes for this task beyond the model and where it runs.
    :cvar last_family: of transformers, the last one with this pipeline, None where the newest has it; the task runs as
        there, whatever is installed.
    :cvar own_callable: the pipeline that transformers has under this name gives something else than a version does, so
        that a version loads as a callable of ours.
    :cvar generation_defaults: generation settings that the families add where neither the user nor the model's own
        ``generation_config.json`` says otherwise.
    """

    name: ClassVar[str]
    aliases: ClassVar[tuple[str, ...]] = ()
    auto_class: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]
    forward: ClassVar[Forward]
    optional_inputs: ClassVar[frozenset[str]] = frozenset()
    arguments: ClassVar[frozenset[str]] = frozenset()
    last_family: ClassVar[str | None] = None
    own_callable: ClassVar[bool] = False
    generation_defaults: ClassVar[Mapping[str, Any]] = MappingProxyType({})

    def __init_subclass__(cls, *, is_whole: bool = True, **kwargs: Any) -> None:
        """
        Check a subclass.

        :param is_whole: False for one that others inherit from, and that is no task itself.
        """
        super().__init_subclass__(**kwargs)
        if not is_whole:
            return
        missing = [name for name in ("name", "auto_class", "heads", "forward") if not hasattr(cls, name)]
        if missing:
            raise TypeError(f"{cls.__name__} must define {', '.join(missing)}")

    def name_under(self, name: str, config: Mapping[str, Any]) -> str:  # noqa: ARG002  most tasks keep their names
        """Return the name under which a model of this configuration runs what the user called ``name``."""
        return name

    def auto_class_of(self, config: Mapping[str, Any]) -> str:  # noqa: ARG002  as above
        """Return the transformers class that builds a model of this configuration."""
        return self.auto_class

    def optional_inputs_under(self, parameters: Mapping[str, Any]) -> frozenset[str]:  # noqa: ARG002  as above
        """Return the columns that a table may lack where the pipeline was built with these parameters."""
        return self.optional_inputs

    @abstractmethod
    def signature(self, parameters: Mapping[str, Any]) -> ModelSignature:
        """
        Return the inferred signature under the pipeline's ``parameters``.

        :raises UnsupportedPipelineError: an option that cannot be held, named in the message.
        """

    def structs(
        self,
        parameters: Mapping[str, Any],  # noqa: ARG002  most tasks give no lists of objects
        generation: Mapping[str, Any],  # noqa: ARG002  as above
    ) -> Mapping[str, pa.DataType]:
        """
        Return the Arrow types of the output columns that hold JSON text, for whoever wants them as structs.

        They must follow from the arguments, which have their meaning of :class:`TaskContext`: a run of no rows, and one
        that is only planned, have columns too.
        """
        return {}

    @abstractmethod
    def parameters_of(
        self, preprocess: Mapping[str, Any], forward: Mapping[str, Any], postprocess: Mapping[str, Any]
    ) -> dict[str, Any]:
        """
        Return what a ``transformers.Pipeline`` was built with, under the names its factory takes, as JSON.

        :param preprocess: the pipeline's ``_preprocess_params``; ``forward`` and ``postprocess`` likewise.
        """

    def spelt(self, parameters: Mapping[str, Any], tokenizer: Any) -> dict[str, Any]:  # noqa: ARG002  most keep texts
        """Return what :meth:`parameters_of` gave with texts where the pipeline kept only their token ids."""
        return dict(parameters)

    def completed(self, parameters: Mapping[str, Any], folder: Path | None) -> dict[str, Any]:  # noqa: ARG002  as above
        """
        Return the parameters and, where they are silent, what the model's own files say; most tasks ask no file.

        :param folder: that the model was loaded from, None for one made in memory; it need not be here: what was loaded
            by its hub id has that for a path.
        :raises UnsupportedPipelineError: the files say what the task cannot do, or are needed and not here.
        """
        return dict(parameters)

    def files_of(
        self,
        parameters: Mapping[str, Any],  # noqa: ARG002  as above
        dimension: int | None,  # noqa: ARG002  as above
    ) -> Mapping[str, Any]:
        """
        Return JSON files, by path, that tell whoever reads a packaged folder what the parameters say: the inverse of
        :meth:`completed`.

        :param parameters: as :meth:`completed` gave them.
        :param dimension: of the model's vectors; None where its configuration does not say it.
        """
        return {}

    @abstractmethod
    def preprocess(self, rows: pa.RecordBatch, context: TaskContext) -> Sequences:
        """Return the sequences of a window of rows; a row may need several, or be an error."""

    @abstractmethod
    def postprocess(self, outputs: Outputs, rows: pa.RecordBatch, context: TaskContext) -> Results:
        """Return the output columns of the rows in ``outputs``; ``rows`` is the window given to :meth:`preprocess`."""
