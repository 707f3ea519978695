"""Faults as a tired engineer makes them, each with the tests that should notice.

A fault's old text stands exactly once in its file; `plant.py` refuses a table out of step.
"""

from typing import NamedTuple


class Fault(NamedTuple):
    """One wrong change.

    Args:
        module: File within the package.
        what: In a few words.
        old, new: Text of the file, and what is planted in its place.
        noticed_by: Names of files `tests/test_<name>.py`; with a slash, files of the package
            whose examples should notice.
        backend: What Keras runs on; "jax" where tests of NumPy alone run on no other,
            "tensorflow" where the code is for it.
    """

    module: str
    what: str
    old: str
    new: str
    noticed_by: str
    backend: str = "torch"

    @property
    def file(self) -> str:
        """Path of the file in the repository."""
        return f"keras_vit_scale/{self.module}"

    @property
    def tests(self) -> tuple[str, ...]:
        """Paths of the tests in the repository."""
        return tuple(
            f"keras_vit_scale/{name}" if "/" in name else f"tests/test_{name}.py"
            for name in self.noticed_by.split()
        )

    @property
    def label(self) -> str:
        """File and words."""
        return f"{self.module}: {self.what}"


MODELS = [
    Fault(
        "models/block.py", "LayerNorm's epsilon ten times as large",
        "EPSILON = 1e-6",
        "EPSILON = 1e-5",
        "block vit weights",
    ),
    Fault(
        "models/block.py", "attention scaled by the width instead of the head's",
        "ops.dot_product_attention(query, key, value, ",
        "ops.dot_product_attention(query, key, value, scale=x.shape[-1] ** -0.5, ",
        "block",
    ),
    Fault(
        "models/block.py", "attention maps scaled by features instead of their root",
        "query.shape[-1] ** -0.5",
        "query.shape[-1] ** -1.0",
        "inspection",
    ),
    Fault(
        "models/block.py", "maps with queries and keys transposed",
        '"btkf,bnkf->bktn", query, key',
        '"btkf,bnkf->bktn", key, query',
        "inspection",
    ),
    Fault(
        "models/block.py", "values read with the keys' kernel",
        'value = linear(tokens, w["value_kernel"], w["value_bias"])\n    # On',
        'value = linear(tokens, w["key_kernel"], w["value_bias"])\n    # On',
        "block",
    ),
    Fault(
        "models/block.py", "forms of GELU swapped",
        'approximate=gelu == "tanh"',
        'approximate=gelu != "tanh"',
        "block",
    ),
    Fault(
        "models/block.py", "the residual taken after the norm",
        'return x + drop(mlp(y, w, gelu=gelu, drop=drop), "mlp")',
        'return y + drop(mlp(y, w, gelu=gelu, drop=drop), "mlp")',
        "block",
    ),
    Fault(
        "models/block.py", "post-norm instead of pre-norm",
        'y = layer_norm(x, w, "mlp_norm", epsilon)\n'
        '    return x + drop(mlp(y, w, gelu=gelu, drop=drop), "mlp")',
        'y = x + drop(mlp(x, w, gelu=gelu, drop=drop), "mlp")\n'
        '    return layer_norm(y, w, "mlp_norm", epsilon)',
        "block",
    ),
    Fault(
        "models/block.py", "one norm's weights used for both",
        'y = layer_norm(x, w, "mlp_norm", epsilon)',
        'y = layer_norm(x, w, "attention_norm", epsilon)',
        "block",
    ),
    Fault(
        "models/block.py", "fans of the output kernel those of an array of three axes",
        "(heads, features, width), glorot_uniform(width, width)",
        "(heads, features, width), glorot_uniform(features, width)",
        "block",
    ),
    Fault(
        "models/block.py", "deviations of biases and kernels taken for one another",
        "initializers.RandomNormal(stddev=1e-6)",
        "initializers.RandomNormal(stddev=0.02)",
        "block",
    ),
    Fault(
        "models/embedding.py", "patches column by column",
        "x = ops.transpose(x, (0, 1, 3, 2, 4, 5))",
        "x = ops.transpose(x, (0, 3, 1, 2, 4, 5))",
        "block",
    ),
    Fault(
        "models/embedding.py", "positions start at 0.02 instead of 1 / sqrt(width)",
        "keras.initializers.RandomNormal(stddev=width**-0.5)",
        "keras.initializers.RandomNormal(stddev=0.02)",
        "block vit",
    ),
    Fault(
        "models/embedding.py", "the [class] token does not start at zero",
        'name="token", shape=(1, 1, input_shape[-1]), initializer="zeros"',
        'name="token", shape=(1, 1, input_shape[-1]), initializer="glorot_uniform"',
        "block vit",
    ),
    Fault(
        "models/embedding.py", "the [class] token put last",
        "ops.concatenate([ops.cast(token, x.dtype), x], axis=1)",
        "ops.concatenate([x, ops.cast(token, x.dtype)], axis=1)",
        "vit",
    ),
    Fault(
        "models/positions.py", "rows before columns in fixed positions",
        "[np.sin(x), np.cos(x), np.sin(y), np.cos(y)]",
        "[np.sin(y), np.cos(y), np.sin(x), np.cos(x)]",
        "vit",
    ),
    Fault(
        "models/positions.py", "frequencies that end before 1 / temperature",
        "/ max(1, width // 4 - 1))",
        "/ (width // 4))",
        "vit",
    ),
    Fault(
        "models/pooling.py", "MAP without the residual around its MLP",
        'y = y + mlp(layer_norm(y, w, "mlp_norm"',
        'y = mlp(layer_norm(y, w, "mlp_norm"',
        "block",
    ),
    Fault(
        "models/pooling.py", "MAP with a residual of its probe",
        "y = attention(probe, tokens, w)",
        "y = probe + attention(probe, tokens, w)",
        "block",
    ),
    Fault(
        "models/dropping.py", "stochastic depth rises from its second value",
        "np.linspace(0, rate, depth)",
        "np.linspace(rate / depth, rate, depth)",
        "encoder",
    ),
    Fault(
        "models/dropping.py", "kept branches not divided by what is kept",
        'ops.cast(draws < keep, "float32") / keep',
        'ops.cast(draws < keep, "float32")',
        "encoder",
    ),
    Fault(
        "models/dropping.py", "one mask for all places of a block",
        "DrawnSeed(seeds[SITES.index(site)])",
        "DrawnSeed(seeds[0])",
        "encoder",
    ),
    Fault(
        "models/encoder.py", "thawed blocks loaded from the first, not from the first thawed",
        "assign_shares(self.blocks[name], array[self.frozen_blocks :].__getitem__)",
        "assign_shares(self.blocks[name], array[: self.depth - self.frozen_blocks].__getitem__)",
        "freezing",
    ),
    Fault(
        "models/vit.py", "the last norm keeps Keras' epsilon",
        "keras.layers.LayerNormalization(epsilon=epsilon, ",
        "keras.layers.LayerNormalization(",
        "vit",
    ),
    Fault(
        "models/vit.py", "a head that does not start at zero",
        'kernel_initializer="zeros"',
        'kernel_initializer="glorot_uniform"',
        "vit",
    ),
    Fault(
        "models/vit.py", "logits in half precision",
        'wide = "float32" if is_half(policy.compute_dtype) else dtype',
        "wide = dtype",
        "precision",
    ),
    Fault(
        "models/conversion.py", "one block too many trained after conversion",
        "encoder.trainable and i >= encoder.frozen_blocks",
        "encoder.trainable and i + 1 >= encoder.frozen_blocks",
        "to_blocks",
    ),
    Fault(
        "models/presets.py", "heads of s",
        '"s": (256, 6, 1024, 8)',
        '"s": (256, 6, 1024, 4)',
        "presets",
    ),
    Fault(
        "models/presets.py", "depth of So400m, which is not in Table 2",
        '"So400m": (1152, 27, 4304, 16)',
        '"So400m": (1152, 26, 4304, 16)',
        "presets",
    ),
    Fault(
        "models/presets.py", "MLP of H, which is not in Table 2",
        '"H": (1280, 32, 5120, 16)',
        '"H": (1280, 32, 4096, 16)',
        "presets",
    ),
]  # fmt: skip

