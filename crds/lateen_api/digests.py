# SPDX-License-Identifier: Apache-2.0
"""Which files of a folder are a model, and the checksum over them: `spec.source.digest`.

Used by the data plane, which verifies weights with it, and by `lateen digest`, which prints it.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path, PurePosixPath

_KINDS = frozenset(
    {".json", ".txt", ".model", ".jinja", ".safetensors", ".gguf", ".tiktoken", ".bpe", ".spm", ".vocab"}
)
_SKIPPED = frozenset({"onnx", "openvino", "original", "coreml", "__MACOSX"})
_BLOCK = 2**20


def model_files(names: Iterable[str]) -> list[str]:
    """Those of a folder's relative file names (with `/`) that are the model, sorted; all others are never fetched.

    Taken are weights (`.safetensors`, or `.gguf` where there are no safetensors), configuration (`.json`),
    vocabularies (`.txt`, `.model`, `.tiktoken`, `.bpe`, `.spm`, `.vocab`) and templates (`.jinja`). Left out are
    hidden files and folders, and the folders `onnx`, `openvino`, `original`, `coreml` that repeat the weights.
    """
    taken = sorted(name for name in names if _is_taken(PurePosixPath(name)))
    if any(name.endswith(".safetensors") for name in taken):
        return [name for name in taken if not name.endswith(".gguf")]
    return taken


def _is_taken(path: PurePosixPath) -> bool:
    hidden = any(part.startswith(".") for part in path.parts)
    return path.suffix in _KINDS and not hidden and not _SKIPPED.intersection(path.parts[:-1])


def combined(checksums: Mapping[str, str]) -> str:
    """`sha256:` and the SHA-256 of the text with one line `CHECKSUM  NAME` for each file, sorted by name.

    `checksums` maps relative names (with `/`) to lower-case hexadecimal SHA-256 of the content. Names are compared
    and written as UTF-8; each line ends with a newline. It is what `sha256sum` prints for the sorted names, hashed.
    """
    lines = sorted((name.encode(), checksum.encode()) for name, checksum in checksums.items())
    text = b"".join(checksum + b"  " + name + b"\n" for name, checksum in lines)
    return f"sha256:{hashlib.sha256(text).hexdigest()}"


def of_folder(folder: Path) -> str:
    """The digest of a model folder or of one GGUF file: `combined` over its `model_files`.

    For a file, the folder is taken to hold that file alone. Raises FileNotFoundError when there is nothing to hash
    and OSError when a file can't be read.
    """
    if folder.is_file():
        return combined({folder.name: checksum(folder)})
    names = model_files(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())
    if not names:
        raise FileNotFoundError(f"{folder} holds no files of a model")
    return combined({name: checksum(folder / name) for name in names})


def checksum(path: Path) -> str:
    """The SHA-256 of a file's content, in lower-case hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
    return digest.hexdigest()
