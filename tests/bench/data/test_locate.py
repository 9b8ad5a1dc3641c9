"""From a published name to its files: the data home, layouts found, downloads, what is refused."""

from __future__ import annotations

import hashlib
import inspect
import json
import pickle
import re
import tarfile
import threading
from collections.abc import Callable, Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torchvision.datasets

from bench.data import catalog, home
from bench.data.getting import archives, survey
from bench.data.getting.addresses import ADDRESSES, Remote
from bench.data.getting.locate import locate
from bench.data.packs import build, examine
from bench.errors import DataError, UnknownName
from bench.specs import DatasetCard, SplitCard

Make = Callable[..., Path]
TINY = {"train": SplitCard(num_examples=50), "test": SplitCard(num_examples=10)}


@pytest.fixture(autouse=True)
def data_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("VITBENCH_DATA", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture
def tiny_cifar10(monkeypatch: pytest.MonkeyPatch) -> DatasetCard:
    """Publish CIFAR-10 with 50 and 10 images, so that a test can write all of it."""
    card = catalog.published("cifar10").model_copy(update={"splits": TINY})
    monkeypatch.setitem(catalog.CARDS._found[0], "cifar10", card)
    return card


def write_cifar10(folder: Path, *, num: int = 10) -> Path:
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    for name in (*(f"data_batch_{k}" for k in range(1, 6)), "test_batch"):
        batch = {
            b"data": rng.integers(0, 256, (num, 3072), dtype=np.uint8),
            b"labels": [index % 10 for index in range(num)],
        }
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    names = {b"label_names": [f"class {k}".encode() for k in range(10)]}
    (folder / "batches.meta").write_bytes(pickle.dumps(names, protocol=2))
    return folder


# --- the data home --------------------------------------------------------------------------


def test_a_prepared_set_is_found_by_its_name(
    data_home: Path, tiny_cifar10: DatasetCard, tmp_path: Path
) -> None:
    write_cifar10(data_home / "cifar10" / "cifar-10-batches-py")
    card = locate("cifar10")
    found = examine.examine(build.packed(card, cache_dir=tmp_path / "cache"))
    assert found.splits["train"].num_examples == 50
    assert catalog.dataset("cifar10") is tiny_cifar10
    note = home.note(card)
    assert note == data_home / "cifar10.card.json"
    assert json.loads(note.read_text())["card"]["args"]["path"] == "cifar10/cifar-10-batches-py"
    located = catalog.dataset("cifar10")
    assert located == card
    assert located.digest == found.digest
    assert catalog.datasets()["cifar10"] == card
    assert build.packed(located, cache_dir=tmp_path / "cache").folder == Path(found.folder)
    data_home.rename(tmp_path / "moved")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("VITBENCH_DATA", str(tmp_path / "moved"))
        moved = catalog.dataset("cifar10")
    assert moved.digest == card.digest
    assert str(moved.args["path"]).startswith(str(tmp_path / "moved"))


def test_files_elsewhere_are_noted_where_they_are(
    tiny_cifar10: DatasetCard, tmp_path: Path
) -> None:
    folder = write_cifar10(tmp_path / "elsewhere")
    home.note(locate("cifar10", path=folder))
    assert catalog.dataset("cifar10").args["path"] == str(folder)


@pytest.mark.parametrize(
    "spoil",
    [
        lambda note: "{",
        lambda note: json.dumps({**note, "format": 0}),
        lambda note: json.dumps({**note, "card": {**note["card"], "version": 9}}),
        lambda note: json.dumps({**note, "card": {**note["card"], "name": "mnist"}}),
        lambda note: json.dumps({**note, "card": {**note["card"], "splits": {}}}),
    ],
)
def test_notes_that_do_not_fit_are_taken_for_missing(
    data_home: Path, tiny_cifar10: DatasetCard, tmp_path: Path, spoil: Callable[[dict], str]
) -> None:
    file = home.note(locate("cifar10", path=write_cifar10(tmp_path / "set")))
    file.write_text(spoil(json.loads(file.read_text())))
    assert catalog.dataset("cifar10") is tiny_cifar10


def test_every_card_may_have_a_note() -> None:
    for card in catalog.datasets().values():
        home.note(card.model_copy(update={"digest": "0" * 16, "args": {"path": "/x"}}))
    assert {card.digest for card in catalog.datasets().values()} == {"0" * 16}


def test_changed_files_are_told_by_verify(tiny_cifar10: DatasetCard, tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path / "set")
    home.note(locate("cifar10", path=folder))
    assert examine.verify_set(catalog.dataset("cifar10"), cache_dir=tmp_path) == ()
    batch = pickle.loads((folder / "test_batch").read_bytes())
    batch[b"labels"][0] = 9
    (folder / "test_batch").write_bytes(pickle.dumps(batch, protocol=2))
    (problem,) = examine.verify_set(catalog.dataset("cifar10"), cache_dir=tmp_path)
    assert "have changed since they were prepared: run `vitbench data prepare cifar10`" in problem


# --- finding --------------------------------------------------------------------------------


def test_any_known_layout_will_do(
    make_images: Make, tiny_cifar10: DatasetCard, data_home: Path
) -> None:
    for split, each in (("train", 5), ("test", 1)):
        make_images(data_home / "cifar10" / split, {f"class {k}": each for k in range(10)})
    card = locate("cifar10", size_px=32)
    assert card.reader == "image_folder"
    assert card.squared_px == 32
    assert locate("cifar10").squared_px is None


def test_an_archive_is_unpacked_where_nothing_else_lies(
    tiny_cifar10: DatasetCard, data_home: Path, tmp_path: Path
) -> None:
    write_cifar10(tmp_path / "cifar-10-batches-py")
    (data_home / "cifar10").mkdir(parents=True)
    with tarfile.open(data_home / "cifar10" / "cifar-10-python.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    card = locate("cifar10")
    assert str(card.args["path"]).endswith("cifar10/cifar-10-python/cifar-10-batches-py")


def test_a_part_of_a_published_set_is_refused(shared_data: Path) -> None:
    told = r"dataset\.cifar10: .* has 10 classes and 5,085 train, 1,017 test, but CIFAR-10 has 10 "
    with pytest.raises(DataError, match=told):
        locate("cifar10", path=shared_data / "cifar10")


def test_a_part_that_is_said_to_be_one_is_noted_with_the_counts_of_the_whole(
    data_home: Path, tmp_path: Path
) -> None:
    folder = write_cifar10(tmp_path / "part")
    with pytest.raises(DataError, match=r"as a part of the set, for rehearsals alone: --part, or"):
        locate("cifar10", path=folder)
    card = locate("cifar10", path=folder, part=True)
    assert card.whole == {"train": 50_000, "test": 10_000}
    assert card.part == "50 of 50,000 train, 10 of 10,000 test images"
    assert card.num_published("train") == 50_000
    assert (
        card.digest
        == catalog.resolve(
            "mine", {"reader": "cifar", "path": str(folder)}, base_dir=tmp_path
        ).digest
    )  # of the content alone
    file = home.note(card)
    assert catalog.dataset("cifar10") == card
    for whole in ({}, {"train": 50_000}, {"train": 40, "test": 10}):  # not what is published
        note = json.loads(file.read_text())
        note["card"]["whole"] = whole
        file.write_text(json.dumps(note))
        assert not catalog.dataset("cifar10").digest


def test_a_complete_set_is_no_part(tiny_cifar10: DatasetCard, tmp_path: Path) -> None:
    folder = write_cifar10(tmp_path / "set")
    card = locate("cifar10", path=folder, part=True)
    assert (card.whole, card.part) == ({}, "")
    assert card == locate("cifar10", path=folder)


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("cifar100", r"10 classes and .* 100 and .*images, need another name"),
        ("mine", r"dataset\.mine: part is for files under the name of a published set"),
    ],
)
def test_a_part_of_nothing_is_refused(tmp_path: Path, name: str, told: str) -> None:
    block = {"reader": "cifar", "path": "set", "part": True}
    write_cifar10(tmp_path / "set")
    with pytest.raises(DataError, match=told):
        catalog.resolve(name, block, base_dir=tmp_path)


