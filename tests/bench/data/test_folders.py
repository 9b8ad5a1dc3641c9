"""Image folders: layouts, splits, content digests, and every way in which they are wrong."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bench.data import catalog
from bench.data.readers import folders
from bench.data.sources import files
from bench.errors import DataError
from bench.specs import DatasetCard

Make = Callable[..., Path]


def card_of(path: Path, **fields: object) -> DatasetCard:
    block = {"reader": "image_folder", "path": str(path), **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def test_class_folders_alone_are_split_by_a_stratified_draw(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path, {"b": 10, "a": 20, "c": 2})
    folder = folders.scan(tmp_path, test_share=0.2, seed=0)
    assert folder.class_names == ("a", "b", "c")
    labels = {split: [label for _, label in items] for split, items in folder.splits.items()}
    assert [labels["test"].count(k) for k in range(3)] == [4, 2, 1]
    assert [labels["train"].count(k) for k in range(3)] == [16, 8, 1]
    paths = [path for items in folder.splits.values() for path, _ in items]
    assert len(paths) == len(set(paths)) == 32
    assert folder == folders.scan(tmp_path, test_share=0.2, seed=0)
    assert folder.splits != folders.scan(tmp_path, test_share=0.2, seed=1).splits


def test_an_image_added_to_one_class_leaves_the_others_split_alone(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path, {"a": 20, "b": 10})
    before = folders.scan(tmp_path, test_share=0.2, seed=0).splits["test"]
    make_images(tmp_path, {"b": 11})
    after = folders.scan(tmp_path, test_share=0.2, seed=0).splits["test"]
    assert [item for item in before if item[1] == 0] == [item for item in after if item[1] == 0]


@pytest.mark.parametrize("name", ["test", "val", "validation"])
def test_given_splits_are_taken(tmp_path: Path, make_images: Make, name: str) -> None:
    make_images(tmp_path / "train", {"cat": 3, "dog": 2})
    make_images(tmp_path / name, {"cat": 1, "dog": 4}, suffix=".JPG")
    folder = folders.scan(tmp_path, test_share=0.5, seed=0)
    assert {split: len(items) for split, items in folder.splits.items()} == {"train": 5, "test": 5}
    assert folder.splits["test"][0] == (f"{name}/cat/000.JPG", 0)
    assert folder.selectors == {"train": "train/", "test": f"{name}/"}


@pytest.mark.parametrize(
    ("train", "test"), [("Train", "TEST"), ("training", "Testing"), ("TRAIN", "Validation")]
)
def test_splits_are_known_in_any_case(
    tmp_path: Path, make_images: Make, train: str, test: str
) -> None:
    make_images(tmp_path / train, {"cat": 3, "dog": 2})
    make_images(tmp_path / test, {"cat": 1, "dog": 1})
    folder = folders.scan(tmp_path, test_share=0.5, seed=0)
    assert folder.class_names == ("cat", "dog")
    assert folder.selectors == {"train": f"{train}/", "test": f"{test}/"}


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (("train", "Train", "test"), "Train/ and train/ are both called train"),
        (("train", "val", "valid"), "val/ and valid/ are both called val"),
        (("test",), "test/, and no train/"),
        (("Test", "val"), "Test/ and val/, and no train/"),
        (("cat/train", "cat/test", "dog/train", "dog/test"), "cat: holds the splits of one class"),
    ],
)
def test_unclear_splits_are_told(
    tmp_path: Path, make_images: Make, names: tuple[str, ...], words: str
) -> None:
    for name in names:
        make_images(tmp_path / name, {"a": 3, "b": 3})
    with pytest.raises(DataError, match=words):
        folders.scan(tmp_path, test_share=0.2, seed=0)


@pytest.mark.parametrize(
    "names", [("exam", "test"), ("bus", "car", "train"), ("resting", "training"), ("Test", "Train")]
)
def test_a_class_may_be_called_like_a_split(
    tmp_path: Path, make_images: Make, names: tuple[str, ...]
) -> None:
    """A split holds class folders, a class holds images."""
    make_images(tmp_path, dict.fromkeys(names, 3))
    assert folders.scan(tmp_path, test_share=0.5, seed=0).class_names == tuple(sorted(names))


def test_images_beside_the_classes_of_the_other_split_are_told(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path / "train", {"cat": 3, "dog": 3})
    make_images(tmp_path, {"test": 3})
    with pytest.raises(DataError, match="test: no images in class folders"):
        folders.scan(tmp_path, test_share=0.5, seed=0)


def test_val_beside_test_is_a_split_of_its_own(tmp_path: Path, make_images: Make) -> None:
    for name in ("train", "val", "test"):
        make_images(tmp_path / name, {"cat": 1, "dog": 1})
    assert set(folders.scan(tmp_path, test_share=0.5, seed=0).splits) == {"train", "val", "test"}


def test_train_alone_is_split(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "train", {"cat": 5, "dog": 5})
    folder = folders.scan(tmp_path, test_share=0.2, seed=0)
    assert {split: len(items) for split, items in folder.splits.items()} == {"train": 8, "test": 2}


def test_other_files_and_hidden_ones_are_no_images(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 3, "b": 3})
    (tmp_path / "a" / "notes.txt").write_text("x")
    (tmp_path / "a" / "._000.png").write_bytes(b"x")
    (tmp_path / ".thumbnails").mkdir()
    (tmp_path / "a" / "deeper").mkdir()
    os.rename(tmp_path / "a" / "000.png", tmp_path / "a" / "deeper" / "000.png")
    assert len(card_of(tmp_path).splits) == 2
    folder = folders.scan(tmp_path, test_share=0.3, seed=0)
    assert sum(len(items) for items in folder.splits.values()) == 6


# --- digests --------------------------------------------------------------------------------


def test_the_digest_is_of_the_content_not_of_times_or_places(
    tmp_path: Path, make_images: Make
) -> None:
    first = card_of(make_images(tmp_path / "one", {"a": 3, "b": 3}))
    second = card_of(make_images(tmp_path / "two", {"a": 3, "b": 3}))
    os.utime(tmp_path / "one" / "a" / "000.png", (1, 1))
    assert first.digest == second.digest == card_of(tmp_path / "one").digest


@pytest.mark.parametrize("change", ["bytes", "name", "class", "size", "seed", "share"])
def test_what_changes_the_images_changes_the_digest(
    tmp_path: Path, make_images: Make, change: str
) -> None:
    make_images(tmp_path, {"a": 4, "b": 4})
    before = card_of(tmp_path, image_size_px=16).digest
    fields: dict[str, object] = {"image_size_px": 16}
    file = tmp_path / "a" / "000.png"
    if change == "bytes":
        file.write_bytes((tmp_path / "b" / "003.png").read_bytes())
    elif change == "name":
        file.rename(tmp_path / "a" / "renamed.png")
    elif change == "class":
        file.rename(tmp_path / "b" / "from-a.png")
    else:
        key = {"size": "image_size_px", "seed": "seed", "share": "test_share"}[change]
        fields[key] = {"size": 20, "seed": 9, "share": 0.5}[change]
    assert card_of(tmp_path, **fields).digest != before


def test_hashes_are_remembered_until_a_file_changes(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_images(tmp_path / "set", {"a": 3, "b": 3})
    read: list[str] = []
    original = files._hash
    monkeypatch.setattr(files, "_hash", lambda path: read.append(path) or original(path))
    monkeypatch.setattr(files, "SETTLED_S", -60.0)  # as if the files were old
    digest = card_of(tmp_path / "set").digest
    assert len(read) == 6
    assert card_of(tmp_path / "set").digest == digest
    assert len(read) == 6
    (tmp_path / "set" / "a" / "001.png").write_bytes(
        (tmp_path / "set" / "b" / "001.png").read_bytes()
    )
    assert card_of(tmp_path / "set").digest != digest
    assert read[6:] == [str(tmp_path / "set" / "a" / "001.png")]


def test_a_file_changed_just_now_is_not_remembered(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "set", {"a": 2, "b": 2})
    before = time.time()
    card_of(tmp_path / "set")
    assert time.time() - before < files.SETTLED_S  # else this test proves nothing
    assert not list(files.memo_folder().glob("files-*"))


def test_hashing_that_was_stopped_goes_on_where_it_was(
    tmp_path: Path, make_images: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also where the last line of the memory was cut off in the middle."""
    make_images(tmp_path / "set", {"a": 40, "b": 40})
    whole = card_of(tmp_path / "set").digest
    read: list[str] = []
    original = files._hash
    monkeypatch.setattr(files, "_hash", lambda path: read.append(path) or original(path))
    monkeypatch.setattr(files, "SETTLED_S", -60.0)  # as if the files were old
    monkeypatch.setattr(files, "KEPT_FILES", 16)
    told: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        told.append((done, total))
        if done == 48:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), files.told(stop):
        card_of(tmp_path / "set")
    assert told == [(16, 80), (32, 80), (48, 80)]
    memo = files._memo_file(tmp_path / "set")
    memo.write_bytes(memo.read_bytes()[:-9])
    read.clear()
    assert card_of(tmp_path / "set").digest == whole
    assert len(read) == 80 - 47
    assert card_of(tmp_path / "set").digest == whole
    assert len(read) == 80 - 47


