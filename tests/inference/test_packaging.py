import json

import pytest

from airflow_provider_hfreg.errors import UnsupportedPipelineError
from airflow_provider_hfreg.inference.packaging import package_pipeline
from airflow_provider_hfreg.pipelines.spec import PipelineSpec


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_version_is_safetensors_and_json(classifiers, plain, package):
    folder, spec = package(plain("text-classification", classifiers("bert"), top_k=2))

    assert sorted(contents(folder)) == ["config.json", "model.safetensors", "tokenizer.json", "tokenizer_config.json"]
    assert spec.task == "text-classification"
    assert spec.parameters == {"top_k": 2}
    assert spec.dtype == "float32"
    assert spec.attn_implementation is None
    assert spec.architecture == "BertForSequenceClassification"
    assert spec.weights_size_bytes == (folder / "model.safetensors").stat().st_size
    assert spec.source is None
    assert PipelineSpec.from_json(json.loads(json.dumps(spec.to_json()))) == spec


def test_parameters_are_counted_as_torch_counts_them(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("roberta"))

    assert package(pipe)[1].parameter_count == sum(weight.numel() for weight in pipe.model.parameters())


def test_an_alias_stays_as_the_user_wrote_it(classifiers, plain, package):
    assert package(plain("sentiment-analysis", classifiers("bert")))[1].task == "sentiment-analysis"


def test_the_same_pipeline_gives_the_same_bytes_also_after_use(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("bert"))
    before, spec = package(pipe)

    pipe(["a text", "and a longer one that is padded"], batch_size=2, truncation=True, max_length=12)
    after, spec_after = package(pipe)

    assert contents(after) == contents(before)
    assert spec_after == spec


def test_logging_what_was_loaded_gives_the_same_bytes(generators, plain, package):
    from airflow_provider_hfreg.inference.loading import to_transformers

    folder, spec = package(plain("text-generation", generators("gpt2"), max_new_tokens=5))

    again, spec_again = package(to_transformers(folder, spec, device="cpu"))

    assert contents(again) == contents(folder)
    assert spec_again == spec


def test_the_hub_commit_is_kept(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("bert"))
    pipe.model.config._name_or_path, pipe.model.config._commit_hash = "somebody/finbert", "0123456789abcdef"

    folder, spec = package(pipe)

    assert spec.source == {"repo_id": "somebody/finbert", "commit": "0123456789abcdef"}
    assert b"somebody" not in (folder / "config.json").read_bytes()


def test_no_token_and_no_path_of_this_machine_is_written(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("bert"))
    pipe.tokenizer.init_kwargs["token"] = pipe.model.config.use_auth_token = "hf_" + "a" * 34

    folder, _ = package(pipe)

    everything = b"".join(contents(folder).values())
    assert b"hf_aaaa" not in everything
    assert str(classifiers("bert")).encode() not in everything


def test_an_attention_that_was_chosen_is_kept(classifiers, plain, package):
    chosen = plain("text-classification", classifiers("bert"), model_kwargs={"attn_implementation": "eager"})

    assert package(chosen)[1].attn_implementation == "eager"


@pytest.mark.parametrize("nothing", ["bert-base-uncased", {"task": "text-classification", "model": "x"}, None])
def test_what_holds_no_weights_is_refused_with_the_way_out(nothing, tmp_path):
    with pytest.raises(UnsupportedPipelineError, match=r"transformers\.pipeline\(task, model=…\)"):
        package_pipeline(nothing, tmp_path)


def test_weights_that_are_not_in_memory_are_refused(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("bert"))
    pipe.model.to_empty(device="meta")

    with pytest.raises(UnsupportedPipelineError, match="not all in memory"):
        package(pipe)


def test_return_tensors_is_refused_by_name(generators, plain, package):
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        package(plain("text-generation", generators("gpt2"), return_tensors=True))


def test_an_argument_that_is_no_plain_value_is_refused_by_name(generators, plain, package):
    with pytest.raises(UnsupportedPipelineError, match="prefix_allowed_tokens_fn"):
        package(plain("text-generation", generators("gpt2"), prefix_allowed_tokens_fn=lambda *_: [1]))


def test_nothing_is_written_before_everything_is_checked(generators, plain, tmp_path):
    with pytest.raises(UnsupportedPipelineError):
        package_pipeline(plain("text-generation", generators("gpt2"), return_tensors=True), tmp_path / "version")

    assert not (tmp_path / "version").exists()


@pytest.mark.parametrize("architecture", ["bert", "distilbert", "roberta"])
def test_a_classifier_loads_as_it_was_logged(architecture, classifiers, plain, package, texts):
    from airflow_provider_hfreg.inference.loading import to_transformers

    pipe = plain(
        "text-classification", classifiers(architecture), function_to_apply="none", top_k=None, truncation=True
    )
    folder, spec = package(pipe)

    loaded = to_transformers(folder, spec, device="cpu")

    assert type(loaded) is type(pipe)
    assert loaded(texts) == pipe(texts)
    assert loaded({"text": "good", "text_pair": "bad"}) == pipe({"text": "good", "text_pair": "bad"})