def test_more_images_than_published_are_no_part(tiny_cifar10: DatasetCard, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="images, need another name"):
        locate("cifar10", path=write_cifar10(tmp_path / "set", num=11), part=True)


@pytest.mark.parametrize(
    ("name", "options", "told"),
    [
        ("cifar10", {}, r"cifar10: .*/data/cifar10: no such folder\. `vitbench data prepare cifar1"
         r"0 --download` \(terms: none stated.*, or by hand: Download .*--path FOLDER`"),
        ("imagenet-1k", {}, r"no such folder\. Register at image-net\.org.*--path FOLDER` "
         r"\(terms: no licence granted"),
        ("jft-300m", {}, r"jft-300m: JFT-300M is not public: internal to Google\. Not public"),
        ("cifar10", {"path": "."}, r"holds no layout that is known\. Name the layout with"),
        ("imagenet-1k", {"fetch": True}, r"imagenet-1k: no download is offered\. Register .*mnist"),
    ],
)  # fmt: skip
def test_what_cannot_be_had_is_told_with_its_cure(
    tmp_path: Path, name: str, options: dict, told: str
) -> None:
    if "path" in options:
        options = {"path": tmp_path}
    with pytest.raises(DataError, match=told):
        locate(name, **options)


def test_unknown_names(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match=r'unknown data set "cifar11".*Did you mean "cifar10"'):
        locate("cifar11")
    with pytest.raises(UnknownName, match=r'unknown reader "cifer".*Did you mean "cifar"'):
        locate("cifar10", path=tmp_path, reader="cifer")


