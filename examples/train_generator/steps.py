"""The steps of the training: pure functions of a state, compiled once each.

Adversarial step: non-saturating loss (Goodfellow et al. 2014), first the discriminator, then the generator against the
new discriminator. Both use the same generated images, which saves one pass of the generator in four. Lazy
regularisation, with the optimiser's constants corrected for its interval, and path lengths: Karras et al. 2020, section
3.1 and appendix B. R1: Mescheder et al. 2018, equation 9.
Letters: N images of a batch, H, W their grid.
"""

import dataclasses
import math
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import ml_collections
import optax
from flax import nnx
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from examples.train_generator.augment import adjusted, augmented
from examples.train_generator.discriminator import GROUP, Discriminator
from panda_jax.errors import InputError
from panda_jax.generators import load_generator
from panda_jax.generators.stylegan2 import StyleGAN2, StyleGAN2Options

PATH_DECAY = 0.01
SIGNS_IMAGES = 2000  # half of the weight of the running mean of signs is on these last ones
W_MEAN_DRAWS = 1 << 14


@jax.tree_util.register_dataclass
@dataclasses.dataclass(frozen=True)
class TrainState:
  """The state of a training.

  Attributes:
    generator, average, discriminator: learnt arrays; `average` is the generator's exponential moving average.
    generator_moments, discriminator_moments: of Adam.
    path_mean: () running mean of the path lengths.
    probability: () of augmentation.
    signs: () running mean of the signs of the logits of real images: 0 for a discriminator that cannot tell, 1 at most.
    images: () int32, number of real images so far.
  """

  generator: nnx.State
  average: nnx.State
  discriminator: nnx.State
  generator_moments: optax.OptState
  discriminator_moments: optax.OptState
  path_mean: jax.Array
  probability: jax.Array
  signs: jax.Array
  images: jax.Array


class Training(NamedTuple):
  """A training as functions of its state; each, except `begin`, is compiled at its first call.

  Attributes:
    begin: () -> TrainState, from the seed; the generator is that of `config.initial` if given.
    adversarial: (state, uint8 images (N, H, W, channels), learns=True) -> (state, metrics); without `learns`, the
      generator does not change.
    discriminator_penalty: with the same arguments, R1.
    path_penalty: (state) -> (state, metrics).
    show: (state, z (M, z_dim)) -> float images (M, H, W, channels) of the averaged generator.
    finite: state -> whether all its numbers are finite.
    exported: state -> the averaged generator with the mean of its w, a StyleGAN2.
    batches: the sharding of a batch over the devices.
  """

  begin: Callable
  adversarial: Callable
  discriminator_penalty: Callable
  path_penalty: Callable
  show: Callable
  finite: Callable
  exported: Callable
  batches: NamedSharding


def generator_options(config: ml_collections.ConfigDict) -> StyleGAN2Options:
  """The generator that a configuration describes; its `widths` are channels at 4x4, 8x8, ... ."""
  widths = [config.widths[0], config.widths[0]]
  for width in config.widths[1:]:
    widths += [width, width]
  return StyleGAN2Options(
    resolution=config.resolution,
    widths=tuple(widths),
    z_dim=config.z_dim,
    w_dim=config.w_dim,
    mapping_widths=(config.w_dim,) * config.mapping_layers,
    noise=config.noise,
  )


