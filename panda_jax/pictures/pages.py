"""A static HTML page that is one file: its style, tables and pictures are in it, and it runs no script."""

import base64
import html
import io
import os
import warnings
from collections.abc import Iterable, Sequence
from pathlib import Path

from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes

LARGE_PICTURE = 200_000  # bytes of a PNG, above which it goes in as WebP
QUALITY = 88
WIDTH = 1080  # pixels across of the page's content
TALL = 680, 900  # pixels across and down that a picture has at least before its height is limited
LARGEST_GIF = 12_000_000  # bytes; larger ones are named only
LARGEST_PICTURE = 64 << 20  # bytes
MOST_PIXELS = 50_000_000
FORMATS = 'PNG', 'GIF', 'JPEG', 'WEBP'

STYLE = """
:root { color-scheme: light; --ink: #1d1f24; --soft: #5b606b; --line: #dfe2e8; --back: #f6f7f9; --mark: #005cb2; }
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body { margin: 0; color: var(--ink); background: white; font: 16px/1.5 system-ui, -apple-system, 'Segoe UI', Roboto,
  'DejaVu Sans', sans-serif; }
main, header > div, footer > div { max-width: 1120px; margin: 0 auto; padding: 0 20px; }
header { background: var(--back); border-bottom: 1px solid var(--line); padding: 28px 0 20px; }
h1 { font-size: 1.75rem; line-height: 1.2; margin: 0 0 4px; overflow-wrap: anywhere; }
h2 { font-size: 1.3rem; margin: 44px 0 10px; padding-top: 14px; border-top: 1px solid var(--line); }
h3 { font-size: 1.05rem; margin: 28px 0 6px; overflow-wrap: anywhere; }
p { margin: 6px 0 12px; max-width: 76ch; }
.soft { color: var(--soft); }
a { color: var(--mark); }
nav { margin-top: 14px; display: flex; flex-wrap: wrap; gap: 4px 18px; }
.facts { display: grid; grid-template-columns: repeat(4, 1fr); gap: 10px; margin: 16px 0 0;
  padding: 0; }
.facts div { background: white; border: 1px solid var(--line); border-radius: 8px; padding: 8px 12px; }
.facts dt { color: var(--soft); font-size: 0.82rem; }
.facts dd { margin: 0; font-size: 1.2rem; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-size: 0.93rem; margin: 6px 0 14px; }
th, td { text-align: left; vertical-align: top; padding: 4px 18px 4px 0; border-bottom: 1px solid var(--line); }
td { overflow-wrap: anywhere; font-variant-numeric: tabular-nums; }
th { color: var(--soft); font-weight: 600; white-space: nowrap; }
.changed { font-weight: 600; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 420px), 1fr)); gap: 0 40px; }
figure { margin: 14px 0 20px; }
figure .scroll { border: 1px solid var(--line); border-radius: 8px; background: white; width: fit-content;
  max-width: 100%; }
figure img { display: block; height: auto; max-width: 100%; }
figcaption { color: var(--soft); font-size: 0.9rem; margin-top: 5px; max-width: 76ch; }
pre { background: var(--back); border: 1px solid var(--line); border-radius: 8px; padding: 10px 12px;
  margin: 6px 0 14px; font: 0.86rem/1.5 ui-monospace, 'DejaVu Sans Mono', Menlo, monospace; white-space: pre-wrap;
  overflow-wrap: anywhere; }
pre span { display: block; padding-left: 2ch; text-indent: -2ch; }
pre i { display: inline-block; max-width: 100%; font-style: normal; text-indent: 0; }
.tiles { display: grid; grid-template-columns: repeat(auto-fill, minmax(150px, 1fr)); gap: 16px 14px; margin: 12px 0; }
.tiles img { display: block; width: 100%; height: auto; image-rendering: pixelated; border: 1px solid var(--line); }
.tiles span { display: block; font-size: 0.86rem; line-height: 1.35; margin-top: 3px; }
ul.notes { margin: 6px 0 14px; padding-left: 20px; }
ul.notes li { overflow-wrap: anywhere; }
details { margin: 8px 0 14px; }
summary { cursor: pointer; color: var(--mark); }
footer { border-top: 1px solid var(--line); margin-top: 50px; padding: 16px 0 30px; color: var(--soft);
  font-size: 0.9rem; }
@media (max-width: 640px) {
  main, header > div, footer > div { padding: 0 14px; }
  header { padding: 18px 0 14px; }
  h1 { font-size: 1.4rem; }
  .tiles { grid-template-columns: repeat(auto-fill, minmax(96px, 1fr)); gap: 12px 10px; }
  .facts { grid-template-columns: 1fr 1fr; }
  figure.wide img { max-width: none; width: 620px !important; }
  .wide figcaption::after { content: ' Scroll the picture sideways.'; }
  th, td { padding-right: 12px; }
}
@media print { nav { display: none; } figure, .tiles > div { break-inside: avoid; } }
""".strip()


def text(value: object) -> str:
  """A value as HTML text."""
  return html.escape(str(value), quote=True)


