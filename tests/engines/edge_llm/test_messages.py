import pytest

from edge_exporter import RECORDED
from phiedge.engines.edge_llm.messages import ExporterSaid
from phiedge.errors import ToolOutputError


def said(name: str) -> ExporterSaid:
    return ExporterSaid.of((RECORDED / f"{name}.log").read_text().splitlines())


def test_what_the_exporter_said_of_a_right_checkpoint_passes() -> None:
    found = said("checkpoint")
    assert (found.loaded, found.skipped, found.left_out, found.complete) == (95, 0, (), True)
    assert found.parts["thinker"]
    assert not found.parts["visual"]
    found.check(tensors=95)


def test_one_tensor_too_few_is_refused() -> None:
    with pytest.raises(ToolOutputError, match="of 96 tensors it loaded 95 and skipped 0"):
        said("checkpoint").check(tensors=96)


def test_fused_projections_that_it_left_out_are_refused() -> None:
    with pytest.raises(ToolOutputError, match="left weights out: qkv_proj.qweight shape"):
        said("fused").check(tensors=59)


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        ([], "did not say what it loaded"),
        (["Loaded 3 tensors, skipped 0 from x", "Export complete"], "saw no decoder"),
        (["Loaded 3 tensors, skipped 0 from x", "00:00  INFO  a.b:   thinker  : yes"], "without saying that it was"),
    ],
)
def test_a_log_that_lacks_something_is_refused(lines: list[str], told: str) -> None:
    with pytest.raises(ToolOutputError, match=told):
        ExporterSaid.of(lines).check(tensors=3)