def test_what_is_generated_needs_no_files() -> None:
    assert locate("digits") is catalog.published("digits")
    assert catalog.published("digits").refusal == ""


def test_a_home_that_cannot_be_written(
    tiny_cifar10: DatasetCard, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = locate("cifar10", path=write_cifar10(tmp_path / "set"))
    (tmp_path / "file").write_text("x")
    monkeypatch.setenv("VITBENCH_DATA", str(tmp_path / "file" / "data"))
    with pytest.raises(DataError, match=r"cannot be written .*Set VITBENCH_DATA"):
        home.note(card)


# --- downloads ------------------------------------------------------------------------------


class Quiet(SimpleHTTPRequestHandler):
    asked: list[str]

    def log_message(self, *_: object) -> None:
        self.asked.append(self.path)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[tuple[str, Path, list[str]]]:
    """A server on this machine: its address, its folder, and what was asked of it."""
    folder = tmp_path / "served"
    folder.mkdir()
    asked: list[str] = []
    handler = type("Handler", (Quiet,), {"asked": asked})
    with ThreadingHTTPServer(("127.0.0.1", 0), partial(handler, directory=str(folder))) as serving:
        thread = threading.Thread(target=serving.serve_forever)
        thread.start()
        yield f"http://127.0.0.1:{serving.server_port}", folder, asked
        serving.shutdown()
        thread.join()


def offer_cifar10(
    server: tuple[str, Path, list[str]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, folder, _ = server
    write_cifar10(tmp_path / "cifar-10-batches-py")
    archive = folder / "cifar-10-python.tar.gz"
    with tarfile.open(archive, "w:gz") as opened:
        opened.add(tmp_path / "cifar-10-batches-py", "cifar-10-batches-py")
    digest = hashlib.md5(archive.read_bytes()).hexdigest()
    offer(monkeypatch, f"{address}/{archive.name}", digest)


def offer(monkeypatch: pytest.MonkeyPatch, url: str, md5: str) -> None:
    monkeypatch.setitem(ADDRESSES, "cifar10", (Remote((url,), md5),))


def test_a_download_is_fetched_checked_unpacked_and_found(
    server: tuple[str, Path, list[str]],
    tiny_cifar10: DatasetCard,
    data_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer_cifar10(server, tmp_path, monkeypatch)
    card = locate("cifar10", fetch=True)
    assert card.args["path"] == str(data_home / "cifar10" / "cifar-10-batches-py")
    asked = len(server[2])
    assert locate("cifar10", fetch=True) == card
    assert len(server[2]) == asked  # nothing is fetched again


def test_a_damaged_or_missing_download_is_told(
    server: tuple[str, Path, list[str]],
    tiny_cifar10: DatasetCard,
    data_home: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    offer_cifar10(server, tmp_path, monkeypatch)
    offer(monkeypatch, ADDRESSES["cifar10"][0].urls[0], "0" * 32)
    told = (
        r"cifar10: cannot be downloaded \(http://127.* has the MD5 [0-9a-f]{32}, not 0{32}\)\. By"
    )
    with pytest.raises(DataError, match=told):
        locate("cifar10", fetch=True)
    assert not data_home.exists()
    offer(monkeypatch, f"{server[0]}/nothing.tar.gz", "0" * 32)
    with pytest.raises(DataError, match=r"cannot be downloaded \(.*404"):
        locate("cifar10", fetch=True)


@pytest.mark.parametrize("name", sorted(ADDRESSES))
def test_every_download_has_addresses_and_digests(name: str) -> None:
    assert name in catalog.CARDS
    for remote in ADDRESSES[name]:
        assert all(url.startswith("http") for url in remote.urls)
        assert all(url.endswith(f"/{remote.name}") for url in remote.urls)
        assert remote.name == Path(remote.name).name
        assert len(bytes.fromhex(remote.md5)) == 16


def of_torchvision(name: str) -> list[tuple[tuple[str, ...], str]]:
    """Return addresses and digests as torchvision keeps them, partly in private attributes."""
    classes = {
        "cifar10": "CIFAR10", "cifar100": "CIFAR100", "stl10": "STL10", "mnist": "MNIST",
        "fashion-mnist": "FashionMNIST", "svhn": "SVHN", "oxford-pets": "OxfordIIITPet",
        "oxford-flowers102": "Flowers102", "dtd": "DTD", "eurosat": "EuroSAT",
    }  # fmt: skip
    owner = getattr(torchvision.datasets, classes[name])
    if hasattr(owner, "tgz_md5"):
        return [((owner.url,), owner.tgz_md5)]
    if hasattr(owner, "resources"):
        return [
            (tuple(f"{mirror}{file}" for mirror in owner.mirrors), md5)
            for file, md5 in owner.resources
        ]
    if hasattr(owner, "split_list"):
        parts = (owner.split_list[split] for split in ("train", "test"))
        return [((url,), md5) for url, _, md5 in parts]
    if hasattr(owner, "_RESOURCES"):
        return [((url,), md5) for url, md5 in owner._RESOURCES]
    if hasattr(owner, "_file_dict"):
        prefix = owner._download_url_prefix
        return [((f"{prefix}{file}",), md5) for file, md5 in owner._file_dict.values()]
    if hasattr(owner, "_MD5"):
        return [((owner._URL,), owner._MD5)]
    text = inspect.getsource(owner.download)
    found = re.search(r'"(http[^"]*)".*md5="([0-9a-f]{32})"', text, re.DOTALL)
    return [((found[1],), found[2])] if found else []


@pytest.mark.parametrize("name", sorted(ADDRESSES))
def test_addresses_are_those_of_torchvision(name: str) -> None:
    expected = of_torchvision(name)
    if not expected:
        pytest.skip("the installed torchvision keeps them elsewhere")
    assert [(remote.urls, remote.md5) for remote in ADDRESSES[name]] == expected


# --- verifying paths ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "reader", "splits", "num_classes"),
    [
        ("cifar10/cifar-10-batches-py", "cifar", {"train": 5085, "test": 1017}, 10),
        ("mnist", "idx", {"train": 10_000, "test": 10_000}, 10),
    ],
)
def test_real_sets_have_the_counts_they_are_known_to_have(
    shared_data: Path, path: str, reader: str, splits: dict[str, int], num_classes: int
) -> None:
    found = survey.check_path(shared_data / path)
    assert (found.reader, found.splits, found.num_classes) == (reader, splits, num_classes)
    assert found.num_damaged == 0


def test_decode_edge_has_three_files_that_must_fail(shared_data: Path) -> None:
    found = survey.check_path(shared_data / "decode-edge")
    assert (found.num_images, found.num_damaged, found.reader) == (23, 3, "")
    told = sorted(Path(text.split(":")[0]).name for text in found.problems)
    assert told == ["empty.jpg", "not_an_image.jpg", "truncated.jpg"]


@pytest.mark.ordinary
def test_real_archives_unpack_to_the_counts_of_their_owner(
    shared_data: Path, tmp_path: Path
) -> None:
    omniglot = shared_data / "omniglot"
    archives.extract(omniglot / "images_background_small1.zip", tmp_path / "small1")
    archives.extract(omniglot / "all_runs.zip", tmp_path / "runs")
    found = survey.check_path(tmp_path / "small1")
    assert (found.num_images, found.num_classes, found.num_damaged) == (2720, 5, 0)
    folders = {path.parent for path in (tmp_path / "small1").rglob("*.png")}
    assert len(folders) == 136
    assert survey.check_path(tmp_path / "runs").num_images == 20 * (20 + 20)


@pytest.mark.slow
def test_cifar10_as_jpegs_has_all_its_images(shared_data: Path, tmp_path: Path) -> None:
    for split in ("train", "test"):
        archive = shared_data / "cifar10-jpeg" / f"cifar10-jpeg-{split}.tar.gz"
        archives.extract(archive, tmp_path / split)
    (tmp_path / "train/cifar10-jpeg/train").rename(tmp_path / "test/cifar10-jpeg/train")
    found = survey.check_path(tmp_path / "test", num_workers=2)
    assert (found.splits, found.num_classes) == ({"train": 50_000, "test": 10_000}, 10)
    assert found.num_damaged == 0


def test_paths_that_cannot_be_verified(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none: no such file or folder"):
        survey.check_path(tmp_path / "none")
    (tmp_path / "a.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.zip: an archive\. Unpack it"):
        survey.check_path(tmp_path / "a.zip")
    with pytest.raises(DataError, match=r": no images\. Expected FOLDER/CLASS/IMAGE"):
        survey.check_path(tmp_path)
