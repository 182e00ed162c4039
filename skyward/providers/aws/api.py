"""boto3: the only module that knows it. Calls go out, dicts come in, errors of botocore become `CallFailed`.

Reads are tried again by botocore, adaptively. What changes something is tried once: whether it may be repeated, and
with which token, is for those who call to decide.
"""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Final, Literal

from skyward.errors import AccessError, ConfigError, ProvisionError
from skyward.providers.aws.failures import ADVICE, CallFailed, Kind, kind_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Service = Literal["ec2", "s3", "ssm"]

CONNECT: Final = 5.0  # seconds to reach an endpoint
READ: Final = 30.0  # seconds for its answer: RunInstances takes some
READS: Final = 5  # attempts of a call that changes nothing
THROTTLED: Final = 6  # attempts of one that does, if AWS says that it has done nothing
PAUSE: Final = 0.5  # seconds before the second of them; doubled each time
EXTRA: Final = "pip install boto3"  # not 'skyward[aws]': on the public index that name is somebody else's
PRICES: Final = "us-east-1"  # one of the regions that answer questions about prices


def new_session(session: Any = None) -> Any:
    """Return the session that was given, or boto3's usual one; raises `ProvisionError` if boto3 is not there."""
    try:
        import boto3
    except ImportError as error:
        raise ProvisionError(f"sky.AWS needs boto3, which is not installed: {EXTRA}") from error
    import botocore.exceptions

    try:
        return boto3.Session() if session is None else session
    except botocore.exceptions.BotoCoreError as error:
        raise AccessError(f"{error}; check AWS_PROFILE and ~/.aws/config") from error


def region_of(session: Any, region: str | None) -> str:
    """Return the region: the one that was named, or the session's; raises `ConfigError`."""
    name = region or session.region_name
    if not name:
        raise ConfigError(
            "no region: say sky.AWS(region='eu-central-1'), or set AWS_REGION or a region in ~/.aws/config"
        )
    known = [
        each
        for partition in session.get_available_partitions()
        for each in session.get_available_regions("ec2", partition_name=partition)
    ]
    if name not in known:
        import difflib

        near = difflib.get_close_matches(name, known, n=1)
        hint = f"did you mean {near[0]!r}?" if near else f"regions are {', '.join(sorted(known)[:8])}, …"
        raise ConfigError(
            f"there is no AWS region {name!r}: {hint} A region that is newer than boto3 needs a newer boto3"
        )
    return str(name)


class Api:
    """The clients of one region. Safe to use from several threads."""

    def __init__(self, session: Any, region: str) -> None:
        """Make them; nothing is called yet. Raises `AccessError` if there are no credentials at all."""
        from botocore.config import Config

        self.region = region
        self._session = session
        usual: dict[str, Any] = {"connect_timeout": CONNECT, "read_timeout": READ, "max_pool_connections": 32}
        patient = Config(**usual, retries={"mode": "adaptive", "total_max_attempts": READS})
        once = Config(**usual, retries={"mode": "standard", "total_max_attempts": 1})
        v4: dict[str, Any] = {"signature_version": "s3v4"}  # links that may be written once need it
        _require_credentials(session)
        self._readers = {name: session.client(name, region_name=region, config=patient) for name in ("ec2", "ssm")}
        self._readers["s3"] = session.client("s3", region_name=region, config=patient.merge(Config(**v4)))
        self._writers = {"ec2": session.client("ec2", region_name=region, config=once)}
        self._writers["s3"] = session.client("s3", region_name=region, config=once.merge(Config(**v4)))

    def read(self, service: Service, method: str, **arguments: Any) -> dict[str, Any]:
        """Call what changes nothing; raises `CallFailed`."""
        return _called(self._readers[service], method, arguments)

    def pages(self, service: Service, method: str, key: str, **arguments: Any) -> Iterator[Any]:
        """Yield what stands under ``key`` in all pages of an answer; raises `CallFailed`."""
        paginator = self._readers[service].get_paginator(method)
        pages = iter(paginator.paginate(**arguments))
        while (page := _guarded(self._readers[service], method, lambda: next(pages, None))) is not None:
            yield from page.get(key, ())

    def write(self, service: Service, method: str, **arguments: Any) -> dict[str, Any]:
        """Call once what changes something, again only if AWS says that it did nothing; raises `CallFailed`."""
        pause = PAUSE
        for _ in range(THROTTLED - 1):
            try:
                return _called(self._writers[service], method, arguments)
            except CallFailed as failure:
                if failure.kind is not Kind.THROTTLED:
                    raise
            time.sleep(pause)
            pause *= 2
        return _called(self._writers[service], method, arguments)

    def prices(self, filters: list[dict[str, str]]) -> list[str]:
        """Return what the price list says of instances, as JSON; raises `CallFailed`."""
        client = self._session.client("pricing", region_name=PRICES)  # seldom needed: it has no place among the others
        try:
            return list(_called(client, "get_products", {"ServiceCode": "AmazonEC2", "Filters": filters})["PriceList"])
        finally:
            client.close()

    def link(self, method: str, seconds: int, **arguments: Any) -> str:
        """Return a presigned link of S3 that is good for so long."""
        client = self._writers["s3"]
        return str(
            _guarded(
                client,
                method,
                lambda: client.generate_presigned_url(method, Params=arguments, ExpiresIn=seconds),
            )
        )

    def close(self) -> None:
        """Close all connections."""
        for client in (*self._readers.values(), *self._writers.values()):
            client.close()


