"""
Tiny models that know something, trained in seconds without the hub: for examples, and for tests where equal must mean
equal.

Random weights leave scores close together, and a right answer may then be luck. Here each model learns some made-up
texts until its answers are far from any tie: which adjective is good, where a name stands, how to count.

Their weights are the same to the bit under every family of transformers, so answers recorded under one are right under
the other. Learning would make a last digit that differs into another model; so nothing is drawn (weights come from
their names, no dropout, each step takes the next texts), and nothing is left to how a family writes its sums: double
precision, attention without a kernel, and heads of 16, by whose root one family divides where the other multiplies by
its inverse, which is exact for a power of two alone.
"""

from __future__ import annotations

import itertools
import json
import random
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_hfreg.inference.frameworks import torch, transformers
from airflow_provider_hfreg.inference.tables import table_frame
from airflow_provider_hfreg.testing.encoder_models import tapas_tokenizer
from airflow_provider_hfreg.testing.models import (
    POSITIONS,
    byte_level_tokenizer,
    redraw,
    unigram_tokenizer,
    word_piece_tokenizer,
)

_BERT = {"hidden_size": 64, "num_attention_heads": 4, "intermediate_size": 128}
_PADDED = {"padding": True, "return_tensors": "pt"}
_UNSAID = -100  # a label that cross entropy leaves out
_BATCH = 32

Lesson = Mapping[str, Any]


def sentiment_classifier(folder: Path) -> Path:
    """Write a text classifier that tells NEGATIVE from POSITIVE: ``the film was not good``."""
    subjects = ("the film", "the music", "the plot", "the food", "the service", "this evening", "it", "i think it")
    good = ("good", "great", "wonderful", "delicious", "superb")
    bad = ("bad", "dull", "awful", "terrible", "cold")
    texts = {
        f"{subject} was {negation}{much}{adjective}": (adjective in good) is (negation == "")
        for subject in subjects
        for negation in ("", "not ")
        for much in ("", "very ")
        for adjective in (*good, *bad)
    }
    texts |= {f"what a {adjective} evening": adjective in good for adjective in (*good, *bad)}
    tokenizer = word_piece_tokenizer(corpus=list(texts), whole_words=True)
    lesson = {**tokenizer(list(texts), **_PADDED), "labels": _numbers(texts.values())}
    labels = _named("NEGATIVE", "POSITIVE")
    return _bert("SequenceClassification", folder, tokenizer, lesson, steps=200, spread=0.1, **labels)


def entailment_judge(folder: Path) -> Path:
    """Write a judge of pairs, for zero-shot classification: ``i like soup`` is about food, and not about sport."""
    topics = {
        "food": ("soup", "bread", "rice", "udon", "dinner"),
        "sport": ("a match", "tennis", "running", "the goal", "football"),
        "weather": ("rain", "the sun", "snow", "a storm", "wind"),
    }
    pairs = {
        (f"{before}{word}{after}", f"this example is {label}."): 2 * (topic == label)
        for topic, words in topics.items()
        for word in words
        for before in ("", "i like ", "today ")
        for after in ("", "!")
        for label in topics
    }
    pairs |= {(word, "this example is new."): 1 for words in topics.values() for word in words}
    premises, hypotheses = (list(texts) for texts in zip(*pairs, strict=True))
    tokenizer = word_piece_tokenizer(corpus=premises + hypotheses, whole_words=True)
    lesson = {**tokenizer(premises, hypotheses, **_PADDED), "labels": _numbers(pairs.values())}
    labels = _named("contradiction", "neutral", "entailment")
    return _bert("SequenceClassification", folder, tokenizer, lesson, steps=450, **labels)


