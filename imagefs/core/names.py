r"""The rule between image names and file names.

Used by the account's snapshots and by the tree, on any thread: everything here is pure or built once.

The mapping is one to one. What a file name cannot hold is written as ``%XX`` of its UTF-8 bytes, and so is
everything that would read as something else::

    image name          file name           why
    a/b                 a%2Fb               also NUL, all control characters, lone surrogates
    100%41              100%2541            the % would read as an escape
    . .. .fetch         %2E %2E%2E %2Efetch taken in every directory
    (empty)             %                   so that a name of just % is %25
    b~12.iso            b%7E12.iso          would read as image 12, called b.iso

Hence ``NAME~ID`` is never the plain name of an image. It is shown where images of one region share a name and
where a name is too long, and it can be used for every image. ID stands before a final ``.iso``, ``.qcow2``,
``.img`` or ``.raw``, so that programs still recognise the file. An ID that is not decimal, which the service
has never sent, is written ``~=ID``: an ordinary ``1.0~rc1`` then needs no escape.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from hashlib import blake2b
from typing import Final

from imagefs.errors import NameNotUtf8, NameTooLong

MAX_NAME_BYTES: Final = 255
"""The longest file name that Linux takes (NAME_MAX, limits.h)."""

CONTROL_NAME: Final = ".fetch"
"""The control file's name, in every region."""

_COPY_OF_CONTROL: Final = re.compile(re.escape(CONTROL_NAME) + r"\.[A-Za-z0-9]{6}", re.ASCII)
_TAKEN: Final = frozenset({"", ".", "..", CONTROL_NAME})
_WHOLE_NAMES: Final = {
    "": "%",
    "%": "%25",
    ".": "%2E",
    "..": "%2E%2E",
    CONTROL_NAME: "%2E" + CONTROL_NAME[1:],
}

_EXTENSION: Final = r"\.(?:iso|qcow2|img|raw)"
_ID_MARK: Final = r"(?:[0-9]+|=[A-Za-z0-9_-]+)"
_FLAGS: Final = re.ASCII | re.IGNORECASE
_UNSAFE: Final = re.compile(
    r"[\x00-\x1f\x7f-\x9f/\ud800-\udfff]+"  # Unicode category Cc, the slash, lone surrogates
    r"|%(?=[0-9a-f]{2})"
    rf"|~(?={_ID_MARK}(?:{_EXTENSION})?\Z)",
    _FLAGS,
)
_ESCAPES: Final = re.compile(r"(?:%[0-9a-f]{2})+", _FLAGS)
_FINAL_EXTENSION: Final = re.compile(rf"(?:{_EXTENSION})?\Z", _FLAGS)
_WITH_ID: Final = re.compile(rf"(.*)~({_ID_MARK})((?:{_EXTENSION})?)\Z", _FLAGS | re.DOTALL)


def is_copy_of_control(filename: str) -> bool:
    """Whether *filename* is the temporary name that rsync gives to its copy of the control file.

    If that cannot be created, rsync goes on with the next file; if it cannot be written, rsync ends.
    """
    return _COPY_OF_CONTROL.fullmatch(filename) is not None


def encode(name: str) -> str:
    """The file name of an image called *name*; may be longer than :data:`MAX_NAME_BYTES`.

    ``decode(encode(name)) == name`` for every str.
    """
    return _WHOLE_NAMES.get(name) or _UNSAFE.sub(_escape, name)


def decode(filename: str) -> str:
    """The image name that *filename* stands for; escapes that are not UTF-8 stay as they are written.

    A ``~ID`` is not interpreted: a file created as ``b~12`` asks for an image of just that name.
    """
    return "" if filename == _WHOLE_NAMES[""] else _unescape_all(filename)


def with_id(name: str, image_id: str) -> str:
    """``NAME~ID``, with *name* shortened where the whole would exceed :data:`MAX_NAME_BYTES`.

    *image_id* is 1 to 64 characters out of ``A-Za-z0-9_-``, as the client checks.
    """
    if len(name) > 2 * MAX_NAME_BYTES:  # only its ends show, and a name from outside may have any length
        name = name[:MAX_NAME_BYTES] + name[-MAX_NAME_BYTES:]
    encoded = encode(name)
    extension_at = _extension_start(encoded)
    stem, extension = encoded[:extension_at], encoded[extension_at:]
    mark = f"~{image_id}" if _is_decimal(image_id) else f"~={image_id}"
    return _shorten(stem, MAX_NAME_BYTES - len(mark) - len(extension)) + mark + extension


def file_name(name: str, image_id: str, ambiguous: bool) -> str:
    """The name under which a directory lists an image; *ambiguous* where another image there has its name."""
    fitting = None if ambiguous else _fitting(name)
    return with_id(name, image_id) if fitting is None else fitting


def split_id(filename: str) -> tuple[str, str] | None:
    """``NAME~ID`` as (encoded name with its extension, ID), or None where *filename* is no such name."""
    match = _WITH_ID.match(filename)
    if match is None:
        return None
    stem, mark, extension = match.groups()
    return stem + extension, mark.removeprefix("=")


def from_os(name: bytes) -> str:
    """A file name as the kernel hands it over.

    Raises NameNotUtf8, or NameTooLong over :data:`MAX_NAME_BYTES`.
    """
    if len(name) > MAX_NAME_BYTES:
        raise NameTooLong(f"A file name has {len(name)} bytes, and at most {MAX_NAME_BYTES} are possible.")
    try:
        return name.decode("utf-8")
    except UnicodeDecodeError as error:
        raise NameNotUtf8(f"The file name {name!r} is not UTF-8.") from error


def to_os(filename: str) -> bytes:
    """A file name made by this module, as the kernel takes it."""
    return filename.encode("utf-8")


