"""Checkpoints for other engines: beside a bundle when it is exported (`--also`), or of a bundle later (`repack`)."""

import os
from collections.abc import Sequence
from pathlib import Path

from phiedge.bundle import Bundle
from phiedge.errors import FormatError, UsageError
from phiedge.exporters.checkpoints import check_format, check_holds, write_checkpoint
from phiedge.exporters.checkpoints.directory import check_destination
from phiedge.exporters.precision import PrecisionPlan
from phiedge.pipeline.whole_bundle import require_whole
from phiedge.progress import Progress, silent


def beside(bundle: Path, kind: str) -> Path:
    """Where a bundle's checkpoint of the format `kind` lies: a sibling, `<bundle>.<kind>`."""
    resolved = bundle.resolve()
    return resolved.with_name(f"{resolved.name}.{kind}")


def check_also(kinds: Sequence[str], output: Path, *, overwrite: bool) -> None:
    """Refuse formats that do not exist and destinations that are taken, before an export begins."""
    for kind in kinds:
        check_format(kind)
        check_destination(beside(output, kind), overwrite=overwrite)
    twice = next((kind for kind in kinds if list(kinds).count(kind) > 1), None)
    if twice is not None:
        raise UsageError(f"--also names {twice} twice", remedy="name each format once")


def check_held(kinds: Sequence[str], plan: PrecisionPlan, output: Path) -> None:
    """Refuse formats that do not hold what `plan` makes, before weights are read. Raises `FormatError`."""
    for kind in kinds:
        vision = plan.vision_linears or plan.vision
        check_holds(kind, decoder=plan.decoder, group_size=plan.group_size, vision=vision, where=str(output))


def write_also(bundle: Bundle, kinds: Sequence[str], *, overwrite: bool, progress: Progress = silent) -> list[Path]:
    """Write the checkpoints beside `bundle`, which stays whatever becomes of them. Raises `FormatError`."""
    written = []
    for kind in kinds:
        destination = beside(bundle.path, kind)
        try:
            written.append(write_checkpoint(bundle, kind, destination, overwrite=overwrite, progress=progress))
        except FormatError as error:
            again = f"the bundle is written; then: phiedge repack {bundle.path} --format {kind}"
            remedy = again if error.remedy is None else f"{error.remedy}; {again}"
            raise type(error)(error.message, remedy=remedy) from error
    return written


def repack(
    path: str | os.PathLike[str],
    kind: str,
    *,
    output: Path | None = None,
    overwrite: bool = False,
    progress: Progress = silent,
) -> Path:
    """Write the bundle at `path` as a checkpoint of the format `kind`, and return its directory.

    It is written beside the bundle unless `output` says where. The bundle's files are checked first, so that no
    checkpoint is made of damaged ones. Raises `UsageError`, `FormatError`, `BundleError` (`IntegrityError`).
    """
    check_format(kind)
    bundle = Bundle.open(path)
    destination = output or beside(Path(path), kind)
    check_destination(destination, overwrite=overwrite)
    precision = bundle.manifest.precision
    check_holds(
        kind,
        decoder=precision.decoder,
        group_size=precision.group_size,
        vision=precision.vision,
        where=str(bundle.path),
    )
    if precision.wider:
        raise FormatError(
            f"{bundle.path} has {len(precision.wider)} linears with more than 4 bits, {kind} has 4 bits for all",
            remedy="export without --linears-mb",
        )
    require_whole(bundle, progress)
    return write_checkpoint(bundle, kind, destination, overwrite=overwrite, progress=progress)
