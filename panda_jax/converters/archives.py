"""The zip files of `torch.save`, read from memory: members must be uncompressed, complete and must not overlap.

Python's zipfile makes an object for each entry before they can be checked, and trusts the directory. The format is
PKWARE's APPNOTE 4.3, of which torch uses the stored method and the 64-bit records.
"""

import struct
import zlib

from panda_jax.converters.limits import Budget, Refused, damaged, shown

_END = struct.Struct('<4s4H2IH')  # disks, entries, directory's size and offset, comment's length
_LOCATOR = struct.Struct('<4sIQI')
_END64 = struct.Struct('<4sQ2H2I4Q')
_ENTRY = struct.Struct('<4s6H3I5H2I')
_LOCAL = struct.Struct('<4s5H3I2H')

LONGEST_COMMENT = 0xFFFF
LONGEST_NAME = 500
ENCRYPTED = 1


class Archive:
  """The members of a zip file.

  Args:
    data: the file.
    budget: charged for each entry.

  Raises:
    Refused: truncated, contradictory, or of a kind that torch does not write.
  """

  def __init__(self, data: memoryview, budget: Budget):
    self._data = data
    self._checked: set[str] = set()
    # Name to (method, flags, checksum, start, size).
    self._members: dict[str, tuple[int, int, int, int, int]] = {}
    start, size, count = self._directory()
    if count * _ENTRY.size > size:
      raise damaged('its zip directory is too small for its entries')
    position = start
    for _ in range(count):
      budget.step(1000)
      position = self._entry(position, start + size, start)
    if position != start + size:
      raise damaged('its zip directory is longer than its entries')
    self._check_apart()

  def __contains__(self, name: str) -> bool:
    return name in self._members

  def __iter__(self):
    return iter(self._members)

  def read(self, name: str) -> memoryview:
    """The bytes of a member; the checksum is compared at the first access."""
    if name not in self._members:
      raise damaged(f'its member {shown(name)} is missing')
    method, flags, checksum, start, size = self._members[name]
    if method or flags & ENCRYPTED:
      raise Refused(
        f'its member {shown(name)} is compressed or encrypted, which torch.save never does', 'save it again with torch'
      )
    contents = self._data[start : start + size]
    if name not in self._checked:
      if zlib.crc32(contents) != checksum:
        raise damaged(f'the checksum of its member {shown(name)} is wrong')
      self._checked.add(name)
    return contents

  def _unpack(self, form: struct.Struct, position: int, signature: bytes, what: str) -> tuple:
    if position < 0 or position + form.size > len(self._data):
      raise damaged(f'{what} lies outside')
    found, *fields = form.unpack_from(self._data, position)
    if found != signature:
      raise damaged(f'{what} is not where it should be')
    return tuple(fields)

  def _directory(self) -> tuple[int, int, int]:
    """Start and size of the directory, and its number of entries."""
    first = max(0, len(self._data) - _END.size - LONGEST_COMMENT)
    tail = bytes(self._data[first:])
    found = tail.rfind(b'PK\x05\x06')
    if found < 0 or found + _END.size > len(tail):
      raise damaged('the directory at the end of the zip file is missing')
    end = first + found
    disk, first_disk, here, count, size, start, comment = self._unpack(_END, end, b'PK\x05\x06', 'the zip directory')
    if end + _END.size + comment != len(self._data):
      raise damaged('something follows the end of the zip file')
    limit = end
    if 0xFFFF in (here, count) or 0xFFFFFFFF in (size, start):
      _, end64, _ = self._unpack(_LOCATOR, end - _LOCATOR.size, b'PK\x06\x07', 'the 64-bit zip directory')
      fields = self._unpack(_END64, end64, b'PK\x06\x06', 'the 64-bit zip directory')
      _, _, _, disk, first_disk, here, count, size, start = fields
      limit = end64
    if disk or first_disk or here != count:
      raise damaged('it is one of several zip files')
    if start + size > limit:
      raise damaged('its zip directory reaches beyond its end')
    return start, size, count

  def _entry(self, position: int, end: int, directory: int) -> int:
    """Records one entry of the directory; returns the position of the next."""
    fields = self._unpack(_ENTRY, position, b'PK\x01\x02', 'an entry of the zip directory')
    _, _, flags, method, _, _, checksum, packed, size, name_size, extra_size, comment_size, _, _, _, offset = fields
    after_name = position + _ENTRY.size + name_size
    following = after_name + extra_size + comment_size
    if following > end or name_size > LONGEST_NAME:
      raise damaged('an entry of the zip directory is too long')
    raw_name = bytes(self._data[position + _ENTRY.size : after_name])
    name = raw_name.decode(errors='backslashreplace')  # torch's are ASCII; other names help to recognise the file
    size, packed, offset = self._wide(size, packed, offset, self._data[after_name : after_name + extra_size])
    if name in self._members:
      raise damaged(f'its member {shown(name)} is there twice')
    if not method and packed != size:
      raise damaged(f'its member {shown(name)} has two sizes')
    local = self._unpack(_LOCAL, offset, b'PK\x03\x04', f'the member {shown(name)}')
    local_name, local_extra = local[-2:]
    start = offset + _LOCAL.size + local_name + local_extra
    if bytes(self._data[offset + _LOCAL.size : offset + _LOCAL.size + local_name]) != raw_name or local[2] != method:
      raise damaged(f'its member {shown(name)} goes by two names')
    if start + packed > directory:
      raise damaged(f'its member {shown(name)} reaches beyond the zip file')
    self._members[name] = method, flags, checksum, start, packed
    return following

  def _wide(self, size: int, packed: int, offset: int, extra: memoryview) -> tuple[int, int, int]:
    """Size, packed size and offset, taken from the 64-bit field if the short ones are full."""
    values = [size, packed, offset]
    full = [i for i, value in enumerate(values) if value == 0xFFFFFFFF]
    while full and len(extra) >= 4:
      kind, length = struct.unpack_from('<HH', extra)
      if kind == 1 and 8 * len(full) <= length <= len(extra) - 4:
        for place, value in zip(full, struct.unpack_from(f'<{len(full)}Q', extra, 4), strict=True):
          values[place] = value
        return tuple(values)
      extra = extra[4 + length :]
    if full:
      raise damaged('a 64-bit size of a zip member is missing')
    return tuple(values)

  def _check_apart(self):
    """Raises Refused if members overlap: a small file could then hold many large members."""
    end = 0
    for start, size in sorted((start, size) for *_, start, size in self._members.values()):
      if start < end:
        raise damaged('members of the zip file overlap')
      end = start + size
