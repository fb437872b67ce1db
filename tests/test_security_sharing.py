"""Results can be handed on: nothing in them tells whose machine they were made on, or what its environment holds."""

import getpass
import io
import json
import os
import re
import socket
import sys
import zlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import safetensors.numpy
from leaks import leaks
from PIL import Image, PngImagePlugin

pytest_plugins = ("workflow_copy",)

SECRET = re.compile("TOKEN|KEY|SECRET|PASSW", re.IGNORECASE)


def test_whatever_is_hidden_in_a_file_is_found(tmp_path):
    """The search that the other tests rely on: every kind of file, every spelling."""
    secret = "/srv/it's Zoë"
    (tmp_path / "a.json").write_text(json.dumps({"path": secret}))
    (tmp_path / "a.html").write_text("<p>/srv/it&#39;s Zoë</p>", encoding="utf-8")
    information = PngImagePlugin.PngInfo()
    information.add_itxt("Source", secret, zip=True)
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png", pnginfo=information)
    pq.write_table(pa.table({"path": [secret] * 1000}), tmp_path / "rows.parquet", compression="zstd")
    pq.write_table(pa.table({"x": [0]}).replace_schema_metadata({"made in": secret}), tmp_path / "metadata.parquet")
    safetensors.numpy.save_file({"x": np.zeros(2)}, tmp_path / "a.safetensors", metadata={"made in": secret})
    stream = zlib.compress(secret.encode())
    (tmp_path / "a.pdf").write_bytes(b"%PDF-1.4\n1 0 obj\n<<>>\nstream\n" + stream + b"\nendstream\nendobj\n")
    hidden = {file.name for file in tmp_path.iterdir()}
    (tmp_path / "clean.txt").write_text("/srv/somebody else")
    assert {leak.removeprefix("home in ") for leak in leaks(tmp_path, {"home": secret})} == hidden
    assert leaks(tmp_path, {"host": "zoe"}) == []
    (tmp_path / "clean.txt").write_text("made on zoe.")
    assert leaks(tmp_path, {"host": "zoe"}) == ["host in clean.txt"]


def test_results_and_report_say_nothing_of_the_machine(finished):
    secrets = {
        "the folder": str(finished.folder),
        "the folder around it": str(finished.folder.parent.parent),
        "the home folder": str(Path.home()),
        "the interpreter": sys.prefix,
        "the host": socket.gethostname(),
        "the user": getpass.getuser(),
    }
    secrets |= {f"${name}": value for name, value in os.environ.items() if SECRET.search(name) and len(value) >= 6}
    # The names of the user and of the host could be words of the report, such as 'root' in a style sheet.
    found = [leak for leak in leaks(finished.results, secrets) if leak != "the user in report/style.css"]
    assert found == []


@pytest.fixture(scope="module")
def canaries(tmp_path_factory) -> dict[str, str]:
    """Environment variables with values that are found wherever they go."""
    home = tmp_path_factory.mktemp("canary-of-the-home-folder")
    return {
        "HF_TOKEN": "canary-of-the-token",
        "AWS_SECRET_ACCESS_KEY": "canary-of-the-key",
        "WANDB_API_KEY": "canary-of-another-key",
        "DB_PASSWORD": "canary-of-the-password",
        "USER": "canary-of-the-user",
        "LOGNAME": "canary-of-the-user",
        "HOME": str(home),
    }


def test_data_imports_and_exports_say_nothing_of_the_machine(fresh, canaries):
    """Really run: images and a set that somebody imports lie in folders whose names nobody else is to read."""
    data, theirs = (fresh.folder.parent / f"canary-of-the-{what}" for what in ("images", "import"))
    random = np.random.default_rng(0)
    for split, count in (("train", 12), ("val", 2)):
        for name in map(str, range(10)):
            folder = data / "digits" / split / name
            folder.mkdir(parents=True)
            for place in range(count):
                Image.fromarray(random.integers(0, 255, (32, 32, 3), np.uint8)).save(folder / f"{place}.png")
    theirs.mkdir()
    np.savez(theirs / "theirs.npz", x=random.integers(0, 255, (100, 32, 32, 3), np.uint8), y=np.arange(100) // 10)
    fresh.edit("config/scales/tiny.yaml", "{train_per_class: 12, test_per_class: 10}", "{source: folder}")
    environment = canaries | {"ELF_DATA_DIR": str(data)}
    elf = [sys.executable, "-m", "elf"]
    dataset = "results/tiny/datasets/digits/images.safetensors"

    def done(ended) -> None:
        assert ended.status == 0, ended.output

    done(fresh.call([*elf, "import", str(theirs / "theirs.npz"), "--name", "theirs"], **environment))
    fresh.edit("config/scales/tiny.yaml", "methods: [dm, dsa,", "methods: [theirs, dm, dsa,")
    fresh.edit("config/scales/tiny.yaml", "method: [tesla, herding", "method: [theirs, tesla, herding")
    made = "digits/theirs-ipc10-seed0"
    shard = f"results/tiny/evaluations/{made}/convnet-w2-d3-in/task-lr0.01/seeds0-1.parquet"
    done(fresh.run(f"results/tiny/synthetic/{made}/contact_sheet.png", shard, **environment))
    images = f"results/tiny/synthetic/{made}/images.safetensors"
    done(fresh.call([*elf, "export", images, "--dataset", dataset, "--folder", "results/exported"], **environment))
    done(fresh.call([*elf, "report", "--partial", "--scale", "tiny"], **environment))
    done(fresh.call([*elf, "table", "1", "--partial", "--scale", "tiny", "--folder", "results/drawn"], **environment))

    searched = {
        "canary": "canary-of-the",
        "the folder": str(fresh.folder),
        "the folder around": str(fresh.folder.parent),
    }
    for folder in ("results", "imported", "config"):
        assert leaks(fresh.folder / folder, searched) == []
    # What was looked for is there, where it is not handed on.
    assert leaks(fresh.folder / ".snakemake", searched) or leaks(fresh.folder / "logs", searched)
    with Image.open(io.BytesIO((fresh.results / f"synthetic/{made}/contact_sheet.png").read_bytes())) as picture:
        assert picture.info == {}