OPTIMIZERS = [
    Fault(
        "optimizers/adafactor.py", "beta2 one step ahead",
        "beta_2(self.updates + 1,",
        "beta_2(self.updates + 2,",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "the factor's mean over all of a stack",
        "row / ops.mean(row, axis=minor_in_row, keepdims=True)",
        "row / ops.mean(row)",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "the axis not moved where the larger one is gone",
        "minor_in_row = minor - (major < minor)",
        "minor_in_row = minor",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "the largest squares instead of their means",
        "row = decay * row + (1.0 - decay) * ops.mean(squared, axis=major)\n"
        "    column = decay * column + (1.0 - decay) * ops.mean(squared, axis=minor)",
        "row = decay * row + (1.0 - decay) * ops.max(squared, axis=major)\n"
        "    column = decay * column + (1.0 - decay) * ops.max(squared, axis=minor)",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "the usual cap of beta2 lower",
        "beta_2_cap: float = 0.999,",
        "beta_2_cap: float = 0.99,",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "Adam's epsilon",
        "epsilon: float = 1e-30,",
        "epsilon: float = 1e-8,",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "the step taken after the momentum is rounded",
        "self.assign(slot, ops.cast(update, self.momentum_dtype))",
        "update = ops.cast(ops.cast(update, self.momentum_dtype), 'float32')\n"
        "            self.assign(slot, update)",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "heavy-ball momentum instead of a running mean",
        "+ (1 - self.momentum) * update",
        "+ update",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "axes of just the smallest size not factored",
        "shape[axes[-2]] < min_dim_size",
        "shape[axes[-2]] <= min_dim_size",
        "adafactor",
    ),
    Fault(
        "optimizers/adafactor.py", "a stack factored as one matrix",
        "if a != stack_axis",
        "if a >= 0",
        "adafactor",
    ),
    Fault(
        "optimizers/adamw.py", "epsilon within the root",
        "momentum / (ops.sqrt(second) + self.epsilon)",
        "momentum / ops.sqrt(second + self.epsilon)",
        "adamw",
    ),
    Fault(
        "optimizers/adamw.py", "one moment corrected with the other's beta",
        "bias_correction(self.beta_2, step)",
        "bias_correction(self.beta_1, step)",
        "adamw",
    ),
    Fault(
        "optimizers/adamw.py", "a step corrected as the one after it",
        'step = ops.cast(self.updates + 1, "float32")',
        'step = ops.cast(self.updates + 2, "float32")',
        "adamw",
    ),
    Fault(
        "optimizers/momentum.py", "a running mean instead of heavy-ball momentum",
        'ops.cast(slot, "float32") + gradient',
        'ops.cast(slot, "float32") + (1 - self.momentum) * gradient',
        "momentum",
    ),
    Fault(
        "optimizers/momentum.py", "the step taken after the momentum is rounded",
        "        return momentum\n",
        '        return ops.cast(slot.value, "float32")\n',
        "momentum",
    ),
    Fault(
        "optimizers/decay.py", "biases and norms decayed by a number",
        'float(decay or 0.0) if path.endswith("kernel") else 0.0',
        "float(decay or 0.0)",
        "optimizers",
    ),
    Fault(
        "optimizers/decay.py", "biases and norms decayed as the body",
        'r"kernel$": body',
        'r"": body',
        "optimizers",
    ),
    Fault(
        "optimizers/decay.py", "the last pattern decides instead of the first",
        "next((p for p in decay if re.search(p, path)), None)",
        "next((p for p in reversed(decay) if re.search(p, path)), None)",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "decay within the gradient, as L2",
        "update = self.direction(gradient, i)\n"
        '        w = ops.cast(variable, "float32")\n'
        "        if self._decays[i]:\n"
        "            update = update + self._decays[i] * w",
        'w = ops.cast(variable, "float32")\n'
        "        if self._decays[i]:\n"
        "            gradient = gradient + self._decays[i] * w\n"
        "        update = self.direction(gradient, i)",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "decay clipped with the gradient",
        "gradient = clip_norm(gradient, self.clipnorm, self._weight_axes[i])\n"
        "        update = self.direction(gradient, i)",
        "pass\n"
        "        update = self.direction(gradient, i)\n"
        "        if self.clipnorm is not None:\n"
        "            update = clip_norm(update, self.clipnorm, self._weight_axes[i])",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "decay by the whole of its number, not by the rate's part",
        '- ops.cast(learning_rate, "float32") * update',
        '- (ops.cast(learning_rate, "float32") * (update - self._decays[i] * w)'
        " + self._decays[i] * w)",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "excluded variables decayed",
        "decay if self._use_weight_decay(v) else 0.0",
        "decay",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "a stack clipped as one weight",
        "clip_norm(gradient, self.clipnorm, self._weight_axes[i])",
        "clip_norm(gradient, self.clipnorm, None)",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "short gradients lengthened to the limit",
        "gradient * (limit / ops.maximum(norm, limit))",
        "gradient * (limit / norm)",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "the norm of the last gradient instead of all",
        "ops.sqrt(ops.sum(ops.stack(squares)))",
        "ops.sqrt(squares[-1])",
        "optimizers",
    ),
    Fault(
        "optimizers/decoupled.py", "weights overwritten by averages at each end of fit",
        "if not self.ema_at_end:\n            return\n",
        "pass\n",
        "averaging",
    ),
]  # fmt: skip

