"""Which processor this is, as far as compiled kernels care: its architecture and its vector instruction sets.

Kernels pack weights for the instruction sets that they find. What was packed on one machine is right on another only
if both have the same ones.
"""

import platform
from dataclasses import dataclass
from pathlib import Path

_CPUINFO = Path("/proc/cpuinfo")
# As the kernel calls them, and on which architecture.
FLAG_LINES = {"flags": "x86_64", "Features": "aarch64"}

# Those that kernels for matrices choose their code by; a processor has a hundred more flags that do not matter here.
VECTOR_SETS = (
    *("avx", "avx2", "fma", "f16c", "avx_vnni", "avx_vnni_int8"),
    *("avx512f", "avx512bw", "avx512dq", "avx512vl", "avx512_vnni", "avx512_bf16", "avx512_fp16"),
    *("amx_tile", "amx_int8", "amx_bf16"),
    *("asimd", "asimdhp", "asimddp", "i8mm", "bf16", "sve", "sve2", "svei8mm"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Processor:
    """`architecture` as Python's platform module names it (x86_64, aarch64); `instruction_sets` of `VECTOR_SETS`."""

    architecture: str
    instruction_sets: tuple[str, ...]


def this_processor(*, cpuinfo: Path = _CPUINFO) -> Processor:
    """The processor that this runs on; without instruction sets where the system does not tell them."""
    told = cpuinfo.read_text(encoding="utf-8") if cpuinfo.is_file() else ""
    return Processor(architecture=platform.machine(), instruction_sets=instruction_sets(told))


def instruction_sets(cpuinfo: str) -> tuple[str, ...]:
    """Those of `VECTOR_SETS` that the first core has, as the text of /proc/cpuinfo says."""
    for line in cpuinfo.splitlines():
        name, _, rest = line.partition(":")
        if name.strip() in FLAG_LINES:
            flags = set(rest.split())
            return tuple(name for name in VECTOR_SETS if name in flags)
    return ()
