"""The seven actions of the service's page on images.

Used by the site, on the connection threads, once a call's signature was checked.
"""

from __future__ import annotations

from typing import Final

from imagefs.emulator.account import Account
from imagefs.emulator.answers import Answer, body_answer, content_answer, json_answer
from imagefs.emulator.fetching import Fetcher, is_fetchable
from imagefs.emulator.switches import Switches
from imagefs.emulator.wire import Refusal

REQUIRED: Final = {
    "fetch": ("region", "name", "location", "format"),
    "list": (),
    "details": ("image_id",),
    "delete": ("image_id",),
    "replicate": ("image_id", "region"),
    "rename": ("image_id", "name"),
    "retrieve": ("image_id",),
}
"""Each action with its required parameters."""


class Actions:
    """Carries actions out on *account*."""

    def __init__(self, account: Account, switches: Switches, fetcher: Fetcher) -> None:
        self._account = account
        self._switches = switches
        self._fetcher = fetcher

    def carry_out(self, action: str, params: dict[str, str], asked_range: str | None) -> Answer:
        """The answer to one call; *asked_range* is its Range header. Raises Refusal."""
        if action not in REQUIRED:
            raise Refusal("invalid action")
        for name in REQUIRED[action]:
            if name not in params:
                raise Refusal(f"missing parameter: {name}")
        match action:
            case "list":
                return self._list(params.get("region"))
            case "details":
                return json_answer(
                    {"details": self._account.get(params["image_id"]).details(), "success": "yes"}
                )
            case "retrieve":
                return self._retrieve(params["image_id"], asked_range)
            case "replicate":
                return self._replicate(params["image_id"], params["region"])
            case "rename":
                self._check_changeable(params["image_id"])
                self._account.change(params["image_id"], name=params["name"])
            case "delete":
                self._check_changeable(params["image_id"])
                self._account.remove(params["image_id"])
            case _:
                return self._fetch(params)
        return json_answer({"success": "yes"})

    def _list(self, region: str | None) -> Answer:
        if region is not None:
            self._check_region(region)
        switches = self._switches
        body = self._account.listing(region, with_success=switches.list_success, frozen=switches.list_frozen)
        return body_answer(200, "application/json", body)

    def _retrieve(self, image_id: str, asked_range: str | None) -> Answer:
        image = self._account.get(image_id)
        if image.status != "active" or image.content is None:
            raise Refusal("image is not active")
        path = self._account.contents.path(image.content)
        answer = content_answer(path, image.content.size_bytes, asked_range if self._switches.range else None)
        return answer.with_header("Accept-Ranges", "bytes") if self._switches.range else answer

    def _replicate(self, image_id: str, region: str) -> Answer:
        source = self._account.get(image_id)
        self._check_region(region)
        if region == source.region:
            raise Refusal("invalid region")
        if source.status != "active":
            raise Refusal("image is not active")
        replica = self._account.create_pending(
            source.name,
            region,
            saving_s=self._switches.saving_s,
            source=source,
            content=source.content,
            disk_format=source.disk_format,
            virtio=source.virtio,
        )
        return json_answer({"image_id": replica.image_id, "success": "yes"})

    def _fetch(self, params: dict[str, str]) -> Answer:
        self._check_region(params["region"])
        if params["format"] not in ("iso", "qcow2"):
            raise Refusal("invalid format")
        if params.get("virtio", "no") not in ("yes", "no"):
            raise Refusal("invalid virtio")
        if not is_fetchable(params["location"]):
            raise Refusal("invalid location")
        image = self._account.create_pending(
            params["name"],
            params["region"],
            saving_s=None,
            disk_format=params["format"],
            virtio=params.get("virtio") == "yes",
        )
        self._fetcher.begin(image.image_id, params["location"], self._switches.saving_s)
        return json_answer({"image_id": image.image_id, "success": "yes"})

    def _check_changeable(self, image_id: str) -> None:
        image = self._account.get(image_id)
        if image.public:
            raise Refusal("permission denied")
        if image.settling is not None and not self._switches.pending_changes:
            raise Refusal("image is not active")

    def _check_region(self, region: str) -> None:
        if region not in self._account.regions():
            raise Refusal("invalid region")
