"""The control file: source URLs written to it by ordinary programs, and what it says of them."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator

import pytest
from mount_programs import attempt, eventually, refusal, run, text
from web_server import QuietHandler, serving

from imagefs.emulator import Fault

CONTENT = b"from elsewhere" * 10_000
PASSWORD = "swordfish"

WRITERS = {
    "echo": ["bash", "-c", 'echo "$(cat "$1")" > "$2"', "bash", "{lines}", "{fetch}"],
    "append": ["bash", "-c", 'cat "$1" >> "$2"', "bash", "{lines}", "{fetch}"],
    "tee": ["bash", "-c", 'tee "$2" < "$1"', "bash", "{lines}", "{fetch}"],
    "cp": ["cp", "{lines}", "{fetch}"],
}

MISTAKES = {
    "{url} size=3": "After the URL come only",
    "{url} format=vmdk": "format= is iso or qcow2",
    "{url} virtio=maybe": "virtio= is yes or no",
    "{url} name=a name=b": "given twice",
    '{url} "name=a': "inside a quotation",
    "file:///etc/passwd.iso": "http, https or ftp",
    "/etc/passwd": "http, https or ftp",
    "http:///a.iso": "names no host",
    "{host}/disk": "do not tell the format",
    "{host}/": "does not end in a file name",
}
"""Lines that make no sense, and what is said of them."""


class Source(QuietHandler):
    """A web server that has every file but those called ``missing``."""

    def do_GET(self) -> None:  # noqa: N802  # http.server prescribes the name
        """Answer by the path."""
        if "missing" in self.path:
            self.send_error(404)
        else:
            self.send_content(CONTENT)


@pytest.fixture
def source() -> Iterator[str]:
    """The host and port of the web server."""
    with serving(Source) as address:
        yield address


@pytest.fixture
def ftp_source(workspace):
    """The host and port of an FTP server that knows anna by a password, and has ``disk.iso``."""
    folder = workspace / "ftp"
    folder.mkdir()
    (folder / "disk.iso").write_bytes(CONTENT)
    command = [sys.executable, "-m", "pyftpdlib", "--interface", "127.0.0.1", "--port", "0"]
    command += ["--username", "anna", "--password", PASSWORD, "--directory", str(folder)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as server:
        yield next(found[1] for line in server.stderr if (found := re.search(r"server on (\S+),", line)))
        server.kill()


@pytest.fixture(autouse=True)
def _quick(service):
    """Images are ready a moment after their download."""
    service.switches.saving_s = 0.2


@pytest.fixture
def write(workspace):
    """Has a program write lines to a control file."""

    def writing(writer, fetch, *lines):
        file = workspace / "lines"
        file.write_text("".join(f"{line}\n" for line in lines))
        return attempt(
            *(word.format(lines=file, fetch=fetch) if word[0] == "{" else word for word in WRITERS[writer])
        )

    return writing


def fetches(service):
    """The parameters of all accepted requests, without those that every call has."""
    calls = [call for call in service.ledger.calls if call.action == "fetch" and call.outcome == "ok"]
    return [
        {key: call.params[key] for key in ("region", "name", "location", "format", "virtio")}
        for call in calls
    ]


@pytest.mark.parametrize("writer", WRITERS)
def test_a_url_becomes_an_image(service, mount, source, write, writer):
    """Each line is one request; the images are there at once, and have the source's bytes in the end."""
    fetch = mount() / "toronto/.fetch"
    url = f"http://{source}/debian%2012.iso"
    done = write(writer, fetch, "# two images", url, f"{url} 'name=my disk' format=qcow2 virtio=yes # mine")
    assert done.returncode == 0, done.stderr
    assert text("ls", fetch.parent).splitlines() == ["debian 12.iso", "my disk"]
    assert fetches(service) == [
        {"region": "toronto", "name": "debian 12.iso", "location": url, "format": "iso", "virtio": "no"},
        {"region": "toronto", "name": "my disk", "location": url, "format": "qcow2", "virtio": "yes"},
    ]
    run("sync", fetch.parent / "debian 12.iso", fetch.parent / "my disk")
    assert run("cat", fetch.parent / "my disk") == run("cat", fetch.parent / "debian 12.iso") == CONTENT
    shown = text("cat", fetch)
    assert shown.count(f"({url})") == 2
    assert all(line.startswith("#") for line in shown.splitlines())


