"""The models of the matrix by name: trained ones under the names of their makers, and random ones."""

from airflow_provider_hfreg.testing import encoder_models, models, trained_models


def make(name, folder):
    """Write a model into a folder; the same weights under every family."""
    folder.mkdir(parents=True, exist_ok=True)
    maker = _MAKERS.get(name)
    return getattr(trained_models, name)(folder) if maker is None else maker(folder)


def _judge(folder):
    return models.text_classifier(folder, labels=("contradiction", "neutral", "entailment"))


def _undecided(folder, maker):
    """Make a model to which all labels are equal: its head is zero."""
    from safetensors.torch import load_file, save_file

    maker(folder)
    weights = load_file(folder / "model.safetensors")
    for weight in ("classifier.weight", "classifier.bias"):
        weights[weight].zero_()
    save_file(weights, folder / "model.safetensors", {"format": "pt"})
    return folder


_MAKERS = {
    "random masks": encoder_models.masked_language_model,
    "random tokens": encoder_models.token_classifier,
    "random spans": encoder_models.question_answerer,
    "undecided tokens": lambda folder: _undecided(folder, encoder_models.token_classifier),
    "undecided judge": lambda folder: _undecided(folder, _judge),
    "table": encoder_models.table_answerer,
    "t5": lambda folder: models.text_to_text_model(folder, architecture="t5"),
    "bart": lambda folder: models.text_to_text_model(folder, architecture="bart"),
    "marian": lambda folder: models.text_to_text_model(folder, architecture="marian"),
}
