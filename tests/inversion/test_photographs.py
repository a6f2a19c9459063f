"""Photographs as cameras and users save them, and files that are not photographs."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from panda_jax.errors import InputError
from panda_jax.inversion.photographs import checked_name, decoded, listed, read_photograph, read_profile


def content(image, form='PNG', **options):
  buffer = io.BytesIO()
  image.save(buffer, form, **options)
  return buffer.getvalue()


def pixels(H=6, W=9):
  return np.random.default_rng(0).integers(0, 256, (H, W, 3), np.uint8)


TURNS = {
  1: lambda x: x,
  2: lambda x: x[:, ::-1],
  3: lambda x: x[::-1, ::-1],
  4: lambda x: x[::-1],
  5: lambda x: x.swapaxes(0, 1),
  6: lambda x: np.rot90(x, -1),
  7: lambda x: x[::-1, ::-1].swapaxes(0, 1),
  8: lambda x: np.rot90(x),
  9: lambda x: x,
}


@pytest.mark.parametrize('form', ['PNG', 'TIFF'])
@pytest.mark.parametrize('turned', TURNS)
def test_it_is_turned_as_the_camera_says(turned, form):
  exif = Image.Exif()
  exif[0x0112] = turned
  found = decoded(content(Image.fromarray(pixels()), form, exif=exif), 'x')
  np.testing.assert_array_equal(found, TURNS[turned](pixels()))


def test_what_a_camera_says_may_be_damaged():
  """Not a byte of it is needed but the orientation."""
  exif = Image.Exif()
  exif[0x0112] = 6
  said, expected = exif.tobytes(), content(Image.fromarray(pixels(16, 16)), 'JPEG')
  for place in range(6, len(said)):
    data = content(Image.fromarray(pixels(16, 16)), 'JPEG', exif=said[:place] + b'\xff' + said[place + 1 :])
    assert decoded(data, 'x').shape == decoded(expected, 'x').shape
  whole = content(Image.fromarray(pixels()))
  garbage = whole[:33] + chunk(b'eXIf', b'garbage!') + whole[33:]  # after the header
  np.testing.assert_array_equal(decoded(garbage, 'x'), pixels())


def test_libtiff_says_nothing_of_its_own(capfd):
  data = bytearray(content(Image.fromarray(pixels(40, 40)), 'TIFF', compression='tiff_deflate'))
  data[20:60] = bytes(40)
  with pytest.raises(InputError, match='damaged'):
    decoded(bytes(data), 'x')
  assert capfd.readouterr().err == ''


def test_transparency_lies_on_white():
  rgba = np.concatenate([pixels(), np.zeros((6, 9, 1), np.uint8)], axis=2)
  assert (decoded(content(Image.fromarray(rgba)), 'x') == 255).all()
  rgba[..., 3] = 255
  np.testing.assert_array_equal(decoded(content(Image.fromarray(rgba)), 'x'), pixels())


def test_sixteen_bits_and_grey():
  grey = (np.arange(54, dtype=np.uint16) * 1200).reshape(6, 9)
  found = decoded(content(Image.fromarray(grey)), 'x')
  np.testing.assert_array_equal(found[..., 0], np.round(grey / 65535 * 255))
  assert (found[..., :1] == found).all()
  eight = pixels()[..., 0]
  np.testing.assert_array_equal(decoded(content(Image.fromarray(eight)), 'x')[..., 1], eight)


@pytest.mark.parametrize('mode', ['P', 'CMYK', 'L', '1', 'LA', 'YCbCr'])
def test_every_mode_becomes_rgb(mode):
  form = {'CMYK': 'JPEG', 'YCbCr': 'JPEG'}.get(mode, 'PNG')
  found = decoded(content(Image.fromarray(pixels()).convert(mode), form), 'x')
  assert found.shape == (6, 9, 3)
  assert found.dtype == np.uint8


def chunk(name, data):
  """Of a PNG."""
  return struct.pack('>I', len(data)) + name + data + struct.pack('>I', zlib.crc32(name + data))


def moving():
  frames = [Image.fromarray(pixels()), Image.fromarray(pixels()[::-1].copy())]
  return content(frames[0], 'GIF', save_all=True, append_images=frames[1:])


def huge():
  """The beginning of a PNG of 50 000 x 50 000 pixels."""
  header = chunk(b'IHDR', struct.pack('>IIBBBBB', 50_000, 50_000, 8, 2, 0, 0, 0))
  return b'\x89PNG\r\n\x1a\n' + header + chunk(b'IDAT', zlib.compress(bytes(1000)))


@pytest.mark.parametrize(
  ('data', 'said'),
  [
    (b'%PDF-1.4', 'not a photograph'),
    (b'', 'not a photograph'),
    (lambda: content(Image.fromarray(pixels(200, 200)), 'JPEG')[:900], 'damaged'),
    (lambda: content(Image.new('1', (15000, 9000))), 'million pixels'),
    (moving, 'holds 2 pictures'),
    (huge, 'million pixels'),
  ],
)
def test_what_is_no_photograph_is_said(data, said):
  with pytest.raises(InputError, match=said):
    decoded(data() if callable(data) else data, 'holiday.jpg')


def test_files_and_folders(tmp_path):
  for name in ('b.png', 'a.JPG', '.hidden.png', 'notes.txt'):
    (tmp_path / name).write_bytes(content(Image.fromarray(pixels())))
  assert [path.name for path in listed(tmp_path)] == ['a.JPG', 'b.png']
  assert listed(tmp_path / 'b.png') == [tmp_path / 'b.png']
  np.testing.assert_array_equal(read_photograph(tmp_path / 'b.png'), pixels())
  (tmp_path / 'none').mkdir()
  for path, said in ((tmp_path / 'none', 'no photograph in it'), (tmp_path / 'gone', 'no such file')):
    with pytest.raises(InputError, match=said):
      listed(path)


@pytest.mark.parametrize('name', ['\udcff.png', 'n' * 201 + '.png', '\u00e9' * 120 + '.png'])
def test_names_that_nothing_can_be_called_after_are_refused(name):
  with pytest.raises(InputError, match='its name'):
    checked_name(Path(name))


def test_any_other_name_will_do():
  for name in ('$x^{$.png', 'a\nb.png', '\U0001f600.png', 'n' * 196 + '.png'):
    assert checked_name(Path('folder') / name) == name


@pytest.mark.parametrize(('space', 'kept'), [(b'RGB ', True), (b'CMYK', False), (b'GRAY', False)])
def test_the_colour_profile_of_rgb_is_kept(space, kept, tmp_path):
  profile = bytes(16) + space + bytes(108)
  for name in ('a.jpg', 'a.png', 'a.tif', 'a.webp'):
    Image.fromarray(pixels()).save(tmp_path / name, icc_profile=profile)
    assert read_profile(tmp_path / name) == (profile if kept else None)
  (tmp_path / 'a.pdf').write_bytes(b'%PDF')
  assert read_profile(tmp_path / 'a.pdf') is None