def test_a_url_of_ftp(service, mount, ftp_source):
    """With the credentials that its server asks for, which go to the service and are shown nowhere."""
    fetch = mount() / "toronto/.fetch"
    url = f"ftp://anna:{PASSWORD}@{ftp_source}/disk.iso"
    run("sh", "-c", 'echo "$1" > "$2"', "sh", url, fetch)
    assert fetches(service)[0]["location"] == url
    run("sync", fetch.parent / "disk.iso")
    assert run("cat", fetch.parent / "disk.iso") == CONTENT
    shown = text("cat", fetch) + text("getfattr", "-d", fetch.parent / "disk.iso")
    assert f"ftp://{ftp_source}/disk.iso" in shown
    assert PASSWORD not in shown


@pytest.mark.parametrize("writer", WRITERS)
def test_a_mistake_reaches_the_writer(service, mount, source, write, writer):
    """The program fails, the control file says why, and nothing is asked of the service."""
    fetch = mount() / "toronto/.fetch"
    for line, reason in MISTAKES.items():
        done = write(writer, fetch, line.format(url=f"http://{source}/a.iso", host=f"http://{source}"))
        assert done.returncode != 0, line
        assert b"Invalid argument" in done.stderr, line
        last = text("tail", "-n", "1", fetch)
        assert "refused" in last, line
        assert reason in last, line
    assert fetches(service) == []
    assert text("ls", fetch.parent) == ""


@pytest.mark.parametrize("program", ["cp", "dd"])
def test_the_last_line_needs_no_newline(service, mount, source, workspace, program):
    """It is complete when the file is closed, and so is a mistake in it."""
    fetch = mount() / "toronto/.fetch"
    lines = workspace / "lines"
    command = ("cp", lines, fetch) if program == "cp" else ("dd", f"if={lines}", f"of={fetch}")
    lines.write_text(f"http://{source}/a.iso")
    run(*command)
    assert [request["name"] for request in fetches(service)] == ["a.iso"]
    lines.write_text(f"http://{source}/b.iso\nhttp://{source}/c.iso format=vmdk")
    assert "Invalid argument" in refusal(*command)
    assert [request["name"] for request in fetches(service)] == ["a.iso", "b.iso"]


def test_a_line_that_is_written_while_programs_come_and_go_is_one(service, mount, source):
    """A shell starts one in the middle of a line, which closes what it inherits."""
    fetch = mount() / "toronto/.fetch"
    script = '{ printf "%s " "$1"; printf "name=%s" "$(basename x/b.iso)"; } > "$2"'
    run("bash", "-c", script, "bash", f"http://{source}/a.iso", fetch)
    assert [request["name"] for request in fetches(service)] == ["b.iso"]


def test_lines_before_a_mistake_stand(service, mount, source, write):
    """What was asked for before the mistake is fetched, and nothing after it."""
    fetch = mount() / "toronto/.fetch"
    good = f"http://{source}/a.iso"
    assert write("cp", fetch, good, "nonsense", f"http://{source}/b.iso").returncode != 0
    assert [request["name"] for request in fetches(service)] == ["a.iso"]


@pytest.mark.parametrize(
    ("refused", "message"),
    [
        ("quota exceeded", "Disk quota exceeded"),
        ("permission denied", "Operation not permitted"),
        ("no space on this hypervisor", "Remote I/O error"),
    ],
)
def test_a_refusal_reaches_the_writer(service, mount, source, write, refused, message):
    """Whatever writes: the errno fits what the service said, and the control file has its words."""
    mounted = mount()
    mounted.may_log(refused)
    fetch = mounted / "toronto/.fetch"
    for writer in WRITERS:
        service.faults.add(Fault("refused", action="fetch", value=refused))
        done = write(writer, fetch, f"http://{source}/{writer}.iso")
        assert done.returncode != 0, writer
        assert message in done.stderr.decode(), writer
        last = text("tail", "-n", "1", fetch)
        assert refused in last, writer
        assert f"{writer}.iso" in last, writer
    assert text("ls", fetch.parent) == ""


