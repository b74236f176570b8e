import gc
import gzip
import hashlib
import http.server
import io
import socket
import tarfile
import threading

import pytest

from alexnet_tf1.data import download
from alexnet_tf1.data.download import DownloadError
from alexnet_tf1.errors import UserError

NAMES = ("data_batch_1", "data_batch_2", "batches.meta")
CONTENT = {name: name.encode() * 1000 for name in NAMES}


def member(name, content=b"", kind=tarfile.REGTYPE, link=""):
    info = tarfile.TarInfo(name)
    info.size, info.type, info.linkname = len(content), kind, link
    return info, content


def write_archive(path, members):
    with tarfile.open(path, "w:gz") as tar:
        for info, content in members:
            tar.addfile(info, io.BytesIO(content))
    return path


def good_members():
    return [member(f"batches/{name}", content) for name, content in CONTENT.items()]


def everything_in(folder):
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))


def assert_unpacked(folder):
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == CONTENT


def test_unpacks_the_named_files_and_no_others(tmp_path):
    extra = [member("batches/readme.html", b"x"), member("other/data_batch_1", b"y")]
    archive = write_archive(tmp_path / "a.tar.gz", extra + good_members())
    download.unpack(archive, NAMES, tmp_path / "batches")
    assert_unpacked(tmp_path / "batches")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "batches"]


def test_unpacks_under_names_that_begin_with_a_dot(tmp_path):
    members = [member(f"./batches/{name}", content) for name, content in CONTENT.items()]
    download.unpack(write_archive(tmp_path / "a.tar.gz", members), NAMES, tmp_path / "batches")
    assert_unpacked(tmp_path / "batches")


@pytest.mark.parametrize("beside", ["good files", "nothing else"])
def test_no_member_is_written_outside_the_folder(tmp_path, beside):
    inner = tmp_path / "deep" / "inner"
    inner.mkdir(parents=True)
    (tmp_path / "secret").write_bytes(b"secret")
    hostile = [
        member("../data_batch_1", b"evil"),
        member("../../data_batch_1", b"evil"),
        member("batches/../data_batch_1", b"evil"),
        member("batches/../../data_batch_1", b"evil"),
        member(f"{tmp_path}/absolute/data_batch_1", b"evil"),
        member("/batches/data_batch_1", b"evil"),
        member("batches/data_batch_1", kind=tarfile.SYMTYPE, link=str(tmp_path / "secret")),
        member("batches/data_batch_2", kind=tarfile.LNKTYPE, link="../../secret"),
        member("batches", kind=tarfile.SYMTYPE, link=str(tmp_path)),
        member("batches/batches.meta", kind=tarfile.FIFOTYPE),
        member("batches/batches.meta", kind=tarfile.CHRTYPE),
    ]
    members = hostile + (good_members() if beside == "good files" else [])
    archive = write_archive(inner / "a.tar.gz", members)
    before = everything_in(tmp_path)
    if beside == "good files":
        download.unpack(archive, NAMES, inner / "batches")
        assert_unpacked(inner / "batches")
        written = ["deep/inner/batches", *(f"deep/inner/batches/{name}" for name in NAMES)]
    else:
        with pytest.raises(UserError, match="holds no"):
            download.unpack(archive, NAMES, inner / "batches")
        written = []
    assert everything_in(tmp_path) == sorted(before + written)
    assert (tmp_path / "secret").read_bytes() == b"secret"


def bomb_of_zeros(path):
    """Eight megabytes of zeros in a few kilobytes, in a member that nobody wants."""
    write_archive(path, [member("batches/padding", bytes(2**23)), *good_members()])


def bomb_of_many(path):
    """The same in many small members."""
    write_archive(path, [member(f"{n}", bytes(2**17)) for n in range(64)] + good_members())


def bomb_in_header(path):
    """A pax header that claims 8 GB, which tarfile would read in one piece."""
    info = tarfile.TarInfo("header")
    info.size, info.type = 8 * 10**9, tarfile.XHDTYPE
    path.write_bytes(gzip.compress(info.tobuf(tarfile.GNU_FORMAT) + bytes(2**20)))


def bomb_in_file(path):
    info = tarfile.TarInfo("batches/data_batch_1")
    info.size = 2**20 + 1
    path.write_bytes(gzip.compress(info.tobuf() + bytes(2**21)))


def negative_size(path):
    """Goes back to its own header for ever on an older Python."""
    info = tarfile.TarInfo("batches/padding")
    header = bytearray(info.tobuf())
    header[124:136] = (2**96 - 1024).to_bytes(12, "big")  # -1024 in base 256
    header[148:156] = b" " * 8
    header[148:156] = b"%06o\0 " % sum(header[:512])
    path.write_bytes(gzip.compress(bytes(header) + bytes(2**16)))


BOMBS = [
    (bomb_of_zeros, "'batches/padding' has 8388608 bytes"),
    (bomb_of_many, "more than 4194304 bytes|has 131072 bytes"),
    (bomb_in_header, "it unpacks to more than 4194304 bytes"),
    (bomb_in_file, "data_batch_1 has 1048577 bytes"),
    (negative_size, "'batches/padding' has -1024 bytes"),
]


@pytest.mark.parametrize(("bomb", "reason"), BOMBS)
def test_bombs_are_refused(tmp_path, monkeypatch, bomb, reason):
    bomb(tmp_path / "a.tar.gz")
    monkeypatch.setattr(download, "MAX_ARCHIVE_BYTES", 2**22)
    monkeypatch.setattr(download, "MAX_FILE_BYTES", 2**20)
    with pytest.raises(UserError, match=rf"a\.tar\.gz is damaged \(.*({reason})"):
        download.unpack(tmp_path / "a.tar.gz", NAMES, tmp_path / "batches")
    assert everything_in(tmp_path) == ["a.tar.gz"]


