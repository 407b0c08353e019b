"""Pictures in memory are those that prediction sees, decoded once, whatever happens to the file."""

import multiprocessing
import os
import shutil

import numpy as np
import pytest
import torch
from PIL import Image

from experiment.trained.part.input_file import read_image
from tests.support.image_files import write_image_folder, write_tree
from tests.support.odd_pictures import PICTURES
from util.image import decoded as module
from util.image.decoded import read_pictures
from util.image.picture_folder import PictureOptions, find_own_pictures

SMALL = PictureOptions(image_size=24)


def read(folder, *, options=SMALL, **places):
    """The data set and what was said."""
    said = []
    return read_pictures(folder, options, report=said.append, **places), said


def write_every_kind(folder, *, gray):
    """All kinds of pictures, gray ones alone or not, in train/, test/ and two classes."""
    for number, (name, (content, pixels)) in enumerate(sorted(PICTURES.items())):
        if gray and not (pixels == pixels[..., :1]).all():
            continue
        for part in ("train", "test"):
            place = folder / part / "ab"[number % 2] / name
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(content)
    return folder


@pytest.mark.parametrize("gray", [True, False])
@pytest.mark.parametrize("channels", [None, 1, 3])
@pytest.mark.parametrize("side", [5, 9])
def test_training_and_prediction_see_the_same_pixels(tmp_path, gray, channels, side):
    """Of every kind of file, made smaller or larger; gray is kept as one channel."""
    folder = write_every_kind(tmp_path, gray=gray)
    options = PictureOptions(image_size=side, channels=channels)
    images, _ = read(folder, options=options)
    expected = channels or (1 if gray else 3)
    assert images.train.tensors[0].shape[1:] == (expected, side, side)
    description = {"image_size": side, "resize": side, "mean": [0.0], "std": [1 / 255]}
    for part, name in ((images.train, "train"), (images.test, "test")):
        found = sorted((folder / name).glob("*/*"))
        assert len(found) == len(part) > 10
        for path, pixels in zip(found, part.tensors[0], strict=True):
            seen = read_image(path, description, expected)[0]
            assert torch.equal(seen.round().byte(), pixels), path


def test_gray_pictures_before_coloured_ones_are_kept(tmp_path, monkeypatch):
    folder = write_tree(tmp_path)
    for path in folder.glob("class_00/*"):
        Image.open(path).convert("L").save(path)
    monkeypatch.setattr(module, "CHUNK", 3)
    found, _ = read(folder)
    coloured, _ = read(folder, options=SMALL._replace(channels=3))
    assert same(found, coloured) and found.train.tensors[0].shape[1] == 3


def test_few_large_pictures_are_handed_over_at_a_time(tmp_path):
    """They go through shared memory, of which containers have little."""
    files = find_own_pictures(write_tree(tmp_path), SMALL)[:1]
    for side in (8, 32, 224, 4096):
        size = module.Chunks(files, side, None).size
        assert 1 <= size <= 64 and (size == 1 or size * 3 * side**2 <= 4e6)


@pytest.fixture
def kept(monkeypatch):
    """Even few pictures are worth a file; the names of the decoded come here."""
    decodings = []
    decode = module.decode

    def counted(files, *rest):
        decodings.append(sum(map(len, files)))
        return decode(files, *rest)

    monkeypatch.setattr(module, "MANY", 1)
    monkeypatch.setattr(module, "decode", counted)
    return decodings


def same(one, other):
    pairs = ((one.train, other.train), (one.test, other.test))
    return all(
        torch.equal(a, b) for x, y in pairs for a, b in zip(x.tensors, y.tensors, strict=True)
    )


def test_few_pictures_are_decoded_silently_and_leave_nothing(tmp_path):
    folder = write_tree(tmp_path / "x")
    images, said = read(folder)
    assert (len(images.train), len(images.test), said) == (16, 4, [])
    assert sorted(path.name for path in folder.iterdir()) == ["class_00", "class_01"]


@pytest.mark.parametrize("workers", [0, 2])
def test_many_are_decoded_once_and_say_how_long_it_takes(tmp_path, kept, workers, monkeypatch):
    monkeypatch.setattr(module, "CHUNK", 3)
    folder = write_tree(tmp_path / "x")
    plain, _ = read(folder)
    images, said = read(folder, options=SMALL._replace(num_workers=workers), cache=tmp_path / "c")
    assert same(plain, images)
    assert said[-1] == "decoding: 20 of 20, 0 s left"
    again, said = read(folder, cache=tmp_path / "c")
    assert same(images, again) and said == [] and kept == [20, 20]
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".x-24px-any.pixels"]
    (cache,) = (path for path in folder.iterdir() if path.is_file())
    assert cache.name == ".x-24px-any.pixels"


def changed_picture(folder, cache):
    Image.new("RGB", (9, 9)).save(folder / "class_00" / "3.JPEG")


def touched_picture(folder, cache):
    os.utime(folder / "class_00" / "3.JPEG", (1, 1))


def new_picture(folder, cache):
    shutil.copy2(folder / "class_00" / "3.JPEG", folder / "class_01" / "new.JPEG")


