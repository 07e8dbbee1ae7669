"""`phiedge plan`: does a model fit a device, how fast will it be there, and what to change if that is not enough."""

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from phiedge.bundle import Bundle, Precision
from phiedge.cli.bench import check_plot
from phiedge.cli.console import emit_json
from phiedge.cli.interrupts import held_interrupts
from phiedge.cli.options import JsonOption
from phiedge.cli.verbs import verb_app
from phiedge.devices import Device, catalogue, find
from phiedge.devices.planning.advice import changes
from phiedge.devices.planning.models import PUBLISHED, PUBLISHED_NAME
from phiedge.devices.planning.plan import Plan, Task, make_plan
from phiedge.devices.planning.storage import PLANNED_ONLY, Storage, storage_of
from phiedge.devices.planning.time import Request
from phiedge.errors import DeviceError, UsageError

if TYPE_CHECKING:
    from phiedge.runtime.profile.foreseeing import Foreseen

app = verb_app()

DEFAULT_IMAGE = "512x512"
_MOST_TOKENS = 1_000_000
_DEFAULT_CONTEXT = 8192
_CACHES: dict[str, str | None] = {"float": None, "int8": "int8"}  # what a manifest says of them
_FP8 = "fp8"


@app.command()
def plan(
    target: Annotated[
        str | None,
        typer.Option(
            "--target",
            "-t",
            metavar="DEVICE",
            help="As `phiedge devices list` names it; cpu is this machine, and is measured. By default all but cpu.",
            show_default=False,
        ),
    ] = None,
    bundle: Annotated[
        Path | None,
        typer.Option(
            "--bundle",
            metavar="DIR",
            help="Plan for the model and precision of this bundle. By default for Phi-4-reasoning-vision-15B.",
            show_default=False,
        ),
    ] = None,
    precision: Annotated[
        str | None,
        typer.Option(
            "--precision",
            metavar="NAME",
            help="auto (what export chooses), int4, fp8, fp16 or fp32; and int8, nvfp4, which cannot be exported yet.",
            show_default=False,
        ),
    ] = None,
    kv_cache: Annotated[
        str | None,
        typer.Option(
            "--kv-cache",
            metavar="NAME",
            help="float (as export does by default) or int8, for a cpu or discrete GPU with ONNX Runtime.",
            show_default=False,
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            "--image",
            metavar="WxH",
            help=f"The size of a picture, as often as there are pictures; none for none. By default {DEFAULT_IMAGE}.",
            show_default=False,
        ),
    ] = None,
    prompt_tokens: Annotated[
        int,
        typer.Option(
            "--prompt-tokens", metavar="N", help="Tokens of the prompt beside its pictures, template included."
        ),
    ] = 512,
    answer_tokens: Annotated[int, typer.Option("--answer-tokens", metavar="N", help="Tokens of the answer.")] = 64,
    deadline_ms: Annotated[
        float | None,
        typer.Option("--deadline-ms", metavar="N", help="When the whole answer must be there.", show_default=False),
    ] = None,
    max_context: Annotated[
        int | None,
        typer.Option(
            "--max-context",
            metavar="TOKENS",
            help=f"Room to keep for prompt, pictures and answer. By default {_DEFAULT_CONTEXT}, or what the model has.",
            show_default=False,
        ),
    ] = None,
    plot: Annotated[
        Path | None,
        typer.Option(
            "--plot",
            metavar="FILE",
            help="Also draw the time against visual tokens: .svg, .png or .pdf (extra `plot`). Needs --target.",
            show_default=False,
        ),
    ] = None,
    as_json: JsonOption = False,
) -> None:
    """Say what fits a device, how fast it will be there, and what to change.

    A time is the device's own limit, beside what is planned with the efficiency that other engines were measured to
    reach, from the least to the most that this evidence lets one expect. No engine of phiedge was measured on these
    devices yet. The exit code is 0 even where nothing fits: it is an answer.

    A bundle with a latency profile (`phiedge profile`) is planned by that, too: what its times seldom exceed, which
    deadlines a session on that machine promises, and how it would keep the one that is asked.

    \b
    Examples:
      phiedge plan
      phiedge plan -t orin --image 1280x720 --deadline-ms 5000
      phiedge plan -t rtx-4090 --precision fp8 --answer-tokens 200 --plot plan.svg
      phiedge plan --bundle bundle -t cpu --deadline-ms 800
    """
    device = None if target is None else find(target)
    if plot is not None and device is None:
        raise UsageError("--plot draws one device", remedy="name it with --target")
    destination = None if plot is None else check_plot(plot)
    opened = None if bundle is None else Bundle.open(bundle)
    if opened is not None and precision is not None:
        raise UsageError("a bundle has its precision already", remedy="leave out --precision, or --bundle")
    if opened is not None and kv_cache is not None:
        raise UsageError("a bundle has its cache already", remedy="leave out --kv-cache, or --bundle")
    if kv_cache not in (None, *_CACHES):
        raise UsageError(f"there is no cache {kv_cache!r}", remedy=f"--kv-cache {' or '.join(_CACHES)}")
    task = plan_task(opened, images, prompt_tokens, answer_tokens, max_context, deadline_ms)
    planner = Planner(
        task, opened, precision or "auto", cache=_CACHES[kv_cache or "float"], any_picture=plot is not None
    )
    foreseen = [] if opened is None else _foreseen(opened, task, images, device)
    plans = [planner.plan(device)] if device is not None else planner.plan_all()
    if destination is not None:
        with held_interrupts():
            from phiedge.cli.plan_plot import draw
        draw(plans[0], destination)
    _show(plans, planner, foreseen, one=device is not None, as_json=as_json)
    if destination is not None and not as_json:
        print(f"\ndrawn to {destination}")


