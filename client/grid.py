"""A grid of pictures, each with its label under it: what `orthofed sample` and the report show."""

from collections.abc import Sequence

from PIL import Image, ImageDraw, ImageFont

_CELL = 160  # pixels, the least width of an image in a grid
_LINE = 14  # pixels, one line of a label

Font = ImageFont.ImageFont | ImageFont.FreeTypeFont


def grid(rows: Sequence[Sequence[tuple[Image.Image, str]]]) -> Image.Image:
    """Return one image of all ``rows`` of (image, label), each label under its image."""
    font = ImageFont.load_default()
    cells = [[_cell(image, label, font) for image, label in row] for row in rows]
    width = max(cell.width for row in cells for cell in row)
    heights = [max(cell.height for cell in row) for row in cells]
    columns = max(len(row) for row in cells)
    whole = Image.new("RGB", (width * columns, sum(heights)), "white")
    for number, row in enumerate(cells):
        for column, cell in enumerate(row):
            whole.paste(cell, (column * width, sum(heights[:number])))
    return whole


def labelled(
    rows: Sequence[Sequence[Image.Image]], columns: Sequence[str], beside: Sequence[str]
) -> Image.Image:
    """Return one image of ``rows``, a label over each column and one at the left of each row."""
    font = ImageFont.load_default()
    cells = [[_cell(image, "", font) for image in row] for row in rows]
    width, height = cells[0][0].size
    over = [_wrapped(text, width, font) for text in columns]
    left = [_wrapped(text, _CELL, font) for text in beside]
    top = _LINE * max(map(len, over)) + 6
    side = max(int(font.getlength(line)) for lines in left for line in lines) + 12
    heights = [max(height, _LINE * len(lines) + 6) for lines in left]
    whole = Image.new("RGB", (side + width * len(columns), top + sum(heights)), "white")
    draw = ImageDraw.Draw(whole)
    for column, lines in enumerate(over):
        _write(draw, lines, (side + width * column + 4, 2), font)
    for row, lines in enumerate(left):
        above = top + sum(heights[:row])
        _write(draw, lines, (6, above + (heights[row] - _LINE * len(lines)) // 2), font)
        for column, cell in enumerate(cells[row]):
            whole.paste(cell, (side + width * column, above))
    return whole


def _write(
    draw: ImageDraw.ImageDraw, lines: Sequence[str], at: tuple[int, int], font: Font
) -> None:
    for number, line in enumerate(lines):
        draw.text((at[0], at[1] + _LINE * number), line, fill="black", font=font)


def _cell(image: Image.Image, label: str, font: Font) -> Image.Image:
    """Return ``image``, enlarged if it is tiny, with its label in lines below."""
    times = max(1, _CELL // image.width)
    size = (image.width * times, image.height * times)
    enlarged = image.convert("RGB").resize(size, Image.Resampling.BICUBIC)
    texts = label.split("\n") if label else []
    lines = [line for text in texts for line in _wrapped(text, size[0], font)]
    cell = Image.new("RGB", (size[0] + 4, size[1] + _LINE * len(lines) + 6), "white")
    cell.paste(enlarged, (2, 2))
    _write(ImageDraw.Draw(cell), lines, (4, size[1] + 2), font)
    return cell


def _wrapped(text: str, width: int, font: Font) -> list[str]:
    """Return ``text`` in lines of at most ``width`` pixels, broken at spaces."""
    lines = [""]
    for word in text.split():
        longer = f"{lines[-1]} {word}".strip()
        if font.getlength(longer) <= width - 4 or not lines[-1]:
            lines[-1] = longer
        else:
            lines.append(word)
    return lines
