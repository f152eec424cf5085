"""
Tiny models in folders as the hub has them: with the tokenizer files that their authors published, not saved again.

Their SentencePiece, WordPiece and byte-pair vocabularies are trained here, in a second, on :data:`.models.CORPUS`; the
classes that read them are the models' own (T5, Marian, M2M100, NLLB, mBART, BERT, RoBERTa). Weights are drawn alike
under every family of transformers.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.inference.frameworks import transformers
from airflow_provider_hfreg.testing.models import (
    CORPUS,
    POSITIONS,
    byte_level_tokenizer,
    word_piece_tokenizer,
    write_model,
)

T5_TASKS: Mapping[str, Any] = {
    "summarization": {"prefix": "summarize: ", "num_beams": 2, "max_length": 24, "no_repeat_ngram_size": 3},
    "translation_en_to_de": {"prefix": "translate English to German: ", "num_beams": 2, "max_length": 20},
}
"""As T5 tells what stands before a text; in every configuration of the first T5s."""

_NLLB_LANGUAGES = ("deu_Latn", "eng_Latn", "fra_Latn", "jpn_Jpan", "kor_Hang")

_OF_T5 = {"d_model": 32, "d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
_OF_BART = {
    "d_model": 32,
    "max_position_embeddings": POSITIONS,
    **{f"{side}_layers": 2 for side in ("encoder", "decoder")},
    **{f"{side}_attention_heads": 2 for side in ("encoder", "decoder")},
    **{f"{side}_ffn_dim": 64 for side in ("encoder", "decoder")},
}
_OF_BERT = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2, "intermediate_size": 64}


def t5_folder(folder: Path) -> Path:
    """Write a T5 with ``spiece.model`` alone, and the prefixes of its tasks in ``config.json``."""
    folder.mkdir(parents=True)
    (folder / "spiece.model").write_bytes(_sentence_pieces(pad_id=0, eos_id=1, unk_id=2, bos_id=-1))
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "T5Tokenizer", "model_max_length": POSITIONS, "extra_ids": 100},
    )
    config = transformers.T5Config(
        **_OF_T5,
        vocab_size=_pieces(folder / "spiece.model") + 100,
        decoder_start_token_id=0,
        task_specific_params=dict(T5_TASKS),
    )
    return _write_network(folder, config)


def t5_with_tokenizer_json(folder: Path) -> Path:
    """Write the same with ``tokenizer.json`` alone."""
    t5_folder(folder)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "spiece.model").unlink()
    return folder


def marian_folder(folder: Path) -> Path:
    """Write a Marian model: a SentencePiece model for each side, one vocabulary for both."""
    folder.mkdir(parents=True)
    source, target = CORPUS[:2] + CORPUS[5:], CORPUS[2:5]
    (folder / "source.spm").write_bytes(_sentence_pieces(source))
    (folder / "target.spm").write_bytes(_sentence_pieces(target))
    pieces = [piece for name in ("source.spm", "target.spm") for piece in _piece_texts(folder / name)]
    pieces = ["</s>", "<unk>", *(piece for piece in pieces if not piece.startswith("<")), "<pad>"]
    vocabulary = {piece: number for number, piece in enumerate(dict.fromkeys(pieces))}
    _write_json(folder / "vocab.json", vocabulary)
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "MarianTokenizer",
            "source_lang": "eng",
            "target_lang": "deu",
            "model_max_length": POSITIONS,
        },
    )
    padding = vocabulary["<pad>"]
    config = transformers.MarianConfig(
        **_OF_BART,
        vocab_size=len(vocabulary),
        pad_token_id=padding,
        eos_token_id=0,
        decoder_start_token_id=padding,
        forced_eos_token_id=0,
        scale_embedding=True,
    )
    return _write_network(folder, config, bad_words_ids=[[padding]], num_beams=3, max_length=20)


def m2m100_folder(folder: Path) -> Path:
    """Write an M2M100: its languages are ``en``, ``fr`` …"""
    folder.mkdir(parents=True)
    (folder / "sentencepiece.bpe.model").write_bytes(_sentence_pieces())
    pieces = [piece for piece in _piece_texts(folder / "sentencepiece.bpe.model") if not piece.startswith("<")]
    vocabulary = {piece: number for number, piece in enumerate(["<s>", "<pad>", "</s>", "<unk>", *pieces])}
    _write_json(folder / "vocab.json", vocabulary)
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "M2M100Tokenizer", "model_max_length": POSITIONS, "num_madeup_words": 8},
    )
    return _write_m2m100(folder, len(vocabulary) + 110)


def nllb_folder(folder: Path) -> Path:
    """Write an NLLB with ``tokenizer.json``, as it is on the hub: its languages are ``eng_Latn``, ``fra_Latn`` …"""
    from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers  # noqa: PLC0415

    folder.mkdir(parents=True)
    backend = Tokenizer(models.BPE(unk_token="<unk>", fuse_unk=True))  # noqa: S106  a token, no password
    backend.normalizer = normalizers.Precompiled(_characters_map(_sentence_pieces()))
    backend.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="always")
    backend.decoder = decoders.Metaspace(prepend_scheme="always")
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    backend.train_from_iterator(
        CORPUS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, show_progress=False)
    )
    backend.add_special_tokens([*_NLLB_LANGUAGES, AddedToken("<mask>", lstrip=True, special=True)])
    backend.save(str(folder / "tokenizer.json"))
    settings = {"src_lang": "eng_Latn", "additional_special_tokens": list(_NLLB_LANGUAGES)}
    _write_json(
        folder / "tokenizer_config.json",
        {"tokenizer_class": "NllbTokenizer", "model_max_length": POSITIONS, **settings},
    )
    return _write_m2m100(folder, backend.get_vocab_size())


def mbart_folder(folder: Path) -> Path:
    """Write an mBART: its languages are ``en_XX``, ``fr_XX`` …"""
    folder.mkdir(parents=True)
    (folder / "sentencepiece.bpe.model").write_bytes(_sentence_pieces())
    _write_json(folder / "tokenizer_config.json", {"tokenizer_class": "MBartTokenizer", "model_max_length": POSITIONS})
    config = transformers.MBartConfig(**_OF_BART, vocab_size=_pieces(folder / "sentencepiece.bpe.model") + 30)
    return _write_network(folder, config)


def bert_folder(folder: Path) -> Path:
    """Write a BERT that classifies, with ``vocab.txt`` and ``tokenizer.json``."""
    tokenizer = word_piece_tokenizer()
    vocabulary = tokenizer.get_vocab()
    folder.mkdir(parents=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    (folder / "vocab.txt").write_text("\n".join(sorted(vocabulary, key=vocabulary.__getitem__)) + "\n", "utf-8")
    _write_json(folder / "tokenizer_config.json", {"do_lower_case": True, "model_max_length": POSITIONS})
    config = transformers.BertConfig(
        **_OF_BERT, vocab_size=len(vocabulary), max_position_embeddings=POSITIONS, num_labels=3
    )
    return _write_network(folder, config, transformers.AutoModelForSequenceClassification)


def roberta_folder(folder: Path) -> Path:
    """Write a RoBERTa that fills masks, with ``vocab.json``, ``merges.txt`` and ``tokenizer.json``."""
    from tokenizers import AddedToken  # noqa: PLC0415 - as transformers

    backend = byte_level_tokenizer("roberta").backend_tokenizer
    backend.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    model = json.loads(backend.to_str())["model"]
    folder.mkdir(parents=True)
    backend.save(str(folder / "tokenizer.json"))
    _write_json(folder / "vocab.json", model["vocab"])
    merges = [pair if isinstance(pair, str) else " ".join(pair) for pair in model["merges"]]
    (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(merges) + "\n", "utf-8")
    _write_json(folder / "tokenizer_config.json", {"model_max_length": POSITIONS})
    config = transformers.RobertaConfig(
        **_OF_BERT,
        vocab_size=len(model["vocab"]),
        max_position_embeddings=POSITIONS + 2,
        pad_token_id=model["vocab"]["<pad>"],
    )
    return _write_network(folder, config, transformers.AutoModelForMaskedLM)


def generic_folder(folder: Path) -> Path:
    """Write a BERT that classifies, with a generic tokenizer that does not say its model's inputs."""
    tokenizer = word_piece_tokenizer()
    folder.mkdir(parents=True)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"))
    special = ("pad_token", "unk_token", "cls_token", "sep_token", "mask_token")
    _write_json(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "model_max_length": POSITIONS,
            **{name: getattr(tokenizer, name) for name in special},
        },
    )
    config = transformers.BertConfig(
        **_OF_BERT, vocab_size=len(tokenizer), max_position_embeddings=POSITIONS, num_labels=3
    )
    return _write_network(folder, config, transformers.AutoModelForSequenceClassification)