def renamed_picture(folder, cache):
    (folder / "class_00" / "3.JPEG").rename(folder / "class_00" / "03.JPEG")


def flipped_bit(folder, cache):
    content = bytearray(cache.read_bytes())
    content[-7] ^= 1
    cache.write_bytes(content)


def torn(folder, cache):
    cache.write_bytes(cache.read_bytes()[:-100])


def empty(folder, cache):
    cache.write_bytes(b"")


@pytest.mark.parametrize(
    "change",
    [changed_picture, touched_picture, new_picture, renamed_picture, flipped_bit, torn, empty],
)
def test_a_file_that_is_stale_or_damaged_is_made_anew(tmp_path, kept, change):
    folder = write_tree(tmp_path / "x")
    read(folder)
    (cache,) = folder.glob(".*.pixels")
    change(folder, cache)
    images, _ = read(folder)
    assert len(kept) == 2
    shutil.rmtree(tmp_path / "c", ignore_errors=True)
    fresh, _ = read(folder, cache=tmp_path / "c")
    again, _ = read(folder)
    assert len(kept) == 3 and same(images, fresh) and same(images, again)


def test_other_options_are_not_confused(tmp_path, kept):
    folder = write_tree(tmp_path / "x")
    for options in (SMALL, SMALL._replace(channels=1), SMALL._replace(image_size=16)):
        read(folder, options=options)
    assert len(kept) == 3
    read(folder)
    assert len(kept) == 3, "each has a file of its own"
    images, _ = read(folder, options=SMALL._replace(split_seed=1))
    assert len(kept) == 4 and not same(images, read(folder)[0])


def test_pictures_that_have_moved_keep_their_file(tmp_path, kept):
    folder = write_tree(tmp_path / "x")
    before, _ = read(folder)
    shutil.move(folder, tmp_path / "elsewhere" / "x")
    after, _ = read(tmp_path / "elsewhere" / "x")
    assert len(kept) == 1 and same(before, after)


def test_a_file_that_cannot_be_written_is_a_warning(tmp_path, kept):
    folder = write_tree(tmp_path / "x")
    (tmp_path / "file").touch()
    images, said = read(folder, cache=tmp_path / "file" / "c")
    assert len(images.train) == 16
    assert said[0].startswith("warning: the pictures are decoded each time: ")
    assert said[0].endswith("file is a file; name a --cache_path")
    (folder / ".x-24px-any.pixels").mkdir()
    again, said = read(folder)
    assert same(images, again) and len(kept) == 2
    assert said[-1].startswith("warning: the pictures are decoded again next time: could not write")


def test_more_than_fits_into_memory_is_refused_before_decoding(tmp_path, monkeypatch, kept):
    folder = write_tree(tmp_path, count=5)
    needed = 2 * 10 * 3 * 24**2
    monkeypatch.setattr(module, "bytes_of_memory", lambda: needed)
    read(folder)
    monkeypatch.setattr(module, "bytes_of_memory", lambda: needed - 1)
    with pytest.raises(ValueError, match=r"^10 pictures of 24 x 24 pixels take 0\.0 GB .*imagenet"):
        read(folder)
    monkeypatch.setattr(module, "bytes_of_memory", lambda: needed)
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    with pytest.raises(ValueError, match="pictures"):
        read(folder)
    assert len(kept) == 1


def test_a_bad_picture_is_named(tmp_path, kept):
    folder = write_tree(tmp_path)
    bad = folder / "class_01" / "2.JPEG"
    bad.write_text("<html>404</html>")
    with pytest.raises(ValueError, match=f"{bad} cannot be read as an image .*--check_data lists"):
        read(folder)
    assert not list(folder.glob(".*"))


def decode_beside_another(pictures, cache):
    """What a process says, and the sum of its pixels."""
    images, said = read(pictures, cache=cache)
    return said, int(images.train.tensors[0].numpy().sum())


def test_of_several_processes_one_decodes(tmp_path, kept):
    places = (write_tree(tmp_path / "x", count=40), tmp_path / "c")
    with multiprocessing.get_context("fork").Pool(3) as pool:
        found = pool.starmap(decode_beside_another, [places] * 3, chunksize=1)
    lines = [line for said, _ in found for line in said]
    assert sum(line == "decoding: 80 of 80, 0 s left" for line in lines) == 1
    assert len({total for _, total in found}) == 1
    assert [path.name for path in (tmp_path / "c").iterdir()] == [".x-24px-any.pixels"]


def test_a_part_that_is_not_read_is_said(tmp_path):
    folder = write_image_folder(tmp_path, classes=2)
    shutil.copytree(folder / "val", folder / "test")
    _, said = read(folder)
    assert said == [f"{folder / 'val'} is not read: the test set is {folder / 'test'}"]


def test_labels_are_whole_numbers_of_their_classes(tmp_path):
    images, _ = read(write_tree(tmp_path, classes=3))
    for part in images[:2]:
        pixels, labels = part.tensors
        assert pixels.dtype == torch.uint8 and labels.dtype == torch.int64
        means = [pixels[labels == n].float().mean((0, 2, 3)) for n in range(3)]
        assert np.ptp(torch.stack(means).numpy(), axis=0).max() > 10, "each has its colour"
