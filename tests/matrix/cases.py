"""
The table: tasks, the conditions under which their columns change, models, and frames.

A frame is a dict of columns. Texts are turned over rather than multiplied: each task reads the same odd ones in the
place where it reads a text, and what only it can meet besides.
"""

import itertools
import json
from dataclasses import dataclass, field

TEXTS = {
    "one row": ["the film was not good"],
    "many rows": [
        "the film was good",
        "it was not very cold",
        "the film was good",
        "what a wonderful evening",
        "",
        "i think it was superb , the plot was dull and the music was not bad",
        "The Film Was GOOD",
        "it",
        "the food was terrible",
        "it was not very cold",
        "one two three",
    ],
    "korean and japanese": ["이 영화는 정말 재미있었어요.", "この映画はとても面白かったです。", "ｶﾞｷﾞ ㌔", "한"],
    "emoji": ["👩‍👩‍👧 good", "🇰🇷🇯🇵", "👍🏽 it was great 👍🏽", "\U0001fae0"],
    "combining marks": ["e\u0301te\u0301", "o\u0308l o\u0308\u0323", "Größtenteils KÖSTLICH", "ﬁn", "İstanbul ǅ"],
    "right to left": ["הסרט היה טוב", "كان الفيلم جيدا", "\u202eabc\u202c good"],
    "control characters": ["a\x00b", "tab\tand\nnew line\r\n", "\u200b\u200d\ufeff", "\x7f\x1b[0m good"],
    "spaces": [" ", "  the film  was   good  ", "\u00a0good", "\u3000", "good "],
    "empty strings": ["", "it was good", ""],
    "too long": ["the film was good " * 40, "it was bad"],
    "equal rows": ["it was dull"] * 6,
    "signs and numbers": ["!!!", "10/10 :) ...", "3.14", "a-b_c/d", '{"a": [1]}', "<b>good</b>", "\\n"],
}


@dataclass(frozen=True)
class Case:
    """
    One condition of a task.

    :param model: of :mod:`.models`.
    :param printed: what ``show_functions`` prints, of :mod:`.signatures`.
    :param arguments: of ``transformers.pipeline``.
    """

    task: str
    model: str
    printed: str
    arguments: dict = field(default_factory=dict)

    @property
    def name(self):
        said = ", ".join(f"{name}={json.dumps(value)}" for name, value in self.arguments.items())
        return f"{self.task} {self.model} ({said})"

    @property
    def frames(self):
        """Frames by name."""
        return FRAMES[_FAMILY.get(self.task, self.task)]()


NEW_TOKENS = 8

_GREEDY = {"do_sample": False, "max_new_tokens": NEW_TOKENS}
_SHORT = {"max_new_tokens": 10}