def check(config: ml_collections.ConfigDict, devices: int) -> None:
  """Raises InputError if a configuration cannot be trained on this number of devices."""
  sizes = int(math.log2(config.resolution)) - 1
  for name in ('widths', 'discriminator_widths'):
    if len(config[name]) != sizes:
      problem = f'a resolution of {config.resolution} has {sizes} grids from 4x4 on'
      raise InputError(name, tuple(config[name]), problem, f'give {sizes} numbers')
  if config.batch % (devices * GROUP):
    problem = f'{devices} devices take {GROUP} images, or a multiple, each'
    raise InputError('batch', config.batch, problem, f'give a multiple of {devices * GROUP}')
  if config.precision not in ('float32', 'bfloat16'):
    raise InputError('precision', config.precision, 'there is none of this name', 'give float32 or bfloat16')
  if config.discriminator_images < 0:
    raise InputError('discriminator_images', config.discriminator_images, 'it is negative', 'give 0 or more')
  for name in ('r1_every', 'path_every', 'images', 'log_images', 'sample_images', 'snapshot_images'):
    if config[name] < 1:
      raise InputError(name, config[name], 'it must be positive', 'give a whole number from 1')
  for name in ('generator_share', 'lead'):
    if not 0 <= config[name] <= 1:
      raise InputError(name, config[name], 'it is a share', 'give a number from 0 to 1')
  if not 0 <= config.augment <= 1:
    raise InputError('augment', config.augment, 'it is a probability', 'give a number from 0 to 1')
  if not config.aliasing > 0:
    raise InputError('aliasing', config.aliasing, 'it must be positive', 'give a number around 0.3, or 1 for no bound')


def adam(config: ml_collections.ConfigDict, rate: float, every: int | None) -> optax.GradientTransformation:
  """Adam of a learning rate, with constants corrected for one further step in every `every` steps."""
  share = 1 if every is None else every / (every + 1)
  b1, b2 = config.adam
  return optax.adam(rate * share, b1=b1**share, b2=b2**share, eps=1e-8)


