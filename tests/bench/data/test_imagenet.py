"""ImageNet's class order, and its evaluation sets in their owners' layouts."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from bench.data import catalog, scoring
from bench.data.cards import imagenet
from bench.data.packs import build
from bench.data.readers import READERS
from bench.data.sources.folder import Folder
from bench.errors import DataError
from bench.specs import DatasetCard

SYNSETS = imagenet.synsets()


@pytest.fixture(scope="session")
def jpeg(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("jpeg") / "one.JPEG"
    Image.fromarray(np.full((4, 4, 3), 128, dtype=np.uint8)).save(file)
    return file


def fill(jpeg: Path, places: Iterable[Path]) -> None:
    made = set()
    for place in places:
        if place.parent not in made:
            place.parent.mkdir(parents=True, exist_ok=True)
            made.add(place.parent)
        os.link(jpeg, place)


def scan(reader: str, root: Path) -> Folder:
    found: Folder = READERS[reader].scan(root)
    return found


def card_of(reader: str, root: Path, *, name: str = "mine") -> DatasetCard:
    block = {"reader": reader, "path": str(root), "image_size_px": 4}
    return catalog.resolve(name, block, base_dir=Path("/nowhere"))


def labels_by_name(folder: Folder, split: str = "test") -> dict[str, int]:
    return {Path(path).name: label for path, label in folder.splits[split]}


# --- class order ----------------------------------------------------------------------------


def test_the_class_order_is_the_sorted_synsets_of_the_shared_list(shared_data: Path) -> None:
    shared = (shared_data / "imagenet-meta" / "imagenet_synsets.txt").read_text().split()
    assert list(SYNSETS) == shared == sorted(shared)
    assert all(SYNSETS[index] == wnid for index, wnid in imagenet.ANCHORS.items())
    assert imagenet.order_problem(SYNSETS) == ""


@pytest.mark.parametrize(
    ("names", "problem"),
    [
        (SYNSETS[:5] + SYNSETS[6:], f"999 classes .* the first one missing is {SYNSETS[5]}"),
        (SYNSETS[1:] + SYNSETS[:1], "class 0 is n01443537, not n01440764: .* in another order"),
        (tuple(sorted(map(str, range(1000)))), 'folders sorted as strings: "10" is class 2'),
        (tuple(map(str, range(1000))), "class numbers in place of WNIDs"),
        (tuple(f"name {k:04d}" for k in range(1000)), "names that are no WNIDs"),
        ((*SYNSETS[:2], SYNSETS[3], SYNSETS[2], *SYNSETS[4:]), f"class 2 is {SYNSETS[3]}"),
        ((*SYNSETS[:500], "n00000000", *SYNSETS[501:]), "class 500 is n00000000"),
        ((), "0 classes in place of 1,000$"),
    ],
)
def test_another_order_is_noticed(names: tuple[str, ...], problem: str) -> None:
    assert re.search(problem, imagenet.order_problem(names))


def test_numbered_folders() -> None:
    assert imagenet.numbering_problem(list(map(str, range(12)))) == ""
    assert imagenet.numbering_problem(["cat", "dog"]) == ""
    assert '"10" is class 2' in imagenet.numbering_problem(sorted(map(str, range(12))))
    assert "folder 1 is missing" in imagenet.numbering_problem(["0", "2"])


def test_the_list_is_read_without_timm_or_torch() -> None:
    code = (
        "import sys; from bench.data.cards import imagenet; imagenet.synsets(); "
        "sys.exit(any(name in sys.modules for name in ('timm', 'torch', 'numpy')))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# --- ImageNet itself ------------------------------------------------------------------------

VAL = {1: 65, 2: 970, 3: 230, 4: 809, 5: 516, 6: 57}
"""Labels of the first validation images, as ReaL's list and others have them: 65 first."""


def val_names() -> list[str]:
    return [f"ILSVRC2012_val_{number:08d}.JPEG" for number in VAL]


def test_train_and_val_in_class_folders(tmp_path: Path, jpeg: Path) -> None:
    fill(jpeg, (tmp_path / "train" / wnid / f"{wnid}_1.JPEG" for wnid in SYNSETS))
    fill(jpeg, (tmp_path / "val" / wnid / f"{wnid}_2.JPEG" for wnid in reversed(SYNSETS)))
    folder = scan("imagenet", tmp_path)
    for split in ("train", "test"):
        assert [label for _, label in folder.splits[split]] == list(range(1000))
    shutil.rmtree(tmp_path / "val" / SYNSETS[7])
    with pytest.raises(DataError, match=rf"no class folder {SYNSETS[7]} \(1 missing, 0 unknown"):
        scan("imagenet", tmp_path)


