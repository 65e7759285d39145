"""The GPUs that the plan knows: their memory, what their generation can compute, and the slices that MIG cuts them into.

Three figures go by the name of a GPU's memory. The marketing one is in the name (an "H100 80GB"). The driver's is what
nvidia-smi prints (81559 MiB). The third, a little less again, is what a CUDA process is given in all, and only that can
be filled; it is the one here (79.11 GiB).

Sources, read in November 2026:

- Memory of whole GPUs: what CUDA gave in all, as the out-of-memory messages of PyTorch print it ("GPU 0 has a total
  capacity of 79.14 GiB"), found in public logs of each GPU. Drivers differ by up to 0.2 GiB; the lowest figure is taken.
- Memory of slices: ``nvidia-smi mig -lgip`` as public documents and bug reports print it, the lowest figure again.
  Where no print of a slice was found it is derived, and its entry says so.
- Names and counts of slices: NVIDIA's MIG user guide, "Supported MIG Profiles", and NVIDIA's mig-parted. The variants of
  a slice with more or fewer media engines (+me, -me, +gfx) have the same memory and are not listed.
- Compute capability: the same guide, and NVIDIA's list of CUDA GPUs.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType

GIB = 2**30

# Tensor cores compute bfloat16 from Ampere on, and fp8 from Ada and Hopper on.
BFLOAT16_SINCE = (8, 0)
FP8_SINCE = (8, 9)


class UnknownGpuError(LookupError):
    """No GPU, or no slice of the GPU, has that name; the message lists those there are."""


@dataclass(frozen=True, kw_only=True)
class MigProfile:
    """A slice of a GPU, which its processes see as a GPU of its own."""

    gpu: str
    profile: str
    memory_bytes: int
    """What a CUDA process on the slice can fill."""
    per_gpu: int
    """How many of these one GPU is cut into."""
    compute_capability: tuple[int, int]

    @property
    def name(self) -> str:
        return f"{self.gpu} {self.profile}"

    @property
    def resource(self) -> str:
        """The extended resource under which the device plugin offers it with the MIG strategy ``mixed``."""
        return f"nvidia.com/mig-{self.profile}"


@dataclass(frozen=True, kw_only=True)
class Gpu:
    """A whole GPU."""

    name: str
    product: str
    """As the driver names it, and as far as the labels ``nvidia.com/gpu.product`` of the variants agree."""
    memory_bytes: int
    """What a CUDA process can fill."""
    compute_capability: tuple[int, int]
    mig: Mapping[str, MigProfile] = field(default_factory=dict)

    @property
    def resource(self) -> str:
        return "nvidia.com/gpu"

    def slice(self, profile: str) -> MigProfile:
        """The MIG slice of that name, such as ``3g.40gb``.

        Raises:
            UnknownGpuError: this GPU is not cut so, or not at all.
        """
        if profile in self.mig:
            return self.mig[profile]
        choices = f"Use one of {', '.join(self.mig)}." if self.mig else "It has no MIG: use it whole."
        raise UnknownGpuError(f"{self.name} has no MIG profile {profile!r}. {choices}")


Accelerator = Gpu | MigProfile


def computes_bfloat16(accelerator: Accelerator) -> bool:
    return accelerator.compute_capability >= BFLOAT16_SINCE


def computes_fp8(accelerator: Accelerator) -> bool:
    return accelerator.compute_capability >= FP8_SINCE


def _gpu(
    name: str, product: str, gib: float, capability: tuple[int, int], mig: Mapping[str, tuple[float, int]] | None = None
) -> Gpu:
    """``mig``: by profile, memory in GiB and how many fit on one GPU."""
    slices = {
        profile: MigProfile(
            gpu=name,
            profile=profile,
            memory_bytes=int(slice_gib * GIB),
            per_gpu=count,
            compute_capability=capability,
        )
        for profile, (slice_gib, count) in (mig or {}).items()
    }
    return Gpu(
        name=name,
        product=product,
        memory_bytes=int(gib * GIB),
        compute_capability=capability,
        mig=MappingProxyType(slices),
    )


# By memory. The comments give what nvidia-smi prints for the whole GPU.
_TABLE = (
    _gpu("T4", "Tesla T4", 14.56, (7, 5)),  # 15360 MiB
    _gpu("L4", "NVIDIA L4", 22.03, (8, 9)),  # 23034 MiB
    _gpu("A10", "NVIDIA A10", 22.05, (8, 6)),  # 23028 MiB
    _gpu("A10G", "NVIDIA A10G", 22.05, (8, 6)),  # 23028 MiB; the A10 of AWS
    _gpu(
        "A30",
        "NVIDIA A30",
        23.50,  # 24576 MiB
        (8, 0),
        {"1g.6gb": (5.81, 4), "2g.12gb": (11.69, 2), "4g.24gb": (23.44, 1)},
    ),
    _gpu(
        "A100-40GB",
        "NVIDIA A100-SXM4-40GB",
        39.38,  # 40960 MiB
        (8, 0),
        {
            "1g.5gb": (4.75, 7),
            "1g.10gb": (9.62, 4),
            "2g.10gb": (9.62, 3),
            "3g.20gb": (19.50, 2),
            "4g.20gb": (19.50, 1),
            "7g.40gb": (39.25, 1),
        },
    ),
    _gpu("L40S", "NVIDIA L40S", 44.39, (8, 9)),  # 46068 MiB
    _gpu(
        "A100-80GB",
        "NVIDIA A100-SXM4-80GB",
        79.14,  # 81920 MiB
        (8, 0),
        {
            "1g.10gb": (9.50, 7),
            "1g.20gb": (19.50, 4),
            "2g.20gb": (19.50, 3),
            "3g.40gb": (39.25, 2),
            "4g.40gb": (39.25, 1),
            "7g.80gb": (78.50, 1),
        },
    ),
    _gpu(
        "H100-80GB",
        "NVIDIA H100 80GB HBM3",
        79.11,  # 81559 MiB
        (9, 0),
        {
            "1g.10gb": (9.75, 7),
            "1g.20gb": (19.62, 4),
            "2g.20gb": (19.62, 3),
            "3g.40gb": (39.50, 2),
            "4g.40gb": (39.50, 1),
            "7g.80gb": (79.11, 1),
        },
    ),
    _gpu(
        "H100-NVL",
        "NVIDIA H100 NVL",
        93.00,  # 95830 MiB
        (9, 0),
        {
            "1g.12gb": (10.62, 7),
            "1g.24gb": (21.50, 4),
            "2g.24gb": (21.50, 3),
            "3g.47gb": (46.12, 2),
            "4g.47gb": (46.12, 1),
            "7g.94gb": (92.62, 1),
        },
    ),
    _gpu(
        "RTX-PRO-6000",
        "NVIDIA RTX PRO 6000 Blackwell Server Edition",
        94.96,  # 97887 MiB
        (12, 0),
        {"1g.24gb": (23.12, 4), "2g.48gb": (46.50, 2), "4g.96gb": (93.38, 1)},
    ),
    _gpu(
        "H200",
        "NVIDIA H200",
        139.72,  # 143771 MiB
        (9, 0),
        {
            "1g.18gb": (16.00, 7),
            "1g.35gb": (32.50, 4),
            "2g.35gb": (32.50, 3),
            "3g.71gb": (69.25, 2),  # derived: half of the GPU, less what the H100 NVL keeps back of it
            "4g.71gb": (69.25, 1),  # derived likewise
            "7g.141gb": (139.72, 1),
        },
    ),
    # 1g.23gb is as found (20992 MiB). The larger slices of the B200 are derived: the share of its memory that the guide
    # names, less the largest part of such a slice that an H200 or H100 NVL keeps back (7.2 % of a quarter, 0.9 % of a
    # half).
    _gpu(
        "B200",
        "NVIDIA B200",
        178.35,  # 183359 MiB
        (10, 0),
        {
            "1g.23gb": (20.50, 7),
            "1g.45gb": (41.38, 4),
            "2g.45gb": (41.38, 3),
            "3g.90gb": (88.37, 2),
            "4g.90gb": (88.37, 1),
            "7g.180gb": (178.35, 1),
        },
    ),
)

GPUS: Mapping[str, Gpu] = MappingProxyType({gpu.name: gpu for gpu in _TABLE})


def find_gpu(name: str) -> Gpu:
    """The GPU of that name, upper or lower case.

    Raises:
        UnknownGpuError: none has it; the message lists the names.
    """
    for known, gpu in GPUS.items():
        if known.casefold() == name.casefold():
            return gpu
    raise UnknownGpuError(f"No GPU is called {name!r}. Use one of {', '.join(GPUS)}.")
