"""Looks for texts in all that a results folder holds: bytes, and what is compressed in PDF, PNG and parquet files."""

import html
import json
import re
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path

import pyarrow.parquet as pq
from PIL import Image


def leaks(folder: Path, secrets: Mapping[str, str]) -> list[str]:
    """Return in which file which of the secrets is found, in any spelling."""
    found = []
    for file in sorted(path for path in folder.rglob("*") if path.is_file()):
        contents = list(_contents(file))
        for name, secret in secrets.items():
            spellings = [re.escape(spelling) for spelling in _spellings(secret)]
            # A short word, such as the name of a host, may be part of others, and of the bytes of an image.
            whole = len(secret) < 6
            for spelling in spellings:
                pattern = rb"(?<![\w#.-])%s(?![\w-])" % spelling if whole else spelling
                searched = contents[1:] if whole and _is_binary(file) else contents
                if any(re.search(pattern, content) for content in searched):
                    found.append(f"{name} in {file.relative_to(folder)}")
    return sorted(set(found))


def _is_binary(file: Path) -> bool:
    return file.suffix in (".safetensors", ".parquet", ".png", ".pdf", ".pt")


def _spellings(secret: str) -> set[bytes]:
    texts = {secret, json.dumps(secret)[1:-1], html.escape(secret), html.escape(secret, quote=False)}
    texts |= {html.escape(secret).replace("&#x27;", "&#39;"), secret.replace("/", "\\/")}
    return {text.encode() for text in texts}


def _contents(file: Path) -> Iterator[bytes]:
    """Yield all bytes of a file, then what is packed in it."""
    content = file.read_bytes()
    yield content
    if file.suffix == ".pdf":
        for stream in re.findall(rb"stream\r?\n(.*?)\r?\nendstream", content, flags=re.DOTALL):
            try:
                yield zlib.decompress(stream)
            except zlib.error:
                yield stream
    elif file.suffix == ".png":
        with Image.open(file) as image:
            yield repr(image.info).encode()
    elif file.suffix == ".parquet":
        table = pq.read_table(file)
        yield repr((table.to_pylist(), table.schema.metadata)).encode()
    elif file.suffix == ".safetensors":
        yield content[8 : 8 + int.from_bytes(content[:8], "little")]
