"""Files of named arrays: read as their own libraries read them, refused where they lie."""

import hashlib
import io
import json
import os
import pickle
import struct
import subprocess
import sys
import zipfile

import h5py
import keras
import ml_dtypes
import numpy as np
import pytest
from conftest import TINY
from safetensors import safe_open
from safetensors.numpy import load_file, save_file

from keras_vit_scale import ViT
from keras_vit_scale.weights import declared
from keras_vit_scale.weights.archive import open_archive
from keras_vit_scale.weights.declared import ArrayInfo, WeightsError
from keras_vit_scale.weights.npz import write_npz
from keras_vit_scale.weights.safetensors_file import write_safetensors

needs_torch = pytest.mark.skipif(
    keras.backend.backend() != "torch", reason="PyTorch is loaded where it is the backend"
)


@pytest.fixture
def arrays(rng):
    """Every kind that weights have: types, orders, a scalar, nothing, and not contiguous."""
    return {
        "blocks.0/kernel": rng.normal(size=(7, 11)).astype("float32"),
        "blocks.0/bias": rng.normal(size=13).astype(ml_dtypes.bfloat16),
        "blocks.1/kernel": np.asfortranarray(rng.normal(size=(5, 3, 2))),
        "strided": rng.normal(size=(10, 6)).astype("float16")[::2, ::3],
        "mask": rng.random((3, 17)) < 0.5,
        "seed": rng.integers(2**32, size=2, dtype="uint32"),
        "step": np.array(12345, "int64"),
        "none": np.zeros((0, 3), "float32"),
    }


def read(path, **options):
    with open_archive(path, **options) as archive:
        found = {name: archive.read(name) for name in archive.infos}
        infos = archive.infos
    for name, array in found.items():
        assert infos[name] == ArrayInfo(array.shape, array.dtype)
    return found


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def entry(shape, dtype="F32", offsets=(0, 24)):
    return {"dtype": dtype, "shape": shape, "data_offsets": list(offsets)}


def safetensors_bytes(header, content=b"\0" * 24):
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + content


def npy(shape, descr="<f4", content=b"\0" * 24, header=None):
    text = header or f"{{'descr': '{descr}', 'fortran_order': False, 'shape': {shape}, }}\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(text)) + text.encode("latin-1") + content


def zip_bytes(members, method=zipfile.ZIP_STORED):
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", method) as archive:
        for name, content in members:
            archive.writestr(name, content)
    return file.getvalue()


