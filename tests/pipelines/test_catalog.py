"""Tasks by name, and what every task promises."""

import pytest

from airflow_provider_hfreg.errors import SignatureRequiredError
from airflow_provider_hfreg.pipelines.base import Forward, PipelineTask
from airflow_provider_hfreg.pipelines.catalog import get_task, task_names


def test_an_unknown_task_needs_signatures_and_is_told_which_tasks_do_not():
    with pytest.raises(SignatureRequiredError) as raised:
        get_task("image-classification")
    assert isinstance(raised.value, ValueError)
    message = str(raised.value)
    assert message.startswith("No signature is inferred for the task 'image-classification': give `signatures` to log")
    assert "text-classification (also sentiment-analysis), text-generation, " in message
    assert all(name in message for name in task_names())


@pytest.mark.parametrize("name", task_names())
def test_a_task_is_found_by_its_names_and_knows_its_own(name):
    task = get_task(name)
    assert task.name == name
    assert all(get_task(alias) is task for alias in task.aliases)
    signature = task.signature({})
    assert task.optional_inputs <= {feature.name for feature in signature.inputs}
    # Whatever a run may set, a pipeline may be built with.
    assert {param.name for param in signature.params} <= task.arguments


def test_a_task_that_lacks_something_fails_when_it_is_defined():
    with pytest.raises(TypeError, match="Half must define auto_class, heads"):

        class Half(PipelineTask):
            name = "half"
            forward = Forward.GENERATE
