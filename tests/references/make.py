"""Other libraries' models with random weights, and what they compute, for a test of parity.

    pip install torch==2.13.0 "transformers<5" keras keras-hub pillow
    pip install --no-deps timm
    python tests/references/make.py FOLDER
    KERAS_VIT_SCALE_REFERENCES=FOLDER KERAS_BACKEND=jax pytest tests/test_weights_parity.py

The libraries go into an environment of their own. Each case is a folder with the checkpoint as the
library saves it and `reference.npz`: images, logits or none, features. It takes about a minute and
2 GB. With a folder of models that a test has written as its second argument, it runs those instead.
"""

import importlib.util
import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import no_torchvision
import numpy as np

if importlib.util.find_spec("torchvision") is None:
    no_torchvision.install()


def rng_of(case):
    return np.random.default_rng(zlib.crc32(case.encode()))


def images_of(case, height, width):
    return rng_of(case).uniform(-1, 1, size=(1, height, width, 3)).astype("float32")


def drawn(name, shape, rng):
    """A value with real spread, so that no zero or one hides a swap, and outputs of size 1."""
    value = rng.standard_normal(shape, dtype="float32")
    if len(shape) == 1:
        scale = any(s in name for s in ("norm", "gamma", "ln", "scale")) and "bias" not in name
        scale = scale and "beta" not in name
        return 1 + 0.3 * value if scale else 0.2 * value
    if any(s in name for s in ("pos", "cls", "class_token", "latent", "probe")):
        return 0.5 * value
    fan_in = shape[0] if len(shape) == 2 else np.prod(shape[1:])
    return value * 1.2 / np.sqrt(fan_in)


def randomise(model, case):
    """Gives a torch model's parameters values with spread."""
    import torch

    rng = rng_of(case + " weights")
    with torch.no_grad():
        for name, p in model.named_parameters():
            shape = tuple(p.shape)
            p.copy_(torch.from_numpy(np.asarray(drawn(name, shape, rng))))
    return model.eval()


def as_torch(images):
    import torch

    return torch.from_numpy(images.transpose(0, 3, 1, 2).copy())


def save(folder, images, features, logits=None, **more):
    """Writes the reference of a case."""
    if logits is not None:
        more["logits"] = logits
    np.savez(folder / "reference.npz", images=images, features=features, **more)
    print(f"{folder.name}: features up to {np.abs(features).max():.2f}", flush=True)


def make_timm(root):
    import timm
    import torch
    from safetensors.torch import save_file

    cases = {
        "timm_tiny": ("vit_tiny_patch16_224", {}),
        "timm_small32": ("vit_small_patch32_224", {}),
        "timm_base16": ("vit_base_patch16_224", {}),
        "timm_siglip_base16": ("vit_base_patch16_siglip_224", {}),
        "timm_so400m": ("vit_so400m_patch14_siglip_224", {"depth": 2}),
        "timm_g14": ("vit_giant_patch14_224", {"depth": 2}),
        "timm_gap": ("vit_tiny_patch16_224", {
            "class_token": False, "global_pool": "avg", "fc_norm": False, "depth": 3,
            "act_layer": "gelu_tanh", "img_size": (64, 96), "qkv_bias": False,
        }),
    }  # fmt: skip
    for case, (name, arguments) in cases.items():
        folder = root / case
        folder.mkdir(parents=True, exist_ok=True)
        classes = 0 if "siglip" in name else 11
        model = randomise(timm.create_model(name, num_classes=classes, **arguments), case)
        images = images_of(case, *arguments.get("img_size", (224, 224)))
        with torch.no_grad():
            tokens = model.forward_features(as_torch(images))
            features = model.forward_head(tokens, pre_logits=True).numpy()
            logits = model(as_torch(images)).numpy() if classes else None
        # Some as a bare file, some as timm's hub folders, with a config.
        if case in ("timm_tiny", "timm_gap", "timm_siglip_base16"):
            timm.models.save_for_hf(model, folder, safe_serialization=True)
        else:
            save_file(model.state_dict(), folder / "model.safetensors")
        save(folder, images, features, logits)
        if case == "timm_tiny":
            loss = torch.nn.functional.cross_entropy(model(as_torch(images)), torch.tensor([3]))
            loss.backward()
            gradients = {k: p.grad for k, p in model.named_parameters()}
            # Read as weights, a token and its position are summed: leave the gradient of one.
            gradients["pos_embed"][:, 0] = 0
            (root / "timm_tiny_gradients").mkdir(exist_ok=True)
            save_file(gradients, root / "timm_tiny_gradients" / "model.safetensors")