def _write_m2m100(folder: Path, vocabulary: int) -> Path:
    config = transformers.M2M100Config(
        **_OF_BART, vocab_size=vocabulary, pad_token_id=1, eos_token_id=2, decoder_start_token_id=2
    )
    return _write_network(folder, config)


def _write_network(folder: Path, config: Any, auto_class: Any = None, **generation: Any) -> Path:
    """Write weights, their configuration, and what the authors say of generation."""
    write_model(folder, auto_class or transformers.AutoModelForSeq2SeqLM, config, None, seed=0, alike=True)
    path = folder / "generation_config.json"
    if generation:
        _write_json(path, {**json.loads(path.read_text("utf-8")), **generation})
    return folder


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")


def _sentence_pieces(corpus: tuple[str, ...] = CORPUS, **settings: Any) -> bytes:
    """Return a trained Unigram model, its control symbols where ``settings`` put them."""
    import sentencepiece  # noqa: PLC0415 - of the inference extra, and needed for tests alone here

    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(corpus),
        model_writer=model,
        model_type="unigram",
        hard_vocab_limit=False,
        vocab_size=160,
        character_coverage=1.0,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return model.getvalue()


def _characters_map(model: bytes) -> bytes:
    """Return how a SentencePiece model spells characters anew (NFKC, mostly)."""
    from sentencepiece import sentencepiece_model_pb2  # noqa: PLC0415 - as above

    parsed = sentencepiece_model_pb2.ModelProto.FromString(model)  # type: ignore[attr-defined]  # made by protobuf
    return bytes(parsed.normalizer_spec.precompiled_charsmap)


def _piece_texts(path: Path) -> list[str]:
    import sentencepiece  # noqa: PLC0415 - as above

    pieces = sentencepiece.SentencePieceProcessor(model_file=str(path))
    return [pieces.id_to_piece(number) for number in range(pieces.get_piece_size())]


def _pieces(path: Path) -> int:
    return len(_piece_texts(path))


HUB_FOLDERS: Mapping[str, Callable[[Path], Path]] = {
    "t5": t5_folder,
    "t5 with tokenizer.json": t5_with_tokenizer_json,
    "marian": marian_folder,
    "m2m100": m2m100_folder,
    "nllb": nllb_folder,
    "mbart": mbart_folder,
    "bert": bert_folder,
    "roberta": roberta_folder,
    "generic": generic_folder,
}