def test_fsync_waits_for_what_was_asked_for(service, mount, source, workspace):
    """``dd conv=fsync`` returns when the image is active, and fails where the download did."""
    mounted = mount()
    mounted.may_log("could not make image")
    fetch = mounted / "toronto/.fetch"
    lines = workspace / "lines"
    lines.write_text(f"http://{source}/a.iso\n")
    run("dd", f"if={lines}", f"of={fetch}", "conv=fsync", "status=none")
    assert [image.status for image in service.images()] == ["active"]
    lines.write_text(f"http://{source}/missing.iso\n")
    assert "Input/output error" in refusal("dd", f"if={lines}", f"of={fetch}", "conv=fsync", "status=none")
    assert "killed" in text("tail", "-n", "1", fetch)


def test_credentials_in_a_url_are_sent_and_never_shown(service, mount, source, write):
    """The service needs them; the control file, the attributes and the log do without."""
    mounted = mount()
    fetch = mounted / "toronto/.fetch"
    url = f"http://anna:p4ssw0rd@{source}/a.iso?token=s3cret"
    assert write("echo", fetch, url).returncode == 0
    assert [request["location"] for request in fetches(service)] == [url]
    assert mounted.xattr(fetch.parent / "a.iso", "location") == f"http://{source}/a.iso"
    assert write("echo", fetch, f"{url} size=p4ssw0rd").returncode != 0
    for shown in (text("cat", fetch), mounted.log):
        assert "p4ssw0rd" not in shown
        assert "s3cret" not in shown


def test_what_was_read_does_nothing_when_it_is_written_back(service, mount, source, write):
    """All of it is comments."""
    fetch = mount() / "toronto/.fetch"
    write("echo", fetch, f"http://{source}/a.iso")
    write("echo", fetch, "nonsense")
    run("bash", "-c", 'lines=$(cat "$1"); echo "$lines" > "$1"', "bash", fetch)
    assert len(fetches(service)) == 1


@pytest.mark.parametrize(
    "command",
    [["rm", "-f"], ["chmod", "+x"], ["mv", "-t", "{montreal}"], ["sh", "-c", 'mv "$0" "$0.old"']],
    ids=["rm", "chmod +x", "mv", "rename"],
)
def test_the_control_file_stays(mount, command):
    """It can't be removed, renamed or made executable."""
    mounted = mount()
    words = [word.format(montreal=mounted / "montreal") for word in command]
    assert "Operation not permitted" in refusal(*words, mounted / "toronto/.fetch")
    eventually((mounted / "toronto/.fetch").exists)


def test_the_control_file_is_not_replaced(service, mount):
    """An image that is moved onto it stays what it is."""
    service.add_image("a", "toronto", CONTENT)
    mounted = mount()
    assert "Operation not permitted" in refusal("mv", mounted / "toronto/a", mounted / "toronto/.fetch")
    assert text("ls", mounted / "toronto") == "a"


def test_rsync_of_a_region_is_not_held_up_by_the_control_file(service, mount):
    """It is the same in both regions; once one of them shows requests, it is refused, and all else is copied."""
    service.switches.saving_s = 0.1
    service.add_image("a", "toronto", b"abc")
    mounted = mount()
    mounted.may_log("fetch")
    run("rsync", "-a", f"{mounted / 'toronto'}/", mounted / "montreal")
    assert service.ledger.count("replicate") == 1
    refusal("sh", "-c", 'echo gopher://host/f.iso > "$0"', mounted / "toronto/.fetch")
    done = attempt("rsync", "-a", f"{mounted / 'toronto'}/", mounted / "roubaix")
    assert done.returncode == 23
    assert b".fetch" in done.stderr
    assert service.ledger.count("replicate") == 2
    assert sorted(image.region for image in service.images()) == ["montreal", "roubaix", "toronto"]


@pytest.mark.parametrize("command", [["sync"], ["stat"], ["getfattr", "-d"]])
def test_a_name_that_becomes_another_images_leads_there_at_once(service, mount, source, command):
    """The kernel may still know it as that of the image that was removed."""
    first = service.add_image("a.iso", "toronto", b"first")
    mounted = mount()
    path = mounted / "toronto" / "a.iso"
    assert text("cat", path) == "first"
    run("bash", "-c", 'echo "$1" > "$2"', "bash", f"http://{source}/a.iso", mounted / "toronto" / ".fetch")
    text("ls", path)
    run("rm", path.with_name(f"a~{first}.iso"))
    run(*command, path)
