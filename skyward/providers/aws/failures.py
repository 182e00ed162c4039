"""What an error of AWS means, and what to do about it.

EC2 has hundreds of error codes; what matters is which of a few things happened. Every one is told with the API
call, AWS's own code and words, and an advice.

PURE: codes and words go in.
"""

from __future__ import annotations

import re
from enum import Enum
from typing import TYPE_CHECKING, Final

from skyward.errors import AccessError, CapacityError, ConfigError, ProvisionError, QuotaError

if TYPE_CHECKING:
    from skyward.errors import SkywardError


class Kind(Enum):
    """What happened."""

    CAPACITY = "capacity"  # AWS has no such machine at this moment, in this zone
    QUOTA = "quota"  # the account may not have more
    ACCESS = "access"  # who we are may not do this
    CREDENTIALS = "credentials"  # AWS does not know who we are, or not any more
    REGION = "region"  # there is no such place, or it cannot be reached
    TYPE = "type"  # there is no such instance type
    THROTTLED = "throttled"  # nothing was done: too many calls
    ABSENT = "absent"  # what is named is not there, or not yet
    BUSY = "busy"  # something still depends on it
    EXISTS = "exists"  # it is there already
    UNSURE = "unsure"  # it may have been done, or not
    OTHER = "other"


_CODES: Final[dict[Kind, tuple[str, ...]]] = {
    Kind.CAPACITY: (
        "InsufficientInstanceCapacity", "InsufficientHostCapacity", "InsufficientCapacity", "Unsupported",
        "InsufficientFreeAddressesInSubnet", "SpotMaxPriceTooLow", "CapacityNotAvailable",
    ),
    Kind.QUOTA: (
        "InstanceLimitExceeded", "VcpuLimitExceeded", "MaxSpotInstanceCountExceeded", "VolumeLimitExceeded",
        "SecurityGroupLimitExceeded", "ResourceLimitExceeded", "PrivateIpAddressLimitExceeded",
        "NetworkInterfaceLimitExceeded", "MaxIOPSLimitExceeded",
    ),
    Kind.ACCESS: (
        "UnauthorizedOperation", "AccessDenied", "AccessDeniedException", "OptInRequired", "Forbidden",
        "AllAccessDisabled", "403",
    ),
    Kind.CREDENTIALS: (
        "AuthFailure", "InvalidClientTokenId", "ExpiredToken", "ExpiredTokenException", "RequestExpired",
        "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidAccessKeyId", "InvalidToken",
        "TokenRefreshRequired", "InvalidSignatureException", "MissingAuthenticationToken",
    ),
    Kind.TYPE: ("InvalidInstanceType",),
    Kind.THROTTLED: (
        "RequestLimitExceeded", "Throttling", "ThrottlingException", "ThrottledException", "EC2ThrottledException",
        "SlowDown", "TooManyRequestsException", "RequestThrottled", "RequestThrottledException",
    ),
    Kind.ABSENT: ("NoSuchKey", "NoSuchBucket", "ParameterNotFound", "404"),
    Kind.BUSY: ("DependencyViolation", "ResourceInUse", "InvalidGroup.InUse"),
    Kind.EXISTS: ("InvalidGroup.Duplicate", "InvalidPermission.Duplicate"),
    Kind.UNSURE: (
        "InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable", "RequestTimeout", "ServerInternal",
    ),
}  # fmt: skip
_KINDS: Final = {code: kind for kind, codes in _CODES.items() for code in codes}
_ABSENT: Final = re.compile(r"\w+\.(NotFound|Malformed)")
# AWS adds a kilobyte of base64 that only it can read.
_ENCODED: Final = re.compile(r"\s*Encoded authorization failure message:\s*\S+")

ADVICE: Final[dict[Kind, str]] = {
    Kind.CAPACITY: "try another instance_type, more subnets, or allocation='spot-if-available'",
    Kind.QUOTA: "raise the quota at https://console.aws.amazon.com/servicequotas, or ask for fewer or smaller nodes",
    Kind.ACCESS: "allow this action in the IAM policy of who you are; docs/how-to/aws.md has the least one",
    Kind.CREDENTIALS: "refresh your credentials: `aws sts get-caller-identity` must work, e.g. after `aws sso login`",
    Kind.REGION: "check region= and whether this machine reaches the internet",
    Kind.TYPE: "check instance_type=, which may exist in other regions only: `aws ec2 describe-instance-types`",
    Kind.THROTTLED: "AWS takes fewer calls at this moment: try again in a minute",
    Kind.ABSENT: "check that it exists in this region and account",
    Kind.BUSY: "something still uses it: `skyward-mesh gc` removes it later",
    Kind.EXISTS: "it exists already",
    Kind.UNSURE: "AWS did not answer as it should: try again in a minute",
    Kind.OTHER: "AWS says why",
}


def kind_of(code: str, status: int = 0) -> Kind:
    """Return what an error code means; ``status`` is that of HTTP. State reasons of instances are codes, too."""
    plain = code.removeprefix("Client.").removeprefix("Server.")
    if (kind := _KINDS.get(plain)) is not None:
        return kind
    if _ABSENT.fullmatch(plain):
        return Kind.ABSENT
    if status == 403:
        return Kind.ACCESS
    if status == 429:
        return Kind.THROTTLED
    return Kind.UNSURE if status >= 500 else Kind.OTHER


class CallFailed(Exception):
    """A call of AWS did not do what it should. Inside this package only: `public` makes an error of ours of it."""

    def __init__(self, call: str, kind: Kind, code: str, said: str) -> None:
        super().__init__(f"{call}: {code}")
        self.call = call  # "ec2:RunInstances", as in an IAM policy
        self.kind = kind
        self.code = code
        self.said = _ENCODED.sub("", said).strip()

    def __str__(self) -> str:
        words = f"{self.code}: {self.said}" if self.said else self.code
        return f"{self.call} failed: {words}; {ADVICE[self.kind]}"


def public(failure: CallFailed, *, got: int = 0, wanted: int = 1, where: str = "") -> SkywardError:
    """Return the error that users see. ``got`` of ``wanted`` nodes there were when it happened."""
    text = str(failure) + (f" ({where})" if where else "")
    match failure.kind:
        case Kind.CAPACITY:
            return CapacityError(got, wanted, text)
        case Kind.QUOTA:
            return QuotaError(got, wanted, text)
        case Kind.ACCESS | Kind.CREDENTIALS:
            return AccessError(text)
        case Kind.TYPE | Kind.REGION:
            return ConfigError(text)
        case _:
            return ProvisionError(text)
