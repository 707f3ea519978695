"""Sources of weights: folders, a real server, file systems of fsspec and the hub's cache."""

import hashlib
import http.server
import json
import os
import subprocess
import sys
import threading

import pytest
from conftest import numpy_alone

from keras_vit_scale.weights import download, sources
from keras_vit_scale.weights.archive import open_archive
from keras_vit_scale.weights.declared import WeightsError
from keras_vit_scale.weights.npz import write_npz
from keras_vit_scale.weights.sources import locate

pytestmark = numpy_alone


@pytest.fixture
def weights(tmp_path, rng):
    """A file of half a megabyte, its bytes and their digest."""
    (tmp_path / "origin").mkdir()
    path = tmp_path / "origin" / "vit.npz"
    write_npz(path, {"head/kernel": rng.normal(size=(211, 307))})
    content = path.read_bytes()
    return path, content, hashlib.sha256(content).hexdigest()


@pytest.fixture
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_VIT_SCALE_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def kept(home):
    """Every file in the cache, hidden ones included."""
    return sorted(p.name for p in home.rglob("*") if p.is_file())


class TestLocal:
    def test_file_and_folder(self, weights):
        path, _, digest = weights
        assert locate(path) == path
        assert locate(str(path), sha256=digest.upper()) == path
        assert locate(path.parent) == path.parent
        assert locate(path.parent, file="vit.npz", sha256=digest) == path

    def test_home(self, weights, monkeypatch):
        path, *_ = weights
        monkeypatch.setenv("HOME", str(path.parent))
        assert locate("~/vit.npz") == path

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ("absent.npz", {}, "must be an existing file or folder.*does not exist"),
            ("vit.npz", {"sha256": "0" * 64}, "must have sha256=000.*damaged or another file"),
            ("vit.npz", {"sha256": "0" * 63}, "must be 64 hexadecimal digits"),
            (".", {"sha256": "0" * 64}, "is of one file; name it by `file=`"),
            ("vit.npz", {"revision": "main"}, "Only sources hf://"),
            (".", {"file": "../secret"}, "a path inside the folder"),
            (".", {"file": "/etc/passwd"}, "a path inside the folder"),
            (".", {"file": ""}, "a path inside the folder"),
        ],
    )
    def test_refusals(self, source, options, message, weights):
        path, *_ = weights
        with pytest.raises(WeightsError, match=message):
            locate(path.parent / source, **options)


class Handler(http.server.BaseHTTPRequestHandler):
    """Serves the bytes of a file in ways good and bad, each under a path of its own."""

    def do_GET(self):
        content, name = self.server.content, self.path.split("/")[1]
        self.server.asked.append(self.path)
        if name == "away":
            self.send_response(302)
            self.send_header("Location", self.server.elsewhere)
            self.end_headers()
            return
        self.send_response({"gone": 404}.get(name, 200))
        if name != "endless":
            self.send_header("Content-Length", len(content))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if name == "cut" else content)

    def log_message(self, *_):
        pass


@pytest.fixture
def server(weights):
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.content, server.asked = weights[1], []
        server.url = f"http://127.0.0.1:{server.server_port}"
        server.elsewhere = f"{server.url}/good/vit.npz"
        threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
        yield server
        server.shutdown()