SCHEDULES = [
    Fault(
        "schedules/factors.py", "cooldowns one step early",
        "remaining = ops.maximum(end - ops.convert_to_tensor(step), 0)",
        "remaining = ops.maximum(end - 1 - ops.convert_to_tensor(step), 0)",
        "schedules",
    ),
    Fault(
        "schedules/factors.py", "warm-up from its first step instead of 0",
        "ops.minimum(1.0, elapsed(step, 0) / steps)",
        "ops.minimum(1.0, (elapsed(step, 0) + 1) / steps)",
        "schedules",
    ),
    Fault(
        "schedules/factors.py", "rsqrt counted from step 0, not from the warm-up's end",
        "ops.rsqrt(1.0 + elapsed(step, start) / timescale)",
        "ops.rsqrt(1.0 + elapsed(step, 0) / timescale)",
        "schedules",
    ),
    Fault(
        "schedules/factors.py", "steps made float32 before they are subtracted",
        "remaining = ops.maximum(end - ops.convert_to_tensor(step), 0)",
        'remaining = ops.maximum(end - ops.cast(step, "float32"), 0)',
        "schedules",
    ),
    Fault(
        "schedules/factors.py", "a whole cosine instead of half",
        "ops.sin(0.5 * math.pi * left(step, start + steps, steps))",
        "ops.sin(math.pi * left(step, start + steps, steps))",
        "schedules",
    ),
    Fault(
        "schedules/factors.py", "a decay whose end counts from step 0",
        "final + (1.0 - final) * left(step, start + steps, steps)",
        "final + (1.0 - final) * left(step, steps, steps)",
        "schedules",
    ),
    Fault(
        "schedules/reciprocal_sqrt.py", "another usual timescale",
        "timescale: float = 10_000,",
        "timescale: float = 1_000,",
        "schedules",
    ),
    Fault(
        "schedules/schedule.py", "another usual warm-up",
        "warmup_steps: int = 10_000,",
        "warmup_steps: int = 1_000,",
        "schedules",
    ),
    Fault(
        "schedules/durations.py", "durations rounded up",
        "math.floor(amount + Fraction(1, 2))",
        "math.ceil(amount)",
        "durations",
    ),
    Fault(
        "schedules/durations.py", "epochs of batches instead of images",
        'amount *= Fraction(known["images"], known["batch_size"])',
        'amount *= known["images"] // known["batch_size"]',
        "durations",
    ),
]  # fmt: skip

DATA = [
    Fault(
        "data/preprocessing.py", "inception's side drawn evenly, not its area",
        "target = height * width * rng.uniform(*area)",
        "target = height * width * rng.uniform(area[0] ** 0.5, area[1] ** 0.5) ** 2",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "inception's area drawn for each side",
        "target = height * width * rng.uniform(*area)",
        "target = height * width * rng.uniform(*area) ** 2",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "inception's aspect height over width",
        "w, h = round((target * ratio) ** 0.5), round((target / ratio) ** 0.5)",
        "h, w = round((target * ratio) ** 0.5), round((target / ratio) ** 0.5)",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "inception's box never at the right edge",
        "rng.integers(width - w + 1)",
        "rng.integers(max(1, width - w))",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "images flipped upside down",
        "image[:, ::-1, colour]", "image[::-1, :, colour]",
        "data",
    ),
    Fault(
        "data/resizing.py", "resized without averaging",
        '"bilinear": Image.Resampling.BILINEAR',
        '"bilinear": Image.Resampling.NEAREST',
        "resizing", "jax",
    ),
    Fault(
        "data/resizing.py", "resized by a cubic",
        '"bilinear": Image.Resampling.BILINEAR',
        '"bilinear": Image.Resampling.BICUBIC',
        "resizing", "jax",
    ),
    Fault(
        "data/resizing.py", "OpenCV's a of the sampled cubic",
        "(1.5 * x - 2.5) * x * x + 1, ((-0.5 * x + 2.5) * x - 4) * x + 2",
        "(1.25 * x - 2.25) * x * x + 1, ((-0.75 * x + 3.75) * x - 6) * x + 3",
        "resizing", "jax",
    ),
    Fault(
        "data/resizing.py", "sampled with the corners' centres aligned",
        "centres = (np.arange(new)[:, None] + 0.5) * (old / new) - 0.5",
        "centres = np.arange(new)[:, None] * ((old - 1) / max(new - 1, 1))",
        "resizing", "jax",
    ),
    Fault(
        "data/crc32c.py", "pieces joined from the last on",
        "for own in _fed(np.zeros(len(pieces), np.uint32), pieces).tolist():",
        "for own in _fed(np.zeros(len(pieces), np.uint32), pieces)[::-1].tolist():",
        "shards", "jax",
    ),
    Fault(
        "data/tfrecord.py", "what was indexed unverified taken for verified",
        "tfrecord{'-verified' if verify else ''}-",
        "tfrecord-",
        "shards", "jax",
    ),
    Fault(
        "runs/images.py", "images to leave out trained on",
        "whole = Excluding(whole, config.exclude)",
        "Excluding(whole, config.exclude)",
        "near_duplicates", "jax",
    ),
    Fault(
        "data/preprocessing.py", "values in [-1, 1) for 128 instead of 127.5",
        "np.float32(2 / 255)",
        "np.float32(1 / 128)",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "the short side that of the lesser of two sizes",
        "image = resize_short(image, max(height, width), *how)",
        "image = resize_short(image, min(height, width), *how)",
        "data bundle",
    ),
    Fault(
        "data/preprocessing.py", "crops from the corner",
        "top, left = (height - size[0]) // 2, (width - size[1]) // 2",
        "top, left = 0, 0",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "the long side made the short one",
        "scale = side / min(height, width)",
        "scale = side / max(height, width)",
        "data",
    ),
    Fault(
        "data/preprocessing.py", "shifts never to the far end",
        "top, left = rng.integers(2 * pixels + 1), rng.integers(2 * pixels + 1)",
        "top, left = rng.integers(2 * pixels), rng.integers(2 * pixels)",
        "data",
    ),
    Fault(
        "data/splits.py", "one held-out image trained on",
        "np.sort(np.delete(order, held))",
        "np.sort(np.delete(order, held[1:]))",
        "data",
    ),
    Fault(
        "data/splits.py", "the first images held out whatever the seed",
        "order = np.random.default_rng(seed).permutation(total)",
        "order = np.arange(total)",
        "data",
    ),
    Fault(
        "data/splits.py", "what is left over given to the classes that lost least",
        "np.argsort(take - share, kind",
        "np.argsort(share - take, kind",
        "data",
    ),
    Fault(
        "data/pipeline.py", "every epoch in the same order",
        ".shuffle().repeat()",
        ".shuffle().repeat(reseed_each_epoch=False)",
        "data",
    ),
    Fault(
        "data/pipeline.py", "neighbouring seeds share their epochs",
        ".seed(spread).shuffle()",
        ".seed(spread).shuffle(seed=seed)",
        "data",
    ),
    Fault(
        "data/augment_keras.py", "a layer's seed drawn from the generator of the whole process",
        'keras.layers.MixUp(alpha, seed=UNUSED_SEED, dtype="float32")',
        'keras.layers.MixUp(alpha, dtype="float32")',
        "augment",
    ),
    Fault(
        "data/pipeline.py", "a resumed run skips a batch",
        "grain.MapDataset.range(start, sys.maxsize",
        "grain.MapDataset.range(start + (start > 0), sys.maxsize",
        "data",
    ),
    Fault(
        "data/pipeline.py", "augmentation drawn by the place after a resumption",
        "(spread, step * batch_size + offset + rows[0])",
        "(spread, (step - start) * batch_size + rows[0])",
        "augment",
    ),
    Fault(
        "data/augment.py", "CutMix as often as MixUp should be",
        "rng.random() < self.cutmix_probability",
        "rng.random() >= self.cutmix_probability",
        "augment",
    ),
    Fault(
        "data/augment.py", "CutMix with MixUp's alpha",
        "(library.cutmix, self.cutmix)",
        "(library.cutmix, self.mixup)",
        "augment",
    ),
    Fault(
        "data/decode.py", "sixteen bits cut at the lower end",
        "(np.asarray(image) >> 8)",
        "(np.asarray(image) & 255)",
        "decode", "jax",
    ),
    Fault(
        "data/decode.py", "decoded before its pixels are counted",
        "    width, height = image.size",
        "    image.load()\n    width, height = image.size",
        "decode", "jax",
    ),
    Fault(
        "data/decode.py", "a part of what is turned taken before it is",
        "choose if as_they_are else None",
        "choose",
        "fast", "jax",
    ),
    Fault(
        "data/jpeg_boxes.py", "a part decoded although a marker lies among the pixels",
        "not np.any((scan[:-1] == 0xFF) & (scan[1:] != 0))",
        "True",
        "fast", "jax",
    ),
    Fault(
        "data/jpeg_boxes.py", "a part decoded although the end of the file is missing",
        "if not encoded.endswith(_END):",
        "if not encoded:",
        "fast", "jax",
    ),
    Fault(
        "data/jpeg_boxes.py", "a part decoded of what comes in passes",
        'sequential = False',
        'sequential = True',
        "fast", "jax",
    ),
    Fault(
        "data/shared_memory.py", "arrays one over the other",
        "begin = -(-end // _ALIGNED) * _ALIGNED",
        "begin = end // _ALIGNED * _ALIGNED",
        "shared_memory", "jax",
    ),
    Fault(
        "data/pipeline.py", "labels kept where the next batch is written",
        "*map(np.array, rest)",
        "*rest",
        "shared_memory", "jax",
    ),
    Fault(
        "data/boxes.py", "items of somebody's own class passed over",
        'getattr(type(source), "__getitem__", None) is CuttingSource.__getitem__',
        "isinstance(source, CuttingSource)",
        "boxes", "jax",
    ),
    Fault(
        "data/pipeline.py", "what stands in for a damaged image drawn by what that one drew",
        "            rng.bit_generator.state = begun\n",
        "",
        "fast", "jax",
    ),
    Fault(
        "data/decode.py", "a disk that is gone taken for a bad image",
        "and Path(path).parent.is_dir()",
        "",
        "decode", "jax",
    ),
    Fault(
        "data/orientation.py", "turned the other way",
        "_UNDONE_BY = {6: 8, 8: 6}",
        "_UNDONE_BY = {}",
        "decode", "jax",
    ),
    Fault(
        "data/replacing.py", "what stands in depends on the class alone",
        "np.random.default_rng(index)",
        "np.random.default_rng(0)",
        "bad_images", "jax",
    ),
    Fault(
        "data/ledger.py", "what other processes listed is listed again",
        "            if name in self._reasons:\n                return\n",
        "",
        "bad_images", "jax",
    ),
    Fault(
        "data/sources.py", "labels of the whole for a subset's images",
        "return image, label_at(self.labels, index)\n\n\ndef digits",
        "return image, label_at(self.source.labels, index)\n\n\ndef digits",
        "data",
    ),
]  # fmt: skip