def make_transformers(root):
    import torch
    import transformers as hf

    # The shape of B/16 for both, and a text tower too small to take room.
    text = {"hidden_size": 768, "intermediate_size": 8, "num_hidden_layers": 1,
            "num_attention_heads": 1, "vocab_size": 7, "max_position_embeddings": 5}  # fmt: skip
    siglip = hf.SiglipConfig(text_config=text)
    small = {"hidden_size": 40, "intermediate_size": 31, "num_hidden_layers": 2,
             "num_attention_heads": 5, "image_size": 48, "patch_size": 8}  # fmt: skip
    cases = {
        "hf_vit": (hf.ViTForImageClassification, hf.ViTConfig(num_labels=11)),
        "hf_siglip": (hf.SiglipModel, siglip),
        "hf_siglip_vision": (hf.SiglipVisionModel, hf.SiglipVisionConfig(**small)),
        "hf_siglip_classifier": (
            hf.SiglipForImageClassification,
            hf.SiglipConfig(vision_config=small, num_labels=11),
        ),
    }
    for case, (kind, config) in cases.items():
        folder = root / case
        model = randomise(kind(config), case)
        vision = getattr(config, "vision_config", config)
        images = images_of(case, vision.image_size, vision.image_size)
        with torch.no_grad():
            inputs = as_torch(images)
            logits = None
            if case == "hf_vit":
                features = model.vit(inputs).last_hidden_state[:, 0]
                logits = model(inputs).logits.numpy()
            elif case == "hf_siglip_classifier":
                features = model.vision_model(inputs).last_hidden_state.mean(1)
                logits = model(inputs).logits.numpy()
            elif case == "hf_siglip":
                features = model.get_image_features(inputs)
            else:
                features = model(inputs).pooler_output
        model.save_pretrained(folder)
        save(folder, images, features.numpy(), logits)


def make_keras_hub(root):
    import keras
    import keras_hub

    case = "keras_hub"
    backbone = keras_hub.models.ViTBackbone(
        image_shape=(224, 224, 3), patch_size=16, num_layers=12, num_heads=12, hidden_dim=768,
        mlp_dim=3072,
    )  # fmt: skip
    model = keras_hub.models.ViTImageClassifier(backbone=backbone, num_classes=11)
    rng = rng_of(case + " weights")
    for weight in model.weights:
        shape = tuple(weight.shape)
        if len(shape) == 3 and shape[0] != 1:  # Heads apart: fans are of the matrix.
            value = rng.standard_normal(shape, dtype="float32") * 1.2 / 768**0.5
        elif len(shape) == 2 and shape[0] == 12 and shape[1] == 64:
            value = 0.2 * rng.standard_normal(shape, dtype="float32")
        elif len(shape) == 4:
            value = rng.standard_normal(shape, dtype="float32") * 1.2 / 768**0.5
        else:
            value = drawn(weight.path, shape, rng)
        weight.assign(value)
    images = images_of(case, 224, 224)
    features = keras.ops.convert_to_numpy(backbone(images)[:, 0])
    logits = keras.ops.convert_to_numpy(model(images))
    model.save_to_preset(str(root / case))
    save(root / case, images, features, logits)


def run_written(folder):
    """What timm and transformers compute with the files that a test has written."""
    import timm
    import torch
    import transformers as hf

    images = as_torch(np.load(folder / "images.npy"))
    found = {}
    for case in sorted(p for p in folder.iterdir() if p.is_dir()):
        config = json.loads((case / "config.json").read_text())
        if "model_args" in config:
            model = timm.create_model(f"local-dir:{case}", pretrained=True).eval()
        else:
            kind = getattr(hf, config["architectures"][0])
            arguments = {"add_pooling_layer": False} if kind is hf.ViTModel else {}
            model, report = kind.from_pretrained(case, output_loading_info=True, **arguments)
            assert not any(report.values()), report
        with torch.no_grad():
            out = model.eval()(images)
        if hasattr(out, "logits"):
            out = out.logits
        elif not isinstance(out, torch.Tensor):
            pooled = out.pooler_output
            out = out.last_hidden_state[:, 0] if pooled is None else pooled
        found[case.name] = out.numpy()
    for path in sorted(folder.glob("*.npz")):
        arguments = json.loads(path.with_suffix(".json").read_text())
        model = timm.create_model("vit_tiny_patch16_224", **arguments).eval()
        model.load_pretrained(str(path))
        with torch.no_grad():
            found[path.stem] = model(images).numpy()
    np.savez(folder / "outputs.npz", **found)


MAKERS = {"timm": make_timm, "transformers": make_transformers, "keras_hub": make_keras_hub}

if __name__ == "__main__":
    root = Path(sys.argv[1])
    if sys.argv[2:] == ["--written"]:
        run_written(root)
    elif sys.argv[2:]:
        MAKERS[sys.argv[2]](root)
    else:
        root.mkdir(parents=True, exist_ok=True)
        # A process each: torch and what keras-hub imports do not share one well.
        environment = os.environ | {"KERAS_BACKEND": "torch", "TF_CPP_MIN_LOG_LEVEL": "3"}
        for maker in MAKERS:
            subprocess.run(
                [sys.executable, __file__, str(root), maker], check=True, env=environment
            )
        # Tests of what we write run the same libraries.
        (root / "python.txt").write_text(sys.executable)