@pytest.mark.parametrize("content", ["", "[]", '{"a/000.png": 5}', "\0"])
def test_a_damaged_memory_is_ignored(tmp_path: Path, make_images: Make, content: str) -> None:
    make_images(tmp_path / "set", {"a": 2, "b": 2})
    digest = card_of(tmp_path / "set").digest
    memo = files._memo_file(tmp_path / "set")
    memo.parent.mkdir(parents=True, exist_ok=True)
    memo.write_text(content)
    assert card_of(tmp_path / "set").digest == digest


# --- CSV ------------------------------------------------------------------------------------


def write_csv(folder: Path, *lines: str) -> Path:
    (folder / "list.csv").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return folder / "list.csv"


def csv_card(path: Path, **fields: object) -> DatasetCard:
    block = {"reader": "csv", "path": str(path), **fields}
    return catalog.resolve("mine", block, base_dir=Path("/nowhere"))


def test_a_csv_may_say_splits_in_any_case_and_whole_paths(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path, {"x": 4})
    rows = [f"{tmp_path}/x/{k:03d}.png,{'cat' if k % 2 else 'dog'}" for k in range(4)]
    splits = ("Train", "TRAINING", "Validation", "test")
    path = write_csv(
        tmp_path,
        "path,label,split",
        *(f"{row},{split}" for row, split in zip(rows, splits, strict=True)),
    )
    assert {name: part.num_examples for name, part in csv_card(path).splits.items()} == {
        "train": 2, "val": 1, "test": 1,
    }  # fmt: skip