EVALUATION = [
    Fault(
        "evaluation/fewshot.py", "features standardised by the sample's deviation",
        "train.mean(0), train.std(0) + EPSILON",
        "train.mean(0), train.std(0, ddof=1) + EPSILON",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "features standardised with the test images",
        "mean, deviation = train.mean(0), train.std(0) + EPSILON",
        "every = np.concatenate([train, test])\n"
        "    mean, deviation = every.mean(0), every.std(0) + EPSILON",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "the constant feature 1 instead of 100",
        "BIAS_FEATURE = 100.0",
        "BIAS_FEATURE = 1.0",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "what is added to the deviation",
        "EPSILON = 1e-5",
        "EPSILON = 1e-2",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "the constant not penalised",
        "gram[np.diag_indices_from(gram)] += l2",
        "gram[np.diag_indices(len(gram) - 1)] += l2",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "a penalty that grows with the examples",
        "gram[np.diag_indices_from(gram)] += l2",
        "gram[np.diag_indices_from(gram)] += l2 * len(gram)",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "the first images of each class for every seed",
        "rng.permutation(np.flatnonzero(labels == c))",
        "np.flatnonzero(labels == c)",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "fewer shots are the last of more",
        "self.examples[seed][:, :shots].ravel()",
        "self.examples[seed][:, -shots:].ravel()",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "another usual penalty",
        "l2: float = 2.0**10,",
        "l2: float = 1.0,",
        "fewshot",
    ),
    Fault(
        "evaluation/fewshot.py", "the examples' own labels lost in shuffling",
        "train[few], self.train.labels[few], test",
        "train[few], np.sort(self.train.labels[few])[::-1], test",
        "fewshot",
    ),
    Fault(
        "data/pipeline.py", "filling before the images instead of after",
        "np.concatenate([rows, np.zeros((*missing, *rows.shape[1:]), rows.dtype)])",
        "np.concatenate([np.zeros((*missing, *rows.shape[1:]), rows.dtype), rows])",
        "fewshot",
    ),
    Fault(
        "evaluation/accepted.py", "images without labels counted as wrong",
        "for guess, labels in zip(guesses, accepted, strict=True)\n        if labels\n",
        "for guess, labels in zip(guesses, accepted, strict=True)\n",
        "extra_test_sets",
    ),
    Fault(
        "evaluation/accepted.py", "a border cut off at one end only",
        "image[self.border : height, self.border : width]",
        "image[: height, : width]",
        "extra_test_sets",
    ),
    Fault(
        "evaluation/imagenet.py", "ReaL's images by path instead of number",
        "[files[number] for number in sorted(files)]",
        "sorted(files.values())",
        "extra_test_sets",
    ),
    Fault(
        "evaluation/imagenet.py", "ImageNet-v2's folders in the order of text",
        "{c: _images(folders[str(c)]) for c in range(classes)}",
        "{c: _images(folders[name]) for c, name in enumerate(sorted(folders))}",
        "extra_test_sets",
    ),
    Fault(
        "evaluation/imagenet.py", "ObjectNet's lines taken for indices",
        "index_of_line[line] = int(index)",
        "index_of_line[line] = line",
        "extra_test_sets",
    ),
    Fault(
        "evaluation/imagenet.py", "half of ObjectNet's border left",
        "OBJECTNET_BORDER = 2",
        "OBJECTNET_BORDER = 1",
        "extra_test_sets",
    ),
    Fault(
        "evaluation/classifier.py", "sigmoid losses averaged over the classes",
        "np.logaddexp(0, logits).sum(1) - own",
        "np.logaddexp(0, logits).mean(1) - own",
        "bundle",
    ),
    Fault(
        "evaluation/classifier.py", "accuracy of the fifth guess",
        "(five[:, 0] == labels)",
        "(five[:, -1] == labels)",
        "bundle",
    ),
]  # fmt: skip

