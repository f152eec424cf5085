"""The columns of each condition as the two documents list them, and what ``show_functions()`` prints of them."""

_TEXT = "STRING 'inputs'"
_JSON = "STRING 'outputs'"
_PAIR = "STRING 'text', STRING 'text_pair'"
_QUESTION = "STRING 'question', STRING 'context'"

# condition → input columns, output columns
COLUMNS = {
    "conversational": (
        "STRING 'user_inputs' [-1], STRING 'generated_responses' [-1]",
        "STRING 'generated_responses' [-1]",
    ),
    "fill-mask": (_TEXT, _JSON),
    "token-classification": (_TEXT, _JSON),
    "question-answering": (_QUESTION, "DOUBLE 'score', INT64 'start', INT64 'end', STRING 'answer'"),
    "question-answering, several": (_QUESTION, _JSON),
    "summarization": ("STRING 'documents'", "STRING 'summary_text'"),
    "table-question-answering": (
        "STRING 'query', STRING 'table'",
        "STRING 'answer', INT64 'coordinates' [-1, 2], STRING 'cells' [-1], STRING 'aggregator'",
    ),
    "text-classification": (_PAIR, "STRING 'label', DOUBLE 'score'"),
    "text-classification, several": (_PAIR, _JSON),
    "text-generation": (_TEXT, _JSON),
    "text2text-generation": (_TEXT, "STRING 'generated_text'"),
    "translation": (_TEXT, "STRING 'translation_text'"),
    "zero-shot-classification": (
        "STRING 'sequences', STRING 'candidate_labels' [-1]",
        "STRING 'sequence', STRING 'labels' [-1], DOUBLE 'scores' [-1]",
    ),
}

_SHAPES = {"[-1]": ", shape=(-1,)", "[-1, 2]": ", shape=(-1, 2)", "": ""}
_DTYPES = {"STRING": "string", "INT64": "Int64", "DOUBLE": "Float64"}


def printed(condition):
    """Return the text that is printed: lines and spaces as in the documents, one feature a line."""
    inputs, outputs = (
        ",\n".join(
            f"        FeatureSpec(dtype=DataType.{dtype}, name={name}{_SHAPES[shape]})"
            for dtype, name, shape in _parsed(columns)
        )
        for columns in COLUMNS[condition]
    )
    return (
        "[{'name': '__CALL__', 'target_method': '__call__', 'signature': ModelSignature(\n"
        f"    inputs=[\n{inputs}\n    ],\n    outputs=[\n{outputs}\n    ]\n)}}]"
    )


def dtypes(condition):
    """Return the output columns' pandas dtypes by name; lists are objects."""
    return {
        name.strip("'"): "object" if shape else _DTYPES[dtype] for dtype, name, shape in _parsed(COLUMNS[condition][1])
    }


def inputs(condition):
    """Return the names of the input columns."""
    return [name.strip("'") for _, name, _ in _parsed(COLUMNS[condition][0])]


def _parsed(columns):
    for column in columns.replace(", 2]", "; 2]").split(", "):
        dtype, name, *shape = column.replace(";", ",").split(" ", 2)
        yield dtype, name, "".join(shape)
