"""The speeds that a plan is made with: of a device in the catalogue, or of a processor that was measured."""

from phiedge.devices.planning.efficiency import arithmetic_efficiency, decode_efficiency, of_shares
from phiedge.devices.planning.published import machine_of
from phiedge.devices.planning.sampled import SampledTimes
from phiedge.devices.planning.storage import Storage
from phiedge.devices.planning.time import Speeds
from phiedge.devices.roofline import Rates
from phiedge.devices.spec import Device
from phiedge.errors import DeviceError

# Shares of its measured limits that ONNX Runtime reached on a processor of two cores, for the 15B and for a decoder of
# 1.3 billion weights: by weights and by the cache (from tokens at the shortest and the longest context), by prompts in
# chunks of 256 tokens or more, and by pictures of 256 and 1200 patches of the 15B. From benchmarks/results,
# 2026-11-22-bundle-speed-15b.json and 2026-11-22-peers-side-by-side.json; the second has no rate of products, and is
# held against the first's.
_WEIGHTS, _CACHE, _PROMPTS, _PICTURES = (0.585, 0.756), (0.23, 0.36), (0.374, 0.44), (0.856, 0.832)


def speeds_of(device: Device, storage: Storage) -> Speeds:
    """What `device` reaches with weights of that storage. Raises `DeviceError` where a rate is not known."""
    machine = machine_of(device)
    decoder, vision = _gops(device, storage.arithmetic), _gops(device, "fp16")
    decoding = decode_efficiency(machine)
    return Speeds(
        decoder=Rates(read_gbps=machine.gbps, weight_gops=decoder, float_gflops=vision),
        vision=Rates(read_gbps=machine.gbps, weight_gops=vision, float_gflops=vision),
        decoding=decoding,
        cache=decoding,
        prompts=arithmetic_efficiency(machine, storage.arithmetic),
        pictures=arithmetic_efficiency(machine, "fp16"),
    )


def processor_speeds(
    *,
    read_gbps: float,
    float_gflops: float,
    int8_gops: float | None,
    quantised: bool,
    sampled: SampledTimes | None = None,
) -> Speeds:
    """What a processor of these measured rates reaches with ONNX Runtime, and the times that were sampled on it.

    Without those it is planned by the shares that were reached on the one processor that was measured.
    """
    products = max(int8_gops, float_gflops) if quantised and int8_gops is not None else float_gflops
    where = "ONNX Runtime on a processor of two cores"
    return Speeds(
        decoder=Rates(read_gbps=read_gbps, weight_gops=products, float_gflops=float_gflops),
        vision=Rates(read_gbps=read_gbps, weight_gops=float_gflops, float_gflops=float_gflops),
        decoding=of_shares(where, _WEIGHTS),
        cache=of_shares(where, _CACHE),
        prompts=of_shares(where, _PROMPTS),
        pictures=of_shares(where, _PICTURES),
        sampled=sampled,
    )


def _gops(device: Device, arithmetic: str) -> float:
    if arithmetic == "fp32":
        raise DeviceError(
            f"{device.name} computes fp32 with no engine that is planned for",
            remedy="use --precision fp16, or int4",
        )
    tflops = machine_of(device).tflops(arithmetic)
    if tflops is None:
        raise DeviceError(
            f"{device.name} has no rate for {arithmetic} in the catalogue", remedy="use --precision int4, or fp16"
        )
    return 1000 * tflops