def _require_credentials(session: Any) -> None:
    import botocore.exceptions

    try:
        credentials = session.get_credentials()
    except botocore.exceptions.BotoCoreError as error:
        raise AccessError(f"AWS credentials: {error}; {ADVICE[Kind.CREDENTIALS]}") from error
    if credentials is None:
        raise AccessError(
            "there are no AWS credentials: run `aws configure` or `aws sso login`, set AWS_PROFILE, or give "
            "sky.AWS(session=boto3.Session(...))"
        )


def _called(client: Any, method: str, arguments: dict[str, Any]) -> dict[str, Any]:
    answer: dict[str, Any] = _guarded(client, method, lambda: getattr(client, method)(**arguments))
    return answer


def _guarded(client: Any, method: str, action: Callable[[], Any]) -> Any:
    """Do it; an error of botocore's, or one below it, becomes ours here and nowhere else."""
    import botocore.exceptions
    import botocore.parsers

    call = f"{client.meta.service_model.service_name}:{client.meta.method_to_api_mapping.get(method, method)}"
    try:
        return action()
    except botocore.exceptions.ClientError as error:
        said = error.response.get("Error", {})
        code = str(said.get("Code", "Unknown"))
        status = int(error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0))
        raise CallFailed(call, kind_of(code, status), code, str(said.get("Message", ""))) from error
    except _credential_errors() as error:
        raise CallFailed(call, Kind.CREDENTIALS, type(error).__name__, str(error)) from error
    except botocore.exceptions.EndpointConnectionError as error:  # nothing was sent
        raise CallFailed(call, Kind.REGION, type(error).__name__, str(error)) from error
    except (botocore.exceptions.BotoCoreError, botocore.parsers.ResponseParserError, OSError) as error:
        # Also what is no answer of AWS, like a proxy's page: whether the call was heard nobody knows.
        raise CallFailed(call, Kind.UNSURE, type(error).__name__, str(error)) from error


def _credential_errors() -> tuple[type[Exception], ...]:
    import botocore.exceptions as errors

    return (
        errors.NoCredentialsError,
        errors.PartialCredentialsError,
        errors.CredentialRetrievalError,
        errors.ProfileNotFound,
        errors.TokenRetrievalError,
        errors.UnauthorizedSSOTokenError,
        errors.SSOTokenLoadError,
    )


def body_of(answer: dict[str, Any], most: int) -> bytes:
    """Return what an object of S3 holds, as far as ``most`` bytes; raises `CallFailed`."""
    import botocore.exceptions

    try:
        with answer["Body"] as body:
            return bytes(body.read(most))
    except (botocore.exceptions.BotoCoreError, OSError) as error:
        raise CallFailed("s3:GetObject", Kind.UNSURE, type(error).__name__, str(error)) from error