class TestFormats:
    """The same arrays through each format's own library."""

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_npz_of_numpy(self, save, arrays, tmp_path):
        save(tmp_path / "w.npz", **arrays)
        assert_same(read(tmp_path / "w.npz"), arrays)

    def test_npz_for_numpy(self, arrays, tmp_path):
        write_npz(tmp_path / "w.npz", arrays)
        assert_same(read(tmp_path / "w.npz"), arrays)
        with np.load(tmp_path / "w.npz") as found:
            assert set(found) == set(arrays)
            for name, array in arrays.items():
                # NumPy has no name for bfloat16: two bytes of no type, as big_vision expects.
                known = found[name].view(array.dtype) if found[name].dtype == "V2" else found[name]
                np.testing.assert_array_equal(known, array)

    def test_safetensors_of_their_library(self, arrays, tmp_path):
        contiguous = {name: np.array(array, order="C") for name, array in arrays.items()}
        save_file(contiguous, tmp_path / "w.safetensors", metadata={"format": "pt"})
        assert_same(read(tmp_path / "w.safetensors"), arrays)

    def test_safetensors_for_their_library(self, arrays, tmp_path):
        write_safetensors(tmp_path / "w.safetensors", arrays, {"format": "pt"})
        assert_same(read(tmp_path / "w.safetensors"), arrays)
        assert_same(load_file(tmp_path / "w.safetensors"), arrays)
        with safe_open(tmp_path / "w.safetensors", "np") as file:
            assert file.metadata() == {"format": "pt"}

    def test_hdf5_of_keras(self, tmp_path):
        model = ViT(TINY, 7, image_size=8)
        model.save_weights(tmp_path / "w.weights.h5")
        found = read(tmp_path / "w.weights.h5")
        with h5py.File(tmp_path / "w.weights.h5") as file:
            assert found
            for name, array in found.items():
                np.testing.assert_array_equal(array, file[name][()])
        kernel = keras.ops.convert_to_numpy(model.get_layer("head").kernel)
        np.testing.assert_array_equal(found["layers/dense/vars/0"], kernel)

    def test_bfloat16_in_hdf5_of_keras(self, tmp_path):
        layer = keras.layers.Dense(5, dtype="bfloat16")
        model = keras.Sequential([keras.layers.Input((3,)), layer])
        model.save_weights(tmp_path / "w.weights.h5")
        kernel = read(tmp_path / "w.weights.h5")["layers/dense/vars/0"]
        assert kernel.dtype == ml_dtypes.bfloat16
        expected = keras.ops.convert_to_numpy(keras.ops.cast(layer.kernel, "float32"))
        np.testing.assert_array_equal(kernel.astype("float32"), expected)

    @needs_torch
    @pytest.mark.parametrize("wrap", [lambda s: s, lambda s: {"epoch": 3, "model": s}])
    def test_torch(self, wrap, arrays, tmp_path):
        import torch

        state = {
            "kernel": torch.randn(7, 11),
            "transposed": torch.randn(5, 3).T,
            "bias": torch.nn.Parameter(torch.randn(13, dtype=torch.bfloat16)),
            "step": torch.tensor(12345),
        }
        torch.save(wrap(state), tmp_path / "w.pt")
        found = read(tmp_path / "w.pt", allow_torch_pickle=True)
        assert found.keys() == state.keys()
        for name, tensor in state.items():
            np.testing.assert_array_equal(
                found[name].astype("float32"), tensor.detach().float().numpy()
            )
        assert found["bias"].dtype == ml_dtypes.bfloat16

    def test_format_is_told_by_content(self, arrays, tmp_path):
        write_npz(tmp_path / "w.safetensors", arrays)
        assert_same(read(tmp_path / "w.safetensors"), arrays)

    def test_nothing_is_read_before_it_is_asked_for(self, tmp_path):
        """A terabyte is declared and, in a sparse file, there; the header alone is read."""
        length = 2**40
        header = {"big": entry([length], "I8", (0, length)), "a": entry([1], "I8", (length,) * 2)}
        header["a"]["data_offsets"][1] += 1
        path = tmp_path / "w.safetensors"
        path.write_bytes(safetensors_bytes(header, b""))
        os.truncate(path, path.stat().st_size + length + 1)
        with open_archive(path, max_bytes=2**41) as archive:
            assert archive.infos["big"].shape == (length,)
            assert archive.read("a") == [0]
        with pytest.raises(WeightsError, match=r"may have at most max_bytes=68719476736"):
            open_archive(path)

    def test_unknown_name(self, arrays, tmp_path):
        write_npz(tmp_path / "w.npz", arrays)
        with open_archive(tmp_path / "w.npz") as archive, pytest.raises(KeyError):
            archive.read("blocks.0")


NAME_RULE = "must be printable and relative"
ONE = {"a": entry([2, 3])}

