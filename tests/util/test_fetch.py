"""util.fetch with torchvision's own downloader and a web server of this process."""

import threading
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.error import HTTPError

import pytest
from torchvision.datasets import CIFAR10, MNIST

from tests.support.data_files import write_cifar, write_mnist_family
from util.fetch import fetch


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


def fetch_cifar(folder: Path, **arguments) -> None:
    fetch(CIFAR10, folder, result=CIFAR10.base_folder, **arguments)


@pytest.mark.parametrize("exists", [False, True])
def test_a_download_arrives_whole_and_alone(tmp_path, published, exists):
    target = tmp_path / "some" / "data"
    if exists:
        target.mkdir(parents=True)
    fetch_cifar(target)
    assert tree(target) == tree_of_archive(published)
    assert len(CIFAR10(target, train=True)) == 35
    assert [path.name for path in (tmp_path / "some").iterdir()] == ["data"]


def tree_of_archive(archive: Path) -> list[str]:
    folder = archive.parent / CIFAR10.base_folder
    return sorted([folder.name, *(f"{folder.name}/{path.name}" for path in folder.iterdir())])


def test_a_local_archive_needs_no_network(tmp_path, published, monkeypatch):
    monkeypatch.setattr(CIFAR10, "url", "http://127.0.0.1:1/nobody-listens")
    fetch_cifar(tmp_path / "data", archive=published)
    assert tree(tmp_path / "data") == tree_of_archive(published)
    assert published.is_file() and not published.is_symlink()


@pytest.mark.parametrize("exists", [False, True])
def test_a_truncated_download_leaves_nothing(tmp_path, published, exists):
    published.write_bytes(published.read_bytes()[:-100])
    target = tmp_path / "data"
    if exists:
        target.mkdir()
    before = tree(tmp_path)
    with pytest.raises(RuntimeError, match="corrupted"):
        fetch_cifar(target)
    assert tree(tmp_path) == before


def test_a_missing_file_on_the_server_leaves_nothing(tmp_path, published):
    published.unlink()
    before = tree(tmp_path)
    with pytest.raises(HTTPError, match="404"):
        fetch_cifar(tmp_path / "data")
    assert tree(tmp_path) == before


def test_an_interrupted_download_leaves_nothing(tmp_path, published, monkeypatch):
    def interrupt(self):
        (Path(self.root) / "half").write_text("written")
        raise KeyboardInterrupt

    monkeypatch.setattr(CIFAR10, "download", interrupt)
    before = tree(tmp_path)
    with pytest.raises(KeyboardInterrupt):
        fetch_cifar(tmp_path / "data")
    assert tree(tmp_path) == before


def test_processes_that_fetch_at_the_same_time_agree(tmp_path, published):
    """Eight at once: none fails, one result."""
    failures = []

    def run():
        try:
            fetch_cifar(tmp_path / "data")
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=run) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert tree(tmp_path / "data") == tree_of_archive(published)


def test_mnist_lands_in_the_layout_of_torchvision(tmp_path, server, monkeypatch):
    folder, address = server
    write_mnist_family(folder, suffix=".gz")
    monkeypatch.setattr(MNIST, "mirrors", [f"{address}/gone/", f"{address}/"])
    monkeypatch.setattr(MNIST, "resources", [(name, None) for name, _ in MNIST.resources])
    fetch(MNIST, tmp_path / "data", result="MNIST/raw")
    assert len(MNIST(tmp_path / "data", train=False)) == 11