def paragraph(words: str, soft: bool = False) -> str:
  return f'<p{" class=soft" if soft else ""}>{text(words)}</p>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
  """Short values with their names, side by side."""
  return f'<dl class=facts>{"".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in pairs)}</dl>'


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = (), changed: Sequence[bool] = ()) -> str:
  """Rows whose first cell is their heading; the values of those in `changed` stand out."""
  lines = [f'<thead><tr>{"".join(f"<th scope=col>{text(cell)}</th>" for cell in head)}</tr></thead>'] if head else []
  for i, (name, *cells) in enumerate(rows):
    mark = ' class=changed' if len(changed) > i and changed[i] else ''
    body = ''.join(f'<td{"" if j else mark}>{text(cell)}</td>' for j, cell in enumerate(cells))
    lines.append(f'<tr><th scope=row>{text(name)}</th>{body}</tr>')
  return f'<div class=scroll><table>{"".join(lines)}</table></div>'


def notes(lines: Iterable[str]) -> str:
  return f'<ul class=notes>{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>'


def command(lines: str | Sequence[str]) -> str:
  """Commands as they are typed; a line is broken between words, and within one only if it is longer than the line."""
  lines = [lines] if isinstance(lines, str) else lines
  shown = (' '.join(f'<i>{text(word)}</i>' for word in line.split(' ')) for line in lines)
  return f'<pre><code>{"".join(f"<span>{line}</span>" for line in shown)}</code></pre>'


def columns(*blocks: str) -> str:
  """Blocks side by side where there is room."""
  return f'<div class=columns>{"".join(f"<div>{block}</div>" for block in blocks if block)}</div>'


def details(summary: str, body: str) -> str:
  """Something that opens when asked for."""
  return f'<details><summary>{text(summary)}</summary>{body}</details>'


def address(data: bytes, kind: str) -> str:
  """A data URL."""
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def _inlined(data: bytes) -> tuple[str, tuple[int, int]]:
  """The data URL of a picture, and its size across and down; large PNGs become WebP, as good to look at."""
  from PIL import Image

  try:
    with warnings.catch_warnings(action='ignore', category=Image.DecompressionBombWarning):
      picture = Image.open(io.BytesIO(data), formats=FORMATS)  # which decodes nothing yet
  except Image.DecompressionBombError as error:
    raise ValueError('it has too many pixels') from error
  with picture:
    size, kind = picture.size, picture.format.lower()
    if size[0] * size[1] > MOST_PIXELS:
      raise ValueError(f'it has {size[0]}x{size[1]} pixels')
    if kind == 'png' and len(data) > LARGE_PICTURE:
      buffer = io.BytesIO()
      picture.convert('RGB').save(buffer, 'WEBP', quality=QUALITY, method=4)
      if len(buffer.getvalue()) < len(data):
        data, kind = buffer.getvalue(), 'webp'
  return address(data, kind), size


def figure(path: str | os.PathLike, alternative: str, caption: str = '', most: int = WIDTH) -> str:
  """A picture, inlined, with a caption; nothing where there is no such file, a sentence where it cannot be read.

  Args:
    path: PNG, GIF, JPEG or WebP.
    alternative: what it shows, for those who do not see it.
    caption: below it.
    most: pixels across.
  """
  path = Path(path)
  if not os.path.isfile(path):
    return ''
  if path.stat().st_size > LARGEST_GIF and path.suffix == '.gif':
    return paragraph(f'{path.name} is too large to be put into this page.', soft=True)
  try:
    return picture(read_bytes(path, 'workdir', 'draw it again', LARGEST_PICTURE), alternative, caption, most)
  except (OSError, ValueError, SyntaxError) as error:
    said = error.problem if isinstance(error, InputError) else str(error)[:200]
    return paragraph(f'{path.name} cannot be read ({said}).', soft=True)


def picture(data: bytes, alternative: str, caption: str = '', most: int = WIDTH) -> str:
  """`figure` of a picture in memory.

  Raises:
    ValueError, OSError, SyntaxError: it is none of FORMATS, or too large.
  """
  source, (width, height) = _inlined(data)
  wide = ' class=wide' if width > 700 else ''
  across = min(width, most, max(TALL[0], TALL[1] * width // height))
  narrow = f' style="width: {across}px"' if across < min(width, WIDTH) else ''
  image = f'<img{narrow} src="{source}" width={width} height={height} alt="{text(alternative)}">'
  below = f'<figcaption>{text(caption)}</figcaption>' if caption else ''
  return f'<figure{wide}><div class=scroll tabindex=0>{image}</div>{below}</figure>'


def page(title: str, head: str, sections: Sequence[tuple[str, str, str]], foot: str) -> str:
  """The whole page.

  Args:
    title: of the window and of the page.
    head: HTML below the title.
    sections: (id, heading, HTML) in order; those without content are left out.
    foot: HTML at the end.
  """
  sections = [section for section in sections if section[2]]
  links = ''.join(f'<a href="#{key}">{text(heading)}</a>' for key, heading, _ in sections)
  body = ''.join(f'<section id={key}><h2>{text(heading)}</h2>{content}</section>' for key, heading, content in sections)
  return (
    '<!doctype html><html lang=en><head><meta charset=utf-8>'
    '<meta name=viewport content="width=device-width, initial-scale=1">'
    f'<title>{text(title)}</title><link rel=icon href="data:,"><style>{STYLE}</style></head>'
    f'<body><header><div><h1>{text(title)}</h1>{head}<nav aria-label="Sections">{links}</nav></div></header>'
    f'<main>{body}</main><footer><div>{foot}</div></footer></body></html>\n'
  )
