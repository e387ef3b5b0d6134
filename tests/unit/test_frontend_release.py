"""The page is released whole, the same files always under the same name."""

from __future__ import annotations

import base64
import gzip
import io
import os
import tarfile
from pathlib import Path

import pytest

from plugins.filter.frontend import folder_archive
from plugins.modules.frontend_release import is_intact, link, name_of, superfluous, unpack, write


@pytest.fixture
def source(tmp_path: Path) -> Path:
    folder = tmp_path / "source"
    (folder / "public/assets").mkdir(parents=True)
    (folder / "public/index.php").write_text("<?php\n")
    (folder / "public/assets/page.css").write_text("body {}\n")
    (folder / ".hidden").write_text("not for hosts")
    return folder


def test_the_same_folder_is_the_same_archive(source: Path) -> None:
    before = folder_archive(str(source))
    os.utime(source / "public/index.php", (1, 1))
    (source / "public/index.php").chmod(0o600)
    assert folder_archive(str(source)) == before
    assert set(unpack(before)) == {"public/index.php", "public/assets/page.css"}


def test_another_content_or_name_is_another_release(source: Path) -> None:
    files = unpack(folder_archive(str(source)))
    assert name_of(files) != name_of({**files, "public/index.php": b"<?php exit;\n"})
    assert name_of(files) != name_of({f"{path}.old": content for path, content in files.items()})


def test_an_empty_folder_is_no_page(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no file"):
        folder_archive(str(tmp_path))


def test_an_archive_that_leads_out_is_refused() -> None:
    raw = io.BytesIO()
    with tarfile.open(fileobj=raw, mode="w") as archive:
        archive.addfile(tarfile.TarInfo("public/../../etc/passwd"), io.BytesIO())
    with pytest.raises(ValueError, match="leads out"):
        unpack(base64.b64encode(gzip.compress(raw.getvalue())).decode())


def test_what_was_changed_by_hand_is_seen_and_put_right(source: Path, tmp_path: Path) -> None:
    files = unpack(folder_archive(str(source)))
    folder = tmp_path / "releases/one"
    assert not is_intact(str(folder), files)
    write(str(folder), files)
    assert is_intact(str(folder), files)
    for change in (
        lambda: (folder / "public/index.php").write_text("<?php echo 1;\n"),
        lambda: (folder / "public/more.php").write_text("<?php\n"),
        lambda: (folder / "public/index.php").unlink(),
        lambda: (folder / "public/index.php").chmod(0o666),
    ):
        change()
        assert not is_intact(str(folder), files)
        write(str(folder), files)
        assert is_intact(str(folder), files)
    assert [path.name for path in folder.parent.iterdir()] == ["one"]


def test_the_link_changes_in_one_step_and_old_releases_go(source: Path, tmp_path: Path) -> None:
    files = unpack(folder_archive(str(source)))
    releases = tmp_path / "releases"
    for age, name in enumerate(("d", "c", "b", "a")):
        write(str(releases / name), files)
        os.utime(releases / name, (1000 + age, 1000 + age))
    (releases / ".interrupted").mkdir()
    link(str(tmp_path / "current"), "releases/d")
    link(str(tmp_path / "current"), "releases/a")
    assert (tmp_path / "current/public/index.php").read_text() == "<?php\n"
    assert superfluous(str(releases), "a", keep=2) == [".interrupted", "d"]
