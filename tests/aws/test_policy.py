"""The IAM policy of the docs is the least that will do: it allows every call that is made, and hardly any other."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Final

from skyward.providers.aws.sweeping import sweep
from tests.aws import clouds, scenario
from tests.aws.faults import Faults

if TYPE_CHECKING:
    from tests.aws.clouds import Cloud

PAGE: Final = Path(__file__).parents[2] / "docs" / "how-to" / "aws.md"
S3: Final = {"HeadBucket": "ListBucket", "ListObjectsV2": "ListBucket", "DeleteObjects": "DeleteObject"}
# For what goes wrong, and for pools that live longer than five minutes.
SELDOM: Final = {"ec2:GetConsoleOutput", "ec2:DeleteVolume", "ec2:DeleteNetworkInterface", "ec2:CreateTags"}


def action_of(operation: str) -> str:
    """Return what IAM calls an operation."""
    if operation in S3 or operation.endswith("Object"):
        return f"s3:{S3.get(operation, operation)}"
    return f"ssm:{operation}" if operation == "GetParameter" else f"ec2:{operation}"


def test_policy_allows_what_is_called_and_no_more(agents: Cloud) -> None:
    """Its actions are those of a spot pool's life and of a sweep, and four that are needed seldom."""
    faults = Faults()
    scenario.live(scenario.provider(agents.session(faults), allocation="spot"), 1)
    sweep(agents.session(faults), bucket=clouds.BUCKET)
    [policy] = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    allowed: set[str] = set()
    for statement in json.loads(policy)["Statement"]:
        actions = statement["Action"]
        allowed |= {actions} if isinstance(actions, str) else set(actions)
    assert allowed == {action_of(name) for name in faults.calls} | SELDOM