def prepare(config: ml_collections.ConfigDict, mesh: Mesh) -> Training:
  """The functions of a training on the devices of `mesh`, whose only axis is 'data'; parameters are on all of them.

  Raises:
    InputError: see `check`.
  """
  check(config, mesh.size)
  options = generator_options(config)
  dtype = jnp.dtype(config.precision)
  graph_g, _, buffers = nnx.split(StyleGAN2(options, nnx.Rngs(config.seed)), nnx.Param, ...)
  graph_d = nnx.graphdef(nnx.eval_shape(lambda: _discriminator(config)))
  initial = _initial(config, options)
  rate = config.learning_rate
  adam_g = adam(config, rate * config.generator_share, config.path_every if config.path_weight else None)
  adam_d = adam(config, rate, config.r1_every)
  replicated = NamedSharding(mesh, PartitionSpec())
  batches = NamedSharding(mesh, PartitionSpec('data'))

  def computing(tree):
    return jax.tree.map(lambda x: x.astype(dtype), tree)

  def generator(params) -> StyleGAN2:
    return nnx.merge(graph_g, computing(params), computing(buffers))

  def judged(params, images, key, probability):
    if config.augment or config.augment_target is not None:
      images = augmented(images, key, probability)
    return nnx.merge(graph_d, computing(params))(images)

  def typed(tree):
    # Some initial arrays are weakly typed, but steps return strong types: without this, each step compiles twice.
    return jax.tree.map(lambda x: jnp.asarray(x, x.dtype), tree)

  def spread(x):
    return jax.lax.with_sharding_constraint(x, batches)

  def reals(images, key):
    images = images.astype(jnp.float32) / 127.5 - 1
    if config.flip:
      flipped = jax.random.bernoulli(key, shape=(images.shape[0], 1, 1, 1))
      images = jnp.where(flipped, images[:, :, ::-1], images)
    return images

  def keys(state, purpose: int, count: int):
    # A function of the seed and the number of images, so that a resumed training makes the same draws.
    key = jax.random.fold_in(jax.random.fold_in(jax.random.key(config.seed), purpose), state.images)
    return jax.random.split(key, count)

  def updated(optimiser, gradients, moments, params):
    updates, moments = optimiser.update(gradients, moments, params)
    return optax.apply_updates(params, updates), moments

  def begin() -> TrainState:
    params = typed(nnx.state(StyleGAN2(options, nnx.Rngs(config.seed)), nnx.Param))
    discriminator = typed(nnx.state(_discriminator(config), nnx.Param))
    return TrainState(
      generator=params,
      average=params,
      discriminator=discriminator,
      generator_moments=adam_g.init(params),
      discriminator_moments=adam_d.init(discriminator),
      path_mean=jnp.zeros(()),
      probability=jnp.asarray(config.augment, jnp.float32),
      signs=jnp.zeros(()),
      images=jnp.zeros((), jnp.int32),
    )

  compiled_begin = jax.jit(begin, out_shardings=replicated)

  def begun() -> TrainState:
    state = compiled_begin()
    if initial is None:
      return state
    # Two copies, since steps reuse the memory of a state.
    generator, average = (jax.device_put(jax.tree.map(jnp.copy, initial), replicated) for _ in range(2))
    return dataclasses.replace(state, generator=generator, average=average)

  def adversarial(state: TrainState, images, learns: bool = True):
    N = images.shape[0]
    z_key, noise_key, flip_key, real_key, fake_key = keys(state, 0, 5)
    z = spread(jax.random.normal(z_key, (N, config.z_dim), dtype))
    real = reals(images, flip_key)

    def drawn(params):
      model = generator(params)
      return model(model.map(z), noise=noise_key).astype(jnp.float32)

    def loss_d(params, fake):
      fake_logits = judged(params, fake, fake_key, state.probability)
      real_logits = judged(params, real, real_key, state.probability)
      loss = jnp.mean(jax.nn.softplus(fake_logits) + jax.nn.softplus(-real_logits))
      return loss, (fake_logits, real_logits)

    def loss_g(fake, params):
      return jnp.mean(jax.nn.softplus(-judged(params, fake, fake_key, state.probability)))

    fake, pull = jax.vjp(drawn, state.generator)
    judged_both = jax.value_and_grad(loss_d, has_aux=True)
    (discriminator_loss, (fake_logits, real_logits)), gradient_d = judged_both(state.discriminator, fake)
    discriminator, moments_d = updated(adam_d, gradient_d, state.discriminator_moments, state.discriminator)
    if learns:
      generator_loss, by_images = jax.value_and_grad(loss_g)(fake, discriminator)
      (gradient_g,) = pull(by_images)
      params, moments_g = updated(adam_g, gradient_g, state.generator_moments, state.generator)
      if config.lead:
        # A generator that outruns the discriminator learns nothing from it: then it waits.
        share = jnp.clip(state.signs / config.lead, 0, 1) ** 2
        params = jax.tree.map(lambda old, new: old + share * (new - old), state.generator, params)
    else:
      generator_loss, gradient_g = loss_g(fake, discriminator), ()
      params, moments_g = state.generator, state.generator_moments
    # Half of the average's weight is on the last `average_images`, or on a share of all images while there are few.
    seen = state.images + N
    half = jnp.minimum(config.average_images, config.average_ramp * seen.astype(jnp.float32))
    keep = jnp.exp2(-N / jnp.maximum(half, 1e-8))
    probability, signs = state.probability, jnp.sign(real_logits).mean()
    if config.augment_target is not None:
      probability = adjusted(probability, real_logits, config.augment_target)
    state = dataclasses.replace(
      state,
      generator=params,
      average=jax.tree.map(lambda a, b: b + keep * (a - b), state.average, params),
      discriminator=discriminator,
      generator_moments=moments_g,
      discriminator_moments=moments_d,
      probability=probability,
      signs=signs + jnp.exp2(-N / SIGNS_IMAGES) * (state.signs - signs),
      images=seen,
    )
    return state, {
      'generator_loss': generator_loss,
      'discriminator_loss': discriminator_loss,
      'fake_logits': fake_logits.mean(),
      'real_logits': real_logits.mean(),
      'real_signs': signs,
      'generator_gradient': optax.tree.norm(gradient_g),
      'discriminator_gradient': optax.tree.norm(gradient_d),
      'augment': probability,
    }

  def discriminator_penalty(state: TrainState, images):
    flip_key, key = keys(state, 1, 2)
    real = reals(images, flip_key)

    def penalty(params):
      slopes = jax.grad(lambda x: judged(params, x, key, state.probability).sum())(real)
      r1 = jnp.mean(jnp.sum(jnp.square(slopes), axis=(1, 2, 3)))
      return 0.5 * config.r1_weight * config.r1_every * r1, r1

    gradient, r1 = jax.grad(penalty, has_aux=True)(state.discriminator)
    params, moments = updated(adam_d, gradient, state.discriminator_moments, state.discriminator)
    return dataclasses.replace(state, discriminator=params, discriminator_moments=moments), {'r1': r1}

  def path_penalty(state: TrainState):
    z_key, noise_key, direction_key = keys(state, 2, 3)
    N = max(config.batch // 2, mesh.size)
    z = spread(jax.random.normal(z_key, (N, config.z_dim), dtype))
    side = config.resolution
    direction = spread(jax.random.normal(direction_key, (N, side, side, options.image_channels), dtype)) / side

    def penalty(params):
      model = generator(params)

      def along(latents):
        return jnp.sum(model(latents, noise=noise_key) * direction, dtype=jnp.float32)

      slopes = jax.grad(along)(model.map(z)).wplus.astype(jnp.float32)
      lengths = jnp.sqrt(jnp.mean(jnp.sum(jnp.square(slopes), axis=2), axis=1))
      mean = state.path_mean + PATH_DECAY * (lengths.mean() - state.path_mean)
      value = jnp.mean(jnp.square(lengths - mean))
      return config.path_weight * config.path_every * value, (mean, lengths.mean())

    gradient, (mean, length) = jax.grad(penalty, has_aux=True)(state.generator)
    params, moments = updated(adam_g, gradient, state.generator_moments, state.generator)
    mean = jax.lax.stop_gradient(mean)
    state = dataclasses.replace(state, generator=params, generator_moments=moments, path_mean=mean)
    return state, {'path_length': length}

  def show(state: TrainState, z):
    model = nnx.merge(graph_g, state.average, buffers)
    return model(model.map(z))

  def finite(state: TrainState):
    return jnp.stack([jnp.isfinite(leaf).all() for leaf in jax.tree.leaves(state)]).all()

  def mean_w(params):
    z = jax.random.normal(jax.random.key(config.seed), (W_MEAN_DRAWS, config.z_dim))
    return nnx.merge(graph_g, params, buffers).mapping(z).mean(axis=0)

  compiled_mean_w = jax.jit(mean_w)

  def exported(state: TrainState) -> StyleGAN2:
    model = nnx.merge(graph_g, state.average, buffers)
    model.w_avg[...] = compiled_mean_w(state.average)
    return model

  def compiled(function, **more):
    return jax.jit(function, donate_argnums=0, out_shardings=replicated, **more)

  return Training(
    begin=begun,
    adversarial=compiled(adversarial, static_argnames='learns'),
    discriminator_penalty=compiled(discriminator_penalty),
    path_penalty=compiled(path_penalty),
    show=jax.jit(show),
    finite=jax.jit(finite),
    exported=exported,
    batches=batches,
  )


def _initial(config: ml_collections.ConfigDict, options: StyleGAN2Options) -> nnx.State | None:
  """Learnt arrays of the generator `config.initial`, without those for noise maps if there is no noise."""
  if not config.initial:
    return None
  model = load_generator(config.initial)
  if not isinstance(model, StyleGAN2) or dataclasses.replace(model.options, noise=config.noise) != options:
    raise InputError(
      'initial', config.initial, 'its network is not that of the configuration', 'give its resolution, widths and sizes'
    )
  there = dict(nnx.to_flat_state(nnx.state(model, nnx.Param)))
  wanted = nnx.to_flat_state(nnx.state(nnx.eval_shape(lambda: StyleGAN2(options, nnx.Rngs(0))), nnx.Param))
  missing = [path for path, _ in wanted if path not in there]
  if missing:
    name = '.'.join(map(str, missing[0]))
    raise InputError('initial', config.initial, f'it has no {name}', f'give --config.noise={model.options.noise}')
  return nnx.from_flat_state([(path, there[path]) for path, _ in wanted])


def _discriminator(config) -> Discriminator:
  widths = tuple(reversed(config.discriminator_widths))
  return Discriminator(widths, generator_options(config).image_channels, nnx.Rngs(config.seed + 1))
