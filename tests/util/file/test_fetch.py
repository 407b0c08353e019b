"""util.file.fetch with torchvision's own downloader and a web server of this process."""

import threading
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest
from torchvision.datasets import CIFAR10, MNIST

from tests.support.data_files import write_cifar, write_mnist_family
from util.file.fetch import fetch


class QuietHandler(SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path, monkeypatch):
    """A folder and the address under which it is served."""
    monkeypatch.setenv("no_proxy", "*")
    folder = tmp_path / "served"
    folder.mkdir()
    handler = partial(QuietHandler, directory=str(folder))
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as http_server:
        thread = threading.Thread(target=http_server.serve_forever, args=(0.01,))
        thread.start()
        yield folder, f"http://127.0.0.1:{http_server.server_port}"
        http_server.shutdown()
        thread.join()


@pytest.fixture
def published(server, monkeypatch) -> Path:
    """A small CIFAR-10 archive where torchvision will look for it; returns its path."""
    folder, address = server
    archive = write_cifar(monkeypatch, CIFAR10, folder)
    monkeypatch.setattr(CIFAR10, "url", f"{address}/{archive.name}")
    return archive


def tree(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_whole(folder: Path, archive: Path) -> None:
    """The folder holds what is in the archive, and nothing else."""
    assert tree(folder) == [name for name in tree(archive.parent) if name != archive.name]


def fetch_cifar(folder: Path, **arguments) -> None:
    fetch(CIFAR10, folder, result=CIFAR10.base_folder, **arguments)


@pytest.mark.parametrize("exists", [False, True])
def test_a_download_arrives_whole_and_alone(tmp_path, published, exists):
    target = tmp_path / "some" / "data"
    if exists:
        target.mkdir(parents=True)
    fetch_cifar(target)
    assert_whole(target, published)
    assert len(CIFAR10(target, train=True)) == 35
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["data"]


def test_a_local_archive_needs_no_network(tmp_path, published, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/nobody-listens")
    fetch_cifar(tmp_path / "data", archive=published)
    assert_whole(tmp_path / "data", published)
    assert published.is_file() and not published.is_symlink()


def interrupt(self):
    (Path(self.root) / "half").write_text("written")
    raise KeyboardInterrupt


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize("error", [RuntimeError, HTTPError, KeyboardInterrupt])
def test_a_download_that_fails_leaves_nothing(tmp_path, published, monkeypatch, exists, error):
    """The archive is torn, it is gone, or the user has enough."""
    if exists:
        (tmp_path / "data").mkdir()
    if error is RuntimeError:
        published.write_bytes(published.read_bytes()[:-100])
    elif error is HTTPError:
        published.unlink()
    else:
        monkeypatch.setattr(CIFAR10, "download", interrupt)
    before = tree(tmp_path)
    with pytest.raises(error):
        fetch_cifar(tmp_path / "data")
    assert tree(tmp_path) == before


def test_processes_that_fetch_at_the_same_time_agree(tmp_path, published):
    """Eight at once: none fails, one result."""
    with ThreadPoolExecutor(8) as pool:
        running = [pool.submit(fetch_cifar, tmp_path / "data") for _ in range(8)]
    assert [thread.result() for thread in running] == [None] * 8
    assert_whole(tmp_path / "data", published)


def test_mnist_lands_in_the_layout_of_torchvision(tmp_path, server, monkeypatch):
    folder, address = server
    write_mnist_family(folder, suffix=".gz")
    monkeypatch.setattr(MNIST, "mirrors", [f"{address}/gone/", f"{address}/"])
    monkeypatch.setattr(MNIST, "resources", [(name, None) for name, _ in MNIST.resources])
    fetch(MNIST, tmp_path / "data", result="MNIST/raw")
    assert len(MNIST(tmp_path / "data", train=False)) == 11
