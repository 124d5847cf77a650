"""A font that has some letters as black boxes, made by fontTools, which comes with matplotlib."""

from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen


def box(left, bottom, right, top):
    pen = TTGlyphPen(None)
    pen.moveTo((left, bottom))
    for corner in ((left, top), (right, top), (right, bottom)):
        pen.lineTo(corner)
    pen.closePath()
    return pen.glyph()


def write_font(path, letters):
    """Each letter is a box of another height; the glyph for all others is a flat one."""
    names = {ord(letter): f"letter{number}" for number, letter in enumerate(letters)}
    builder = FontBuilder(1000, isTTF=True)
    builder.setupGlyphOrder([".notdef", *names.values()])
    builder.setupCharacterMap(names)
    glyphs = {name: box(100, 0, 900, 400 + 20 * number) for number, name in enumerate(names.values())}
    builder.setupGlyf({".notdef": box(100, 0, 900, 50), **glyphs})
    builder.setupHorizontalMetrics(dict.fromkeys([".notdef", *names.values()], (1000, 100)))
    builder.setupHorizontalHeader(ascent=900, descent=-100)
    builder.setupNameTable({"familyName": "Boxes", "styleName": "Regular"})
    builder.setupOS2()
    builder.setupPost()
    path.parent.mkdir(parents=True, exist_ok=True)
    builder.save(path)
    return path