def test_missing_files_of_a_csv_are_told_with_the_line(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"x": 2})
    path = write_csv(
        tmp_path, "path,label", "x/000.png,a", "x/no.png,a", "x/001.png,b", "x/not.png,b"
    )
    with pytest.raises(
        DataError, match=r"list.csv, line 3: .*/x/no.png: no such file \(and 1 more"
    ):
        csv_card(path)


def test_a_csv_names_files_labels_and_splits(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"x": 6})
    path = write_csv(
        tmp_path, "split,label,path", "train,dog,x/000.png", "train,cat,x/001.png",
        "test,dog,x/002.png", "val,cat,x/003.png",
    )  # fmt: skip
    card = csv_card(path)
    assert card.class_names == ("cat", "dog")
    assert {split: part.num_examples for split, part in card.splits.items()} == {
        "train": 2, "test": 1, "val": 1,
    }  # fmt: skip
    folder = folders.scan_csv(path, test_share=0.5, seed=0)
    assert folder.splits["train"] == [("x/001.png", 0), ("x/000.png", 1)]


def test_a_csv_without_splits_is_the_same_data_as_the_folder(
    tmp_path: Path, make_images: Make
) -> None:
    make_images(tmp_path, {"a": 5, "b": 5})
    rows = [f"{name}/{k:03d}.png,{name}" for name in "ba" for k in range(5)]
    path = write_csv(tmp_path, "path,label", *rows)
    assert csv_card(path).digest == card_of(tmp_path).digest


