import dataclasses
import subprocess
import sys

import pytest

from airflow_provider_hfreg.errors import ModelLoadError, ModelTooLargeError, UnsafeModelError
from airflow_provider_hfreg.inference.arrangement import accepted_by
from airflow_provider_hfreg.inference.frameworks import transformers
from airflow_provider_hfreg.inference.loading import load_pipeline, to_transformers


@pytest.fixture
def version(classifiers, plain, package):
    return package(plain("text-classification", classifiers("bert")))


def test_a_network_is_ready_to_run(version):
    loaded = load_pipeline(*version, device="cpu")

    assert not loaded.network.training
    assert loaded.token_limit == 64
    assert loaded.context.config["id2label"][0] == "negative"


def test_robertas_positions_begin_after_its_padding(classifiers, plain, package):
    pipe = plain("text-classification", classifiers("roberta"))
    pipe.tokenizer.model_max_length = 10**30

    assert load_pipeline(*package(pipe), device="cpu").token_limit == 64


def test_a_model_without_a_pad_token_pads_with_its_first_end_token(generators, plain, package):
    pipe = plain("text-generation", generators("llama"))
    pipe.model.generation_config.eos_token_id = [7, 2]

    loaded = load_pipeline(*package(pipe), device="cpu")

    assert loaded.tokenizer.pad_token_id == loaded.network.config.pad_token_id == 7


def test_what_does_not_fit_is_refused_before_it_is_loaded(version, tmp_path):
    _, spec = version
    huge = dataclasses.replace(spec, parameter_count=10**15)

    with pytest.raises(ModelTooLargeError, match=r"need 3,725,290\.30 GiB and only .* are free"):
        load_pipeline(tmp_path / "not even there", huge, device="cpu")


def test_a_damaged_folder_says_what_to_do(version):
    folder, spec = version
    (folder / "model.safetensors").write_bytes(b"no weights")

    with pytest.raises(
        ModelLoadError, match=rf"cannot build BertForSequenceClassification .* {spec.transformers_version}"
    ):
        load_pipeline(folder, spec, device="cpu")


def test_a_missing_head_is_not_drawn_at_random(classifiers, package, plain, tmp_path):
    import transformers

    folder, spec = package(plain("text-classification", classifiers("bert")))
    transformers.BertModel.from_pretrained(folder).save_pretrained(folder)

    with pytest.raises(ModelLoadError, match=r"lack .*classifier\.bias"):
        load_pipeline(folder, spec, device="cpu")


def test_the_models_own_code_needs_consent(version):
    folder, spec = version
    spec = dataclasses.replace(spec, remote_code=True)

    for load in (load_pipeline, to_transformers):
        with pytest.raises(UnsafeModelError, match="trust_remote_code=True"):
            load(folder, spec, device="cpu")


def test_what_a_class_of_ones_own_hands_on_is_given_to_it(version):
    class Own(transformers.BertForSequenceClassification):
        def forward(self, input_ids=None, **kwargs):
            return super().forward(input_ids, **kwargs)

    class All(Own):
        def forward(self, *args, **kwargs):
            return super().forward(*args, **kwargs)

    class Some(Own):
        def forward(self, input_ids=None, attention_mask=None):
            return super().forward(input_ids, attention_mask=attention_mask)

    folder, _ = version
    config = transformers.AutoConfig.from_pretrained(folder)
    for kind in (transformers.BertForSequenceClassification, Own, All):
        assert {"input_ids", "attention_mask", "token_type_ids"} <= accepted_by(kind(config))
    assert accepted_by(Some(config)) == {"input_ids", "attention_mask"}


def test_importing_the_room_loads_no_framework():
    code = (
        "import sys, airflow_provider_hfreg.inference as room; assert callable(room.pipeline); "
        "assert not {'torch', 'transformers', 'pandas', 'safetensors'} & set(sys.modules)"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_without_torch_the_error_names_the_extra():
    code = (
        "import sys; sys.modules['torch'] = None\n"
        "from airflow_provider_hfreg.errors import InferenceExtraMissingError\n"
        "from airflow_provider_hfreg.inference import pipeline\n"
        "try:\n    pipeline('text-classification')\n"
        "except InferenceExtraMissingError as error:\n    assert 'airflow-provider-hfreg[inference]' in str(error)\n"
        "else:\n    raise SystemExit('no error')"
    )

    subprocess.run([sys.executable, "-c", code], check=True)


def test_our_pipeline_is_transformers_own(classifiers):
    import transformers

    from airflow_provider_hfreg.inference import pipeline

    pipe = pipeline("text-classification", model=str(classifiers("bert")), device="cpu", top_k=2)

    assert type(pipe) is transformers.TextClassificationPipeline
    assert len(pipe(["good"])[0]) == 2


def test_a_task_that_the_family_lacks_says_which_family():
    import transformers

    from airflow_provider_hfreg.errors import UnsupportedPipelineError
    from airflow_provider_hfreg.inference import pipeline

    with pytest.raises(
        UnsupportedPipelineError, match=rf"transformers {transformers.__version__} has no pipeline .*'mind-reading'"
    ):
        pipeline("mind-reading")
