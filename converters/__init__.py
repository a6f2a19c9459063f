"""From PyTorch checkpoints to Flax generators, without PyTorch and without trusting the file.

`python -m converters SOURCE DESTINATION` is the command. `reading.read` gives what a file holds, one module per family
turns that into a `Conversion`, and `assemble.assemble` makes the generator of it.
"""
