"""`phiedge profile`: measure what this machine takes for each part of a request, for budgets to be decided by."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiedge.bundle import Bundle
from phiedge.bundle.record import encode
from phiedge.cli.console import emit_json, show_table, terminal_progress
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import BackendOption, BundleArgument, ContextOption, JsonOption, ThreadsOption
from phiedge.cli.realtime_option import RealtimeOption, read_wishes
from phiedge.cli.verbs import verb_app
from phiedge.devices.telemetry import Sampler, disturbances

if TYPE_CHECKING:
    from phiedge.runtime.profile.store import Profile

app = verb_app()

_GOOD_MEDIAN_ERROR = 0.05


@app.command()
def profile(
    bundle: BundleArgument,
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", help="About how long to measure, without opening.")
    ] = 60.0,
    max_context: ContextOption = None,
    threads: ThreadsOption = None,
    backend: BackendOption = None,
    realtime: RealtimeOption = None,
    as_json: JsonOption = False,
) -> None:
    """Measure this machine's latency model into a bundle.

    Pictures, chunks of the prompt and tokens are measured at many sizes, and a small model is fitted to them, with what
    they seldom exceed. Then whole requests that were not measured are predicted, which tells how good it is. It is
    stored in the bundle under this machine's identity: hardware, power mode, backend and versions. Deadlines are
    promised by it, and only where all of that is the same. Clocks, throttling and swapping are watched meanwhile, and
    told if they changed.

    Measure on a machine that is as busy as it will be when it answers, and with the wishes (--realtime) that it will
    answer with: a real-time policy is a part of the identity.

    \b
    Examples:
      phiedge profile bundle
      phiedge profile bundle --backend openvino --seconds 20 --json
    """
    opened = Bundle.open(bundle)
    with held_interrupts():
        from phiedge.runtime.profile.profiling import measure_profile
        from phiedge.runtime.profile.store import write_profile
    wishes = read_wishes(realtime)
    with tempfile.TemporaryDirectory(prefix="phiedge-") as directory:
        with Sampler(Path(directory) / "samples") as sampler:
            found = measure_profile(
                opened,
                max_context=max_context,
                threads=threads,
                backend=backend,
                seconds=seconds,
                realtime=wishes,
                progress=terminal_progress(),
            )
        samples = sampler.samples()
    path = write_profile(opened, found)
    disturbed = disturbances(samples) if len(samples) > 1 else ()
    if as_json:
        told = encode(found)
        assert isinstance(told, dict)
        emit_json({"profile": str(path), "disturbances": list(disturbed), **told})
    else:
        _show(found, path, disturbed)


def _show(found: "Profile", path: "Path", disturbed: Sequence[str]) -> None:
    model, fit = found.model, found.fit
    middle = 1024
    pictures = 256
    rows = [
        (f"picture of {pictures} patches", model.encoding(pictures), model.vision.quantile, model.vision.samples),
        (f"chunk of {model.chunk_tokens}", model.prefill_chunk(model.chunk_tokens, 0), model.chunk.quantile,
         model.chunk.samples),
        (f"token at {middle} positions", model.one_step(middle), model.step.quantile, model.step.samples),
    ]  # fmt: skip
    show_table(
        f"Latency on {found.identity.backend}, {found.identity.machine['processor']}",
        ("", "usually ms", "seldom above ms", "of a hundred", "samples"),
        [
            (name, f"{each.usual_ms:.2f}", f"{each.high_ms:.2f}", f"{100 * quantile:g}", str(samples))
            for name, each, quantile, samples in rows
        ],
        right=("usually ms", "seldom above ms", "of a hundred", "samples"),
    )
    print(
        f"\nstops within {model.abort_ms:.1f} ms, usually {model.abort_usual_ms:.1f}; opens in {model.load_ms:.0f} ms, "
        f"and its first answer takes {model.cold_ms:.0f} ms longer\n"
        f"{fit.requests} requests that were not measured: predicted to {100 * fit.median_error:.1f} % (median), "
        f"{100 * fit.p95_error:.1f} % (95th percentile)\n"
        f"as a session forecasts them, which knows the requests before: {100 * fit.median_error_as_forecast:.1f} % and "
        f"{100 * fit.p95_error_as_forecast:.1f} %; {100 * fit.within:.0f} % were within what is promised\n"
        f"stored in {path}"
    )
    for sentence in disturbed:
        print(f"note: while it was measured, {sentence}: measure again when that is mended (phiedge doctor)")
    if fit.median_error > _GOOD_MEDIAN_ERROR:
        print(
            f"note: the machine was not quiet (load {found.load_average[0]} to {found.load_average[1]}); what is "
            "promised by this profile is cautious, and what is usual is uncertain"
        )
