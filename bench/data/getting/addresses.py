"""Addresses of public data sets at their owners, with MD5 digests, by the name of the card.

As torchvision 0.29 has them, which a test compares; EuroSAT's stands inside one of its methods.
"""

from __future__ import annotations

from typing import NamedTuple


class Remote(NamedTuple):
    """One file to fetch."""

    urls: tuple[str, ...]
    """Addresses, tried in order."""
    md5: str
    """Digest of the file."""

    @property
    def name(self) -> str:
        """File name."""
        return self.urls[0].rsplit("/", 1)[1]


def _files(*folders: str, **files: str) -> tuple[Remote, ...]:
    """Return files that lie in one folder, which may be mirrored; `files` are digests by name."""
    return tuple(
        Remote(tuple(f"{folder}{name}" for folder in folders), md5) for name, md5 in files.items()
    )


ADDRESSES: dict[str, tuple[Remote, ...]] = {
    "cifar10": _files(
        "https://www.cs.toronto.edu/~kriz/",
        **{"cifar-10-python.tar.gz": "c58f30108f718f92721af3b95e74349a"},
    ),
    "cifar100": _files(
        "https://www.cs.toronto.edu/~kriz/",
        **{"cifar-100-python.tar.gz": "eb9058c3a382ffc7106e4002c42a8d85"},
    ),
    "mnist": _files(
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        "http://yann.lecun.com/exdb/mnist/",
        **{
            "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
            "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
            "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
            "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
        },
    ),
    "fashion-mnist": _files(
        "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
        **{
            "train-images-idx3-ubyte.gz": "8d4fb7e6c68d591d4c3dfef9ec88bf0d",
            "train-labels-idx1-ubyte.gz": "25c81989df183df01b3e8a0aad5dffbe",
            "t10k-images-idx3-ubyte.gz": "bef4ecab320f06d8554ea6380940ec79",
            "t10k-labels-idx1-ubyte.gz": "bb300cfdad3c16e7a12a480ee83cd310",
        },
    ),
    "svhn": _files(
        "http://ufldl.stanford.edu/housenumbers/",
        **{
            "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
            "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
        },
    ),
    "stl10": _files(
        "http://ai.stanford.edu/~acoates/stl10/",
        **{"stl10_binary.tar.gz": "91f7769df0f17e558f3565bffb0c7dfb"},
    ),
    "oxford-pets": _files(
        "https://www.robots.ox.ac.uk/~vgg/data/pets/data/",
        **{
            "images.tar.gz": "5c4f3ee8e5d25df40f4fd59a7f44e54c",
            "annotations.tar.gz": "95a8c909bbe2e81eed6a22bccdf3f68f",
        },
    ),
    "oxford-flowers102": _files(
        "https://www.robots.ox.ac.uk/~vgg/data/flowers/102/",
        **{
            "102flowers.tgz": "52808999861908f626f3c1f4e79d11fa",
            "imagelabels.mat": "e0620be6f572b9609742df49c70aed4d",
            "setid.mat": "a5357ecc9cb78c4bef273ce3793fc85c",
        },
    ),
    "eurosat": _files(
        "https://huggingface.co/datasets/torchgeo/eurosat/resolve/"
        "c877bcd43f099cd0196738f714544e355477f3fd/",
        **{"EuroSAT.zip": "c8fa014336c82ac7804f0398fcb19387"},
    ),
    "dtd": _files(
        "https://www.robots.ox.ac.uk/~vgg/data/dtd/download/",
        **{"dtd-r1.0.1.tar.gz": "fff73e5086ae6bdbea199a49dfb8a4c1"},
    ),
}