def devkit(root: Path) -> None:
    """Write the devkit's files: its own ids, here in reverse, then a class that has children."""
    ids = {wnid: 1000 - index for index, wnid in enumerate(SYNSETS)}
    rows = [(ids[wnid], wnid, 0) for wnid in sorted(ids, key=ids.__getitem__)]
    table = np.array(
        [*rows, (1001, "n00001740", 3)],
        dtype=[("ILSVRC2012_ID", "i4"), ("WNID", "O"), ("num_children", "i4")],
    )
    root.mkdir(parents=True)
    savemat(root / "meta.mat", {"synsets": table})
    truth = "".join(f"{ids[SYNSETS[label]]}\n" for label in VAL.values())
    (root / "ILSVRC2012_validation_ground_truth.txt").write_text(truth)


def test_a_flat_val_folder_with_the_devkit(tmp_path: Path, jpeg: Path) -> None:
    """The devkit's ids are not class numbers: taken for such, every label would be wrong."""
    fill(jpeg, (tmp_path / "val" / name for name in val_names()))
    with pytest.raises(DataError, match="no list of their labels"):
        scan("imagenet", tmp_path)
    devkit(tmp_path / "ILSVRC2012_devkit_t12" / "data")
    folder = scan("imagenet", tmp_path)
    assert labels_by_name(folder) == dict(zip(val_names(), VAL.values(), strict=True))
    assert set(folder.splits) == {"test"}
    (tmp_path / "ILSVRC2012_devkit_t12" / "data" / "meta.mat").write_bytes(b"no mat")
    with pytest.raises(DataError, match=r"not the devkit's meta\.mat"):
        scan("imagenet", tmp_path)


def test_a_flat_val_folder_with_a_csv(tmp_path: Path, jpeg: Path) -> None:
    fill(jpeg, (tmp_path / "val" / name for name in val_names()))
    rows = [
        f"{Path(name).stem},{SYNSETS[label]} 85 1 499 272"
        for name, label in zip(val_names(), VAL.values(), strict=True)
    ]
    file = tmp_path / "LOC_val_solution.csv"
    file.write_text("\n".join(["ImageId,PredictionString", *reversed(rows)]))
    assert list(labels_by_name(scan("imagenet", tmp_path)).values()) == list(VAL.values())
    file.write_text("\n".join(["ImageId,PredictionString", *rows[1:]]))
    with pytest.raises(DataError, match=r"val_00000001\.JPEG: no label in the list"):
        scan("imagenet", tmp_path)
    file.write_text("ImageId,PredictionString\nILSVRC2012_val_00000001,tench\n")
    with pytest.raises(DataError, match="line 2: no WNID of the 1,000"):
        scan("imagenet", tmp_path)


# --- evaluation sets ------------------------------------------------------------------------


def test_real_keeps_all_labels_and_drops_images_without_one(
    tmp_path: Path, jpeg: Path, shared_data: Path
) -> None:
    lists = json.loads((shared_data / "imagenet-meta" / "real.json").read_text())
    empty = next(index for index, labels in enumerate(lists) if not labels)
    many = next(index for index, labels in enumerate(lists) if len(labels) > 2)
    one, two = [index for index, labels in enumerate(lists) if len(labels) == 1][:2]
    names = {index: f"ILSVRC2012_val_{index + 1:08d}.JPEG" for index in (one, two, empty, many)}
    fill(jpeg, (tmp_path / "val" / name for name in names.values()))
    shutil.copy(shared_data / "imagenet-meta" / "real.json", tmp_path)
    folder = scan("imagenet-real", tmp_path)
    assert set(labels_by_name(folder)) == {names[index] for index in (one, two, many)}
    assert folder.details[f"val/{names[many]}"] == tuple(lists[many])

    card = card_of("imagenet-real", tmp_path)
    assert (card.scoring, card.num_classes) == ("multi-label", 1000)
    split = build.packed(card, cache_dir=tmp_path / "cache").split("test")
    assert split.details_NF is not None
    found = [[label for label in row if label >= 0] for row in split.details_NF.tolist()]
    assert found == [lists[index] for index in sorted((one, two, many))]
    answer = np.array([labels[-1] for labels in found])
    assert scoring.judge("multi-label", answer, split.labels_N, details_NF=split.details_NF).top1