CASES = [
    Case("conversational", "talker", "conversational", _GREEDY),
    Case("conversational", "bart", "conversational", {"max_new_tokens": 5, "num_beams": 2}),
    Case("fill-mask", "mask_filler", "fill-mask"),
    Case("fill-mask", "mask_filler", "fill-mask", {"top_k": 1}),
    Case("fill-mask", "random masks", "fill-mask", {"top_k": 3, "targets": ["good", "the", "film"]}),
    Case("ner", "name_finder", "token-classification"),
    Case("token-classification", "name_finder", "token-classification", {"aggregation_strategy": "simple"}),
    Case("token-classification", "random tokens", "token-classification", {"aggregation_strategy": "first"}),
    Case("token-classification", "random tokens", "token-classification", {"aggregation_strategy": "average"}),
    Case("token-classification", "random tokens", "token-classification", {"aggregation_strategy": "max"}),
    Case("token-classification", "undecided tokens", "token-classification", {"ignore_labels": ["B-PER"]}),
    Case("question-answering", "answer_finder", "question-answering"),
    Case("question-answering", "answer_finder", "question-answering", {"top_k": 1, "handle_impossible_answer": True}),
    Case("question-answering", "answer_finder", "question-answering, several", {"top_k": 3}),
    Case("question-answering", "random spans", "question-answering, several", {"top_k": 2, "max_answer_len": 4}),
    Case("summarization", "translator", "summarization", {**_SHORT, "return_tensors": False}),
    Case("summarization", "bart", "summarization", {"max_new_tokens": 6, "num_return_sequences": 2, "num_beams": 2}),
    Case("table-question-answering", "table", "table-question-answering"),
    Case("table-question-answering", "table_reader", "table-question-answering"),
    Case("text-classification", "sentiment_classifier", "text-classification"),
    Case("sentiment-analysis", "sentiment_classifier", "text-classification, several", {"top_k": 1}),
    Case("text-classification", "sentiment_classifier", "text-classification, several", {"top_k": 2}),
    Case("text-classification", "entailment_judge", "text-classification", {"function_to_apply": "sigmoid"}),
    Case("text-classification", "undecided judge", "text-classification, several", {"top_k": 2}),
    Case("text-generation", "talker", "text-generation", _GREEDY),
    Case("text-generation", "talker", "text-generation", {**_GREEDY, "return_full_text": False}),
    Case("text-generation", "talker", "text-generation", {**_GREEDY, "num_beams": 2, "num_return_sequences": 2}),
    Case("text2text-generation", "translator", "text2text-generation", _SHORT),
    Case("text2text-generation", "t5", "text2text-generation", {**_GREEDY, "num_beams": 3, "num_return_sequences": 3}),
    Case("translation", "marian", "translation", _SHORT),
    Case("translation_en_to_fr", "translator", "translation", _SHORT),
    Case("translation_xx_to_yy", "marian", "translation", {"max_new_tokens": 6, "num_return_sequences": 2}),
    Case("zero-shot-classification", "entailment_judge", "zero-shot-classification"),
    Case("zero-shot-classification", "entailment_judge", "zero-shot-classification", {"multi_label": True}),
    Case("zero-shot-classification", "undecided judge", "zero-shot-classification", {"hypothesis_template": "{}?"}),
]

_FAMILY = {
    "ner": "token-classification",
    "sentiment-analysis": "text-classification",
    "translation_en_to_fr": "translation",
    "translation_xx_to_yy": "translation",
}


def _of_one_text(column, own):
    return lambda: {name: {column: texts} for name, texts in {**TEXTS, **own}.items()}


def _of_masks():
    frames = {name: [f"{text} [MASK] ." for text in texts] for name, texts in TEXTS.items() if name != "too long"}
    frames |= {
        "capitals": ["the capital of peru is [MASK] .", "in [MASK] , the capital is rome .", "[MASK]"],
        "two masks": ["the capital of [MASK] is [MASK] .", "[MASK][MASK] [MASK]", "in kenya , the [MASK] is oslo ."],
        "no mask": ["the capital of peru is lima .", "[mask]", "", "the capital is [MASK] ."],
        "too long": ["[MASK] is the capital " * 40, "the capital of france is " * 40 + "[MASK]", "[MASK] ."],
    }
    return {name: {"inputs": texts} for name, texts in frames.items()}


def _of_pairs():
    """Some rows have no second text, in each way that a frame can say so."""
    frames = {name: {"text": texts, "text_pair": [""] * len(texts)} for name, texts in TEXTS.items()}
    pairs = itertools.cycle(["this example is food.", None, " ", "この例は新しい。"])
    for name, texts in TEXTS.items():
        frames[f"{name}, in pairs"] = {"text": texts, "text_pair": [next(pairs) for _ in texts]}
    return frames


def _of_questions():
    said = "anna played football in the kitchen last year ."
    frames = {name: {"question": ["what ?"] * len(texts), "context": texts} for name, texts in TEXTS.items()}
    frames |= {
        "known answers": {
            "question": ["who ?", "what ?", "where ?", "when ?", "Who ?"],
            "context": [said, said, said, said, "A friend of mine slept by the sea at noon ."],
        },
        "odd questions": {
            "question": [text for texts in TEXTS.values() for text in texts[:1]],
            "context": [said] * len(TEXTS),
        },
        "answers that read alike": {"question": ["who ?"], "context": ["anna ANNA Anna slept , anna slept ."]},
        "several parts": {
            "question": ["where ?", "who ?"],
            "context": ["a friend of mine slept at school on monday . " * 12 + said, said * 12],
        },
    }
    return frames