LIES = {
    "header too long": (struct.pack("<Q", 2**40) + b"{}", "must lie in the file"),
    "no JSON": (safetensors_bytes(b"{'a': 1}"), "must be JSON"),
    "no object": (safetensors_bytes(b'{"a":1,"a":2}'), "must not stand twice. Received: 'a'"),
    "deep": (safetensors_bytes(b'{"a":' + b"[" * 100_000), "must be JSON"),
    "cut short": (safetensors_bytes(ONE, b"\0" * 23), "may be cut short"),
    "longer": (safetensors_bytes(ONE, b"\0" * 25), "24 bytes declared, 25 present"),
    "overlap": (
        safetensors_bytes({**ONE, "b": entry([3], offsets=(12, 24))}),
        "'a' to 24, 'b' from 12",
    ),
    "gap": (safetensors_bytes({"a": entry([3], offsets=(12, 24))}), "12 bytes declared"),
    "negative": (safetensors_bytes({"a": entry([-2, -3])}), r"lengths of 0 or more.*\(-2, -3\)"),
    "overflow": (safetensors_bytes({"a": entry([2**32, 2**32, 2**32])}), "max_bytes"),
    "empty but vast": (
        safetensors_bytes({"a": entry([0, 2**62], offsets=(0, 0))}, b""),
        "max_bytes",
    ),
    "true is no length": (safetensors_bytes({"a": entry([True, 6])}), "lengths of 0 or more"),
    "dimensions": (safetensors_bytes({"a": entry([1] * 9 + [6])}), "at most 8 lengths"),
    "another size": (safetensors_bytes({"a": entry([2, 2])}), "16 bytes apart"),
    "unknown type": (safetensors_bytes({"a": entry([2, 3], "F4")}), "must be one of"),
    "unknown key": (
        safetensors_bytes({"a": {**entry([2, 3]), "strides": [1]}}),
        "must hold .*'data_offsets', 'dtype', 'shape'",
    ),
    "traversal": (safetensors_bytes({"../a": entry([2, 3])}), NAME_RULE),
    "absolute": (safetensors_bytes({"/a": entry([2, 3])}), NAME_RULE),
    "control": (safetensors_bytes({"a\x1b[2J": entry([2, 3])}), NAME_RULE),
    "long name": (safetensors_bytes({"a" * 600: entry([2, 3])}), "1 to 512 characters"),
    "npz: objects": (zip_bytes([("a.npy", npy("(2, 3)", "|O"))]), "never read"),
    "npz: code": (
        zip_bytes([("a.npy", npy("", header="__import__('os').getpid()\n"))]),
        "never read",
    ),
    "npz: fields": (
        zip_bytes([("a.npy", npy("", header="{'descr': [('x', '<f4')], 'shape': (6,), }\n"))]),
        "never read",
    ),
    "npz: big-endian": (zip_bytes([("a.npy", npy("(2, 3)", ">f4"))]), "little-endian"),
    "npz: strings": (zip_bytes([("a.npy", npy("(2, 3)", "<U1"))]), "floats, integers or booleans"),
    "npz: complex": (zip_bytes([("a.npy", npy("(3,)", "<c8"))]), "floats, integers or booleans"),
    "npz: another size": (zip_bytes([("a.npy", npy("(2, 4)"))]), "the bytes that its header"),
    "npz: shape bomb": (zip_bytes([("a.npy", npy("(999999999, 999999999)"))]), "max_bytes"),
    "npz: traversal": (zip_bytes([("../../a.npy", npy("(2, 3)"))]), NAME_RULE),
    "npz: no array": (zip_bytes([("a.npy", b"\x80\x04K\x01.")]), "must be an array"),
    "npz: other member": (zip_bytes([("a.txt", b"")]), ".npy members only"),
    "npz: long header": (zip_bytes([("a.npy", npy("", header=" " * 9999))]), "at most 4096"),
    "zip: another method": (
        zip_bytes([("a.npy", npy("(2, 3)"))], zipfile.ZIP_LZMA),
        "stored or deflated",
    ),
    "a model of Keras": (zip_bytes([("model.weights.h5", b"")]), "keras.saving.load_model"),
    "pickle": (pickle.dumps({"a": 1}), "a pickle, which is never read"),
    "one array": (npy("(2, 3)"), "a single array"),
    "Git LFS": (b"version https://git-lfs.github.com/spec/v1\n", "git lfs pull"),
    "a page": (b"<!DOCTYPE html>", "a page of the web"),
    "empty": (b"", "the file is empty"),
}