class Planner:
    """Makes plans of one task, each device at the precision that was asked for.

    With `any_picture` this machine is measured for pictures of every size, as a drawing needs it.
    """

    def __init__(
        self, task: Task, opened: Bundle | None, precision: str, *, cache: str | None = None, any_picture: bool = False
    ) -> None:
        self.task, self._opened, self._precision, self._cache = task, opened, precision, cache
        self._any_picture = any_picture

    def plan(self, device: Device) -> Plan:
        storage = self.storage(device)
        if device.sm is None:
            from phiedge.cli.plan_here import measured

            record = self._record(device, self._precision)
            request = self.task.request
            speeds, available_bytes = measured(
                storage,
                record,
                self.task,
                positions=self.task.max_context if self._any_picture else request.positions,
                patches=self.task.facts.max_num_patches if self._any_picture else max(request.patches, default=0),
            )
            return make_plan(device, storage, self.task, speeds=speeds, available_bytes=available_bytes)
        return make_plan(device, storage, self.task)

    def plan_all(self) -> list[Plan]:
        """Every device of the catalogue that has figures and computes with the precision; it is told which do not."""
        made = {device.name: self._if_known(device) for device in catalogue() if device.sm is not None}
        plans = [plan for plan in made.values() if plan is not None]
        without = [name for name, plan in made.items() if plan is None]
        if not plans:
            raise UsageError(f"no device computes with {self._precision}", remedy="use --precision int4")
        if without:
            print(f"note: not planned at {self._precision}: {', '.join(without)}", file=sys.stderr)
        return plans

    def _if_known(self, device: Device) -> Plan | None:
        try:
            return self.plan(device)
        except DeviceError:
            return None

    def storage(self, device: Device, precision: str | None = None) -> Storage:
        """How the model would be stored for `device`."""
        record = self._record(device, precision or self._precision)
        wide = device.sm is None or record.decoder == "float32"
        facts = None if self._opened is None else self._opened.manifest.facts
        return storage_of(record, activations="float32" if wide else "float16", facts=facts)

    def _record(self, device: Device, precision: str) -> Precision:
        if self._opened is not None:
            return self._opened.manifest.precision
        return _with_cache(_precision(precision, device), self._cache, device)

    def others(self, device: Device) -> list[Storage]:
        """The precisions that another plan for the device could have."""
        if self._opened is not None or device.sm is None:
            return []
        named = ["int4", "fp16", *(name for name in (_FP8, *PLANNED_ONLY) if device.supports(name))]
        return [self.storage(device, name) for name in named]


def _with_cache(record: Precision, cache: str | None, device: Device) -> Precision:
    if cache is not None and device.kind == "jetson":
        raise DeviceError(
            f"{device.name} runs TensorRT, whose cache is float16 here, not {cache}",
            remedy="leave --kv-cache out, or plan for a discrete GPU or cpu",
        )
    return record if cache is None else replace(record, cache=cache)


def _precision(name: str, device: Device) -> Precision:
    if name in (_FP8, *PLANNED_ONLY):
        if device.sm is None:
            raise DeviceError(
                f"{name} cannot be planned for a processor: nothing was measured there",
                remedy="use --precision int4 or fp32",
            )
        if not device.supports(name):
            raise DeviceError(
                f"{device.name} does not compute with {name}",
                remedy=f"it does with {', '.join(device.precisions.value)}",
            )
    if name in PLANNED_ONLY:
        return PLANNED_ONLY[name]
    from phiedge.exporters.precision import PLANS, choose_precision

    if name != "auto" and name not in PLANS:
        raise UsageError(f"unknown precision {name!r}", remedy=f"use one of auto, {', '.join([*PLANS, *PLANNED_ONLY])}")
    widths = (PUBLISHED.hidden_size, PUBLISHED.intermediate_size)
    chosen = choose_precision(name, sm=device.sm_number, widths=widths).plan
    return chosen.record(embed_tokens="bfloat16")


