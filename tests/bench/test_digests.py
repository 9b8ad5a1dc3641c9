"""Digests of public weights: recorded at first use, safely by many, and one error for two."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from bench import digests
from bench.digests import Stated
from bench.errors import CheckpointError
from bench.paths import CachePaths
from bench.specs import JobResult

URL = "https://storage.googleapis.com/vit_models/imagenet21k/ViT-B_16.npz"
ONE, TWO = "1" * 64, "2" * 64


@pytest.fixture
def cache(tmp_path: Path) -> CachePaths:
    return CachePaths(tmp_path / "data")


def loaded(sha256: str) -> Stated:
    return Stated(sha256, "the file /cache/ViT-B_16.npz")


def test_the_first_use_is_recorded_and_later_ones_compared(cache: CachePaths) -> None:
    assert digests.recorded(URL, cache) is None
    for _ in range(2):
        digests.record("in21k", URL, loaded(ONE), cache)
    known = digests.recorded(URL, cache)
    assert known is not None
    assert known.sha256 == ONE
    assert str(cache.weights_record) in known.where
    assert digests.recorded(URL + "2", cache) is None


def test_the_one_error_names_weights_digests_places_and_cure(cache: CachePaths) -> None:
    digests.record("in21k", URL, loaded(ONE), cache)
    before = cache.weights_record.read_bytes()
    with pytest.raises(CheckpointError) as caught:
        digests.record("in21k", URL, loaded(TWO), cache)
    words = str(caught.value)
    for part in (
        'weights "in21k"', URL, ONE, TWO, "in the file /cache/ViT-B_16.npz",
        f"in {cache.weights_record} (first used on 20", "download it again", "--workdir",
    ):  # fmt: skip
        assert part in words
    assert "\n" not in words
    assert cache.weights_record.read_bytes() == before


@pytest.mark.parametrize(
    "text",
    ["", "[]", '{"a": 3}', '{"a": {"sha256": "12", "first_used": ""}}', '{"a": {"sha256": 1}}'],
)
def test_a_damaged_record_is_told_and_never_forgotten(cache: CachePaths, text: str) -> None:
    cache.folder.mkdir()
    cache.weights_record.write_text(text)
    with pytest.raises(CheckpointError, match=r"weights\.json: damaged"):
        digests.record("in21k", URL, loaded(ONE), cache)
    assert cache.weights_record.read_text() == text


@pytest.mark.ordinary
def test_processes_at_once_lose_no_entry_and_agree_on_one(cache: CachePaths) -> None:
    """Each process records addresses of its own, and all of them one with a digest of their own."""
    code = (
        "import sys; from pathlib import Path; from bench import digests\n"
        "from bench.errors import CheckpointError; from bench.paths import CachePaths\n"
        "cache, mine = CachePaths(Path(sys.argv[1])), sys.argv[2]\n"
        "print(flush=True); sys.stdin.readline()\n"
        "stated = digests.Stated(mine * 64, 'here')\n"
        "for number in range(8): digests.record('w', f'{mine}/{number}', stated, cache)\n"
        "try: digests.record('w', 'shared', stated, cache); print('first')\n"
        "except CheckpointError: print('refused')\n"
    )
    words = [sys.executable, "-c", code, str(cache.folder)]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    processes = [subprocess.Popen([*words, mine], **pipes) for mine in "abc"]  # type: ignore[call-overload]
    for process in processes:
        process.stdout.readline()
    for process in processes:
        process.stdin.write("\n")
        process.stdin.flush()
    said = sorted(process.communicate(timeout=60)[0].split()[-1] for process in processes)
    assert said == ["first", "refused", "refused"]
    entries = json.loads(cache.weights_record.read_text())
    assert len(entries) == 25
    assert {e["sha256"] for key, e in entries.items() if key.startswith("b/")} == {"b" * 64}


@pytest.mark.parametrize(
    ("address", "file", "expected"),
    [
        (URL, "a.npz", []),
        ("https://github.com/x/resnet50-0676ba61.pth", "a.pth", ["0676ba61"]),
        ("https://github.com/x/resnet50-20211231.pth", "a.pth", []),  # a date
        ("https://github.com/x/augreg-sd_0.0-abcdef01.npz", "a.npz", []),  # not torch's rule
        ("hf-hub:timm/vit", ONE, [ONE]),
        ("hf-hub:timm/vit-0676ba61.pth", "model.safetensors", []),
    ],
)
def test_what_names_say_of_a_digest(
    tmp_path: Path, address: str, file: str, expected: list[str]
) -> None:
    path = tmp_path / file
    path.touch()
    link = tmp_path / "link"
    link.symlink_to(path)
    assert [stated.sha256 for stated in digests.published(address, "", link)] == expected
    with_card = list(digests.published(address, TWO, link))
    assert [stated.sha256 for stated in with_card] == [TWO, *expected]
    assert with_card[0].where == "the card of the weights"


def test_what_a_bundle_of_others_calls_its_weights_steers_no_terminal() -> None:
    with pytest.raises(CheckpointError) as caught:
        digests.check("in\x1b[2J21k", "", loaded(ONE), [Stated(TWO, "b\r.zip")])
    assert str(caught.value).isprintable()
    for value in ("\x1b[2J", "12", None, 3):
        result = JobResult(job_id="0" * 16, status="done", values={digests.VALUE: value})
        assert digests.digest_of(result) == ""


def test_the_beginning_of_a_digest_is_enough_to_tell_two_apart() -> None:
    assert Stated("12" * 32, "").agrees(Stated("12121212", ""))
    assert not Stated("12" * 32, "").agrees(Stated("12121213", ""))