class TestLies:
    """Every refusal states the rule and what was received, and names the file."""

    @pytest.mark.parametrize("what", LIES)
    def test_refused_from_the_header(self, what, tmp_path):
        content, message = LIES[what]
        path = tmp_path / "w.npz"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=message) as caught:
            open_archive(path, allow_torch_pickle=True)
        assert "Received" in str(caught.value)
        assert str(path) in str(caught.value)
        assert len(str(caught.value)) < 1000

    def test_two_members_of_one_name(self, tmp_path):
        with pytest.warns(UserWarning, match="Duplicate"):
            content = zip_bytes([("a.npy", npy("(2, 3)"))] * 2)
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises(WeightsError, match="must not share a name"):
            open_archive(tmp_path / "w.npz")

    def test_zip_bomb(self, tmp_path):
        """64 MiB of zeros in 64 kB: refused by the limit, or by what deflate could yield."""
        content = zip_bytes([("a.npy", npy("(16777216,)", content=b"\0" * 2**26))], 8)
        assert len(content) < 2**17
        path = tmp_path / "w.npz"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match="max_bytes=33554432"):
            open_archive(path, max_bytes=2**25)
        # The size in the directory, which the member's header then agrees with.
        at = content.index(b"PK\x01\x02") + 24
        path.write_bytes(content[:at] + struct.pack("<I", 2**31) + content[at + 4 :])
        with pytest.raises(WeightsError, match="yield at most"):
            open_archive(path)

    def test_a_directory_longer_than_any(self, tmp_path, monkeypatch):
        write_npz(tmp_path / "w.npz", {f"a{i}": np.zeros(3) for i in range(20)})
        monkeypatch.setattr("keras_vit_scale.weights.zip_archive.MAX_HEADER", 1000)
        with pytest.raises(WeightsError, match="directory of a zip archive may have at most 1000"):
            open_archive(tmp_path / "w.npz")

    @pytest.mark.parametrize("write", [write_npz, write_safetensors])
    def test_too_many_arrays(self, write, tmp_path, monkeypatch):
        write(tmp_path / "w", {f"a{i}": np.zeros(3) for i in range(20)})
        monkeypatch.setattr(declared, "MAX_ARRAYS", 19)
        with pytest.raises(WeightsError, match=r"at most 19 arrays\. Received: 20"):
            open_archive(tmp_path / "w")

    @pytest.mark.parametrize("write", [write_npz, write_safetensors])
    def test_all_arrays_together(self, write, tmp_path):
        write(tmp_path / "w", {f"a{i}": np.zeros(3) for i in range(20)})
        assert len(read(tmp_path / "w", max_bytes=480)) == 20
        with pytest.raises(WeightsError, match=r"max_bytes=479\. Received: 480"):
            open_archive(tmp_path / "w", max_bytes=479)

    @pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
    def test_a_flipped_bit_of_an_array(self, save, tmp_path):
        """Zip's checksum tells; what was opened can be refused when it is read."""
        save(tmp_path / "w.npz", a=np.arange(1000.0))
        content = bytearray((tmp_path / "w.npz").read_bytes())
        content[500] ^= 1
        (tmp_path / "w.npz").write_bytes(content)
        with pytest.raises(WeightsError, match=r"w\.npz"):
            read(tmp_path / "w.npz")

    @pytest.mark.parametrize("write", [write_npz, write_safetensors])
    def test_cut_short_after_it_was_opened(self, write, tmp_path):
        write(tmp_path / "w", {"a": np.arange(10_000.0)})
        with open_archive(tmp_path / "w") as archive:
            os.truncate(tmp_path / "w", 5000)
            with pytest.raises(WeightsError, match="w"):
                archive.read("a")

    def test_no_ordinary_file(self, tmp_path):
        os.mkfifo(tmp_path / "pipe")
        with pytest.raises(WeightsError, match="ordinary file"):
            open_archive(tmp_path / "pipe")
        with pytest.raises(WeightsError, match="No such file"):
            open_archive(tmp_path / "absent.npz")


def linked(file):
    file["a"] = np.zeros(3)
    file["b"] = h5py.SoftLink("/a")


def linked_outside(file):
    file["b"] = h5py.ExternalLink("/etc/passwd", "/a")


def stored_outside(file):
    file.create_dataset("a", (3,), "uint8", external=[("/etc/passwd", 0, 3)])


def virtual(file):
    layout = h5py.VirtualLayout((3,), "float32")
    layout[:] = h5py.VirtualSource("other.h5", "a", (3,))
    file.create_virtual_dataset("a", layout)


def compressed(file):
    file.create_dataset("a", data=np.zeros(2**20), compression="gzip")


