"""Weights by name: downloaded once to a cache, checked against their digest, never executed.

`hf-hub:OWNER/NAME[@REVISION]` goes through huggingface_hub, official addresses through torch.hub
(both write to a temporary file and rename). The cache is torch.hub's, so `TORCH_HOME` moves it.
What a file must be is known by `bench/digests.py`.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path, PurePosixPath
from typing import NamedTuple
from urllib.parse import unquote, urlsplit

from bench import digests
from bench.errors import CheckpointError, UserError
from bench.files import file_sha256
from bench.paths import CachePaths
from bench.specs import WeightsSource

OFFICIAL_HOSTS = ("storage.googleapis.com", "github.com", "huggingface.co")
"""Hosts of the authors' and timm's files; nothing is downloaded from elsewhere."""

_HUB_NAME = re.compile(r"hf-hub:([\w.-]+/[\w.-]+)(?:@([\w.-]+))?")


class Fetched(NamedTuple):
    """A weights file on this machine."""

    path: Path
    """The file, in the cache."""
    sha256: str
    """SHA-256 of its bytes, in hex."""


def fetch(
    source: str | WeightsSource,
    *,
    cache_dir: Path | None = None,
    shared: CachePaths | None = None,
) -> Fetched:
    """Return the local file of `source`, downloaded where it is not yet in the cache.

    Its digest must be what its owner publishes, where anything is known of that, and what the
    work folder of `shared`, where one is given, recorded when it used the weights first.
    Raises UserError for a name that is none (or tries to be a path), CheckpointError where the
    file cannot be had or has another digest than it should.
    """
    name, url, sha256 = (
        (source, source, "")
        if isinstance(source, str)
        else (source.name, source.url, source.sha256)
    )
    if not url:
        raise UserError(
            f'weights "{name}" are not public', hint="Only a file of your own can be loaded"
        )
    path = _from_hub(url) if url.startswith("hf-hub:") else _from_address(url, cache_dir)
    found = file_sha256(path)
    loaded = digests.Stated(found, f"the file {path}")
    digests.check(name, url, loaded, digests.published(url, sha256, path))
    if shared is not None:
        digests.record(name, url, loaded, shared)
    return Fetched(path, found)


def cached(url: str, folder: Path) -> Path:
    """Return where in `folder` the file of an official address is kept, fetched or not."""
    file_name = re.sub(r"[^\w.-]", "_", PurePosixPath(unquote(urlsplit(url).path)).name)
    return folder / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}-{file_name}"


def _from_hub(url: str) -> Path:
    name = _HUB_NAME.fullmatch(url)
    if name is None or ".." in url:
        raise UserError(f'"{url}" is not a hub name', hint="Write hf-hub:OWNER/NAME[@REVISION]")
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(hf_hub_download(name[1], "model.safetensors", revision=name[2]))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise CheckpointError(
            f"{url} could not be downloaded: {str(error).splitlines()[0]}",
            hint="Check the name and the network, or load a file of your own",
        ) from error


def _from_address(url: str, cache_dir: Path | None) -> Path:
    parts = urlsplit(url)
    if parts.scheme != "https" or parts.hostname not in OFFICIAL_HOSTS:
        raise UserError(
            f'"{url}" is not an official address',
            hint=f"https and one of {', '.join(OFFICIAL_HOSTS)}; or download it yourself",
        )
    import torch.hub

    path = cached(url, cache_dir or Path(torch.hub.get_dir()) / "checkpoints")
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            torch.hub.download_url_to_file(url, str(path), progress=False)
        except (OSError, ValueError) as error:
            raise CheckpointError(
                f"{url} could not be downloaded: {error}",
                hint="Check the network, or load a file of your own",
            ) from error
    return path
