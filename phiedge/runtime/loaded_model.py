"""A bundle opened for running: both engines, the tables, and every buffer that a request will use.

It knows how to turn a prompt and its pictures into rows, rows into a filled cache, and a token into the next logits. It
does not know about requests, threads or text; that is `session.py`.
"""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from phiedge.bundle import Bundle
from phiedge.engines.aligned import aligned_zeros
from phiedge.engines.backends import open_engines
from phiedge.engines.engine_record import BuiltEngine
from phiedge.engines.interface import Engines
from phiedge.engines.threads import default_threads
from phiedge.errors import BundleError, ContextLengthError, UsageError
from phiedge.runtime.chat_template import ChatTemplate
from phiedge.runtime.embeddings import EmbeddingTable, read_positions
from phiedge.runtime.forms.grammar import Grammars
from phiedge.runtime.images import ImageSource, load_images
from phiedge.runtime.kv_cache import KVCache
from phiedge.runtime.merge import PictureRows, RowPlan, Rows, TextRows
from phiedge.runtime.positions import PositionTable
from phiedge.runtime.preprocess import Grid, PatchBudget, Patchifier, Picture, fit_picture
from phiedge.runtime.prompt import PromptBuilder
from phiedge.runtime.reuse import Memory, PictureKey, RowIds
from phiedge.runtime.sampling import Logits
from phiedge.runtime.stopwatch import Stopwatch
from phiedge.runtime.tokens import Tokenizer


