"""Runs commands on a terminal, on an account that lives here for it, and draws what they print as SVG.

Run by scripts/record, which makes /home a place of its own.
"""

from __future__ import annotations

import io
import os
import pty
import re
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from rich.console import Console
from rich.text import Text

from imagefs.emulator import Emulator

HOME: Final = Path("/home/you")
PICTURES: Final = Path(__file__).parent
IMAGEFS: Final = Path(sys.executable).with_name("imagefs")
COLUMNS: Final = 110
MIB: Final = 1 << 20
ENVIRONMENT: Final = {
    "HOME": str(HOME), "PATH": f"{IMAGEFS.parent}:/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C.UTF-8",
    "TERM": "xterm-256color", "COLORTERM": "truecolor", "COLUMNS": str(COLUMNS), "LINES": "40",
}  # fmt: skip


def fill(service: Emulator) -> None:
    """An account as somebody may have it."""
    for name, region, size_mib in (
        ("debian-12.iso", "toronto", 63),
        ("web server.qcow2", "toronto", 42),
        ("debian-12.iso", "montreal", 63),
        ("database.qcow2", "montreal", 90),
        ("rescue.iso", "roubaix", 8),
    ):
        service.add_synthetic(
            name, region, size_mib * MIB, seed=size_mib, disk_format=name.rpartition(".")[2]
        )
    service.add_image("nightly.qcow2", "roubaix", b"", status="saving", disk_format="qcow2")


def on_a_terminal(command: Sequence[str]) -> str:
    """What *command* prints where a person looks."""
    mine, its = pty.openpty()
    os.set_blocking(mine, True)
    with subprocess.Popen(command, stdin=its, stdout=its, stderr=its, env=ENVIRONMENT, cwd=HOME) as process:
        os.close(its)
        said = b""
        while True:
            try:
                said += os.read(mine, 65536)
            except OSError:  # the program has closed its side (pty(7))
                break
        process.wait()
    os.close(mine)
    return said.decode().replace("\r\n", "\n")


def picture(name: str, command: Sequence[str]) -> None:
    """Run *command*, and draw it."""
    said = on_a_terminal(command)
    console = Console(
        record=True, width=COLUMNS, file=io.StringIO(), force_terminal=True, color_system="truecolor"
    )
    console.print(Text.assemble(("$ ", "bold green"), " ".join(command)))
    console.print(Text.from_ansi(said.rstrip("\n")))
    drawn = console.export_svg(title=name, unique_id=f"imagefs-{name}")
    # No font from elsewhere: whoever looks at the page asks nobody for it.
    drawn = re.sub(r"@font-face \{.*?\}\s*", "", drawn, flags=re.DOTALL)
    path = PICTURES / f"{name}.svg"
    path.write_text("\n".join(line.rstrip() for line in drawn.splitlines()) + "\n", encoding="utf-8")
    print(f"{path.relative_to(Path.cwd())}: {said.count(chr(10))} lines")


def main() -> None:
    """Make all pictures."""
    images, configuration = HOME / "images", HOME / ".config" / "imagefs"
    for folder in (images, configuration):
        folder.mkdir(parents=True)
    with Emulator(HOME.parent / "service") as service:
        fill(service)
        credentials = configuration / "credentials.toml"
        credentials.write_bytes(service.credentials_file.read_bytes())
        credentials.chmod(0o600)
        (configuration / "config.toml").write_text(f'api_url = "{service.api_url}"\n', encoding="utf-8")
        subprocess.run([IMAGEFS, "mount", images], env=ENVIRONMENT, check=True)
        try:
            subprocess.run(["cat", images / "roubaix/rescue.iso"], stdout=subprocess.DEVNULL, check=True)
            service.switches.rate_bytes_per_s = 1.5 * MIB
            with subprocess.Popen(
                ["cat", images / "toronto/debian-12.iso"], stdout=subprocess.DEVNULL
            ) as reader:
                time.sleep(4)  # what is drawn is a transfer at its work
                picture("status", ["imagefs", "status"])
                reader.kill()
            service.switches.rate_bytes_per_s = None
            picture("ls", ["imagefs", "ls"])
            picture("doctor", ["imagefs", "doctor"])
        finally:
            subprocess.run([IMAGEFS, "umount", "--lazy", images], env=ENVIRONMENT, check=True)


if __name__ == "__main__":
    main()