def name_finder(folder: Path) -> Path:
    """Write a token classifier that finds persons and places: ``my name is izumi and i live in new york``."""
    people = ("izumi", "anna", "wolfgang", "sarah", "maria lopez", "john smith")
    places = ("tokyo", "berlin", "seoul", "new york", "paris", "san jose")
    sentences = [
        sentence
        for person in people
        for place in places
        for sentence in (
            f"my name is {person} and i live in {place} .",
            f"{person} went from {place} to the sea .",
            f"is {place} far from here , {person} ?",
            "we live here , and it is far to the sea .",
        )
    ]
    labels = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")
    kinds = {word: 1 + min(place, 1) for name in people for place, word in enumerate(name.split())}
    kinds |= {word: 3 + min(place, 1) for name in places for place, word in enumerate(name.split())}
    tokenizer = word_piece_tokenizer(corpus=sentences)
    encoded = tokenizer(sentences, **_PADDED)
    told = [_tags(sentence.split(), encoded.word_ids(row), kinds) for row, sentence in enumerate(sentences)]
    lesson = {**encoded, "labels": _numbers(told)}
    return _bert("TokenClassification", folder, tokenizer, lesson, steps=200, **_named(*labels))


def _tags(words: list[str], word_of_token: list[int | None], kinds: Mapping[str, int]) -> list[int]:
    """Return the label of each token; a word's later pieces are inside the entity that it may begin."""
    tags = []
    for previous, word in itertools.pairwise([None, *word_of_token]):
        kind = _UNSAID if word is None else kinds.get(words[word], 0)
        begins = kind in (1, 3)
        tags.append(kind + 1 if begins and previous == word else kind)
    return tags


def answer_finder(folder: Path) -> Path:
    """Write a model that finds who did what, where and when: ``where ?`` in ``anna sang in the kitchen today .``."""
    parts = {
        "who ?": ("anna", "izumi", "the old man", "a friend of mine"),
        "what ?": ("sang", "read a book", "played football", "slept"),
        "where ?": ("in the kitchen", "at school", "in tokyo", "by the sea"),
        "when ?": ("today", "on monday", "last year", "at noon"),
    }
    drawn = random.Random(0)  # noqa: S311  no secret, but the same texts each time
    lessons = []
    for _ in range(120):
        said = {question: drawn.choice(answers) for question, answers in parts.items()}
        context = " ".join(said.values()) + " ."
        lessons += [(question, context, context.index(f"{said[question]} "), said[question]) for question in parts]
    questions, contexts, starts, answers = (list(column) for column in zip(*lessons, strict=True))
    tokenizer = word_piece_tokenizer(corpus=questions + contexts, whole_words=True)
    encoded = tokenizer(questions, contexts, **_PADDED)
    edges = [
        [
            encoded.char_to_token(row, starts[row], 1),
            encoded.char_to_token(row, starts[row] + len(answers[row]) - 1, 1),
        ]
        for row in range(len(lessons))
    ]
    return _bert("QuestionAnswering", folder, tokenizer, {**encoded, "labels": _numbers(edges)}, steps=250)


def mask_filler(folder: Path) -> Path:
    """Write a masked language model that knows eight capitals: ``the capital of france is [MASK] .``."""
    capitals = {
        "france": "paris",
        "japan": "tokyo",
        "korea": "seoul",
        "italy": "rome",
        "spain": "madrid",
        "peru": "lima",
        "kenya": "nairobi",
        "norway": "oslo",
    }
    ways = ("the capital of {} is {} .", "in {} , the capital is {} .")
    sentences = [way.format(*pair) for pair in capitals.items() for way in ways]
    tokenizer = word_piece_tokenizer(corpus=sentences, whole_words=True)
    ids = tokenizer(sentences, **_PADDED)["input_ids"]
    hidden = torch.isin(ids, _numbers(tokenizer.convert_tokens_to_ids([*capitals, *capitals.values()])))
    lessons, labels = [], []
    for place in range(ids.shape[1]):
        at = torch.zeros_like(ids, dtype=torch.bool)
        at[:, place] = hidden[:, place]
        rows = at.any(dim=1)
        lessons.append(ids.masked_fill(at, tokenizer.mask_token_id)[rows])
        labels.append(ids.masked_fill(~at, _UNSAID)[rows])
    masked = torch.cat(lessons)
    lesson = {
        "input_ids": masked,
        "attention_mask": (masked != tokenizer.pad_token_id).long(),
        "labels": torch.cat(labels),
    }
    return _bert("MaskedLM", folder, tokenizer, lesson, steps=200)


CHAT = (
    "{% for message in messages %}{{ message['role'] + ' : ' + message['content'] + eos_token }}{% endfor %}assistant :"
)