def directory(images: Iterable[tuple[str, str]]) -> dict[str, str]:
    """One region's file names to image ids, in the order given.

    *images* are (image id, name), each id once. Every one of those that share a name carries its id, so that
    the order of the listing never decides which image a path means.
    """
    listed = list(images)
    uses = Counter(name for _, name in listed)
    return {file_name(name, image_id, uses[name] > 1): image_id for image_id, name in listed}


class NameTable:
    """One directory's names, both ways; immutable once built."""

    def __init__(self, images: Iterable[tuple[str, str]], listed: Mapping[str, str] | None = None) -> None:
        """Take *images* as (image id, name), and list them by :func:`directory` unless *listed* says how."""
        self._name_of = dict(images)
        self._listed = directory(self._name_of.items()) if listed is None else dict(listed)
        self._file_name_of = {image_id: filename for filename, image_id in self._listed.items()}
        self._only_user_of: dict[str, str | None] = {}
        for image_id, name in self._name_of.items():
            self._only_user_of[name] = None if name in self._only_user_of else image_id

    def successor(self, images: Iterable[tuple[str, str]]) -> NameTable:
        """The table of *images*, which takes over what did not change: that takes a tenth of the work.

        Only for a table that :func:`directory` lists.
        """
        newer = NameTable.__new__(NameTable)
        newer._name_of = names = dict(images)
        gone = self._name_of.keys() - names.keys()
        changed = [image_id for image_id, name in names.items() if self._name_of.get(image_id) != name]
        users: dict[str, list[str]] = {names[image_id]: [] for image_id in changed}
        users |= {self._name_of[image_id]: [] for image_id in (*gone, *changed) if image_id in self._name_of}
        for image_id, name in names.items():
            if name in users:
                users[name].append(image_id)
        newer._file_name_of = file_names = self._file_name_of.copy()
        newer._only_user_of = only_users = self._only_user_of.copy()
        for image_id in gone:
            del file_names[image_id]
        for name, image_ids in users.items():
            only_users.pop(name, None)
            if image_ids:
                only_users[name] = image_ids[0] if len(image_ids) == 1 else None
            for image_id in image_ids:
                file_names[image_id] = file_name(name, image_id, len(image_ids) > 1)
        newer._listed = {file_names[image_id]: image_id for image_id in names}
        return newer

    @property
    def listed(self) -> Mapping[str, str]:
        """File names to image ids, in listing order."""
        return self._listed

    def resolve(self, filename: str) -> str | None:
        """The id of the image that *filename* means here, or None.

        In this order: the name as listed; the ``NAME~ID`` of any image, listed so or not; a name that decodes
        to the name of exactly one image.
        """
        if filename in _TAKEN:
            return None
        listed = self._listed.get(filename)
        return listed or self._resolve_with_id(filename) or self._only_user_of.get(decode(filename))

    def _resolve_with_id(self, filename: str) -> str | None:
        parts = split_id(filename)
        if parts is None:
            return None
        image_id = parts[1]
        name = self._name_of.get(image_id)
        return image_id if name is not None and with_id(name, image_id) == filename else None


def region_directory(regions: Iterable[str]) -> NameTable:
    """The mount's root: like a region's table, with each region's name as its own id.

    A name too long for a file is shortened and carries a digest of the whole.
    """
    names = list(dict.fromkeys(regions))
    return NameTable(zip(names, names, strict=True), {_region_file_name(name): name for name in names})


def lasting_path(region: str, name: str, image_id: str) -> str:
    """The path below a mount that means this image at any time, whatever others are called."""
    return f"{_region_file_name(region)}/{with_id(name, image_id)}"


def _region_file_name(region: str) -> str:
    fitting = _fitting(region)
    if fitting is not None:
        return fitting
    digest = blake2b(region.encode("utf-8", "surrogatepass"), digest_size=16)
    return with_id(region, digest.hexdigest())


def _escape(match: re.Match[str]) -> str:
    return "%" + match[0].encode("utf-8", "surrogatepass").hex("%").upper()


def _unescape_all(text: str) -> str:
    return _ESCAPES.sub(lambda run: _unescape(run[0]), text)


def _unescape(run: str) -> str:
    """The text that a run of ``%XX`` stands for, its malformed parts left as they are."""
    text = ""
    while run:
        raw = bytes.fromhex(run.replace("%", ""))
        try:
            return text + raw.decode("utf-8", "surrogatepass")
        except UnicodeDecodeError as error:
            text += raw[: error.start].decode("utf-8", "surrogatepass") + run[3 * error.start : 3 * error.end]
            run = run[3 * error.end :]
    return text


def _shorten(stem: str, max_bytes: int) -> str:
    """The longest start of *stem* that fits and ends neither inside a character nor inside its escape."""
    raw = stem.encode("utf-8")
    if len(raw) <= max_bytes:
        return stem
    name = _unescape_all(stem)
    cut = raw[:max_bytes].decode("utf-8", "ignore")
    while not name.startswith(_unescape_all(cut)):
        cut = cut[:-1]
    return cut


def _extension_start(encoded: str) -> int:
    match = _FINAL_EXTENSION.search(encoded)
    assert match is not None, "the pattern matches the empty end of every text"
    return match.start()


def _is_decimal(image_id: str) -> bool:
    return image_id.isascii() and image_id.isdigit()


def _fitting(name: str) -> str | None:
    """The encoded *name*, or None if it is too long for a file name: each character takes a byte at least."""
    if len(name) > MAX_NAME_BYTES:
        return None
    encoded = encode(name)
    return encoded if len(encoded.encode("utf-8")) <= MAX_NAME_BYTES else None