def cycle(file):
    file["group/again"] = file.create_group("group")


def two_names(file):
    file["a"] = np.zeros(3)
    file["b"] = file["a"]


def strings(file):
    file["a"] = ["ab", "c"]


def fields(file):
    file["a"] = np.zeros(3, [("x", "f4"), ("y", "i4")])


def big_endian(file):
    file["a"] = np.zeros(3, ">f4")


def odd_float(file):
    kind = h5py.h5t.IEEE_F32LE.copy()
    kind.set_ebias(100)
    h5py.h5d.create(file.id, b"a", kind, h5py.h5s.create_simple((3,))).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.ones(3, "f4")
    )


def unwritten(file):
    file.create_dataset("a", (3,), "float32")


def without_shape(file):
    file["a"] = h5py.Empty("float32")


def named_type(file):
    file["a"] = np.dtype("float32")


HDF5 = {
    linked: "links elsewhere are not followed. Received: SoftLink 'b'",
    linked_outside: "links elsewhere are not followed. Received: ExternalLink 'b'",
    stored_outside: "stored in one piece, in its own file",
    virtual: "stored in one piece, in its own file",
    compressed: "without compression",
    cycle: "must form a tree",
    two_names: "must form a tree",
    strings: "IEEE floats or integers",
    fields: "IEEE floats or integers",
    big_endian: "IEEE floats or integers",
    odd_float: "IEEE floats or integers",
    unwritten: "must hold the 12 bytes of 'a'. Received: 0",
    without_shape: "must have a shape|stored in one piece",
    named_type: "groups and datasets only",
}


@pytest.mark.parametrize("build", HDF5, ids=lambda build: build.__name__)
def test_hdf5_holds_plain_datasets_only(build, tmp_path):
    with h5py.File(tmp_path / "w.h5", "w") as file:
        build(file)
    with pytest.raises(WeightsError, match=HDF5[build]):
        open_archive(tmp_path / "w.h5")


@needs_torch
class TestTorch:
    def test_on_request_only(self, tmp_path):
        import torch

        torch.save({"a": torch.ones(3)}, tmp_path / "w.bin")
        for path in (tmp_path / "w.bin", tmp_path):
            with pytest.raises(WeightsError, match="allow_torch_pickle=True"):
                open_archive(path)
        assert_same(read(tmp_path, allow_torch_pickle=True), {"a": np.ones(3, "float32")})

    @pytest.mark.parametrize(
        ("build", "message"),
        [
            (lambda torch: {"a": os.system}, "must be called.*posix system"),
            (lambda torch: {"a": bytearray(3)}, "must be called.*bytearray"),
            (lambda torch: [torch.ones(3)], "dictionary of tensors. Received: list"),
            (lambda torch: {"epoch": 3}, "one dictionary of tensors"),
            (
                lambda torch: {"model": {"a": torch.ones(3)}, "ema": {"a": torch.ones(3)}},
                r"save the one you want alone. Received: \['ema', 'model'\]",
            ),
            (lambda torch: {"a": torch.ones(1).expand(10**6)}, "must hold the 4000000 bytes"),
            (lambda torch: {"a": torch.ones(3).to_sparse()}, "must be called"),
            (lambda torch: {"a": torch.ones(3, dtype=torch.complex64)}, "must be called"),
            (lambda torch: {3: torch.ones(3)}, "name of an array"),
        ],
    )
    def test_holds_a_dictionary_of_tensors(self, build, message, tmp_path):
        import torch

        torch.save(build(torch), tmp_path / "w.pt")
        with pytest.raises(WeightsError, match=message):
            open_archive(tmp_path / "w.pt", allow_torch_pickle=True)

    def test_the_old_form_is_a_pickle(self, tmp_path):
        import torch

        path = tmp_path / "w.pt"
        torch.save({"a": torch.ones(3)}, path, _use_new_zipfile_serialization=False)
        with pytest.raises(WeightsError, match="a pickle, which is never read"):
            open_archive(path, allow_torch_pickle=True)

    def test_earlier_releases_are_refused(self, tmp_path, monkeypatch):
        import torch

        torch.save({"a": torch.ones(3)}, tmp_path / "w.pt")
        monkeypatch.setattr(torch, "__version__", "2.9.1+cpu")
        with pytest.raises(ImportError, match=r"torch 2.10 or later.*Received: torch 2.9.1"):
            open_archive(tmp_path / "w.pt", allow_torch_pickle=True)


