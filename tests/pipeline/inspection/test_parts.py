from dataclasses import replace

from phiedge.bundle import Bundle
from phiedge.pipeline.inspection.parts import parts


def test_every_file_of_the_manifest_belongs_to_one_part(two_dialects: Bundle) -> None:
    found = parts(two_dialects.manifest)
    assert [part.name for part in found] == [
        "vision",
        "decoder",
        "embeddings",
        "positions",
        "tokenizer",
        "template",
        "report",
    ]
    files = [file for part in found for file in part.files]
    assert sorted(file.path for file in files) == sorted(two_dialects.manifest.files)
    assert all(two_dialects.manifest.files[file.path].sha256 == file.sha256 for file in files)


def test_a_graph_s_part_has_its_weights_before_the_graphs_of_all_dialects(two_dialects: Bundle) -> None:
    decoder = parts(two_dialects.manifest)[1]
    assert [file.path for file in decoder.files] == ["decoder.data", "decoder.ort.onnx", "decoder.tensorrt.onnx"]
    assert decoder.bytes == sum(file.bytes for file in decoder.files)


def test_goldens_and_report_are_parts_only_where_there_are_any(two_dialects: Bundle) -> None:
    manifest = replace(two_dialects.manifest, goldens="tokenizer.json", quantization=None)
    assert [part.name for part in parts(manifest)][-2:] == ["template", "goldens"]
