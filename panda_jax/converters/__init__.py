"""From PyTorch checkpoints to Flax generators, without PyTorch and without trusting the file.

`panda-jax convert SOURCE DESTINATION` is the command. `checkpoint.read` gives what a file holds, one module per family
turns that into a `Conversion`, and `assembly.assemble` makes the generator of it.
"""
