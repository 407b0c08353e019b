import pytest
import torch
import torchvision.transforms as published
from PIL import Image
from torchvision.transforms import v2

from tests.support.image_files import write_image_folder
from util.image.files import READERS, to_uint8
from util.image.imagenet import MEAN, STD, imagenet_test_transform, load_imagenet, make_random_data
from util.process.sampler import mixed_seed
from util.training_part import TrainingPart

SIZE = 48


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_image_folder(tmp_path_factory.mktemp("imagenet"), classes=4, train=5, val=2)


def published_input(image: Image.Image, *, train: bool) -> torch.Tensor:
    """The transforms of the published run, float and normalised on the CPU."""
    steps = (
        [published.RandomResizedCrop(SIZE), published.RandomHorizontalFlip()]
        if train
        else [published.Resize(round(SIZE * 256 / 224)), published.CenterCrop(SIZE)]
    )
    steps += [published.ToTensor(), published.Normalize(MEAN, STD)]
    return published.Compose(steps)(image)


def test_training_images_are_the_published_ones(folder):
    data = load_imagenet(folder, image_size=SIZE, seed=3)
    source = data.train.source
    for index in range(len(source)):
        image, label = data.train[(0, index)]
        assert image.dtype == torch.uint8 and image.shape == (3, SIZE, SIZE)
        assert label == source.labels[index]
        with torch.random.fork_rng():
            torch.manual_seed(mixed_seed("augmentation", 3, 0, index))
            expected = published_input(source[index][0], train=True)
        torch.testing.assert_close(data.to_input(image[None])[0], expected, rtol=1e-5, atol=1e-5)


def test_test_images_are_the_published_ones(folder):
    data = load_imagenet(folder, image_size=SIZE)
    for index in range(len(data.test)):
        image, _ = data.test[index]
        expected = published_input(Image.open(data.test.path(index)), train=False)
        torch.testing.assert_close(data.to_input(image[None])[0], expected, rtol=1e-5, atol=1e-5)


def test_both_readers_agree_within_two_grey_levels(folder):
    """On noise, the hardest case for the rounding of a resize."""
    pil, torchvision = (load_imagenet(folder, image_size=SIZE, reader=r) for r in READERS)
    pairs = [(pil.test[i], torchvision.test[i]) for i in range(len(pil.test))]
    pairs += [(pil.train[1, i], torchvision.train[1, i]) for i in range(len(pil.train))]
    for (one, _), (other, _) in pairs:
        assert (one.int() - other.int()).abs().max() <= 2


@pytest.mark.parametrize("reader", READERS)
def test_without_crop_and_flip_a_training_image_is_as_a_test_has_it(folder, reader):
    """Of both, each can be left out alone."""
    options = {"image_size": SIZE, "reader": reader}
    tested = imagenet_test_transform(SIZE)
    both, uncut, unflipped = (
        load_imagenet(folder, **options, **off)
        for off in ({"crop": False, "flip": False}, {"crop": False}, {"flip": False})
    )
    assert [(data.crop, data.flip) for data in (both, uncut, unflipped)] == [
        (False, False),
        (False, True),
        (True, False),
    ]
    mirrored = 0
    for index in range(len(both.train)):
        centre = tested(both.train.source[index][0])
        assert both.train[(0, index)][0].equal(both.train[(7, index)][0])
        assert both.train[(0, index)][0].equal(centre)
        image = uncut.train[(0, index)][0]
        assert image.equal(centre) or image.equal(centre.flip(-1))
        mirrored += image.equal(centre.flip(-1))
    assert 0 < mirrored < len(both.train)
    for index in range(len(both.train)):
        with torch.random.fork_rng():
            torch.manual_seed(mixed_seed("augmentation", 0, 0, index))
            cut = to_uint8(v2.RandomResizedCrop(SIZE)(unflipped.train.source[index][0]))
        assert unflipped.train[(0, index)][0].equal(cut)