class TestFolders:
    @pytest.mark.parametrize(
        "names",
        [
            ["model.safetensors", "flax_model.msgpack", "pytorch_model.bin", "other.safetensors"],
            ["vit.npz", "README.md"],
            ["any.safetensors", ".hidden.safetensors"],
        ],
    )
    def test_the_weights_among_other_files(self, names, arrays, tmp_path):
        for name in names[1:]:
            (tmp_path / name).write_bytes(b"other")
        write_safetensors(tmp_path / names[0], arrays)
        assert_same(read(tmp_path), arrays)

    @pytest.mark.parametrize(
        ("names", "received"),
        [
            (["a.npz", "b.npz"], r"\['a.npz', 'b.npz'\]"),
            (["model.safetensors", "model.weights.h5"], "'model.safetensors', 'model.weights.h5'"),
            (["README.md"], r"\['README.md'\]"),
            (["w.bin"], r"allow_torch_pickle=True. Received: \['w.bin'\]"),
            ([], r"\[\]"),
        ],
    )
    def test_one_file_must_be_meant(self, names, received, tmp_path):
        for name in names:
            (tmp_path / name).write_bytes(b"")
        with pytest.raises(WeightsError, match=received):
            open_archive(tmp_path)

    @pytest.mark.parametrize("kind", ["file", "folder"])
    def test_config(self, kind, arrays, tmp_path):
        path = tmp_path / "model.safetensors"
        write_safetensors(path, arrays)
        asked = path if kind == "file" else tmp_path
        with open_archive(asked) as archive:
            assert archive.config is None
        (tmp_path / "config.json").write_text('{"architecture": "vit_tiny"}', encoding="utf-8")
        with open_archive(asked) as archive:
            assert archive.config == {"architecture": "vit_tiny"}
        (tmp_path / "config.json").write_text("[1]", encoding="utf-8")
        with pytest.raises(WeightsError, match="must be an object"):
            open_archive(asked)
        (tmp_path / "config.json").write_bytes(b" " * (2**24 + 1))
        with pytest.raises(WeightsError, match="at most 16777216"):
            open_archive(asked)

    def test_keras_hub_preset(self, tmp_path):
        """Of its folder the backbone's file is meant; the head of a task lies in another."""
        for name in ("model.weights.h5", "task.weights.h5"):
            with h5py.File(tmp_path / name, "w") as file:
                file["layers/dense/vars/0"] = np.full((2, 3), name == "task.weights.h5", "float32")
        assert not read(tmp_path)["layers/dense/vars/0"].any()
        assert read(tmp_path / "task.weights.h5")["layers/dense/vars/0"].all()

    def test_keras_shards(self, tmp_path):
        model = ViT(TINY, 7, image_size=8)
        model.save_weights(tmp_path / "whole.weights.h5")
        (tmp_path / "shards").mkdir()
        model.save_weights(tmp_path / "shards" / "model.weights.json", max_shard_size=1e-5)
        assert len(list((tmp_path / "shards").glob("*.h5"))) > 1
        assert_same(read(tmp_path / "shards"), read(tmp_path / "whole.weights.h5"))


