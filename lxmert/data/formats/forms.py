"""The forms by name, and what a reader and a writer of one are."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Protocol

from lxmert.data.formats.sizes import ImageSizes
from lxmert.data.region_record import StoreSchema
from lxmert.errors import DataError, suggest
from lxmert.types import Regions


class Reader(Protocol):
    """Images of a foreign file or folder, one at a time.

    Attributes:
        path: what is read.
        total: how much there is, in `unit`.
        unit: "MB" or "images".
        class_scores: numbers of a box's class distribution, 0 where the form has none.
    """

    path: Path
    total: int
    unit: str
    class_scores: int

    @property
    def done(self) -> int:
        """How far iteration is, of `total`."""

    def __iter__(self) -> Iterator[tuple[str, str, Regions]]:
        """Place for messages, image id and regions of each image."""

    def describe(self) -> dict[str, Any]:
        """What a store's provenance says of the source; asked after the last image."""


class Writer(Protocol):
    """A foreign file or folder under construction; it appears, whole, when the block ends well.

    Attributes:
        ranked: whether regions must come best first.
    """

    ranked: bool

    def order(self, ids: list[str]) -> list[int] | None:
        """Positions of the ids in the order they must come; None takes any."""

    def put(self, image_id: str, regions: Regions) -> None:
        """Writes one image."""

    def __enter__(self) -> Writer: ...

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None: ...


@dataclass(frozen=True)
class Options:
    """What some of the forms want to know beside paths.

    Attributes:
        line_end: of TSV rows.
        prefix: of UNITER's names of numbered images, and of VLP's files.
        database: name of a UNITER database: feat_th0.2_max100_min10, feat_numbb100 or all, and _compressed.
        sizes: of the images, which UNITER's and VLP's forms do not hold.
    """

    line_end: bytes = b"\r\n"
    prefix: str | None = None
    database: str = "feat_th0.2_max100_min10"
    sizes: ImageSizes | None = None


@dataclass(frozen=True)
class Form:
    """A form of region features.

    Attributes:
        what: one line for a person.
        reader: (path, options) -> Reader.
        writer: (path, options, schema of the store) -> Writer.
        options: names of the `Options` that mean something to it.
        needs_sizes: whether reading takes the sizes of images from elsewhere.
    """

    what: str
    reader: Callable[[Path, Options], Reader]
    writer: Callable[[Path, Options, StoreSchema], Writer]
    options: tuple[str, ...] = ()
    needs_sizes: bool = False


def _forms() -> dict[str, Form]:
    from lxmert.data.formats import img_db, npz, tsv_form, vlp

    return {
        "lxmert-tsv": Form(
            "LXMERT's TSV: id, height, width, object and attribute ids, boxes, features",
            lambda path, options: tsv_form.Rows(path, "lxmert"),
            lambda path, options, schema: tsv_form.TsvWriter(path, "lxmert", options.line_end),
            ("line_end",),
        ),
        "butd-tsv": Form(
            "bottom-up-attention's TSV: id, width, height, boxes, features",
            lambda path, options: tsv_form.Rows(path, "butd"),
            lambda path, options, schema: tsv_form.TsvWriter(path, "butd", options.line_end),
            ("line_end",),
        ),
        "uniter-npz": Form(
            "UNITER's extraction: a folder of one .npz an image",
            npz.UniterFolder,
            npz.UniterFolderWriter,
            ("prefix", "sizes"),
            needs_sizes=True,
        ),
        "uniter-img-db": Form(
            "UNITER's image database: LMDB of MessagePack records, or of .npz ones",
            img_db.ImgDb,
            img_db.ImgDbWriter,
            ("prefix", "database", "sizes"),
            needs_sizes=True,
        ),
        "vlp-hdf5": Form(
            "VLP's HDF5: a file of boxes, and feature and class files by the ids' last three characters",
            vlp.Hdf5Folder,
            vlp.Hdf5Writer,
            ("prefix", "sizes"),
            needs_sizes=True,
        ),
        "npz": Form(
            "a folder of one .npz an image that holds everything the store does",
            npz.PlainFolder,
            npz.PlainFolderWriter,
        ),
    }  # fmt: skip


FORM_NAMES = ("lxmert-tsv", "butd-tsv", "uniter-npz", "uniter-img-db", "vlp-hdf5", "npz")


def form_named(name: str) -> Form:
    """The form of that name.

    Raises:
        DataError: there is none.
    """
    forms = _forms()
    assert tuple(forms) == FORM_NAMES
    if name not in forms:
        raise DataError(f"--form {name}: unknown form.{suggest(name, forms)}")
    return forms[name]
