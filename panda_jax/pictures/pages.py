"""A static HTML page in one file with its style, tables and pictures. It runs no script."""

import base64
import html
import io
import os
import warnings
from collections.abc import Iterable, Sequence
from importlib import resources
from pathlib import Path

from panda_jax.errors import InputError
from panda_jax.files.access import read_bytes

LARGE_PICTURE = 200_000  # bytes; larger PNGs are inlined as WebP
QUALITY, METHOD = 88, 2  # of WebP; method 4 takes twice the time for 3 % fewer bytes
WIDTH = 1080  # width of the page's content in pixels
TALL = 680, 900  # least width and height in pixels of pictures whose height is limited
LARGEST_GIF = 12_000_000  # bytes; of larger ones the page has only the name
LARGEST_PICTURE = 64 << 20  # bytes
MOST_PIXELS = 50_000_000
FORMATS = 'PNG', 'GIF', 'JPEG', 'WEBP'

STYLE = (resources.files('panda_jax.pictures') / 'pages.css').read_text(encoding='utf-8').strip()


def text(value: object) -> str:
  """A value as HTML text."""
  return html.escape(str(value), quote=True)


def paragraph(words: str, soft: bool = False) -> str:
  return f'<p{" class=soft" if soft else ""}>{text(words)}</p>'


def facts(pairs: Iterable[tuple[str, object]]) -> str:
  """Names and short values, side by side."""
  return f'<dl class=facts>{"".join(f"<div><dt>{text(k)}</dt><dd>{text(v)}</dd></div>" for k, v in pairs)}</dl>'


def table(rows: Sequence[Sequence[object]], head: Sequence[str] = (), changed: Sequence[bool] = ()) -> str:
  """A table whose rows begin with a heading; the values of rows in `changed` stand out."""
  lines = [f'<thead><tr>{"".join(f"<th scope=col>{text(cell)}</th>" for cell in head)}</tr></thead>'] if head else []
  for i, (name, *cells) in enumerate(rows):
    mark = ' class=changed' if len(changed) > i and changed[i] else ''
    body = ''.join(f'<td{"" if j else mark}>{text(cell)}</td>' for j, cell in enumerate(cells))
    lines.append(f'<tr><th scope=row>{text(name)}</th>{body}</tr>')
  return f'<div class=scroll><table>{"".join(lines)}</table></div>'


def notes(lines: Iterable[str]) -> str:
  return f'<ul class=notes>{"".join(f"<li>{text(line)}</li>" for line in lines)}</ul>'


def command(lines: str | Sequence[str]) -> str:
  """Commands to type; lines break between words, and within a word only if it is longer than the line."""
  lines = [lines] if isinstance(lines, str) else lines
  shown = (' '.join(f'<i>{text(word)}</i>' for word in line.split(' ')) for line in lines)
  return f'<pre><code>{"".join(f"<span>{line}</span>" for line in shown)}</code></pre>'


def columns(*blocks: str) -> str:
  """Blocks, side by side if the page is wide enough."""
  return f'<div class=columns>{"".join(f"<div>{block}</div>" for block in blocks if block)}</div>'


def details(summary: str, body: str) -> str:
  """A summary that opens the body on a click."""
  return f'<details><summary>{text(summary)}</summary>{body}</details>'


def address(data: bytes, kind: str) -> str:
  """A data URL."""
  return f'data:image/{kind};base64,{base64.b64encode(data).decode()}'


def _inlined(data: bytes) -> tuple[str, tuple[int, int]]:
  """The data URL of a picture, and its width and height; large PNGs become WebP, which looks as good."""
  from PIL import Image

  try:
    with warnings.catch_warnings(action='ignore', category=Image.DecompressionBombWarning):
      picture = Image.open(io.BytesIO(data), formats=FORMATS)  # decodes nothing yet
  except Image.DecompressionBombError as error:
    raise ValueError('it has too many pixels') from error
  with picture:
    size, kind = picture.size, picture.format.lower()
    if size[0] * size[1] > MOST_PIXELS:
      raise ValueError(f'it has {size[0]}x{size[1]} pixels')
    if kind == 'png' and len(data) > LARGE_PICTURE:
      buffer = io.BytesIO()
      picture.convert('RGB').save(buffer, 'WEBP', quality=QUALITY, method=METHOD)
      if len(buffer.getvalue()) < len(data):
        data, kind = buffer.getvalue(), 'webp'
  return address(data, kind), size


def figure(path: str | os.PathLike, alternative: str, caption: str = '', most: int = WIDTH) -> str:
  """An inlined picture with a caption; '' if the file does not exist, a sentence if it cannot be read.

  Args:
    path: PNG, GIF, JPEG or WebP.
    alternative: a description, for readers who do not see the picture.
    caption: below it.
    most: largest width in pixels.
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
    ValueError, OSError, SyntaxError: it is not one of FORMATS, or too large.
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
    sections: (id, heading, HTML) in order; empty ones are left out.
    foot: HTML at the end.
  """
  sections = [section for section in sections if section[2]]
  links = ''.join(f'<a href="#{key}">{text(heading)}</a>' for key, heading, _ in sections)
  body = ''.join(f'<section id={key}><h2>{text(heading)}</h2>{content}</section>' for key, heading, content in sections)
  return (
    '<!doctype html><html lang=en><head><meta charset=utf-8>'
    '<meta name=viewport content="width=device-width, initial-scale=1">'
    f'<title>{text(title)}</title><link rel=icon href="data:,"><style>{STYLE}</style></head>'
    f'<body class=paper><header><div><h1>{text(title)}</h1>{head}'
    f'<nav aria-label="Sections">{links}</nav></div></header>'
    f'<main>{body}</main><footer><div>{foot}</div></footer></body></html>\n'
  )
