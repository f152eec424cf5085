"""What log_model accepts, before anything is touched."""

import pytest

from airflow_provider_hfreg.errors import (
    InvalidNameError,
    InvalidOptionError,
    SignatureRequiredError,
    UnsafeModelError,
    UnsupportedPipelineError,
)
from airflow_provider_hfreg.pipelines.catalog import get_task
from airflow_provider_hfreg.pipelines.spec import PipelineSpec
from airflow_provider_hfreg.registry.request import (
    check_methods_callable,
    check_options,
    functions_of,
    make_request,
)
from airflow_provider_hfreg.signatures.features import DataType, FeatureSpec, ParamSpec
from airflow_provider_hfreg.signatures.signature import ModelSignature

OWN = ModelSignature([FeatureSpec("x", DataType.DOUBLE)], [FeatureSpec("y", DataType.DOUBLE)])


def test_the_defaults_are_the_seeds():
    assert check_options({}) == {"target_methods": ["__call__"], "cuda_version": "12.4"}


def test_an_unknown_option_is_refused_by_name_and_the_known_ones_are_listed():
    with pytest.raises(InvalidOptionError, match="no option 'cuda'; the options are 'target_methods', 'cuda_version'"):
        check_options({"cuda": "12.4"})


@pytest.mark.parametrize("cuda_version", ["12", 12.4, "", "latest"])
def test_a_cuda_version_is_text_like_12_4_or_none(cuda_version):
    with pytest.raises(InvalidOptionError, match=r"such as '12.4'"):
        check_options({"cuda_version": cuda_version})


@pytest.mark.parametrize("methods", ["__call__", [], [1], ["not a name"], None, ["run", "RUN"]])
def test_target_methods_are_distinct_names(methods):
    with pytest.raises(InvalidOptionError, match="target_methods"):
        check_options({"target_methods": methods})


def test_a_target_method_must_be_callable_on_the_object():
    check_methods_callable(str, ["upper"])
    with pytest.raises(InvalidOptionError, match="names 'predict', which is no callable method of str"):
        check_methods_callable("a pipeline", ["predict"])


def test_a_name_is_checked_before_all_else():
    with pytest.raises(InvalidNameError):
        make_request(model_name="ProsusAI/finbert")


def test_a_secret_in_what_is_said_about_a_version_is_refused():
    secret = "hf" + "_" + "aB3" * 12
    for described in ({"comment": secret}, {"tags": {"note": secret}}, {"metrics": {"run": [secret]}}):
        with pytest.raises(UnsafeModelError) as caught:
            make_request(model_name="finbert", **described)
        assert secret not in str(caught.value)


def test_tags_are_text():
    with pytest.raises(InvalidOptionError, match=r"tags\['epoch'\] is 3"):
        make_request(model_name="finbert", tags={"epoch": 3})


def test_sample_input_data_is_ignored_and_that_is_said():
    told = "sample_input_data is ignored.*given in signatures or follows from the pipeline task"
    with pytest.warns(UserWarning, match=told):
        make_request(model_name="finbert", sample_input_data=[["x"]])


def test_the_signature_follows_from_the_task():
    request = make_request(model_name="finbert")
    (function,) = functions_of(request, PipelineSpec("text-classification", {"top_k": 2}))
    assert [feature.name for feature in function.signature.outputs] == ["outputs"]


def test_a_given_signature_is_enough_for_a_task_that_has_none():
    request = make_request(model_name="finbert", signatures={"__call__": OWN})
    assert functions_of(request, PipelineSpec("image-to-text"))[0].signature == OWN


def test_a_given_signature_of_a_known_task_may_list_fewer_parameters():
    inferred = get_task("text-classification").signature({})
    fewer = ModelSignature(inferred.inputs, inferred.outputs, inferred.params[:1])
    request = make_request(model_name="finbert", signatures={"__call__": fewer})
    assert functions_of(request, PipelineSpec("text-classification"))[0].signature == fewer