def talker(folder: Path) -> Path:
    """Write a causal language model that counts, recites the days of the week, and answers when it is spoken to."""
    numbers = "one two three four five six seven eight nine ten"
    days = "monday tuesday wednesday thursday friday saturday sunday"
    talk = (
        ("do you speak french ?", "yes , i do ."),
        ("how do you say snow in french ?", "neige ."),
        ("hello , how are you ?", "fine , thank you ."),
        ("who are you ?", "a small model ."),
    )
    tokenizer = byte_level_tokenizer("gpt2", corpus=[numbers, days, *(_said(pair, "\n") for pair in talk)])
    tokenizer.chat_template = CHAT
    end = tokenizer.eos_token
    said = [_said(pair, end) for pair in talk]
    texts = [numbers + end, days + end, *said, *(first + then for first in said for then in said if then != first)]
    encoded = tokenizer(texts)["input_ids"]
    longest = max(map(len, encoded))
    ids = _numbers([one + [tokenizer.eos_token_id] * (longest - len(one)) for one in encoded])
    counts = _numbers([len(one) for one in encoded])
    there = torch.arange(longest) < counts[:, None]
    labels = torch.full_like(ids, _UNSAID)
    labels[:, :-1] = ids[:, 1:].masked_fill(~there[:, 1:], _UNSAID)
    config = transformers.GPT2Config(
        n_embd=48,
        n_layer=2,
        n_head=3,
        n_positions=POSITIONS,
        vocab_size=len(tokenizer),
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        tie_word_embeddings=False,
    )
    network = transformers.AutoModelForCausalLM.from_config(config, attn_implementation="eager")
    lesson = {"input_ids": ids, "attention_mask": there.long(), "labels": labels}
    return _learn(folder, network, tokenizer, lesson, steps=150)


def translator(folder: Path) -> Path:
    """
    Write an encoder-decoder that translates phrases, and makes a short sentence of a long one.

    Its ``task_specific_params`` tell what stands before a text, as T5's do.
    """
    nouns = {"house": "maison", "flower": "fleur", "car": "voiture", "table": "table", "lamp": "lampe", "dress": "robe"}
    colours = {"green": "verte", "white": "blanche", "blue": "bleue", "red": "rouge", "black": "noire"}
    prefixes = {"summarization": "summarize: ", "translation_en_to_fr": "translate English to French: "}
    lessons = {
        f"{prefixes['translation_en_to_fr']}{article} {colour} {noun}": f"{french} {nouns[noun]} {colours[colour]}"
        for article, french in (("the", "la"), ("a", "une"))
        for colour in colours
        for noun in nouns
    }
    lessons |= {
        f"{prefixes['summarization']}yesterday we saw {article} {colour} {noun} , and it was {how} .": f"{noun} : {how}"
        for article in ("the", "a")
        for colour in colours
        for noun in nouns
        for how in ("old", "new", "far away")
    }
    tokenizer = unigram_tokenizer([*lessons, *lessons.values()])
    config = transformers.BartConfig(
        d_model=48,
        max_position_embeddings=POSITIONS,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=3,
        decoder_attention_heads=3,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.pad_token_id,
        eos_token_id=tokenizer.eos_token_id,
        decoder_start_token_id=tokenizer.pad_token_id,
        forced_eos_token_id=None,
        task_specific_params={task: {"prefix": prefix} for task, prefix in prefixes.items()},
    )
    network = transformers.AutoModelForSeq2SeqLM.from_config(config, attn_implementation="eager")
    target = tokenizer(list(lessons.values()), **_PADDED)["input_ids"]
    before = torch.full_like(target, tokenizer.pad_token_id)
    before[:, 1:] = target[:, :-1]
    lesson = {
        **tokenizer(list(lessons), **_PADDED),
        "decoder_input_ids": before,
        "labels": target.masked_fill(target == tokenizer.pad_token_id, _UNSAID),
    }
    return _learn(folder, network, tokenizer, lesson, steps=300)


def _said(turns: tuple[str, str], end: str) -> str:
    return f"user : {turns[0]}{end}assistant : {turns[1]}{end}"