@pytest.mark.parametrize("reader", READERS)
def test_augmentation_is_on_only_where_asked_for(folder, reader):
    plain = load_imagenet(folder, image_size=SIZE, reader=reader)
    both = load_imagenet(folder, image_size=SIZE, reader=reader, auto_aug=True, cutout=True)
    assert not (plain.auto_aug or plain.cutout) and both.auto_aug and both.cutout
    erased = [(both.train[(0, i)][0] == 0).all(0).sum() for i in range(len(both.train))]
    # The square's centre lies in the image, so at least a quarter of it does.
    assert min(erased) >= (SIZE // 2) ** 2 // 4
    assert max((plain.train[(0, i)][0] == 0).all(0).sum() for i in range(len(plain.train))) < 20


def test_a_held_out_part_is_of_every_class_and_not_augmented(folder):
    data = load_imagenet(folder, image_size=SIZE, validation_fraction=0.2)
    assert len(data.train) == 16 and len(data.validation) == 4
    assert sorted(data.validation.labels) == [0, 1, 2, 3]
    held_out = {data.validation.path(i) for i in range(4)}
    assert not held_out & {data.train.source.path(i) for i in range(16)}
    plain = imagenet_test_transform(SIZE)(Image.open(data.validation.path(0)))
    assert data.validation[0][0].equal(plain)


def test_a_part_of_the_training_images_is_chosen_before_any_is_read(folder, monkeypatch):
    part, fraction = TrainingPart(2, 0.5, seed=1), 0.2
    whole = load_imagenet(folder, image_size=SIZE, validation_fraction=fraction)
    with monkeypatch.context() as patch:
        patch.setattr("util.image.files.READERS", {})
        data = load_imagenet(folder, image_size=SIZE, validation_fraction=fraction, part=part)
    assert len(data.train) == 8 and len(data.notes) == 2
    assert data.validation.labels.tolist() == whole.validation.labels.tolist()
    assert data.test.labels.tolist() == whole.test.labels.tolist()
    rest = whole.train.source
    clean = {rest[i][0].tobytes(): rest[i][1] for i in range(16)}
    pairs = [
        (clean[image.tobytes()], int(label))
        for image, label in map(data.train.source.__getitem__, range(8))
    ]
    assert sorted(own for own, _ in pairs) == [0, 0, 1, 1, 2, 2, 3, 3]
    assert sum(own != label for own, label in pairs) == 4
    assert {int(data.train[0, i][1]) == pairs[i][1] for i in range(8)} == {True}


def test_classes_that_differ_are_named(tmp_path):
    folder = write_image_folder(tmp_path, classes=3)
    (folder / "val" / "class_01").rename(folder / "val" / "class_9")
    with pytest.raises(ValueError, match=r"train has 3 classes .* differ in 'class_01'"):
        load_imagenet(folder)


def test_a_missing_folder_a_wrong_reader_and_an_archive_are_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere/train is not there"):
        load_imagenet(tmp_path / "nowhere")
    with pytest.raises(ValueError, match="unknown reader 'opencv': choose from pil, torchvision"):
        load_imagenet(folder, reader="opencv")
    (tmp_path / "images.tar").touch()
    with pytest.raises(ValueError, match="is a file: unpack it, and give the folder that holds"):
        load_imagenet(tmp_path / "images.tar")


@pytest.mark.parametrize("inside", ["train", "val", "train/class_00", ".."])
def test_a_path_near_the_folder_names_it(tmp_path, inside):
    folder = write_image_folder(tmp_path / "images", classes=2, train=1)
    with pytest.raises(ValueError, match=f"hold train or val, but {folder} does: give that"):
        load_imagenet((folder / inside).resolve())


def test_random_images_have_imagenet_s_form_and_few_ones_a_test_set():
    data = make_random_data(image_size=24)
    assert (len(data.train), len(data.test), len(data.class_names)) == (1_281_167, 50_000, 1000)
    image, label = data.train[(0, 1_000_000)]
    assert image.shape == (3, 24, 24) and image.dtype == torch.uint8
    assert 0 <= label < 1000
    assert data.train[(5, 1_000_000)][0].equal(image)
    assert data.to_input(image[None]).std() > 0.5
    few = make_random_data(7, image_size=16, num_classes=3)
    assert (len(few.train), len(few.test)) == (7, 1)
