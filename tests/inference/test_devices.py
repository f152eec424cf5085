import os

import pytest

from airflow_provider_hfreg.errors import InvalidOptionError, ModelTooLargeError
from airflow_provider_hfreg.inference import container, devices
from airflow_provider_hfreg.pipelines.spec import PipelineSpec


def write(root, files):
    for path, text in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(f"{text}\n")


def test_the_tightest_of_nested_v2_groups_binds(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pod/container",
            "sys/pod/memory.max": 1000,
            "sys/pod/memory.current": 900,
            "sys/pod/memory.stat": "anon 1\ninactive_file 50",
            "sys/pod/container/memory.max": "max",
            "sys/pod/container/memory.current": 400,
            "sys/pod/container/cpu.max": "150000 100000",
            "sys/pod/cpu.max": "max 100000",
        },
    )

    assert container.cgroup_free_bytes(tmp_path / "proc", tmp_path / "sys") == [150]
    assert container.cgroup_cores(tmp_path / "proc", tmp_path / "sys") == [2]


def test_a_v1_group_seen_from_inside_its_container(tmp_path):
    write(
        tmp_path,
        {
            "proc/self/cgroup": "4:memory:/docker/abc\n3:cpu,cpuacct:/docker/abc",
            "sys/memory/memory.limit_in_bytes": 2000,
            "sys/memory/memory.usage_in_bytes": 500,
            "sys/memory/memory.stat": "total_inactive_file 100",
            "sys/cpu,cpuacct/cpu.cfs_quota_us": 400000,
            "sys/cpu,cpuacct/cpu.cfs_period_us": 100000,
        },
    )

    assert container.cgroup_free_bytes(tmp_path / "proc", tmp_path / "sys") == [1600]
    assert container.cgroup_cores(tmp_path / "proc", tmp_path / "sys") == [4]


def test_without_limits_the_machine_itself_is_the_bound(tmp_path):
    write(tmp_path, {"proc/self/cgroup": "0::/", "sys/cpu.cfs_quota_us": -1})

    assert container.cgroup_free_bytes(tmp_path / "proc", tmp_path / "sys") == []
    assert container.cgroup_cores(tmp_path / "nothing", tmp_path / "sys") == []


def test_this_machine_has_memory_and_cores():
    assert devices.free_memory_bytes() > 0
    assert 1 <= container.core_count() <= (os.cpu_count() or 1)


def test_a_model_too_large_is_refused_with_both_numbers():
    spec = PipelineSpec(task="text-generation", parameter_count=70_000_000_000, dtype="bfloat16")

    with pytest.raises(ModelTooLargeError, match=r"130\.39 GiB .* 8\.00 GiB are free on cpu"):
        devices.check_memory(devices.required_bytes(spec), 8 * 2**30)


def test_an_unknown_dtype_counts_the_files():
    assert devices.required_bytes(PipelineSpec(task="x", parameter_count=9, weights_size_bytes=7)) == 7


@pytest.mark.parametrize("device", ["gpu", "cpu:x", "cuda:99"])
def test_a_device_that_is_not_there_is_named(device):
    with pytest.raises(InvalidOptionError, match=rf"no device '{device}' here: .* Write 'cpu', 'cuda'"):
        devices.choose_device(device)