class TestWeb:
    @pytest.mark.parametrize("query", ["", "?download=true"])
    def test_fetched_once(self, query, server, weights, home):
        url = f"{server.url}/good/vit.npz{query}"
        path = locate(url, sha256=weights[2])
        assert path.name == "vit.npz"
        assert path.read_bytes() == weights[1]
        assert locate(url) == path
        assert len(server.asked) == 1
        assert kept(home) == ["vit.npz"]
        with open_archive(path) as archive:
            assert archive.infos["head/kernel"].shape == (211, 307)

    def test_addresses_are_told_apart(self, server, weights, home):
        first, second = (locate(f"{server.url}/{name}/vit.npz") for name in ("a", "b"))
        assert first != second

    def test_redirected(self, server, weights, home):
        assert locate(f"{server.url}/away/vit.npz").read_bytes() == weights[1]

    @pytest.mark.parametrize("elsewhere", ["http://example.com/vit.npz", "ftp://example.com/w.npz"])
    def test_redirected_where_it_could_be_changed(self, elsewhere, server, home):
        server.elsewhere = elsewhere
        with pytest.raises(WeightsError, match="fetched over https://"):
            locate(f"{server.url}/away/vit.npz")

    @pytest.mark.parametrize(
        ("path", "message"),
        [
            ("cut/vit.npz", "must have the [0-9]+ bytes that were announced"),
            ("gone/vit.npz", "404"),
            ("endless/vit.npz", "must say how long a file is"),
            ("good/", "must end in the name of a file"),
            ("good/..", "must end in the name of a file"),
        ],
    )
    def test_nothing_lands_unless_it_is_whole(self, path, message, server, home):
        with pytest.raises(WeightsError, match=message):
            locate(f"{server.url}/{path}")
        assert kept(home) == []

    def test_a_digest_stands_for_the_length(self, server, weights, home):
        path = locate(f"{server.url}/endless/vit.npz", sha256=weights[2])
        assert path.read_bytes() == weights[1]

    def test_another_digest(self, server, weights, home):
        url = f"{server.url}/good/vit.npz"
        with pytest.raises(WeightsError, match="must have sha256=1111"):
            locate(url, sha256="1" * 64)
        assert kept(home) == []
        locate(url).write_bytes(b"changed on the disk")
        with pytest.raises(WeightsError, match="damaged or another file"):
            locate(url, sha256=weights[2])

    @pytest.mark.slow
    def test_killed_in_the_middle(self, server, weights, home):
        """What a killed process left is no file of weights, and is swept away in the end."""
        url = f"{server.url}/good/vit.npz"
        code = (
            "import os, sys\n"
            "from keras_vit_scale.weights import sources\n"
            "os.replace = lambda *_: os._exit(7)\n"
            "sources.locate(sys.argv[1])"
        )
        done = subprocess.run([sys.executable, "-c", code, url], check=False)
        assert done.returncode == 7
        (left,) = kept(home)
        assert left.startswith(".vit.npz.")
        (found,) = home.rglob(".vit.npz.*")
        os.utime(found, (0, 0))
        assert locate(url).read_bytes() == weights[1]
        assert kept(home) == ["vit.npz"]

    @pytest.mark.parametrize("url", ["http://example.com/w.npz", "HTTP://10.0.0.1/w.npz"])
    def test_over_a_way_that_others_can_change(self, url, home):
        with pytest.raises(WeightsError, match="http:// from this machine alone"):
            locate(url)

    def test_too_long(self, server, home, monkeypatch):
        monkeypatch.setattr(download, "MAX_BYTES", 1000)
        with pytest.raises(WeightsError, match="at most 1000 bytes"):
            locate(f"{server.url}/good/vit.npz")

    def test_no_server(self, server, home):
        with pytest.raises(WeightsError, match="Cannot fetch"):
            locate("http://127.0.0.1:9/vit.npz")

    def test_file_is_part_of_the_address(self, home):
        with pytest.raises(WeightsError, match="names its file itself"):
            locate("https://example.com/", file="vit.npz")


class TestBuckets:
    """The file systems of fsspec that need no network go the way that gs:// goes."""

    @pytest.fixture(autouse=True)
    def _needs_fsspec(self):
        self.fsspec = pytest.importorskip("fsspec", reason="the extra `hub` brings it")

    def test_fetched_once(self, weights, home):
        path, content, digest = weights
        system = self.fsspec.filesystem("memory")
        system.pipe("/bucket/vit.npz", content)
        url = "memory://bucket/vit.npz"
        assert locate(url, sha256=digest).read_bytes() == content
        system.rm("/bucket/vit.npz")
        assert locate(url).read_bytes() == content
        assert locate(path.as_uri()).read_bytes() == content

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("url", "message"),
        [
            ("memory://bucket/absent.npz", "Cannot fetch.*FileNotFoundError"),
            ("nonsense://bucket/vit.npz", "Cannot fetch.*nonsense"),
        ],
    )
    def test_refusals(self, url, message, home):
        with pytest.raises(WeightsError, match=message):
            locate(url)
        assert kept(home) == []

    def test_missing_packages_are_named(self, home, monkeypatch):
        monkeypatch.setitem(sys.modules, "fsspec", None)
        with pytest.raises(ImportError, match=r"keras-vit-scale\[hub\]"):
            locate("gs://vit_models/augreg/S_32.npz")


COMMIT = "0123456789abcdef0123456789abcdef01234567"


class HubHandler(http.server.BaseHTTPRequestHandler):
    """What the hub answers of one repository: the list of its files, their heads, their bytes."""

    protocol_version = "HTTP/1.1"

    def do_GET(self):
        files, path = self.server.files, self.path.partition("?")[0]
        self.server.asked.append(f"{self.command} {path}")
        if path in (f"/api/models/owner/vit/revision/{name}" for name in ("main", "v2", COMMIT)):
            siblings = [{"rfilename": name} for name in files]
            info = {"id": "owner/vit", "sha": COMMIT, "siblings": siblings}
            self.answer(json.dumps(info).encode(), "application/json")
        elif path == f"/api/models/owner/vit/tree/{COMMIT}":
            tree = [
                {"type": "file", "path": name, "size": len(content), "oid": "0" * 40}
                for name, content in files.items()
            ]
            self.answer(json.dumps(tree).encode(), "application/json")
        elif (name := path.removeprefix(f"/owner/vit/resolve/{COMMIT}/")) in files:
            self.answer(files[name], "application/octet-stream")
        else:
            self.send_error(404)

    do_HEAD = do_GET  # noqa: N815

    def answer(self, content, kind):
        self.send_response(200)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", len(content))
        self.send_header("ETag", f'"{hashlib.sha1(content).hexdigest()}"')
        self.send_header("X-Repo-Commit", COMMIT)
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(content)

    def log_message(self, *_):
        pass