def _of_tables():
    tables = itertools.cycle(
        [
            {"Name": ["the film", "the plot", "the music"], "Stars": ["5", "3", "4"]},
            {"a": ["good"]},
            {"이름": ["영화", "한"], "値": ["面白かった", "です"], "👩‍👩‍👧": ["e\u0301", "\x00"]},
            {"Stars": ["3,020,000", "872"], "": ["", " "]},
        ]
    )
    frames = {
        name: {"query": texts, "table": [json.dumps(next(tables), ensure_ascii=False) for _ in texts]}
        for name, texts in TEXTS.items()
        if name != "too long"
    }
    people = json.dumps({"name": ["Anna", "Izumi"], "city": ["Oslo", "Tokyo"], "age": ["31", "20"]})
    known = ["What are the names?", "Which cities?", "How many names?", "The sum of ages?"]
    frames["known questions"] = {"query": known, "table": [people] * len(known)}
    large = json.dumps({"a": [str(number) for number in range(60)], "b": ["good"] * 60})
    frames["a table too long"] = {
        "query": ["good", "which ?"],
        "table": [large, next(iter(frames.values()))["table"][0]],
    }
    return frames


def _of_labels():
    labels = itertools.cycle(
        [
            ["food", "sport", "weather"],
            ["urgent", "not urgent"],
            ["sport"],
            ["food", "sport", "food"],
            ["日本語", "한국어", "👩‍👩‍👧", "größtenteils"],
        ]
    )
    frames = {
        name: {"sequences": texts, "candidate_labels": [next(labels) for _ in texts]} for name, texts in TEXTS.items()
    }
    frames["known topics"] = {
        "sequences": ["i like soup", "today a storm!", "tennis", "i like running"],
        "candidate_labels": [["food", "sport", "weather"]] * 4,
    }
    frames["no label"] = {"sequences": ["i like soup", "tennis"], "candidate_labels": [[], ["food", "sport"]]}
    return frames


def _of_turns():
    replies = itertools.cycle([[], ["yes , i do ."], ["größtenteils", ""]])
    frames = {
        name: {
            "user_inputs": [["hello , how are you ?", text] for text in texts],
            "generated_responses": _some(replies, texts),
        }
        for name, texts in TEXTS.items()
    }
    frames["first turns"] = {
        "user_inputs": [["do you speak french ?"], ["who are you ?"], [""], ["映画"]],
        "generated_responses": [[], [], [], []],
    }
    frames["no turn"] = {"user_inputs": [[], ["who are you ?"]], "generated_responses": [[], []]}
    return frames


def _some(lists, texts):
    return [next(lists) for _ in texts]


_PROMPTS = {"counting": ["one two", "monday tuesday", "one", "user : who are you ?<|endoftext|>assistant :"]}
_NAMES = {
    "names": [
        "my name is izumi and i live in new york .",
        "John Smith went from San Jose to the sea .",
        "is tokyo far from here , maria lopez ?",
        "wolfgang",
    ]
}
_PHRASES = {"phrases": ["the blue dress", "a red car", "the green table"]}
_LONG_PHRASES = {"phrases": ["translate English to French: the red car", "summarize: yesterday we saw a blue lamp ."]}
_DOCUMENTS = {"documents": ["yesterday we saw the black lamp , and it was far away .", "yesterday we saw a car"]}

FRAMES = {
    "conversational": _of_turns,
    "fill-mask": _of_masks,
    "token-classification": _of_one_text("inputs", _NAMES),
    "question-answering": _of_questions,
    "summarization": _of_one_text("documents", _DOCUMENTS),
    "table-question-answering": _of_tables,
    "text-classification": _of_pairs,
    "text-generation": _of_one_text("inputs", _PROMPTS),
    "text2text-generation": _of_one_text("inputs", _LONG_PHRASES),
    "translation": _of_one_text("inputs", _PHRASES),
    "zero-shot-classification": _of_labels,
}