class LoadedModel:
    """Everything that one session owns. Opening it allocates; running it does not, but for what a picture needs.

    `backend` is the name of the backend that computes. `engine` is one that is being built and shall be tried.
    `reuse_bytes` is what features of pictures may take that are kept between requests; with None nothing is kept.
    """

    def __init__(
        self,
        bundle: Bundle,
        *,
        max_context: int | None,
        threads: int | None,
        chunk_tokens: int,
        reuse_bytes: int | None = None,
        backend: str | None = None,
        engine: BuiltEngine | None = None,
    ) -> None:
        if chunk_tokens < 1:
            raise UsageError(f"chunk_tokens must be at least 1, not {chunk_tokens}")
        self.context = session_context(bundle, max_context)
        self.facts = facts = bundle.manifest.facts
        self.tokenizer = Tokenizer(bundle.file(bundle.manifest.tokenizer), facts)
        template = ChatTemplate.read(bundle.file(bundle.manifest.chat_template))
        self.prompts = PromptBuilder(template, self.tokenizer, facts)
        self.grammars = Grammars(self.tokenizer, facts)

        threads = default_threads() if threads is None else threads
        engines = open_engines(bundle, backend=backend, threads=threads, capacity=self.context, engine=engine)
        _check_features(bundle, engines)
        self.backend = engines.backend
        self.activations = str(engines.decoder.input_dtype)
        self._vision, self._decoder = engines.vision, engines.decoder
        self._cache = KVCache(self.context)
        self.memory = None if reuse_bytes is None else Memory(self.context, reuse_bytes)
        self.position_bytes = self._decoder.cache_bytes // self._decoder.capacity  # which may be above the context
        self.step_run_ns = 0  # how long the engine's library computed in the last step

        self.chunk_tokens = chunk_tokens
        self._embeddings = EmbeddingTable(bundle)
        self._next_row = self._embeddings.writer(self._decoder.row)
        self._patchifier = Patchifier(facts.patch_size, self._vision.input_dtype)
        self.positions = PositionTable(read_positions(bundle), side=facts.position_grid, dtype=self._vision.input_dtype)
        self._rows = aligned_zeros((self.context, facts.hidden_size), self._decoder.input_dtype)
        self._patches = aligned_zeros((facts.max_num_patches, self._patchifier.row_length), self._vision.input_dtype)

    def read_pictures(self, sources: Iterable[ImageSource], *, max_visual_tokens: int | None) -> list[Picture]:
        """Read the pictures of a request and bring each to the size that the model sees. Raises `ImageError`."""
        budget = PatchBudget.from_facts(self.facts, cap=max_visual_tokens)
        return [fit_picture(pixels, budget) for pixels in load_images(sources)]

    def write_rows(self, plan: RowPlan, pictures: Sequence[Picture | None], watch: Stopwatch) -> None:
        """Fill the decoder's input rows: embeddings for text, vision features for pictures."""
        for part in plan.rows:
            self.write_part(part, pictures, watch)

    def write_part(
        self,
        part: Rows,
        pictures: Sequence[Picture | None],
        watch: Stopwatch,
        *,
        keys: Sequence[PictureKey] = (),
    ) -> None:
        """Fill the input rows of one part of a plan.

        `keys` say what the pictures are, for features that are kept; one that is not there has kept features.
        """
        out = self._rows[part.start : part.start + part.count]
        if isinstance(part, TextRows):
            with watch.measure("preprocess"):
                self._embeddings.copy_rows(part.tokens, out)
            return
        kept = self.memory.features(keys[part.picture]) if self.memory is not None and keys else None
        if kept is not None:
            out[:] = kept[: part.count]
            return
        picture = pictures[part.picture]
        assert picture is not None
        self._encode_picture(part, picture, out, watch)
        if self.memory is not None and keys and part.count == part.whole:
            self.memory.keep_features(keys[part.picture], out)

    @property
    def known_grids(self) -> frozenset[Grid]:
        """The grids whose position embeddings are kept from before."""
        return self.positions.known

    def prefill(self, length: int) -> Logits:
        """Run the first `length` rows in chunks into an emptied cache; returns the logits after the last.

        The returned array is overwritten by the next step.
        """
        *_, logits = self.prefill_chunks(length)
        return logits

    def prefill_chunks(
        self, length: int, *, chunk_tokens: int | None = None, past: int = 0, row_ids: RowIds | None = None
    ) -> Iterator[Logits]:
        """The same as `prefill`, chunk by chunk: the next one runs when the next logits are asked for.

        The first `past` rows are in the cache already. `row_ids` say what stands in all rows, for the next request.
        """
        most = chunk_tokens or self.chunk_tokens
        self._cache.rewind(past)
        if self.memory is not None:
            self.memory.forget_rows() if row_ids is None else self.memory.hold(0, row_ids)
        for start in range(past, length, most):
            count = min(most, length - start)
            logits = self.run_chunk(start, count)
            self._cache.commit(count)
            yield logits

    def run_chunk(self, start: int, count: int) -> Logits:
        """Run `count` rows from row `start` on after as many positions, without counting them as computed."""
        logits: Logits = self._decoder.prefill(self._rows[start : start + count], past=start)
        return logits

    def step(self, token: int) -> Logits:
        """Run one more token; returns the logits after it, in the array that the next step overwrites."""
        self._next_row.write(token)
        if self.memory is not None:
            self.memory.hold_token(self._cache.length, token)
        logits: Logits = self._decoder.step(past=self._cache.length)
        self.step_run_ns = self._decoder.run_ns
        self._cache.commit(1)
        return logits

    def run_known(self, tokens: Sequence[int]) -> Logits:
        """Run several more tokens at once; returns the logits after the last."""
        start, count = self._cache.length, len(tokens)
        self._embeddings.copy_rows(tuple(tokens), self._rows[start : start + count])
        if self.memory is not None:
            self.memory.hold(start, np.asarray(tokens, dtype=np.int64))
        logits = self.run_chunk(start, count)
        self._cache.commit(count)
        return logits

    @property
    def length(self) -> int:
        """How many positions of the cache have been computed."""
        return self._cache.length

    def seek(self, length: int) -> None:
        """Count the first `length` positions of the cache as computed, whatever they hold: for measuring there."""
        self._decoder.assume(length)
        if self.memory is not None:
            self.memory.forget_rows()
        self._cache.clear()
        if length:
            self._cache.commit(length)

    def forget(self) -> None:
        """Take nothing that is in the cache for known."""
        if self.memory is not None:
            self.memory.forget_rows()

    def stop(self) -> None:
        """End an engine run in progress and every later one, until `rearm`; callable from any thread."""
        self._vision.stop()
        self._decoder.stop()

    def rearm(self) -> None:
        """Allow engine runs again."""
        self._vision.rearm()
        self._decoder.rearm()

    def _encode_picture(self, part: PictureRows, picture: Picture, out: npt.NDArray[Any], watch: Stopwatch) -> None:
        with watch.measure("preprocess"):
            patches = self._patches[: part.whole]
            self._patchifier.write(picture, patches)
            positions = self.positions.embed(picture.grid)
        with watch.measure("vision"):
            if part.count == part.whole:
                self._vision.encode(patches, positions, out)
                return
            features = np.empty((part.whole, out.shape[1]), dtype=out.dtype)
            self._vision.encode(patches, positions, features)
            out[:] = features[: part.count]


def session_context(bundle: Bundle, wanted: int | None) -> int:
    """How many positions a session of `bundle` has. Raises `UsageError`, `ContextLengthError`."""
    most = bundle.manifest.max_context
    if wanted is None:
        return most
    if wanted < 1:
        raise UsageError(f"max_context must be at least 1, not {wanted}")
    if wanted > most:
        at_most = bundle.manifest.facts.max_position_embeddings
        longer = f"export with --max-context {wanted}" if wanted <= at_most else f"the model itself has {at_most}"
        raise ContextLengthError(
            f"max_context {wanted} was asked, the bundle was exported for {most}",
            remedy=f"{longer}; or ask for {most} or less",
        )
    return wanted


def _check_features(bundle: Bundle, engines: Engines) -> None:
    if engines.vision.output_dtype != engines.decoder.input_dtype:
        raise BundleError(
            f"{bundle.path}: the vision graph gives {engines.vision.output_dtype}, "
            f"the decoder takes {engines.decoder.input_dtype}",
            remedy="export the bundle again",
        )