def test_other_labels_are_other_data(tmp_path: Path, jpeg: Path) -> None:
    fill(jpeg, (tmp_path / "val" / name for name in val_names()))
    digests = set()
    for labels in ([[1, 2]] * 6, [[1, 3]] * 6):
        (tmp_path / "real.json").write_text(json.dumps(labels))
        digests.add(card_of("imagenet-real", tmp_path).digest)
    assert len(digests) == 2
    (tmp_path / "real.json").write_text(json.dumps([[1]] * 5))
    with pytest.raises(DataError, match=r"not one of the 5 images of real\.json"):
        scan("imagenet-real", tmp_path)
    (tmp_path / "real.json").write_text(json.dumps([[1000]] * 6))
    with pytest.raises(DataError, match="a label is not in 0 to 999"):
        scan("imagenet-real", tmp_path)


def test_v2_folders_are_numbers(tmp_path: Path, jpeg: Path) -> None:
    fill(jpeg, (tmp_path / str(number) / f"{number}.jpeg" for number in range(1000)))
    found = labels_by_name(scan("imagenet-v2", tmp_path))
    assert found == {f"{number}.jpeg": number for number in range(1000)}
    with pytest.raises(DataError, match="1,000 test, but ImageNet-V2 has 1000 and 10,000 test"):
        card_of("imagenet-v2", tmp_path, name="imagenet-v2")
    shutil.rmtree(tmp_path / "17")
    with pytest.raises(DataError, match=r"no class folder 17 \(1 missing"):
        scan("imagenet-v2", tmp_path)


@pytest.mark.parametrize("name", ["imagenet-a", "imagenet-r"])
def test_subsets_are_labelled_among_all_classes(name: str, tmp_path: Path, jpeg: Path) -> None:
    wnids, indices = imagenet.subset_synsets(name), imagenet.subset_indices(name)
    fill(jpeg, (tmp_path / wnid / f"{wnid}.jpg" for wnid in wnids))
    folder = scan(name, tmp_path)
    assert [label for _, label in folder.splits["test"]] == list(indices)
    assert len(folder.class_names) == 1000
    other = next(wnid for wnid in SYNSETS if wnid not in wnids)
    fill(jpeg, [tmp_path / other / "1.jpg"])
    with pytest.raises(DataError, match=f"{other} is not a class of the set"):
        scan(name, tmp_path)


def test_sketch_has_all_classes(tmp_path: Path, jpeg: Path) -> None:
    fill(jpeg, (tmp_path / wnid / "sketch_0.JPEG" for wnid in SYNSETS))
    assert [label for _, label in scan("imagenet-sketch", tmp_path).splits["test"]] == list(
        range(1000)
    )


def test_corruptions_carry_their_place_and_severity(
    tmp_path: Path, jpeg: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Fifteen corruptions at five severities, with four classes in place of 1,000."""
    monkeypatch.setattr(imagenet, "synsets", lambda: SYNSETS[:4])
    groups = {"fog": "weather", "snow": "weather"}
    for name in imagenet.CORRUPTIONS:
        root = tmp_path / groups.get(name, "") / name
        fill(jpeg, (root / str(s) / w / "1.JPEG" for s in range(1, 6) for w in SYNSETS[:4]))
    fill(jpeg, [tmp_path / "gaussian_blur" / "1" / SYNSETS[0] / "1.JPEG"])  # one of the extra ones
    card = card_of("imagenet-c", tmp_path)
    assert card.splits["test"].num_examples == 15 * 5 * 4
    assert card.scoring == "corruption"
    split = build.packed(card, cache_dir=tmp_path / "cache").split("test")
    result = scoring.judge(
        "corruption", split.labels_N, split.labels_N, details_NF=split.details_NF
    )
    assert (result.top1, result.mce) == (1.0, 0.0)
    shutil.rmtree(tmp_path / "weather" / "fog" / "3")
    with pytest.raises(DataError, match=r"fog/3: no such folder"):
        scan("imagenet-c", tmp_path)


def test_no_corruption_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="none of the corruptions, such as gaussian_noise/1"):
        scan("imagenet-c", tmp_path)


def test_cards_name_their_rule_and_have_a_test_split_alone() -> None:
    cards = {card.name: card for card in imagenet.CARDS if "train" not in card.splits}
    assert {name: card.splits["test"].num_examples for name, card in cards.items()} == {
        "imagenet-1k-real": 46_837,
        "imagenet-v2": 10_000,
        "imagenet-a": 7500,
        "imagenet-r": 30_000,
        "imagenet-sketch": 50_889,
        "imagenet-c": 3_750_000,
    }
    assert all(set(card.splits) == {"test"} and card.num_classes == 1000 for card in cards.values())
    assert all(card.reader in READERS for card in cards.values())
    rules = [card.scoring for card in cards.values()]
    assert rules == [
        "multi-label", "top1", "class-subset", "class-subset", "top1", "corruption",
    ]  # fmt: skip
