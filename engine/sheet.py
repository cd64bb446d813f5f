"""Contact sheets: the pictures of a batch side by side, with the names and values of the axes along the edges."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import PIL.Image
import PIL.ImageDraw
import PIL.ImageFont

from engine.batch import axes

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from engine.batch import Record, Variation

MAX_CELL_PX = 512
"""Cells are at most this wide and high; larger pictures are scaled down."""

MIN_CELL_PX = 96
"""Cells are at least this wide, so that labels can be read."""

MAX_SHEET_PX = 12_000
"""No side of a sheet is longer."""

ONE_ROW = 5
"""A single axis of at most this many is not wrapped."""

_GAP_PX = 6
_PAPER, _INK, _FAINT, _EMPTY = (255, 255, 255), (24, 24, 27), (113, 113, 122), (228, 228, 231)

Cell = tuple[tuple[Path, ...], str]
"""The pictures of a cell, and what it says where there are none."""


@dataclass(frozen=True, slots=True)
class Layout:
    """What stands where on a sheet.

    Attributes:
        cells: (row, column) to what stands there.
        rows: Labels of the rows; empty where every cell has its own.
        columns: Labels of the columns; empty where every cell has its own.
        captions: (row, column) to a label of the cell itself.
        row_axis: What the rows differ in.
        column_axis: What the columns differ in.
    """

    cells: Mapping[tuple[int, int], Cell]
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    captions: Mapping[tuple[int, int], str] | None = None
    row_axis: str = ""
    column_axis: str = ""


def layout(wanted: Sequence[Variation], records: Sequence[Record]) -> Layout:
    """Where each variation stands: the last axis runs across, the others down; a single axis is wrapped.

    Args:
        wanted: The variations.
        records: What became of each, in the same order.
    """
    found = list(axes(wanted))
    contents = [_cell(record) for record in records]
    if len(found) < 2:
        width = len(wanted) if len(wanted) <= ONE_ROW else math.ceil(math.sqrt(len(wanted)))
        places = [divmod(i, width) for i in range(len(wanted))]
        captions = [v.labels.get(found[0][0], "") if found else "" for v in wanted]
        return Layout(
            dict(zip(places, contents, strict=True)),
            captions=dict(zip(places, captions, strict=True)) if found else None,
            column_axis=found[0][0] if found else "",
        )
    *down, (across, columns) = found
    rows = list(itertools.product(*(labels for _, labels in down)))
    place = {row: i for i, row in enumerate(rows)}
    cells = {
        (place[tuple(v.labels[axis] for axis, _ in down)], columns.index(v.labels[across])): content
        for v, content in zip(wanted, contents, strict=True)
    }
    used = sorted({row for row, _ in cells})  # rows of a table and points of a grid need not form a full product
    return Layout(
        {(used.index(row), column): content for (row, column), content in cells.items()},
        tuple("\n".join(rows[i]) for i in used),
        columns,
        row_axis="\n".join(axis for axis, _ in down),
        column_axis=across,
    )


def sheet(plan: Layout) -> PIL.Image.Image:
    """The sheet, drawn."""
    height = 1 + max((row for row, _ in plan.cells), default=0)
    width = 1 + max((column for _, column in plan.cells), default=0)
    cell_w, cell_h = _cell_size(plan, width, height)
    font = _font(max(13, min(28, cell_w // 12)))
    label_w = int(cell_w * 0.9) if plan.rows else 0
    rows = [_wrapped(text, font, label_w) for text in plan.rows]
    row_axis = _wrapped(plan.row_axis, font, label_w) if plan.rows else ""
    margin_w = max((_width(text, font) for text in [*rows, row_axis]), default=0) + 3 * _GAP_PX if plan.rows else _GAP_PX
    columns = [_wrapped(text, font, cell_w) for text in plan.columns]
    captions = {place: _wrapped(text, font, cell_w) for place, text in (plan.captions or {}).items()}
    axis_h = _height(plan.column_axis, font) + 2 * _GAP_PX if plan.column_axis else 0
    head_h = axis_h + max((_height(text, font) for text in [*columns, row_axis] if text), default=0) + 2 * _GAP_PX
    caption_h = max((_height(text, font) for text in captions.values()), default=-_GAP_PX) + _GAP_PX
    step_x, step_y = cell_w + _GAP_PX, cell_h + caption_h + _GAP_PX
    picture = PIL.Image.new("RGB", (margin_w + width * step_x, head_h + height * step_y), _PAPER)
    draw = PIL.ImageDraw.Draw(picture)
    middle = margin_w + width * step_x // 2
    draw.text((middle, _GAP_PX), plan.column_axis, _FAINT, font, anchor="ma")
    draw.multiline_text((_GAP_PX, head_h - _GAP_PX), row_axis, _FAINT, font, anchor="ld")
    for i, text in enumerate(columns):
        centre = margin_w + i * step_x + cell_w // 2
        draw.multiline_text((centre, head_h - _GAP_PX), text, _INK, font, anchor="md", align="center")
    for i, text in enumerate(rows):
        draw.multiline_text((_GAP_PX, head_h + i * step_y + cell_h // 2), text, _INK, font, anchor="lm")
    for (row, column), content in plan.cells.items():
        x, y = margin_w + column * step_x, head_h + row * step_y
        _fill(picture, content, (x, y, cell_w, cell_h), font)
        caption = captions.get((row, column), "")
        draw.multiline_text((x + cell_w // 2, y + cell_h + _GAP_PX // 2), caption, _INK, font, anchor="ma", align="center")
    return picture


def save_sheet(path: Path, plan: Layout) -> None:
    """Draw a sheet and write it, whole or not at all."""
    picture = sheet(plan)
    path.parent.mkdir(parents=True, exist_ok=True)
    scratch = path.with_name(f".{path.stem}.{os.getpid()}{path.suffix or '.png'}")
    try:
        picture.save(scratch, None if path.suffix else "PNG")
        scratch.replace(path)
    finally:
        scratch.unlink(missing_ok=True)


def _cell(record: Record) -> Cell:
    pictures = tuple(p for p in record.files if p.suffix.lower() in {".png", ".webp", ".jpg", ".jpeg"} and p.is_file())
    return pictures, record.status if record.status != "completed" else "no picture"


def _cell_size(plan: Layout, width: int, height: int) -> tuple[int, int]:
    """Of the largest picture, within the limits."""
    sizes = []
    for paths, _ in plan.cells.values():
        for path in paths[:1]:
            with PIL.Image.open(path) as picture:
                sizes.append(picture.size)
    w, h = max((s[0] for s in sizes), default=MIN_CELL_PX), max((s[1] for s in sizes), default=MIN_CELL_PX)
    scale = min(
        1.0,
        MAX_CELL_PX / max(w, h),
        MAX_SHEET_PX / ((width + 1) * (w + _GAP_PX)),
        MAX_SHEET_PX / ((height + 1) * (h + _GAP_PX)),
    )
    if w * scale < MIN_CELL_PX:
        scale = min(MIN_CELL_PX / w, MAX_SHEET_PX / ((width + 1) * w))
    return max(1, round(w * scale)), max(1, round(h * scale))


def _fill(picture: PIL.Image.Image, content: Cell, box: tuple[int, int, int, int], font: PIL.ImageFont.FreeTypeFont) -> None:
    """Put the pictures of a cell into its box, several as a small mosaic."""
    paths, words = content
    x, y, w, h = box
    if not paths:
        draw = PIL.ImageDraw.Draw(picture)
        draw.rectangle((x, y, x + w - 1, y + h - 1), _EMPTY)
        draw.text((x + w // 2, y + h // 2), words, _FAINT, font, anchor="mm")
        return
    side = math.ceil(math.sqrt(len(paths)))
    lines = math.ceil(len(paths) / side)
    part_w, part_h = w // side, h // lines
    for i, path in enumerate(paths):
        row, column = divmod(i, side)
        with PIL.Image.open(path) as file:
            part = file.convert("RGB")
        scale = min(part_w / part.width, part_h / part.height)
        if scale != 1:
            part = part.resize(
                (max(1, round(part.width * scale)), max(1, round(part.height * scale))), PIL.Image.Resampling.LANCZOS
            )
        picture.paste(part, (x + column * part_w + (part_w - part.width) // 2, y + row * part_h + (part_h - part.height) // 2))


def _font(size: int) -> PIL.ImageFont.FreeTypeFont:
    """The font that comes with Pillow."""
    font = PIL.ImageFont.load_default(size)
    assert isinstance(font, PIL.ImageFont.FreeTypeFont)  # noqa: S101 - every wheel of Pillow has FreeType
    return font


def _wrapped(text: str, font: PIL.ImageFont.FreeTypeFont, width: int, limit: int = 5) -> str:
    """Text broken into lines that fit into `width`, at most `limit` of them for each line given."""
    lines: list[str] = []
    for paragraph in text.splitlines():
        part: list[str] = []
        line = ""
        for word in paragraph.split(" "):
            longer = f"{line} {word}".strip()
            if not line or font.getlength(longer) <= width:
                line = longer
            else:
                part.append(line)
                line = word
            while font.getlength(line) > width and len(line) > 1:
                fits = next((n for n in range(len(line) - 1, 1, -1) if font.getlength(line[:n]) <= width), 1)
                part.append(line[:fits])
                line = line[fits:]
        part.append(line)
        if len(part) > limit:
            part = [*part[: limit - 1], part[limit - 1][:-1] + "…"]
        lines += part
    return "\n".join(lines)


def _width(text: str, font: PIL.ImageFont.FreeTypeFont) -> int:
    return max((math.ceil(font.getlength(line)) for line in text.splitlines()), default=0)


def _height(text: str, font: PIL.ImageFont.FreeTypeFont) -> int:
    box = PIL.ImageDraw.Draw(PIL.Image.new("L", (1, 1))).multiline_textbbox((0, 0), text or " ", font, anchor="la")
    return math.ceil(box[3])
