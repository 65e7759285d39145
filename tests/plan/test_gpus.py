"""The table of GPUs: what holds for every entry, and what its look-ups say."""

import pytest

from infra.gpus import GIB, GPUS, UnknownGpuError, computes_bfloat16, computes_fp8, find_gpu

# Memory that nvidia-smi prints for the whole GPU, in MiB, from public logs.
PRINTED_MIB = {
    "T4": 15360,
    "L4": 23034,
    "A10": 23028,
    "A10G": 23028,
    "A30": 24576,
    "A100-40GB": 40960,
    "L40S": 46068,
    "A100-80GB": 81920,
    "H100-80GB": 81559,
    "H100-NVL": 95830,
    "RTX-PRO-6000": 97887,
    "H200": 143771,
    "B200": 183359,
}


def test_a_process_gets_a_little_less_than_the_driver_prints() -> None:
    assert GPUS.keys() == PRINTED_MIB.keys()
    for name, gpu in GPUS.items():
        printed = PRINTED_MIB[name] * 2**20
        assert 0.94 * printed < gpu.memory_bytes < printed, name


def test_slices_together_are_no_more_than_their_gpu() -> None:
    for gpu in GPUS.values():
        for slice_ in gpu.mig.values():
            assert slice_.per_gpu * slice_.memory_bytes <= gpu.memory_bytes, slice_.name
            # The name says the memory in GB, rounded up from what a process gets.
            named = int(slice_.profile.partition(".")[2].removesuffix("gb"))
            assert 0.82 * named * GIB < slice_.memory_bytes <= named * GIB, slice_.name
            assert slice_.resource == f"nvidia.com/mig-{slice_.profile}"


def test_a_slice_is_found_by_its_profile() -> None:
    slice_ = find_gpu("h100-80gb").slice("3g.40gb")
    assert (slice_.name, slice_.per_gpu, slice_.resource) == ("H100-80GB 3g.40gb", 2, "nvidia.com/mig-3g.40gb")
    assert slice_.memory_bytes == int(39.5 * GIB)


@pytest.mark.parametrize(
    ("gpu", "profile", "says"),
    [
        ("V100", None, "Use one of T4, L4"),
        ("H200", "1g.10gb", "Use one of 1g.18gb, 1g.35gb"),
        ("L40S", "1g.10gb", "has no MIG"),
    ],
)
def test_an_unknown_name_lists_the_choices(gpu: str, profile: str | None, says: str) -> None:
    with pytest.raises(UnknownGpuError, match=says):
        find_gpu(gpu).slice(profile or "")


def test_what_a_generation_computes() -> None:
    assert [name for name, gpu in GPUS.items() if not computes_bfloat16(gpu)] == ["T4"]
    assert {name for name, gpu in GPUS.items() if computes_fp8(gpu)} == {
        "L4",
        "L40S",
        "H100-80GB",
        "H100-NVL",
        "RTX-PRO-6000",
        "H200",
        "B200",
    }
