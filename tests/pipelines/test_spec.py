"""A pipeline's description outlives the package that wrote it."""

from airflow_provider_hfreg.pipelines.spec import PipelineSpec


def test_what_a_later_package_added_is_passed_over():
    spec = PipelineSpec(task="ner", parameters={"aggregation_strategy": "simple"})
    assert PipelineSpec.from_json(spec.to_json() | {"quantisation": "int4"}) == spec