TRAINING = [
    Fault(
        "losses.py", "the loss averaged over the classes",
        "ops.sum(sigmoid_cross_entropy(targets, y_pred), axis=-1)",
        "ops.mean(sigmoid_cross_entropy(targets, y_pred), axis=-1)",
        "losses",
    ),
    Fault(
        "losses.py", "smoothing towards 1 instead of a half",
        "+ 0.5 * smoothing",
        "+ smoothing",
        "losses",
    ),
    Fault(
        "losses.py", "the loss in the logits' precision",
        "y_pred = ops.cast(y_pred, self.dtype)\n",
        "pass\n",
        "losses",
    ),
    Fault(
        "optimizers/decoupled.py", "a skipped update counts for the correction of bias",
        "made = ops.cast(ops.logical_and(self._counts, updates), \"int32\")",
        "made = ops.cast(updates, \"int32\")",
        "skip_nonfinite",
    ),
    Fault(
        "optimizers/decoupled.py", "a mean of fewer batches divided by all of them",
        "grads = [g * ops.cast(self._rescale, g.dtype) for g in grads]",
        "pass",
        "skip_nonfinite",
    ),
    Fault(
        "training/spikes.py", "a leap measured from the mean, which leaps move",
        "usual = float(np.median(values))",
        "usual = float(np.mean(values))",
        "numerics",
        "jax",
    ),
    Fault(
        "runs/rewinds.py", "only the images of the last rewind left out",
        "for rewind in self.done[: back[-1] + 1])",
        "for rewind in self.done[back[-1] : back[-1] + 1])",
        "numerics",
    ),
    Fault(
        "training/loop.py", "a resumed run sees the first batches again",
        "start=start,\n            stop=stop,",
        "start=0,\n            stop=stop,",
        "checkpoint",
    ),
    Fault(
        "training/stopping.py", "a signal that was ignored is taken",
        "if signal.getsignal(number) is not signal.SIG_IGN",
        "if True",
        "stopping",
        "jax",
    ),
    Fault(
        "training/stopping.py", "handlers that were there before are lost",
        "signal.signal(number, signal.SIG_DFL if handler is None else handler)",
        "pass",
        "stopping",
        "jax",
    ),
    Fault(
        "training/stopping.py", "entered again, nothing sees to the end",
        "self._done.clear()",
        "pass",
        "stopping",
        "jax",
    ),
    Fault(
        "training/checkpoints/chunks.py", "digests not compared",
        "if digest(_bytes_of(values)) != chunk.blake2b:",
        "if not chunk.blake2b:",
        "checkpoints",
    ),
    Fault(
        "training/checkpoints/manifest.py", "a manifest's own digest not compared",
        'if content.pop("blake2b") != _digest(content):',
        'if not content.pop("blake2b"):',
        "checkpoints",
    ),
    Fault(
        "training/checkpoints/restoring.py", "weights set before all of them are checked",
        "    damages = _damages(",
        "    for name, variable in state.items():\n"
        "        _assign(variable, folder, entries[name])\n"
        "    damages = _damages(",
        "checkpoints",
    ),
    Fault(
        "training/checkpoints/store.py", "a step saved below others is deleted at once",
        "kept = {*self.keep.of(steps), *self.keep.of([step for step in steps if step <= saved])}",
        "kept = {*self.keep.of(steps)}",
        "checkpoints",
    ),
    Fault(
        "training/loop.py", "a bad image's error is what TensorFlow makes of it",
        "raise batches.error from None",
        "raise",
        "run",
        "tensorflow",
    ),
    Fault(
        "training/checkpoints/store.py", "the newest checkpoints are deleted",
        "newest = sorted(steps)[-self.last :]",
        "newest = sorted(steps)[: self.last]",
        "checkpoints",
    ),
    Fault(
        "training/checkpoints/state.py", "a snapshot that shares the model's memory",
        'return np.array(keras.ops.convert_to_numpy(variable.value), order="C")',
        # Keras' own conversion makes a copy of everything, and so of half precision.
        'half = keras.ops.convert_to_numpy(variable.value)\n'
        '    return half if variable.dtype == "bfloat16" else variable.value.detach().numpy()',
        "checkpoints",
    ),
    Fault(
        "training/callbacks/checkpoints.py", "averages saved where a callback behind ends a fit",
        "if not self._ended and ends_with_averages(optimizer):",
        "if self._ended and ends_with_averages(optimizer):",
        "resume_fit",
    ),
    Fault(
        "training/callbacks/saving.py", "metrics begin again within an epoch",
        'if self.restored.extra.get("within_epoch"):',
        'if self.restored.extra.get("within_epochs"):',
        "resume_fit",
    ),
    Fault(
        "data/resumable.py", "the place of the batch before",
        "self.owner._note(self.done, self.batches.get_state())",
        "self.owner._note(self.done + 1, self.batches.get_state())",
        "resume_fit",
    ),
    Fault(
        "data/pipeline.py", "images seen with another batch size are forgotten",
        "begin = step * self.batch_size + self.offset",
        "begin = step * self.batch_size",
        "resume_fit",
    ),
    Fault(
        "training/averaging.py", "the weights not put back after an error",
        "    finally:\n",
        "    except ZeroDivisionError:\n        raise\n    else:\n",
        "averaging",
    ),
    Fault(
        "training/callbacks/cooldown.py", "a part of the steps before, not of the final ones",
        "round(start * steps / (1.0 - steps))",
        "round(start * steps)",
        "callbacks_cooldown training/callbacks/cooldown.py",
    ),
    Fault(
        "training/callbacks/cooldown.py", "training stopped one step late",
        "step + self._model.steps_per_execution >= self.total",
        "step >= self.total",
        "callbacks_cooldown",
    ),
    Fault(
        "training/callbacks/cooldown.py", "a deadline missed by a step",
        "possible = math.floor(seconds_left / seconds_a_step)",
        "possible = math.ceil(seconds_left / seconds_a_step)",
        "callbacks_cooldown",
    ),
    Fault(
        "training/callbacks/learning_rate.py", "the rate of the update to come",
        "step - 1)",
        "step)",
        "callbacks",
    ),
    Fault(
        "training/callbacks/norms.py", "norms added instead of their squares",
        "sums[layer] += square",
        "sums[layer] += square**0.5",
        "callbacks",
    ),
    Fault(
        "training/callbacks/throughput.py", "time in callbacks counted",
        "self.now() - then - (self._elsewhere() - elsewhere)",
        "self.now() - then",
        "callbacks",
    ),
    Fault(
        "training/callbacks/evaluate.py", "metrics of training lost in an evaluation",
        "            variable.assign(value)\n",
        "            pass\n",
        "callbacks",
    ),
    Fault(
        "training/callbacks/steps.py", "due one step late",
        "self.step // self.every > self._last // self.every",
        "(self.step - 1) // self.every > self._last // self.every",
        "callbacks",
    ),
]  # fmt: skip

