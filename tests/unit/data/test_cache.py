from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from training.data.storage.cache import Cache, cache_key
from training.data.storage.table import write_row_table
from training.data.tokenization.token_rows import TokenRow
from training.errors import DataError


def write(text: str):
    return lambda folder: (folder / "a.txt").write_text(text)


def fail(folder: Path) -> None:
    raise AssertionError("built again")


def test_an_entry_is_built_once(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", tmp_path / "o")
    entry = cache.entry("k", write("x"))
    assert cache.entry("k", fail) == entry and (entry / "a.txt").read_text() == "x"


@pytest.mark.parametrize("harm", ["cut", "removed", "sizes"])
def test_a_torn_entry_is_built_again(tmp_path: Path, harm: str) -> None:
    cache = Cache(tmp_path / "c", tmp_path / "o")
    entry = cache.entry("k", write("first"))
    if harm == "cut":
        (entry / "a.txt").write_text("fir")
    elif harm == "removed":
        (entry / "a.txt").unlink()
    else:
        (entry / "sizes.json").write_text('{"a.t')
    assert (cache.entry("k", write("second")) / "a.txt").read_text() == "second"


def test_what_fails_leaves_nothing_behind(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", tmp_path / "o")

    def half(folder: Path) -> None:
        (folder / "a.txt").write_text("half")
        raise DataError("no")

    with pytest.raises(DataError):
        cache.entry("k", half)
    assert [p.name for p in (tmp_path / "c").iterdir() if p.suffix != ".lock"] == []
    assert (cache.entry("k", write("whole")) / "a.txt").read_text() == "whole"


def test_a_full_disk_is_reported(tmp_path: Path) -> None:
    cache = Cache(tmp_path / "c", tmp_path / "o")

    def full(folder: Path) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with pytest.raises(DataError, match=r"no space left in .* MiB free"):
        cache.entry("k", full)


def rows(folder: Path) -> None:
    tokens = np.arange(60_000, dtype=np.int32)
    row = TokenRow("a:1", tokens, tokens)
    write_row_table(folder / "train.arrow", [[row]])


@pytest.mark.root
def test_a_disk_that_is_really_full(tmp_path: Path) -> None:
    if os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small disk needs root")
    disk = tmp_path / "disk"
    disk.mkdir()
    mounted = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)], check=False
    )
    if mounted.returncode:
        pytest.skip("this container may not mount")
    try:
        cache = Cache(disk / "c", tmp_path / "o")
        with pytest.raises(DataError, match="no space left"):
            cache.entry("k", write("x" * 200_000))
        with pytest.raises(DataError, match="no space left"):
            cache.entry("rows", rows)
        assert not any(p.suffix != ".lock" for p in (disk / "c").iterdir())
    finally:
        subprocess.run(["umount", str(disk)], check=True)


def test_a_folder_that_cannot_be_written_is_replaced(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    cache = Cache(tmp_path / "file" / "c", tmp_path / "o")
    assert cache.folder == tmp_path / "o" and "cannot be written" in cache.fallback_reason
    with pytest.raises(DataError, match="nothing can be cached"):
        Cache(tmp_path / "file" / "c", tmp_path / "file" / "o")


def test_one_of_several_processes_builds(tmp_path: Path) -> None:
    script = (
        "import sys, time, os\n"
        "from pathlib import Path\n"
        "from training.data.storage.cache import Cache\n"
        "def build(folder):\n"
        "    with open(sys.argv[1] + '/built', 'a') as log: log.write('x')\n"
        "    time.sleep(0.5)\n"
        "    (folder / 'a.txt').write_text('done')\n"
        "root = Path(sys.argv[1])\n"
        "print((Cache(root / 'c', root / 'o').entry('k', build) / 'a.txt').read_text())\n"
    )
    runs = [
        subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE)
        for _ in range(3)
    ]
    assert [run.communicate()[0].strip() for run in runs] == [b"done"] * 3
    assert (tmp_path / "built").read_text() == "x"


def test_cache_keys_separate_their_parts() -> None:
    keys = [cache_key("a", "b"), cache_key("ab", ""), cache_key("a", "b", ""), cache_key("b", "a")]
    assert len(set(keys)) == 4
    assert cache_key("a", 1) == cache_key("a", 1)
