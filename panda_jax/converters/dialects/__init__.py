"""Dialects: the code that wrote a checkpoint, which determines its keys.

A `Dialect` (base.py) has a test that recognises it, a function that makes a `Conversion` of a checkpoint by tables from
keys to places in our generator, and its line of `convert --list`. The module of a family lists its dialects in
`DIALECTS`, and in `EXPORTS` the functions that read the tables backwards. Several families share genforce.py,
tensorflow.py, snapshots.py and spectral.py. stylegan2_tables.py makes the tables of StyleGAN2's dialects from a
`Layout`. A new dialect is a new module here, an entry in the `DIALECTS` of its family, and an entry in its `EXPORTS` if
it can be exported.
"""

# In the order in which they are tried. Defined here, since --help needs them before large imports.
FAMILIES = 'progan', 'stylegan', 'stylegan2', 'stylegan_xl', 'stylegan3', 'biggan', 'r3gan', 'fastgan'

# The formats of `panda-jax export`; the module of a family has an `EXPORTS` entry for each that suits its networks.
FORMATS = 'safetensors', 'rosinality', 'nvlabs', 'genforce'