class TestHub:
    """The hub's own client before a server that answers as the hub does."""

    @pytest.fixture
    def hub(self, weights):
        pytest.importorskip("huggingface_hub", reason="the extra `hub` brings it")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), HubHandler) as server:
            server.asked = []
            server.files = {
                "config.json": b"{}",
                "model.safetensors": weights[1],
                "pytorch_model.bin": b"a pickle",
                "sub/vit.npz": weights[1],
                "sub/config.json": b'{"sub": 1}',
            }
            threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
            yield server
            server.shutdown()

    @pytest.fixture
    def run(self, hub, tmp_path):
        """Locates sources in a process of its own: the client reads its settings when imported."""
        code = (
            "import sys, json\n"
            "from keras_vit_scale.weights.sources import locate\n"
            "for source, options in json.loads(sys.argv[1]):\n"
            "    try:\n"
            "        print(locate(source, **options))\n"
            "    except ValueError as error:\n"
            "        print(type(error).__name__, str(error).splitlines()[0])"
        )

        def run(*asked, **settings):
            done = subprocess.run(
                [sys.executable, "-c", code, json.dumps(asked)],
                env={
                    **os.environ,
                    "HF_ENDPOINT": f"http://127.0.0.1:{hub.server_port}",
                    "HF_HUB_CACHE": str(tmp_path / "hub"),
                    "HF_HUB_DISABLE_TELEMETRY": "1",
                    **settings,
                },
                capture_output=True, text=True, check=False, timeout=60,
            )  # fmt: skip
            assert done.returncode == 0, done.stderr
            return done.stdout.splitlines()

        return run

    @pytest.mark.slow
    def test_repositories_files_and_revisions(self, run, hub, weights, tmp_path):
        folder = tmp_path / "hub" / "models--owner--vit" / "snapshots" / COMMIT
        lines = run(
            ("hf://owner/vit", {}),
            ("hf://owner/vit@v2", {}),
            ("hf://owner/vit", {"revision": COMMIT}),
        )
        assert lines == [str(folder)] * 3
        assert {p.name for p in folder.iterdir()} == {"config.json", "model.safetensors"}
        lines = run(
            ("hf://owner/vit/sub/vit.npz@v2", {"sha256": weights[2]}),
            ("hf://owner/vit", {"file": "sub/vit.npz"}),
        )
        assert lines == [str(folder / "sub" / "vit.npz")] * 2
        assert (folder / "sub" / "vit.npz").read_bytes() == weights[1]
        assert (folder / "sub" / "config.json").exists()
        assert not any("pytorch_model" in asked for asked in hub.asked)
        # Without a way to the hub, what was fetched is there.
        assert run(("hf://owner/vit", {}), HF_HUB_OFFLINE="1") == [str(folder)]

    @pytest.mark.slow
    def test_refusals(self, run, hub, weights):
        messages = {
            ("hf://owner/vit/sub/vit.npz", "2" * 64): "must have sha256=222",
            ("hf://owner/vit", weights[2]): "is of one file",
            ("hf://owner/vit/absent.npz", None): "must hold absent.npz",
            ("hf://owner/other", None): "Cannot fetch 'hf://owner/other'",
        }
        lines = run(*((source, {"sha256": digest}) for source, digest in messages))
        for line, message in zip(lines, messages.values(), strict=True):
            assert line.startswith("WeightsError")
            assert message in line
        del hub.files["model.safetensors"]
        (line,) = run(("hf://owner/vit@v2", {}), HF_HUB_CACHE=str(weights[0].parent / "fresh"))
        assert "must hold one of" in line

    @pytest.mark.parametrize(
        ("source", "options", "message"),
        [
            ("hf://owner", {}, "must be hf://owner/name"),
            ("hf://owner/name@a@b", {}, "must be hf://owner/name"),
            ("hf://../name", {}, "must be hf://owner/name"),
            ("hf://owner/name@a", {"revision": "b"}, "`revision` must be given once"),
            ("hf://owner/name/a", {"file": "b"}, "`file` must be given once"),
        ],
    )
    def test_malformed(self, source, options, message):
        with pytest.raises(WeightsError, match=message):
            locate(source, **options)

    def test_missing_package_is_named(self, monkeypatch):
        monkeypatch.setitem(sys.modules, "huggingface_hub", None)
        with pytest.raises(ImportError, match=r"keras-vit-scale\[hub\]"):
            locate("hf://owner/name")

    def test_names_are_no_patterns(self):
        import fnmatch

        for name in ("a[1].npz", "a*.npz", "a?.npz"):
            assert fnmatch.fnmatch(name, sources._literally(name))
            assert not fnmatch.fnmatch("a1.npz", sources._literally(name))
