"""The two tables that the host reads beside the graphs: token embeddings and position embeddings."""

from phiedge.bundle import Table
from phiedge.exporters.source import WeightSource
from phiedge.exporters.tensors import EMBEDDING_TABLE, POSITION_TABLE
from phiedge.exporters.weights import STORED_AS, FloatFill, Slot

EMBEDDINGS_FILE, POSITIONS_FILE = "embed_tokens.bin", "position_table.bin"


def embeddings(source: WeightSource) -> tuple[Table, FloatFill]:
    """The embedding table in the checkpoint's own type."""
    rows, columns = source.shape(EMBEDDING_TABLE)
    dtype = source.dtype(EMBEDDING_TABLE)
    slot = Slot(name=EMBEDDINGS_FILE, dtype=STORED_AS[dtype], shape=(rows, columns))
    return (
        Table(file=EMBEDDINGS_FILE, dtype=dtype, shape=(rows, columns)),
        FloatFill(source=EMBEDDING_TABLE, slot=slot),
    )


def positions(source: WeightSource) -> tuple[Table, FloatFill]:
    """The position table as float32: the host interpolates in it."""
    rows, columns = source.shape(POSITION_TABLE)
    slot = Slot(name=POSITIONS_FILE, dtype=STORED_AS["float32"], shape=(rows, columns))
    return (
        Table(file=POSITIONS_FILE, dtype="float32", shape=(rows, columns)),
        FloatFill(source=POSITION_TABLE, slot=slot),
    )
