"""Test downloads from a local server, local copies, checksums and atomic writing."""

import errno
import gzip
import hashlib
import http.server
import os
import threading
from pathlib import Path

import numpy as np
import pytest
from small_files import small_files

from crystal_gym.errors import DamagedFileError, MissingDataError, StorageError
from crystal_gym.utils import files, settings
from crystal_gym.utils.files import (
    RemoteFile,
    atomic_write,
    fetch,
    find_local,
    read_verified,
    sha256,
    verify,
)

CONTENT = b"forty-two crystals\n" * 1000
CHECKSUM = hashlib.sha256(CONTENT).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.server.requests.append(self.path)
        if self.path not in {"/good", "/damaged", "/truncated"}:
            self.send_error(404)
            return
        content = CONTENT[::-1] if self.path == "/damaged" else CONTENT
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content[: len(content) // 2] if self.path == "/truncated" else content)

    def log_message(self, *args):
        pass


@pytest.fixture
def server(cache, monkeypatch):
    """Start a local server with an empty cache, without local copies and without a proxy."""
    monkeypatch.delenv(settings.DATA_VARIABLE, raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as local:
        local.requests = []
        thread = threading.Thread(target=local.serve_forever, args=(0.01,))
        thread.start()
        yield local
        local.shutdown()
        thread.join()


def remote(server, path, checksum=CHECKSUM, **names):
    return RemoteFile("set.csv", f"http://127.0.0.1:{server.server_port}/{path}", checksum, **names)


def left_behind(folder: Path):
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_fetch_downloads_a_file_once(server, cache):
    path = fetch(remote(server, "good"), "set", progress=False)
    assert path.read_bytes() == CONTENT
    assert fetch(remote(server, "good"), "set", progress=False) == path
    assert server.requests == ["/good"]
    assert left_behind(cache) == ["set.csv"]


def test_fetch_rejects_a_damaged_download_and_leaves_no_file(server, cache):
    with pytest.raises(DamagedFileError, match=r"set\.csv from http://127.* SHA-256") as caught:
        fetch(remote(server, "damaged"), "set", progress=False)
    assert settings.DATA_VARIABLE in str(caught.value)
    assert left_behind(cache) == []


def git_blob(content):
    return hashlib.sha1(b"blob %d\0" % len(content) + content, usedforsecurity=False).hexdigest()


@pytest.mark.parametrize("identity", [git_blob(CONTENT), CHECKSUM])
def test_content_is_verified_by_either_checksum(server, cache, monkeypatch, tmp_path, identity):
    file = remote(server, "good", None, contents=("0" * 40, identity))
    assert fetch(file, "set", progress=False).read_bytes() == CONTENT
    assert left_behind(cache) == ["set.csv"]
    # A local copy may be compressed.
    monkeypatch.setenv(settings.DATA_VARIABLE, str(tmp_path))
    (tmp_path / "set.csv").write_bytes(gzip.compress(CONTENT))
    assert fetch(file, "set", progress=False) == tmp_path / "set.csv"
    assert read_verified(tmp_path / "set.csv", file.contents) == CONTENT
    for broken in (gzip.compress(CONTENT[::-1]), gzip.compress(CONTENT)[:40], CONTENT[1:]):
        (tmp_path / "set.csv").write_bytes(broken)
        with pytest.raises(DamagedFileError, match=r"set\.csv"):
            fetch(file, "set", progress=False)


def test_a_download_with_other_content_leaves_no_file(server, cache):
    file = remote(server, "damaged", None, contents=(git_blob(CONTENT),))
    with pytest.raises(DamagedFileError, match="expected content with one of the checksums"):
        fetch(file, "set", progress=False)
    assert left_behind(cache) == []


@pytest.mark.parametrize("path", ["truncated", "absent"])
@pytest.mark.parametrize("checksum", [CHECKSUM, None])
def test_failed_download_error_gives_file_address_and_setting(server, cache, path, checksum):
    file = remote(server, path, checksum)
    with pytest.raises(MissingDataError) as caught:
        fetch(file, "set", progress=False)
    for part in ("set.csv", file.url, settings.DATA_VARIABLE):
        assert part in str(caught.value)
    assert left_behind(cache) == []


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/set.csv", "no address"])
def test_unreachable_server_error_gives_file_address_and_setting(server, cache, url):
    with pytest.raises(MissingDataError) as caught:
        fetch(RemoteFile("set.csv", url, CHECKSUM), "set", progress=False)
    for part in ("set.csv", url, settings.DATA_VARIABLE):
        assert part in str(caught.value)
    assert left_behind(cache) == []


def test_fetch_rejects_a_damaged_cached_file(server):
    path = fetch(remote(server, "good"), "set", progress=False)
    path.write_bytes(CONTENT[:100])
    with pytest.raises(DamagedFileError, match="is damaged or another version"):
        fetch(remote(server, "good"), "set", progress=False)


def test_missing_checksum_record_is_written_at_the_next_use(server, cache):
    path = fetch(remote(server, "good", None), "set", progress=False)
    record = path.with_name(path.name + ".sha256")
    written = record.read_text()
    record.unlink()
    assert fetch(remote(server, "good", None), "set", progress=False) == path
    assert record.read_text() == written


def test_without_a_published_checksum_that_of_the_first_download_is_recorded(server, cache):
    path = fetch(remote(server, "good", None), "set", progress=False)
    assert left_behind(cache) == ["set.csv", "set.csv.sha256"]
    assert fetch(remote(server, "good", None), "set", progress=False) == path
    path.write_bytes(CONTENT[:100])
    with pytest.raises(DamagedFileError, match=CHECKSUM):
        fetch(remote(server, "good", None), "set", progress=False)


def test_fetch_prefers_a_local_copy_to_a_download(server, tmp_path, monkeypatch):
    folder = tmp_path / "data" / "set"
    folder.mkdir(parents=True)
    (folder / "set.csv").write_bytes(CONTENT)
    for place in (folder.parent, folder):
        monkeypatch.setenv(settings.DATA_VARIABLE, f"{tmp_path / 'nowhere'}:{place}")
        assert fetch(remote(server, "good"), "set") == folder / "set.csv"
    (folder / "set.csv").write_bytes(CONTENT[:-1])
    with pytest.raises(DamagedFileError, match="expected the SHA-256"):
        fetch(remote(server, "good"), "set")
    assert server.requests == []


def test_common_names_count_only_in_the_folder_of_the_collection(server, tmp_path, monkeypatch):
    folder, other = tmp_path / "set", tmp_path / "other"
    for parent in (folder, other):
        parent.mkdir()
        (parent / "train.csv").write_bytes(CONTENT)
    file = remote(server, "good", common_names=("train.csv",))
    monkeypatch.setenv(settings.DATA_VARIABLE, str(other))
    assert find_local(file, "set") is None
    for place in (folder, tmp_path):
        monkeypatch.setenv(settings.DATA_VARIABLE, str(place))
        assert find_local(file, "set") == folder / "train.csv"


def test_atomic_write_leaves_complete_files_only(tmp_path):
    path = tmp_path / "new" / "file"
    with atomic_write(path) as temporary:
        temporary.write_text("first")
    with pytest.raises(UnicodeEncodeError), atomic_write(path) as temporary:
        temporary.write_text("second, interrupted: \ud800")
    assert path.read_text() == "first"
    assert left_behind(tmp_path) == ["file"]


def full_disk(*args, **kwargs):
    raise OSError(errno.ENOSPC, "No space left on device")


def test_full_disk_raises_an_error_and_keeps_the_old_file(tmp_path, monkeypatch):
    path = tmp_path / "file"
    path.write_text("old")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full_disk)
        with pytest.raises(StorageError, match="No space left"), atomic_write(path) as temporary:
            temporary.write_text("new")
    assert path.read_text() == "old"
    assert left_behind(tmp_path) == ["file"]


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.ENOSPC, "Free some space"),
        (errno.EDQUOT, "Free some space"),
        (errno.EACCES, "permissions"),
        (errno.EROFS, "read-only"),
        (errno.ENOENT, "does not exist"),
        (errno.ENOTDIR, "a file or a broken link"),
        (errno.ENAMETOOLONG, "shorter name"),
        (errno.EIO, "permissions"),
    ],
)
def test_advice_fits_the_cause(cache, tmp_path, monkeypatch, number, advice):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(files.tempfile, "mkstemp", fail)
    for path in (cache / "file", tmp_path / "other"):
        with (
            pytest.raises(StorageError, match=f"{os.strerror(number)}.*{advice}") as caught,
            atomic_write(path),
        ):
            pass
        assert ("Free some space" in str(caught.value)) == ("space" in advice)
        assert (settings.CACHE_VARIABLE in str(caught.value)) == (path.parent == cache)


