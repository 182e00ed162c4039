"""A pool's objects in S3: the bundle, and what instances report. All are below one folder, and go with the pool."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from skyward.model import counted
from skyward.providers.aws import reports
from skyward.providers.aws.api import body_of
from skyward.providers.aws.failures import CallFailed, Kind

if TYPE_CHECKING:
    from collections.abc import Iterator

    from skyward.providers.aws.api import Api
    from skyward.providers.aws.tags import Owner

LINK: Final = 900  # seconds that links are good for: a machine boots, fetches and reports in less
LOG_LINK: Final = (
    12 * 3600
)  # seconds that a node may write its log: credentials seldom last longer, and the link with them
BATCH: Final = 1000  # objects that one call deletes
MOST_LOG: Final = 1 << 20  # bytes of a log that are read


class Storage:
    """The folder of one pool in its bucket."""

    def __init__(self, api: Api, owner: Owner) -> None:
        self._api = api
        self.bucket = owner.bucket
        self._folder = owner.folder

    def check(self) -> None:
        """Raise `CallFailed` unless the bucket is there, and ours to use."""
        self._api.read("s3", "head_bucket", Bucket=self.bucket)

    def put(self, name: str, data: bytes) -> None:
        """Write an object; raises `CallFailed`. The same again does no harm."""
        self._write("put_object", Key=self._folder + name, Body=data)

    def _write(self, method: str, **arguments: Any) -> None:
        for again in (True, False):
            try:
                self._api.write("s3", method, Bucket=self.bucket, **arguments)
            except CallFailed as failure:
                if not again or failure.kind is not Kind.UNSURE:
                    raise
            else:
                return

    def get(self, name: str, most: int = reports.MOST) -> str | None:
        """Return what an object holds; None if it is not there (yet); raises `CallFailed`."""
        try:
            answer = self._api.read("s3", "get_object", Bucket=self.bucket, Key=self._folder + name)
        except CallFailed as failure:
            if failure.kind is Kind.ABSENT:
                return None
            raise
        return body_of(answer, most).decode(errors="replace")

    def link(self, name: str, method: str = "get_object", seconds: int = LINK, **more: Any) -> str:
        """Return a link to an object, for reading unless another method is named."""
        return self._api.link(method, seconds, Bucket=self.bucket, Key=self._folder + name, **more)

    def link_to_write_once(self, name: str) -> str:
        """Return a link by which an object can be made, and never be changed."""
        return self.link(name, "put_object", IfNoneMatch="*")

    def remove(self) -> int:
        """Remove all objects of the pool, and return how many; raises `CallFailed`."""
        return remove(self._api, self.bucket, self._folder)


def keys(api: Api, bucket: str, folder: str) -> Iterator[dict[str, Any]]:
    """Yield what is below a folder; raises `CallFailed`."""
    yield from api.pages("s3", "list_objects_v2", "Contents", Bucket=bucket, Prefix=folder)


def remove(api: Api, bucket: str, folder: str) -> int:
    """Remove all that is below a folder, look whether it is gone, and return how much it was; raises `CallFailed`."""
    removed = 0
    for _ in range(3):  # a node may have written meanwhile
        found = [{"Key": str(entry["Key"])} for entry in keys(api, bucket, folder)]
        if not found:
            return removed
        for start in range(0, len(found), BATCH):
            batch = {"Objects": found[start : start + BATCH], "Quiet": True}
            try:
                refused = api.write("s3", "delete_objects", Bucket=bucket, Delete=batch).get("Errors", ())
            except CallFailed as failure:
                if failure.kind is not Kind.UNSURE:  # else the next round sees what is left
                    raise
                refused = ()
            for each in refused:
                raise CallFailed("s3:DeleteObject", Kind.ACCESS, str(each.get("Code")), str(each.get("Message")))
        removed += len(found)
    left = [str(entry["Key"]) for entry in keys(api, bucket, folder)]
    if left:
        raise CallFailed(
            "s3:DeleteObjects", Kind.UNSURE, "NotDeleted", f"left in {bucket}: {counted(len(left), 'object')}"
        )
    return removed