PLANNING = [
    Fault(
        "planning/flops.py", "a training step of two forward passes",
        "TRAINING_OVER_FORWARD = 3",
        "TRAINING_OVER_FORWARD = 2",
        "callbacks",
    ),
    Fault(
        "planning/flops.py", "products with values not counted",
        "products = 2 * 2 * queries * tokens * c.width",
        "products = 2 * queries * tokens * c.width",
        "presets",
    ),
    Fault(
        "planning/flops.py", "the [class] token not counted",
        'tokens = patches + (pooling == "token")',
        "tokens = patches",
        "presets",
    ),
    Fault(
        "planning/flops.py", "the head read by every token",
        "total += 2 * c.width * num_classes",
        "total += 2 * tokens * c.width * num_classes",
        "presets",
    ),
    Fault(
        "planning/parameters.py", "biases of the head not counted",
        '        found["head/bias"] = (num_classes,)\n', "",
        "presets",
    ),
    Fault(
        "planning/compute.py", "a core's hours taken for a chip's",
        "/ (210_000 * 3600)",
        "/ (105_000 * 3600)",
        "accelerators",
    ),
    Fault(
        "planning/compute.py", "days of an hour",
        "_SECONDS_A_DAY = 86_400",
        "_SECONDS_A_DAY = 3_600",
        "planning/compute.py",
    ),
    Fault(
        "planning/accelerators.py", "L4 with sparsity",
        '_gpu("L4", 121, 121,',
        '_gpu("L4", 242, 242,',
        "accelerators",
    ),
    Fault(
        "planning/accelerators.py", "H100 with sparsity",
        '_gpu("H100 SXM", 989.4, 989.4,',
        '_gpu("H100 SXM", 1978.8, 1978.8,',
        "accelerators",
    ),
]  # fmt: skip

RUNS = [
    Fault(
        "runs/recipe.py", "the head's bias for one class more",
        "-float(np.log(classes - 1))",
        "-float(np.log(classes))",
        "run runs/recipe.py",
    ),
    Fault(
        "runs/recipe.py", "decays of head and body swapped",
        "head_and_body(config.head_decay, config.body_decay)",
        "head_and_body(config.body_decay, config.head_decay)",
        "run fine_tune",
    ),
    Fault(
        "runs/recipe.py", "averages over half as many steps",
        "1.0 - 1.0 / plan.average",
        "1.0 - 2.0 / (plan.average + 1)",
        "fine_tune",
    ),
    Fault(
        "runs/recipe.py", "gradients not clipped",
        "        global_clipnorm=config.clip_norm,\n",
        "",
        "run runs/fine_tune.py",
    ),
    Fault(
        "runs/recipe.py", "softmax without smoothing",
        "from_logits=True, label_smoothing=label_smoothing",
        "from_logits=True",
        "run",
    ),
    Fault(
        "runs/plan.py", "a cosine over the warm-up too",
        "decay_steps = plan.total_steps - plan.warmup_steps",
        "decay_steps = plan.total_steps",
        "fine_tune",
    ),
    Fault(
        "runs/plan.py", "a cooldown that begins where it should end",
        "total = begin + cooldown\n",
        "total = begin\n",
        "run",
    ),
    Fault(
        "runs/plan.py", "the usual warm-up a hundredth of the run",
        "min(10_000, total // 10)",
        "min(10_000, total // 100)",
        "run",
    ),
    Fault(
        "runs/run.py", "the weights judged, their averages kept",
        "with averaged(self.model):\n            metrics",
        "if True:\n            metrics",
        "run",
    ),
    Fault(
        "runs/run.py", "the last evaluation lost where a run is resumed at it",
        'if row["step"] <= restored.step]',
        'if row["step"] < restored.step]',
        "run",
    ),
    Fault(
        "runs/images.py", "trained on the images held out too",
        "return hold_out(source, config.validation, config.seed, stratified=config.stratified)",
        "return source, hold_out(\n"
        "        source, config.validation, config.seed, stratified=config.stratified\n"
        "    )[1]",
        "run",
    ),
    Fault(
        "runs/run.py", "another activation kept than trained",
        "                activation=config.loss,\n",
        "",
        "run",
    ),
    Fault(
        "runs/run.py", "compute of an epoch instead of the run",
        "seen = images_seen(self.origin, step, config.batch_size)",
        "seen = len(self.source)",
        "run",
    ),
    Fault(
        "runs/run.py", "a branch begins at another place in the data",
        "offset=images_seen(self.origin, 0, self.config.batch_size)\n                + self",
        "offset=self",
        "branch",
    ),
    Fault(
        "runs/origin.py", "images of a branch at its trunk's batch size",
        "return self.images_seen + (step - self.step) * batch_size",
        "return step * batch_size",
        "branch",
    ),
    Fault(
        "runs/branching.py", "a branch's warm-up follows from its own end",
        "warmup=plan.warmup_steps, average=plan.average",
        "average=plan.average",
        "branch",
    ),
    Fault(
        "runs/branching.py", "what a killed beginning left taken for the newest",
        'shutil.rmtree(out / "checkpoints", ignore_errors=True)',
        "pass",
        "branch",
    ),
    Fault(
        "runs/start.py", "positions of another size cut instead of resampled",
        "values[POSITIONS] = resample_positions(values[POSITIONS], old, new)",
        "values[POSITIONS] = np.resize(values[POSITIONS], ours[POSITIONS].shape)",
        "run",
    ),
    Fault(
        "runs/fine_tune_run.py", "among equals the highest loss",
        '(row["accuracy"], -row["loss"])',
        '(row["accuracy"], row["loss"])',
        "fine_tune runs/fine_tune_run.py",
    ),
    Fault(
        "runs/fine_tune.py", "the final run without the held-out images",
        "if not held_out:",
        "if held_out is None:",
        "fine_tune",
    ),
    Fault(
        "runs/tasks.py", "the mean of all over groups",
        'chosen["all"] = [row["accuracy"] for row in rows]',
        'chosen["all"] = [sum(v) / len(v) for v in chosen.values()]',
        "fine_tune runs/tasks.py",
    ),
]  # fmt: skip