def test_file_instead_of_a_folder_raises_an_error(tmp_path):
    (tmp_path / "cache").write_text("")
    for path in (tmp_path / "cache" / "file", tmp_path / "cache" / "folder" / "file"):
        with pytest.raises(StorageError, match="a file or a broken link"), atomic_write(path):
            pass


def test_name_of_the_longest_length_is_written(tmp_path):
    path = tmp_path / ("x" * 255)
    with atomic_write(path) as temporary:
        temporary.write_text("content")
    assert path.read_text() == "content"
    with pytest.raises(StorageError, match="shorter name"), atomic_write(tmp_path / ("x" * 256)):
        pass
    assert left_behind(tmp_path) == [path.name]


def test_errors_of_other_files_name_them(tmp_path):
    with (
        pytest.raises(StorageError, match=r"Cannot write .*file: No such file .*\(/absent/other\)"),
        atomic_write(tmp_path / "file"),
    ):
        Path("/absent/other").read_text()


def test_other_errors_are_raised_unchanged(tmp_path):
    for error in (RuntimeError("a bug"), DamagedFileError("damaged"), KeyError("x")):
        with pytest.raises(type(error)) as caught, atomic_write(tmp_path / "file"):
            raise error
        assert caught.value is error


@pytest.mark.parametrize("save", [np.savez, np.savez_compressed])
def test_array_file_that_exceeds_the_limit_raises_the_same_error(tmp_path, save):
    with (
        small_files(50_000),
        pytest.raises(StorageError, match=r"File too large\. Free some space"),
        atomic_write(tmp_path / "file") as temporary,
        temporary.open("wb") as file,
    ):
        save(file, values=np.random.default_rng(0).random(20_000))
    assert left_behind(tmp_path) == []


def test_verify_compares_the_checksum(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    assert sha256(path) == CHECKSUM
    verify(path, CHECKSUM)
    verify(path, None)
    with pytest.raises(DamagedFileError, match="expected the SHA-256 0000"):
        verify(path, "0000")


def test_missing_or_unreadable_file_raises_an_error(tmp_path):
    with pytest.raises(MissingDataError, match=r"Expected a file .*absent, got no file"):
        sha256(tmp_path / "absent")
    with pytest.raises(DamagedFileError, match="cannot be read"):
        sha256(tmp_path)


def test_environment_variable_sets_the_cache_folder(monkeypatch, tmp_path):
    monkeypatch.setenv(settings.CACHE_VARIABLE, str(tmp_path))
    assert settings.cache_folder() == tmp_path
    monkeypatch.delenv(settings.CACHE_VARIABLE)
    assert settings.cache_folder().name == "crystal-gym"
