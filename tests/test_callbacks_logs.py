"""Logs: what is in them, after interruptions too, and that TensorBoard's files are ones."""

import importlib.util
import struct

import keras
import numpy as np
import pytest

from keras_vit_scale.training import CSVLog, StepCallback, StepLogger, TensorBoardLog, WandbLog
from keras_vit_scale.training.callbacks.csv_log import read_log
from keras_vit_scale.training.callbacks.event_file import EventFile, crc32c, record

X, Y = np.zeros((20, 3), "float32"), np.ones((20, 1), "float32")


class Say(StepCallback):
    def __init__(self, every, name, at_end=False):
        super().__init__(every, at_end=at_end)
        self.name = name

    def on_step(self, step, logs):
        logs[self.name] = float(step)


def compiled():
    model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(1)])
    model.compile(keras.optimizers.SGD(0.0), "mse")
    return model


def fit(model, *callbacks, **options):
    """10 steps an epoch whose loss is 1."""
    model.fit(X, Y, batch_size=2, verbose=0, callbacks=list(callbacks), **options)


class Kept(StepLogger):
    def __init__(self, every):
        super().__init__(every)
        self.rows = []

    def open(self, step):
        self.rows.append(f"from {step}")

    def write(self, step, values):
        self.rows.append((step, values))

    def close(self):
        self.rows.append("closed")


def test_a_logger_writes_every_n_steps_and_whatever_is_said():
    class Stop(keras.callbacks.Callback):
        def on_epoch_end(self, epoch, logs=None):
            self.model.stop_training = True

    log, model = Kept(5), compiled()
    # `late` hears only at the end of training that it ends: after the logger's row of step 10.
    fit(model, Say(3, "said"), Say(100, "late", at_end=True), log, Stop(), epochs=4)
    fit(model, log, steps_per_epoch=3)
    loss = {"loss": 1.0}
    assert log.rows == [
        "from 0",
        (3, {**loss, "said": 3.0}),
        (5, loss),
        (6, {**loss, "said": 6.0}),
        (9, {**loss, "said": 9.0}),
        (10, loss),
        (10, {"late": 10.0}),
        "closed",
        "from 10",
        (13, loss),
        "closed",
    ]


def test_csv_goes_on_where_the_run_goes_on(tmp_path):
    path, model = tmp_path / "runs" / "log.csv", compiled()
    fit(model, Say(6, "a,b"), CSVLog(path, 4))
    assert path.read_text() == 'step,loss,"a,b"\n4,1.0,\n6,1.0,6.0\n8,1.0,\n10,1.0,\n'
    # A run that was killed while it wrote a row, and goes on from a checkpoint at step 6.
    with path.open("a") as file:
        file.write("12,1.")
    model.optimizer.iterations.assign(6)
    fit(model, Say(8, "c"), CSVLog(path, 5), steps_per_epoch=4)
    assert path.read_text() == 'step,loss,"a,b",c\n4,1.0,,\n6,1.0,6.0,\n8,1.0,,8.0\n10,1.0,,\n'
    fit(compiled(), CSVLog(path, 10))
    assert path.read_text() == 'step,loss,"a,b",c\n10,1.0,,\n'


@pytest.mark.parametrize("text", ["name,age\nx,3\n", "step,loss\nlast,1.0\n", "step,loss\n3,1,2\n"])
def test_a_file_that_is_no_log_is_refused(text, tmp_path):
    path = tmp_path / "people.csv"
    path.write_text(text)
    with pytest.raises(ValueError, match=r"people\.csv"):
        fit(compiled(), CSVLog(path, 4))
    assert path.read_text() == text


def test_an_empty_file_is_an_empty_log(tmp_path):
    (tmp_path / "log.csv").touch()
    assert read_log(tmp_path / "log.csv") == (["step"], [])


@pytest.mark.parametrize(
    ("data", "crc"),
    [
        (bytes(32), 0x8A9136AA),
        (b"\xff" * 32, 0x62A8AB43),
        (bytes(range(32)), 0x46DD794E),
        (bytes(range(31, -1, -1)), 0x113FDB5C),
        (b"", 0),
    ],
    ids=["zeros", "ones", "rising", "falling", "nothing"],
)
def test_checksums_are_those_of_rfc_3720(data, crc):
    assert crc32c(data) == crc


def test_a_record_by_hand():
    """One byte: its length in 8, both checksums rotated right by 15 bits plus a constant."""

    def masked(data):
        bits = f"{crc32c(data):032b}"
        return (int(bits[-15:] + bits[:-15], 2) + 0xA282EAD8) % 2**32

    length, byte = struct.pack("<Q", 1), b"\x2a"
    framed = length + struct.pack("<I", masked(length)) + byte + struct.pack("<I", masked(byte))
    assert record(byte) == framed


@pytest.mark.skipif(
    keras.backend.backend() != "tensorflow", reason="TensorFlow reads its own format"
)
def test_tensorflow_reads_our_event_files(tmp_path):
    import tensorflow as tf

    model = compiled()
    fit(model, Say(6, "é/x"), TensorBoardLog(tmp_path, 5))
    fit(model, TensorBoardLog(tmp_path, 100), steps_per_epoch=3)
    seen = []
    for path in sorted(tmp_path.iterdir()):
        for event in tf.compat.v1.train.summary_iterator(str(path)):
            assert event.wall_time > 1.7e9
            if event.HasField("file_version"):
                seen.append(event.file_version)
            elif event.HasField("session_log"):
                assert event.session_log.status == tf.compat.v1.SessionLog.START
                seen.append(f"forget from {event.step}")
            else:
                seen.append((event.step, {v.tag: v.simple_value for v in event.summary.value}))
    assert seen == [
        "brain.Event:2",
        "forget from 1",
        (5, {"loss": 1.0}),
        (6, {"loss": 1.0, "é/x": 6.0}),
        (10, {"loss": 1.0}),
        "brain.Event:2",
        "forget from 11",
        (13, {"loss": 1.0}),
    ]
    # The limits of the types.
    odd = EventFile(tmp_path / "odd")
    odd.write(2**40 + 3, {"nan": float("nan"), "huge": 1e300, "low": -1e300, "small": -0.375})
    odd.close()
    *_, event = tf.compat.v1.train.summary_iterator(str(odd.path))
    assert event.step == 2**40 + 3
    nan, *others = [v.simple_value for v in event.summary.value]
    assert np.isnan(nan)
    assert others == [np.inf, -np.inf, -0.375]


def test_wandb_is_asked_for_where_it_is_missing():
    if importlib.util.find_spec("wandb") is not None:
        pytest.skip("wandb is installed")
    with pytest.raises(ImportError, match="pip install wandb"):
        WandbLog(10, project="x")


def test_wandb_gets_the_steps(tmp_path, monkeypatch):
    wandb = pytest.importorskip("wandb")
    monkeypatch.setenv("WANDB_SILENT", "true")
    with wandb.init(mode="offline", dir=tmp_path, project="test") as run:
        sent = []
        monkeypatch.setattr(run, "log", lambda values, step: sent.append((step, values)))
        fit(compiled(), Say(6, "a"), WandbLog(5))
        assert wandb.run is run  # left open
    assert sent == [(5, {"loss": 1.0}), (6, {"loss": 1.0, "a": 6.0}), (10, {"loss": 1.0})]
    fit(compiled(), WandbLog(5, mode="offline", dir=tmp_path, project="test"))
    assert wandb.run is None
    assert len(list((tmp_path / "wandb").glob("offline-run-*"))) == 2
