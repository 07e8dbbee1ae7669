"""The pictures of one request, read as far as they are not known from requests before."""

from collections.abc import Sequence

from phiedge.runtime.images import ImageSource, Pixels, load_image, measure_images, naming_place, read_files
from phiedge.runtime.loaded_model import LoadedModel
from phiedge.runtime.merge import RowPlan
from phiedge.runtime.preprocess import Grid, PatchBudget, Picture, choose_grid, fit_picture
from phiedge.runtime.reuse import NOTHING_KEPT, Kept, PictureKey, RowIds, content_of


class KnownPictures:
    """What is told of the pictures by their content. One is decoded when its size or its pixels are first needed."""

    def __init__(self, model: LoadedModel, sources: Sequence[ImageSource]) -> None:
        assert model.memory is not None
        self._model, self._memory = model, model.memory
        sizes = measure_images(sources)
        self._sources = read_files(sources)
        self._contents = [content_of(source) for source in self._sources]
        self._pixels: dict[int, Pixels] = {}
        self.sizes = self._memory.upright(sizes, self._contents)
        self.keys: tuple[PictureKey, ...] = ()
        """Every picture with its grid; filled by `fit`."""
        self._budget = PatchBudget.from_facts(model.facts)

    def fit(self, cap: int | None) -> None:
        """Choose the grids of all pictures under `cap` tokens. Raises `ImageError`."""
        self._budget = PatchBudget.from_facts(self._model.facts, cap=cap)
        self.keys = tuple(
            PictureKey(content=content, grid=choose_grid(*self._size(place), self._budget))
            for place, content in enumerate(self._contents)
        )

    def picture(self, place: int) -> Picture:
        """A picture at the size that the model sees."""
        return fit_picture(self._read(place), self._budget)

    def find(self, plan: RowPlan | None, grids: Sequence[Grid]) -> Kept:
        """What is there from before of a plan with the pictures on these grids."""
        if plan is None:
            return NOTHING_KEPT
        return self._memory.find(plan, self._keys(grids), length=self._model.length)

    def row_ids(self, plan: RowPlan) -> RowIds:
        """What stands in the rows of a plan that is about to be computed."""
        self._memory.number(self.keys)
        return self._memory.row_ids(plan, self.keys)

    def _keys(self, grids: Sequence[Grid]) -> list[PictureKey]:
        return [PictureKey(content=content, grid=grid) for content, grid in zip(self._contents, grids, strict=True)]

    def _size(self, place: int) -> tuple[int, int]:
        size = self._memory.size(self._contents[place])
        if size is None:
            height, width, _ = self._read(place).shape
            size = (width, height)
            self._memory.keep_size(self._contents[place], width, height)
        return size

    def _read(self, place: int) -> Pixels:
        if place not in self._pixels:
            self._pixels[place] = naming_place(place + 1, lambda: load_image(self._sources[place]))
        return self._pixels[place]
