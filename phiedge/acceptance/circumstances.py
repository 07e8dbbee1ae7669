"""The last part of a report: what was tested, on what, and how, in groups of facts."""

from html import escape
from typing import Any

from phiedge.runtime.profile.identity import UNKNOWN

_GROUPS = (
    "the subject",
    "what deadlines were promised by",
    "the machine",
    "wishes for a quieter process",
    "while it was measured",
    "this file",
)
_FIGURES = {
    "elapsed_s": "seconds",
    "foreign_cpu_share": "share of the cores that others took",
    "swap_in_pages": "pages swapped in",
    "memory_available_bytes": "least memory available",
    "peak_rss_bytes": "most memory of the process",
    "system_bytes": "memory that the system lost",
    "gpu_bytes": "most memory in use on cards",
    "core_mhz": "lowest clock of the cores, MHz",
    "gpu_mhz": "lowest clock of the GPU, MHz",
    "memory_mhz": "lowest clock of memory, MHz",
    "clock_shift": "largest change of a clock",
    "celsius_start": "hottest sensor at the start, °C",
    "celsius": "hottest sensor, °C",
    "watts": "most power, W",
    "throttled_samples": "samples in which a card was held down",
    "over_current_events": "over-current events",
}


def circumstances(record: dict[str, Any]) -> str:
    """Tables of facts; what nothing told is left out, and named at their end."""
    facts = (_subject(record), _profiles(record), _machine(record), _wishes(record), _run(record), _file(record))
    tables = "".join(f"<h3>{name}</h3>{_table(found)}" for name, found in zip(_GROUPS, facts, strict=True) if found)
    untold = [
        _FIGURES[key] for key, value in record["environment"]["figures"].items() if value is None and key in _FIGURES
    ]
    tail = f'<p class="soft">Not told by this machine: {escape("; ".join(untold))}.</p>' if untold else ""
    return f"<h2>Circumstances</h2>{tables}{tail}"


def _subject(record: dict[str, Any]) -> dict[str, object]:
    bundle = record["bundle"] or {}
    return {
        "model": bundle.get("model"),
        "precision": bundle.get("precision"),
        "made for": (bundle.get("target") or {}).get("title"),
        "manifest sha256": bundle.get("manifest_sha256"),
        "specification sha256": record["spec"]["sha256"],
        **{f"profile {name} sha256": digest for name, digest in (bundle.get("profiles") or {}).items()},
    }


def _profiles(record: dict[str, Any]) -> dict[str, object]:
    """The latency profiles that sessions took, with what each was measured on; none where nothing had a deadline."""
    told: dict[str, object] = {}
    for number, used in enumerate((record["bundle"] or {}).get("profiles_used") or (), start=1):
        identity = used["identity"]
        named = "" if number == 1 else f", {number}"
        told[f"profile{named}"] = used["file"]
        told[f"its sha256{named}"] = used["sha256"]
        told[f"measured with{named}"] = f"{identity['backend']}, {_listed(identity['settings'])}"
        told[f"measured on{named}"] = _listed(identity["machine"])
        told[f"versions{named}"] = _listed(identity["versions"])
    return told


def _listed(known: dict[str, str]) -> str:
    return ", ".join(f"{key} {value}" for key, value in known.items() if value != UNKNOWN)


def _wishes(record: dict[str, Any]) -> dict[str, object]:
    """What became of each wish: once for all openings that tell the same, which is nearly always all of them."""
    openings = record.get("realtime") or []
    told: dict[str, object] = {}
    for number, wishes in enumerate(openings, start=1):
        for one in wishes:
            known = told.setdefault(one["wish"], f"{one['status']}: {one['detail']}")
            if known != f"{one['status']}: {one['detail']}":
                told[f"{one['wish']}, opening {number}"] = f"{one['status']}: {one['detail']}"
    return told


def _machine(record: dict[str, Any]) -> dict[str, object]:
    device, jetson = record["device"], record["device"]["jetson"] or {}
    cards = ", ".join(f"{gpu['name']} (driver {gpu['driver'] or '?'})" for gpu in device["gpus"])
    return {
        "device": device["identity"]["device"] or "not one of the catalogue",
        "module": jetson.get("model"),
        "Linux for Tegra": jetson.get("l4t"),
        "power mode": record["environment"]["power_mode"],
        "cards": cards,
        **{
            key.removesuffix("_bytes").replace("_", " "): _amount(key, value)
            for key, value in record["machine"].items()
        },
    }


def _run(record: dict[str, Any]) -> dict[str, object]:
    environment = record["environment"]
    figures = {
        _FIGURES.get(key, key): _amount(key, value)
        for key, value in environment["figures"].items()
        if value is not None
    }
    coload = {key: value for key, value in record["spec"]["content"]["coload"].items() if value}
    return {
        "ended": record["ended"],
        "failure": record["failure"],
        "times to open, ms": _numbers(record["opened_ms"]),
        "cold starts, ms": _numbers(record["cold_start_ms"]),
        "other load": ", ".join(f"{key} {value}" for key, value in coload.items()),
        "copied beside it, GB/s": _amount("", environment["coload"]["memory_gbps"]),
        **figures,
    }


def _file(record: dict[str, Any]) -> dict[str, object]:
    signature = record.get("signature")
    return {
        "written": record["written"],
        "phiedge": record["phiedge_version"],
        "schema": record["schema"],
        "seal (sha256)": record["seal"],
        "signed by": None if signature is None else f"{signature['key']} (ed25519)",
    }


def _table(facts: dict[str, object]) -> str:
    rows = "".join(
        f"<tr><th>{escape(key)}</th><td><code>{escape(str(value))}</code></td></tr>"
        for key, value in facts.items()
        if value not in (None, "")
    )
    return f'<table class="facts">{rows}</table>'


def _amount(key: str, value: object) -> object:
    if isinstance(value, int | float) and key.endswith("_bytes"):
        return f"{value / 2**20:,.0f} MiB"
    return f"{value:.4g}" if isinstance(value, float) else value


def _numbers(values: list[float]) -> str:
    return ", ".join(f"{value:.4g}" for value in values)