@pytest.mark.parametrize(
    ("lines", "told"),
    [
        (["file,class", "a/000.png,a"], "no columns path and label"),
        (["path,label", "a/000.png,"], "line 2: empty path or label"),
        (["path,label,split", "a/000.png,a,exam"], 'line 2: unknown split "exam"'),
        (["path,label", "/etc/passwd,a"], "line 2: /etc/passwd is not inside"),
        (["path,label", "a/000.png,a", "../x.png,a"], r"line 3: \.\./x\.png is not inside"),
        (["path,label", "a/000.png,a", "a/000.png,b"], "line 3: a/000.png is listed twice"),
        (["path,label", "a/000.png,a", "a/001.png,a"], 'only one class, "a"'),
        (["path,label"], "no training images"),
        (["path,label", "a/000.png,a", "a/001.png,a", "n.png,b", "m.png,b"],
             r"line 4: .*/n\.png: no such file \(and 1 more rows"),
        (["path,label,split", "a/000.png,a,train", "a/001.png,b,train", "a/002.png,c,test"],
         'class "c" of test is not in train'),
    ],
)  # fmt: skip
def test_bad_csv_files(tmp_path: Path, make_images: Make, lines: list[str], told: str) -> None:
    make_images(tmp_path, {"a": 4})
    with pytest.raises(DataError, match=told):
        csv_card(write_csv(tmp_path, *lines))


def test_a_csv_that_is_no_text_or_not_there(tmp_path: Path) -> None:
    (tmp_path / "list.csv").write_bytes(b"path,label\n\xff\xfe,\x00\n")
    with pytest.raises(DataError, match=r"list\.csv: not a CSV file in UTF-8"):
        csv_card(tmp_path / "list.csv")
    with pytest.raises(DataError, match="no such file"):
        csv_card(tmp_path / "none.csv")


# --- bad input ------------------------------------------------------------------------------


def test_a_missing_path(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=rf"{tmp_path}/none: no such folder\. Check path"):
        card_of(tmp_path / "none")


def test_a_file_in_place_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    with pytest.raises(DataError, match=r"file: not a folder\. Expected FOLDER/CLASS/IMAGE"):
        card_of(tmp_path / "file")


def test_an_empty_folder(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"no images in class folders\. Expected FOLDER/CLASS"):
        card_of(tmp_path)


def test_images_without_class_folders(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {".": 3})
    with pytest.raises(DataError, match="no images in class folders"):
        card_of(tmp_path)


def test_an_empty_class(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 3, "b": 3, "empty": 0})
    with pytest.raises(DataError, match="empty: the class folder has no images"):
        card_of(tmp_path)


def test_one_class_only(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 3})
    with pytest.raises(DataError, match='only one class, "a"'):
        card_of(tmp_path)


def test_a_class_of_one_image_cannot_be_split(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 3, "b": 1})
    with pytest.raises(DataError, match='class "b" has one image'):
        card_of(tmp_path)


def test_a_test_class_that_is_not_trained_on(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path / "train", {"a": 2, "b": 2})
    make_images(tmp_path / "test", {"a": 2, "zebra": 2})
    with pytest.raises(DataError, match='class "zebra" of test is not in train'):
        card_of(tmp_path)


def test_a_wrong_number_of_classes(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 2, "b": 2})
    with pytest.raises(DataError, match=r"num_classes is 3, but .* holds 2 classes"):
        card_of(tmp_path, num_classes=3)


def test_a_name_that_is_no_text(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 2, "b": 2})
    os.rename(tmp_path / "a", os.fsencode(tmp_path) + b"/caf\xe9")
    with pytest.raises(DataError, match=r"caf\\udce9/000\.png: the name is not UTF-8"):
        card_of(tmp_path)


@pytest.mark.parametrize(
    ("fields", "told"),
    [
        ({"path": "a\0b"}, r"dataset\.mine: path cannot be used \(.*null"),
        ({"path": "a" * 5000}, r"dataset\.mine: path cannot be used"),
        ({"path": "~nobody-here/x"}, r"dataset\.mine: path cannot be used"),
        (
            {"path": ".", "seed": -1},
            r"dataset\.mine\.seed: input should be greater than or equal to 0, not -1",
        ),
        (
            {"path": ".", "seed": 2**31},
            r"dataset\.mine\.seed: input should be less than 2147483648, not 2147483648",
        ),
    ],
)
def test_fields_out_of_range(tmp_path: Path, fields: dict[str, object], told: str) -> None:
    block = {"reader": "image_folder", **fields}
    with pytest.raises(DataError, match=told):
        catalog.resolve("mine", block, base_dir=tmp_path)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read anything")
def test_a_folder_without_permission(tmp_path: Path, make_images: Make) -> None:
    make_images(tmp_path, {"a": 2, "b": 2})
    (tmp_path / "a" / "000.png").chmod(0)
    with pytest.raises(DataError, match=r"000\.png: cannot be read \(Permission denied\)"):
        card_of(tmp_path)