class TestShards:
    @pytest.fixture
    def folder(self, tmp_path, arrays):
        self.held = {}
        for i, name in enumerate(arrays):
            self.held.setdefault(f"model-0000{i % 3}-of-00003.safetensors", []).append(name)
        for shard, names in self.held.items():
            write_safetensors(tmp_path / shard, {name: arrays[name] for name in names})
        weight_map = {name: shard for shard, names in self.held.items() for name in names}
        self.write(tmp_path, weight_map)
        self.weight_map = weight_map
        return tmp_path

    def write(self, folder, weight_map):
        text = json.dumps({"metadata": {"total_size": 1}, "weight_map": weight_map})
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")

    def test_are_one_archive(self, folder, arrays):
        assert_same(read(folder), arrays)

    @pytest.mark.parametrize(
        "shard", ["../w.safetensors", "/etc/passwd", "a/b", "a\\b", "..", "", "a\0", "C:w", 3, None]
    )
    def test_lie_beside_their_index(self, shard, folder):
        self.write(folder, {**self.weight_map, "step": shard})
        with pytest.raises(WeightsError, match=r"must name files beside it.*for 'step'"):
            open_archive(folder)

    def test_missing(self, folder):
        (folder / "model-00001-of-00003.safetensors").unlink()
        with pytest.raises(WeightsError, match=r"folder without \['model-00001-of-00003"):
            open_archive(folder)

    def test_hold_what_the_index_lists(self, folder):
        shard = self.weight_map.pop("step")
        self.write(folder, {**self.weight_map, "absent": shard})
        with pytest.raises(WeightsError, match=r"without \['absent'\], with \['step'\]"):
            open_archive(folder)

    def test_share_no_name(self, folder):
        shard = self.weight_map["step"]
        again = next(name for name in self.held if name != shard)
        write_safetensors(folder / again, {"step": np.zeros(3)})
        with pytest.raises(WeightsError, match="'step' twice"):
            open_archive(folder)

    def test_count_together(self, folder, arrays):
        total = sum(array.nbytes for array in arrays.values())
        assert_same(read(folder, max_bytes=total), arrays)
        with pytest.raises(WeightsError, match="max_bytes"):
            open_archive(folder, max_bytes=total - 1)

    @pytest.mark.parametrize("text", ["{}", '{"weight_map": []}', "[]", "{", '{"weight_map": {}}'])
    def test_need_an_index(self, text, folder):
        (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")
        with pytest.raises(WeightsError, match="index"):
            open_archive(folder)


class TestWriting:
    @pytest.mark.slow
    @pytest.mark.parametrize("write", [write_npz, write_safetensors])
    def test_the_old_file_or_the_new(self, write, arrays, tmp_path):
        """A process killed at the renaming leaves the old file, whole."""
        write(tmp_path / "w", {"old": np.zeros(3)})
        code = (
            "import os, sys, numpy as np\n"
            f"from {write.__module__} import {write.__name__} as write\n"
            "os.replace = lambda *_: os._exit(7)\n"
            "write(sys.argv[1], {'new': np.ones(5)})"
        )
        done = subprocess.run([sys.executable, "-c", code, tmp_path / "w"], check=False)
        assert done.returncode == 7
        assert_same(read(tmp_path / "w"), {"old": np.zeros(3)})

    @pytest.mark.parametrize("write", [write_npz, write_safetensors])
    @pytest.mark.parametrize(
        ("name", "array"),
        [
            ("../a", np.zeros(3)),
            ("", np.zeros(3)),
            ("a", np.array([None])),
            ("a", np.array(["text"])),
            ("a", np.zeros(3, ">f4")),
            ("a", np.zeros(3, "complex64")),
            ("a", np.zeros(3, ml_dtypes.float8_e5m2)),
        ],
    )
    def test_what_could_not_be_read_back(self, write, name, array, tmp_path):
        write(tmp_path / "w", {"old": np.zeros(3)})
        with pytest.raises(WeightsError, match="Received"):
            write(tmp_path / "w", {"b": np.zeros(3), name: array})
        assert_same(read(tmp_path / "w"), {"old": np.zeros(3)})
        assert [p.name for p in tmp_path.iterdir()] == ["w"]

    def test_a_name_that_safetensors_keeps(self, tmp_path):
        with pytest.raises(WeightsError, match="__metadata__"):
            write_safetensors(tmp_path / "w", {"__metadata__": np.zeros(3)})

    @pytest.mark.parametrize("write", [write_npz, write_safetensors])
    def test_same_bytes_for_the_same_arrays(self, write, arrays, tmp_path):
        digests = set()
        for name in ("a", "b"):
            write(tmp_path / name, arrays)
            digests.add(hashlib.sha256((tmp_path / name).read_bytes()).hexdigest())
        assert len(digests) == 1