def plan_task(
    opened: Bundle | None,
    images: list[str] | None,
    prompt_tokens: int,
    answer_tokens: int,
    max_context: int | None,
    deadline_ms: float | None,
) -> Task:
    """What the options of a plan mean, for the model of `opened` or the published one."""
    for option, value in (("--prompt-tokens", prompt_tokens), ("--answer-tokens", answer_tokens)):
        if not 1 <= value <= _MOST_TOKENS:
            raise UsageError(f"{option} must be from 1 to {_MOST_TOKENS}, not {value}")
    if max_context is not None and max_context < 1:
        raise UsageError(f"--max-context must be at least 1, not {max_context}")
    if deadline_ms is not None and not 0 < deadline_ms < float("inf"):
        raise UsageError(f"--deadline-ms must be a number above 0, not {deadline_ms:g}")
    facts = PUBLISHED if opened is None else opened.manifest.facts
    sizes = _sizes(images)
    from phiedge.runtime.bench.plan import picture_case
    from phiedge.runtime.preprocess import PatchBudget

    budget = PatchBudget.from_facts(facts)
    patches = tuple(picture_case(size, budget).grid.tokens for size in sizes)
    most = facts.max_position_embeddings if opened is None else opened.manifest.max_context
    return Task(
        model=PUBLISHED_NAME if opened is None else opened.manifest.model.name,
        facts=facts,
        request=Request(patches=patches, prompt_tokens=prompt_tokens, answer_tokens=answer_tokens),
        max_context=min(_DEFAULT_CONTEXT, most) if max_context is None else max_context,
        deadline_ms=deadline_ms,
    )


def _sizes(images: list[str] | None) -> list[str]:
    return [] if images == ["none"] else images or [DEFAULT_IMAGE]


def _foreseen(opened: Bundle, task: Task, images: list[str] | None, device: Device | None) -> "list[Foreseen]":
    """By each profile in the bundle: of any machine, or of this one alone if that is what is planned for."""
    from phiedge.runtime.bench.plan import picture_case
    from phiedge.runtime.preprocess import PatchBudget
    from phiedge.runtime.profile.foreseeing import Wanted, foresee

    if device is not None and device.sm is not None:
        return []
    budget = PatchBudget.from_facts(task.facts)
    cases = [picture_case(size, budget) for size in _sizes(images)]
    wanted = Wanted(
        facts=task.facts,
        max_context=task.max_context,
        sizes=[(case.width, case.height) for case in cases],
        prompt_tokens=task.request.prompt_tokens,
        answer_tokens=task.request.answer_tokens,
        deadline_ms=task.deadline_ms,
    )
    return [one for one in foresee(opened, wanted) if device is None or not one.elsewhere]


def _show(plans: list[Plan], planner: Planner, foreseen: "list[Foreseen]", *, one: bool, as_json: bool) -> None:
    from phiedge.cli.plan_table import plan_as_dict, show_plans

    if one:
        _show_one(plans[0], planner, foreseen, as_json=as_json)
    elif as_json:
        emit_json({"plans": [plan_as_dict(plan, []) for plan in plans], **_profiles(foreseen)})
    else:
        show_plans(plans)
    if foreseen and not as_json:
        from phiedge.cli.plan_profile import show_foreseen

        show_foreseen(foreseen)


def _show_one(plan: Plan, planner: Planner, foreseen: "list[Foreseen]", *, as_json: bool) -> None:
    """One device; where a profile of this very machine tells, its answer is the verdict."""
    from phiedge.cli.plan_table import plan_as_dict, show_plan

    measured = None
    if foreseen:
        from phiedge.cli.plan_profile import measured_verdict

        measured = measured_verdict(foreseen)
    # What the limits would have one change says nothing about times that were measured.
    untold = measured is not None and plan.memory.fits
    advice = [] if untold else changes(plan, planner.others(plan.device), planner.storage)
    if as_json:
        emit_json(plan_as_dict(plan, advice, measured) | _profiles(foreseen))
    else:
        show_plan(plan, advice, measured)


def _profiles(foreseen: "list[Foreseen]") -> dict[str, object]:
    if not foreseen:
        return {"profiles": []}
    from phiedge.cli.plan_profile import foreseen_as_dict

    return {"profiles": [foreseen_as_dict(each) for each in foreseen]}
