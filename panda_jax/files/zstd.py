"""An upper bound on the decompressed size of a zstd frame, from its block headers alone (RFC 8878, section 3.1)."""

FRAME = b'\x28\xb5\x2f\xfd'
LARGEST_BLOCK = 128 << 10  # the most bytes of a decompressed block
RAW, REPEATED, COMPRESSED = 0, 1, 2


def most(data: bytes) -> int:
  """The most bytes to which the frames in `data` can decompress; for damaged ones, up to the damage.

  Raises:
    ValueError: it is not such a frame.
  """
  view, position, total = memoryview(data), 0, 0
  while position < len(view):
    if view[position : position + 4] != FRAME or position + 5 > len(view):
      raise ValueError('it is not compressed by zstd')
    descriptor = view[position + 4]
    single = descriptor >> 5 & 1
    position += 5 + (1 - single) + (0, 1, 2, 4)[descriptor & 3] + (single, 2, 4, 8)[descriptor >> 6]
    last = False
    while not last:
      if position + 3 > len(view):
        return total  # truncated
      header = int.from_bytes(view[position : position + 3], 'little')
      last, kind, size = bool(header & 1), header >> 1 & 3, header >> 3
      if kind not in (RAW, REPEATED, COMPRESSED):
        return total  # decompression stops here as well
      total += LARGEST_BLOCK if kind == COMPRESSED else size
      position += 3 + (1 if kind == REPEATED else size)
    position += 4 if descriptor & 4 else 0
  return total