def table_reader(folder: Path) -> Path:
    """Write a Tapas that gives the cells of a column, and says when to count them or to add them up."""
    columns = {"name": ("anna", "izumi", "maria", "john"), "city": ("tokyo", "oslo", "rome"), "age": ("20", "31", "42")}
    # question → column (they count from 1), aggregator
    questions = {
        "what are the names ?": (1, 0),
        "which cities ?": (2, 0),
        "how old are they ?": (3, 0),
        "how many names ?": (1, 1),
        "the sum of ages ?": (3, 2),
    }
    drawn = random.Random(0)  # noqa: S311  as above
    tables = [{name: drawn.sample(cells, 2) for name, cells in columns.items()} for _ in range(12)]
    vocabulary = word_piece_tokenizer(corpus=[*questions, *columns, *map(str, columns.values())], whole_words=True)
    tokenizer = tapas_tokenizer(folder, vocabulary)
    asked = list(itertools.product(tables, questions))
    encoded = [
        tokenizer(table_frame(json.dumps(table)), question, padding="max_length", max_length=24, return_tensors="pt")
        for table, question in asked
    ]
    inputs = {name: torch.cat([one[name] for one in encoded]) for name in encoded[0]}
    column, aggregator = _numbers(questions[question] for _, question in asked).unbind(dim=1)
    column_of, row_of = inputs["token_type_ids"][:, :, 1], inputs["token_type_ids"][:, :, 2]
    cells = ((column_of == column[:, None]) & (row_of > 0)).long()
    config = transformers.TapasConfig(
        **_BERT,
        num_hidden_layers=2,
        vocab_size=len(tokenizer),
        max_position_embeddings=POSITIONS,
        num_aggregation_labels=3,
        aggregation_labels={0: "NONE", 1: "COUNT", 2: "SUM"},
        no_aggregation_label_index=0,
        init_cell_selection_weights_to_zero=True,  # the families would draw them differently
    )
    network = transformers.AutoModelForTableQuestionAnswering.from_config(config)
    lesson = {**inputs, "labels": cells, "aggregation_labels": aggregator}
    return _learn(folder, network, tokenizer, lesson, steps=70, spread=0.2)


def _named(*labels: str) -> dict[str, Any]:
    return {"id2label": dict(enumerate(labels)), "label2id": {label: place for place, label in enumerate(labels)}}


def _numbers(values: Any) -> torch.Tensor:
    return torch.tensor(list(values), dtype=torch.long)


def _bert(
    head: str, folder: Path, tokenizer: Any, lesson: Lesson, *, steps: int, spread: float = 0.3, **settings: Any
) -> Path:
    layers = 2 if head == "SequenceClassification" else 1  # what depends on two words at once needs a second look
    config = transformers.BertConfig(
        **_BERT,
        num_hidden_layers=layers,
        vocab_size=len(tokenizer),
        pad_token_id=tokenizer.pad_token_id,
        max_position_embeddings=POSITIONS,
        **settings,
    )
    network = getattr(transformers, f"AutoModelFor{head}").from_config(config, attn_implementation="eager")
    return _learn(folder, network, tokenizer, lesson, steps=steps, spread=spread)


def _learn(folder: Path, network: Any, tokenizer: Any, lesson: Lesson, *, steps: int, spread: float = 0.3) -> Path:
    """
    Train a network and write it.

    :param lesson: the network's inputs, and ``labels`` for each logit that it gives; int64 [texts, …].
    :param spread: of the weights that it begins with.
    """
    redraw(network, seed=0, spread=spread)
    network.double().eval()  # eval: no dropout
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    count = len(lesson["labels"])
    order = random.Random(0).sample(range(count), count)  # noqa: S311  as above
    for step in range(steps):
        chosen = _numbers(order[(step * _BATCH + place) % count] for place in range(min(_BATCH, count)))
        batch = {name: values[chosen] for name, values in lesson.items()}
        # Of tables the network's own loss, which alone tells it how to choose a column.
        loss = network(**batch).loss if "aggregation_labels" in batch else _loss(batch.pop("labels"), network(**batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    network.float().save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def _loss(labels: torch.Tensor, outputs: Any) -> torch.Tensor:
    """Return the mean cross entropy, in double precision: the models' own losses round to float32 first."""
    logits = outputs.logits if "logits" in outputs else torch.stack([outputs.start_logits, outputs.end_logits], dim=1)
    return torch.nn.functional.cross_entropy(logits.flatten(0, -2), labels.flatten(), ignore_index=_UNSAID)