@pytest.mark.parametrize(
    "param",
    [
        ParamSpec("foo", DataType.INT64, 3),
        ParamSpec("max_length", DataType.STRING),
        ParamSpec("max_length", DataType.INT64, shape=(-1,)),
        ParamSpec("function_to_apply", DataType.STRING, "sigmoid"),
    ],
)
def test_a_parameter_that_the_task_would_not_keep_is_refused_and_the_list_is_shown(param):
    inferred = get_task("text-classification").signature({})
    given = ModelSignature(inferred.inputs, inferred.outputs, [param])
    with pytest.raises(InvalidOptionError) as caught:
        functions_of(
            make_request(model_name="finbert", signatures={"__call__": given}), PipelineSpec("text-classification")
        )
    assert repr(param) in str(caught.value)
    assert all(repr(known) in str(caught.value) for known in inferred.params)


def test_a_parameter_may_be_given_with_the_pipelines_own_default_or_without_one():
    spec = PipelineSpec("text-classification", {"function_to_apply": "sigmoid"})
    inferred = get_task("text-classification").signature(spec.parameters)
    own = next(param for param in inferred.params if param.name == "function_to_apply")
    assert own.default_value == "sigmoid"
    for param in (own, ParamSpec("function_to_apply", DataType.STRING)):
        given = ModelSignature(inferred.inputs, inferred.outputs, [param])
        request = make_request(model_name="finbert", signatures={"__call__": given})
        assert functions_of(request, spec)[0].signature == given


def test_a_given_signature_with_other_columns_than_the_tasks_is_refused_and_both_are_shown():
    inferred = get_task("text-classification").signature({})
    retyped = ModelSignature(
        inferred.inputs, [FeatureSpec(feature.name, DataType.BOOL) for feature in inferred.outputs]
    )
    for given in (OWN, retyped):
        request = make_request(model_name="finbert", signatures={"__call__": given})
        with pytest.raises(InvalidOptionError) as caught:
            functions_of(request, PipelineSpec("text-classification"))
        assert repr(given) in str(caught.value)
        assert repr(inferred) in str(caught.value)


def test_an_unknown_task_needs_a_signature():
    with pytest.raises(SignatureRequiredError, match="text-classification"):
        functions_of(make_request(model_name="finbert"), PipelineSpec("image-to-text"))


def test_another_target_method_needs_a_signature():
    request = make_request(model_name="finbert", options={"target_methods": ["__call__", "embed"]})
    with pytest.raises(SignatureRequiredError, match="'embed'"):
        functions_of(request, PipelineSpec("text-classification"))


def test_a_signature_of_no_target_method_is_refused():
    with pytest.raises(InvalidOptionError, match=r"signatures\['predict'\]"):
        make_request(model_name="finbert", signatures={"predict": OWN})


def test_an_option_of_the_pipeline_that_cannot_be_held_is_refused():
    spec = PipelineSpec("text-generation", {"return_tensors": True})
    with pytest.raises(UnsupportedPipelineError, match="return_tensors"):
        functions_of(make_request(model_name="bloom"), spec)


@pytest.mark.parametrize("name", ["tags", "metrics", "options", "signatures", "logged_by"])
@pytest.mark.parametrize("value", [["a"], [], 0.9, 0, "text"])
def test_what_is_no_dict_is_refused_by_name(name, value):
    with pytest.raises(InvalidOptionError, match=f"^{name} is .*must be a dict"):
        make_request(model_name="finbert", **{name: value})


@pytest.mark.parametrize("described", [{"model_name": 1}, {"model_name": "finbert", "version_name": 1}])
def test_a_name_is_text(described):
    with pytest.raises(InvalidNameError, match=r"1 cannot be the name of a .*: a name is text"):
        make_request(**described)


@pytest.mark.parametrize("task", [None, "", 1])
def test_a_task_is_named_by_text(task, file_registry, classifier):
    with pytest.raises(InvalidOptionError, match="name the pipeline task"):
        file_registry.log_folder(classifier, model_name="finbert", task=task)
    assert file_registry.models() == []