@pytest.mark.parametrize("share", [0, 0.01, 0.5, 0.9])
def test_truncated_archive_leaves_nothing(tmp_path, share):
    random = bytes((i * i * 31 + i // 7) % 256 for i in range(200_000))
    members = [member(f"batches/{name}", random) for name in NAMES]
    whole = write_archive(tmp_path / "a.tar.gz", members).read_bytes()
    (tmp_path / "a.tar.gz").write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(UserError, match=r"a\.tar\.gz (is damaged|holds no)") as caught:
        download.unpack(tmp_path / "a.tar.gz", NAMES, tmp_path / "batches")
    assert len(str(caught.value).splitlines()) == 1
    assert everything_in(tmp_path) == ["a.tar.gz"]


def test_unpacking_where_nothing_can_be_written_says_so(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", good_members())
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot unpack .* writable folder"):
        download.unpack(archive, NAMES, tmp_path / "file" / "batches")


def test_two_at_once_leave_one_whole_folder(tmp_path):
    archive = write_archive(tmp_path / "a.tar.gz", good_members())
    start, errors = threading.Barrier(8), []

    def unpack():
        start.wait()
        try:
            download.unpack(archive, NAMES, tmp_path / "batches")
            assert_unpacked(tmp_path / "batches")
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=unpack) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "batches"]


def test_the_loser_of_a_race_keeps_the_winners_folder(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "a.tar.gz", good_members())
    copy = download._copy_members

    def overtaken(archive, wanted, into):
        copied = copy(archive, wanted, into)
        (tmp_path / "batches").mkdir()
        (tmp_path / "batches" / "data_batch_1").write_bytes(b"the winner's")
        return copied

    monkeypatch.setattr(download, "_copy_members", overtaken)
    download.unpack(archive, NAMES, tmp_path / "batches")
    assert everything_in(tmp_path / "batches") == ["data_batch_1"]
    assert (tmp_path / "batches" / "data_batch_1").read_bytes() == b"the winner's"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.tar.gz", "batches"]


def test_interrupted_unpacking_leaves_no_folder(tmp_path, monkeypatch):
    archive = write_archive(tmp_path / "a.tar.gz", good_members())

    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(download.shutil, "copyfileobj", interrupt)
    with pytest.raises(KeyboardInterrupt):
        download.unpack(archive, NAMES, tmp_path / "batches")
    assert everything_in(tmp_path) == ["a.tar.gz"]


BODY = b"the archive" * 1000
SHA256 = hashlib.sha256(BODY).hexdigest()


class Handler(http.server.BaseHTTPRequestHandler):
    """/whole sends all of BODY, /short promises it and sends half, anything else is not found."""

    def do_GET(self):
        if self.path not in ("/whole", "/short"):
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(BODY)))
        self.end_headers()
        self.wfile.write(BODY if self.path == "/whole" else BODY[: len(BODY) // 2])

    def log_message(self, *_):
        pass


@pytest.fixture
def server(monkeypatch):
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=[0.01])
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    thread.join()
    server.server_close()
    gc.collect()  # here, where the warning below is expected


@pytest.mark.parametrize("progress", [False, True])
def test_fetches_what_has_the_hash(server, tmp_path, capsys, progress):
    download.fetch(f"{server}/whole", SHA256, tmp_path / "a.tar.gz", progress=progress)
    assert (tmp_path / "a.tar.gz").read_bytes() == BODY
    assert everything_in(tmp_path) == ["a.tar.gz"]
    shown = capsys.readouterr()
    assert shown.out == ""
    assert ("100%" in shown.err) == progress


def closed_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


# Pooch does not close the connection of a download that failed; the collector does.
@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")
@pytest.mark.parametrize(
    ("path", "sha256", "reason"),
    [
        ("/whole", "0" * 64, "SHA-256 differs"),
        ("/short", SHA256, "cannot download|SHA-256 differs"),
        ("/missing", SHA256, "HTTP status 404"),
        (None, SHA256, "refused"),
    ],
    ids=["wrong hash", "interrupted", "404", "refused"],
)
def test_failed_download_leaves_nothing(server, tmp_path, path, sha256, reason):
    url = f"{server}{path}" if path else f"http://127.0.0.1:{closed_port()}/whole"
    with pytest.raises(DownloadError, match=reason) as caught:
        download.fetch(url, sha256, tmp_path / "a.tar.gz", progress=False)
    assert len(str(caught.value).splitlines()) == 1
    assert url in str(caught.value)
    assert everything_in(tmp_path) == []


def test_the_download_waits_ten_seconds_to_connect(tmp_path, monkeypatch):
    import requests

    asked = {}

    def get(url, **options):
        asked.update(options)
        raise requests.ConnectTimeout("timed out")

    monkeypatch.setattr(requests, "get", get)
    with pytest.raises(DownloadError):
        download.fetch("https://example.org/a", SHA256, tmp_path / "a", progress=False)
    assert asked["timeout"][0] == 10


def test_a_folder_that_is_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match=r"cannot write to .*--data-dir"):
        download.make_writable(tmp_path / "file" / "folder")
    download.make_writable(tmp_path / "new" / "folder")
    assert everything_in(tmp_path / "new") == ["folder"]