WEIGHTS = [
    Fault(
        "weights/layout.py", "torch's kernels not transposed",
        "read=lambda a, s: transposed(a).reshape(s)",
        "read=lambda a, s: np.reshape(a, s)",
        "weights",
    ),
    Fault(
        "weights/layout.py", "torch's kernels neither read nor written transposed",
        "    rows, columns = matrix.shape\n",
        "    return matrix.reshape(matrix.shape[::-1])\n    rows, columns = matrix.shape\n",
        "weights",
    ),
    Fault(
        "weights/layout.py", "a tile's rows and columns swapped beyond the first",
        "matrix[i : i + TILE, j : j + TILE].T",
        "matrix[j : j + TILE, i : i + TILE].T",
        "weights",
    ),
    Fault(
        "weights/layout.py", "a convolution's rows and columns swapped",
        "read=lambda a, s: a.transpose(2, 3, 1, 0),\n"
        "    write=lambda a: a.transpose(3, 2, 0, 1),",
        "read=lambda a, s: a.transpose(3, 2, 1, 0),\n"
        "    write=lambda a: a.transpose(3, 2, 1, 0),",
        "weights",
    ),
    Fault(
        "weights/timm.py", "keys and values of MAP swapped",
        '"attn_pool.kv.", ("key", "value")',
        '"attn_pool.kv.", ("value", "key")',
        "weights",
    ),
    Fault(
        "weights/transformers.py", "keys and values of SigLIP's head swapped",
        '"vision_model.head.attention.in_proj_"',
        '"vision_model.head.attention.in_proj_", ("query", "value", "key")',
        "weights",
    ),
    Fault(
        "weights/transformers.py", "norms of ViT swapped",
        '"encoder/attention_norm": "vit.encoder.layer.{i}.layernorm_before",\n'
        '                "encoder/mlp_norm": "vit.encoder.layer.{i}.layernorm_after",',
        '"encoder/attention_norm": "vit.encoder.layer.{i}.layernorm_after",\n'
        '                "encoder/mlp_norm": "vit.encoder.layer.{i}.layernorm_before",',
        "weights",
    ),
    Fault(
        "weights/transformers.py", "ViT's usual epsilon",
        "epsilon=1e-12,",
        "epsilon=1e-6,",
        "weights",
    ),
    Fault(
        "weights/keras_hub.py", "scale and bias of norms swapped",
        '*_pair("encoder/mlp_norm_", f"{_BLOCK}/layer_norm_2", ("scale", "bias"))',
        '*_pair("encoder/mlp_norm_", f"{_BLOCK}/layer_norm_2", ("bias", "scale"))',
        "weights",
    ),
    Fault(
        "weights/big_vision.py", "the MLP's layers swapped",
        '(("mlp_in", "Dense_0"), ("mlp_out", "Dense_1"))',
        '(("mlp_in", "Dense_1"), ("mlp_out", "Dense_0"))',
        "weights",
    ),
    Fault(
        "weights/reading.py", "the token's position lost",
        "found[TOKEN] = found[TOKEN] + positions[:, :1]",
        "pass",
        "weights",
    ),
    Fault(
        "weights/reading.py", "the last position taken for the token's",
        "resample_positions(positions[:, extra:], old, new, resample)",
        "resample_positions(positions[:, : positions.shape[1] - extra], old, new, resample)",
        "weights",
    ),
    Fault(
        "weights/resampling.py", "bilinear positions with pixels' areas aligned",
        "scipy.ndimage.zoom(grid, zoom, order=1)",
        'scipy.ndimage.zoom(grid, zoom, order=1, mode="nearest", grid_mode=True)',
        "run",
    ),
    Fault(
        "weights/resampling.py", "bicubic positions off by half a pixel",
        "centres = (np.arange(new) + 0.5) * scale",
        "centres = np.arange(new) * scale + 0.5",
        "weights",
    ),
    Fault(
        "weights/resampling.py", "torch's a of its cubic without antialiasing",
        "def keys_kernel(x: np.ndarray, a: float = -0.5)",
        "def keys_kernel(x: np.ndarray, a: float = -0.75)",
        "weights",
    ),
    Fault(
        "weights/resampling.py", "shrunk without antialiasing",
        "stretch = max(scale, 1.0)",
        "stretch = 1.0",
        "weights",
    ),
    Fault(
        "weights/resampling.py", "patches resized as images are",
        "inverse = np.linalg.pinv(bicubic_matrix(old, patch_size).T)",
        "inverse = bicubic_matrix(old, patch_size)",
        "weights",
    ),
    Fault(
        "weights/npz.py", "Fortran's order read as C's",
        "return array.T if fortran else array",
        "return array.reshape(info.shape)",
        "weights_files",
    ),
    Fault(
        "weights/safetensors_file.py", "arrays written in the order they came, not that declared",
        "        for name in order:\n            file.write(",
        "        for name in arrays:\n            file.write(",
        "weights_files",
    ),
    Fault(
        "weights/saving.py", "the MLP's ratio rounded down by timm",
        "    while int(width * ratio) < mlp_dim:\n"
        "        ratio = math.nextafter(ratio, math.inf)\n",
        "",
        "weights",
    ),
]  # fmt: skip

SCALING = [
    Fault(
        "scaling/frontier.py", "ties on the frontier",
        "best[1:] < best[:-1]",
        "best[1:] <= best[:-1]",
        "law",
    ),
    Fault(
        "scaling/frontier.py", "sorted by error before compute",
        "np.lexsort((error, compute))",
        "np.lexsort((compute, error))",
        "law",
    ),
    Fault(
        "scaling/law.py", "the derivative by the shift without the exponent",
        "-power * b * np.exp(log_d - shifted)",
        "-power * np.exp(log_d - shifted)",
        "law_forms",
        "jax",
    ),
    Fault(
        "scaling/law.py", "the shift's unit not changed",
        'return {"a": self.a * factor**self.b, "d": self.d * factor}',
        'return {"a": self.a * factor**self.b, "d": self.d}',
        "law",
    ),
    Fault(
        "scaling/law.py", "compute for an error without the shift",
        "((error - self.c) / self.a) ** (-1 / self.b) - self.d",
        "((error - self.c) / self.a) ** (-1 / self.b)",
        "law",
    ),
    Fault(
        "scaling/resamples.py", "noise drawn for results, not for whole trunks",
        "shared = deviation * rng.standard_normal((resamples, trunk.max() + 1))",
        "trunk = np.arange(len(trunk))\n"
        "    shared = deviation * rng.standard_normal((resamples, len(trunk)))",
        "resamples frontier_fit",
        "jax",
    ),
    Fault(
        "scaling/bootstrap.py", "intervals of one tail's level",
        "return (1 - level) / 2, (1 + level) / 2",
        "return 1 - level, level",
        "frontier_fit",
        "jax",
    ),
    Fault(
        "scaling/bootstrap.py", "a new run without its own noise",
        "deviations = deviations + noise * draws",
        "pass",
        "frontier_fit",
        "jax",
    ),
    Fault(
        "scaling/noise.py", "the variance of repeats by their number",
        "var(ddof=1)",
        "var()",
        "frontier_fit",
        "jax",
    ),
    Fault(
        "scaling/noise.py", "noise of results that counts its neighbours' too",
        "off = off / np.sqrt(1 + part**2 + (1 - part) ** 2)",
        "off = off * 1.0",
        "noise frontier_fit",
        "jax",
    ),
    Fault(
        "scaling/compare.py", "the noise not counted as a parameter",
        "k = parameters + 1",
        "k = parameters",
        "compare_laws",
        "jax",
    ),
    Fault(
        "scaling/compare.py", "hidden results seen in the fit",
        "seen_c, seen_e = compute[~hidden], error[~hidden]",
        "seen_c, seen_e = compute, error",
        "compare_laws",
        "jax",
    ),
    Fault(
        "scaling/joint.py", "the split by the other exponent",
        "self.beta / total\n",
        "self.alpha / total\n",
        "law_forms",
        "jax",
    ),
    Fault(
        "scaling/levenberg.py", "a robust loss with the squares' weights",
        "w = weights[rows] * slope_of(squared)",
        "w = weights[rows]",
        "levenberg",
        "jax",
    ),
    Fault(
        "scaling/published.py", "the paper's steps at another batch",
        "BATCH = 4096",
        "BATCH = 1024",
        "paper_results",
        "jax",
    ),
    Fault(
        "scaling/published.py", "the compute of one forward pass",
        "flops = training_flops(forward, images)",
        "flops = forward * images",
        "paper_results",
        "jax",
    ),
    Fault(
        "scaling/results.py", "probes without a mistake dropped to half a percent",
        'clip(lower=0.5 / results["classified"])',
        "clip(lower=0.005)",
        "study",
    ),
    Fault(
        "scaling/results.py", "the luckiest seed instead of the mean",
        '["error"].mean()\n\n\ndef study_runs',
        '["error"].min()\n\n\ndef study_runs',
        "study",
    ),
    Fault(
        "scaling/study.py", "durations lost that another process adds",
        "with owning(out, wait=True):",
        "out.mkdir(parents=True, exist_ok=True)\n    if True:",
        "study_processes",
    ),
    Fault(
        "scaling/study_data.py", "the probe's examples among its test images",
        "examples, test = hold_out(source, test_images, d.split_seed)",
        "examples, test = source, hold_out(source, test_images, d.split_seed)[1]",
        "study",
    ),
    Fault(
        "scaling/study_data.py", "trunks trained on the probe's images",
        "upstream, held_out = hold_out(upstream, d.held_out, d.split_seed)",
        "_, held_out = hold_out(upstream, d.held_out, d.split_seed)",
        "study",
    ),
    Fault(
        "scaling/study_data.py", "trunks trained on the validation images",
        "upstream, held_out = hold_out(upstream, d.validation, d.split_seed)",
        "_, held_out = hold_out(upstream, d.validation, d.split_seed)",
        "study",
    ),
    Fault(
        "scaling/config.py", "cooldowns that leave the trunk a step late",
        "return duration - round(self.recipe.cooldown * duration)",
        "return duration - round(self.recipe.cooldown * duration) + 1",
        "study study_config",
    ),
    Fault(
        "scaling/findings.py", "slopes by steps that are not logarithms",
        'last["flops"] / before["flops"]\n',
        'np.exp(last["flops"] / before["flops"])\n',
        "study",
    ),
]  # fmt: skip

CLI = [
    Fault(
        "cli/judge.py", "examples and test images swapped",
        "examples, tested = hold_out(source, round(test_fraction * len(source)))",
        "tested, examples = hold_out(source, round(test_fraction * len(source)))",
        "cli_train",
    ),
    Fault(
        "cli/judge.py", "results of all shots in every row",
        "[r.accuracy for r in results if r.shots == count]",
        "[r.accuracy for r in results]",
        "cli_train",
    ),
    Fault(
        "cli/use.py", "the least likely classes first",
        "np.argsort(-chances,",
        "np.argsort(chances,",
        "cli_train",
    ),
    Fault(
        "scaling/evidence.py", "the frontier where all points are asked for",
        "np.ones(len(x), bool) if all_points else np.isin(np.arange(len(x)), on)",
        "np.isin(np.arange(len(x)), on)",
        "cli law_files chart",
        "jax",
    ),
    Fault(
        "cli/finetune.py", "no word at the edge of the rates tried",
        "min(rates) < rate < max(rates)",
        "min(rates) <= rate <= max(rates)",
        "fine_tune",
    ),
]  # fmt: skip

SEVERAL = [
    Fault(
        "distribution/axes.py", "heads and their features swapped",
        '"query_kernel": "DKF",', '"query_kernel": "DFK",',
        "distribution",
        "jax",
    ),
    Fault(
        "distribution/axes.py", "the kernel out of attention cut by its width",
        '"out_kernel": "KFD", "out_bias": "D",', '"out_kernel": "DFK", "out_bias": "D",',
        "distribution",
        "jax",
    ),
    Fault(
        "sharding.py", "zeros in place of a device's share",
        "return np.asarray(share(index)).astype(dtype, copy=False)",
        "return np.zeros_like(np.asarray(share(index)).astype(dtype, copy=False))",
        "distribution",
        "jax",
    ),
    Fault(
        "data/pipeline.py", "all hosts read the rows of the first",
        "return range(host * share, (host + 1) * share)",
        "return range(0, share)",
        "data",
    ),
    Fault(
        "data/mixture.py", "places of a source counted from those of all",
        "        place -= before\n", "",
        "mixture",
        "jax",
    ),
    Fault(
        "data/nested.py", "classes of a stratified subset in turn, whatever their sizes",
        "place = (rank + np.repeat(begin, sizes)) / np.repeat(sizes, sizes)",
        "place = rank + np.repeat(begin, sizes)",
        "nested",
        "jax",
    ),
    Fault(
        "data/near_duplicates/neighbours.py", "too few chunks of a hash looked up",
        "flips = radius // (BITS // CHUNK)", "flips = radius // BITS",
        "near_duplicates",
        "jax",
    ),
    Fault(
        "planning/collectives.py", "what a reduce-scatter sends is its output",
        'return total * devices if kind == "reduce-scatter" else total', "return total",
        "collectives",
        "jax",
    ),
    Fault(
        "planning/collectives.py", "the step of a loop's counter forgotten",
        "return -((start - _constant(limit)) // step)", "return _constant(limit)",
        "collectives",
        "jax",
    ),
]  # fmt: skip

FAULTS = (
    *MODELS, *OPTIMIZERS, *SCHEDULES, *DATA, *EVALUATION, *TRAINING, *PLANNING, *RUNS, *WEIGHTS,
    *SCALING, *CLI, *SEVERAL,
)  # fmt: skip
