"""What tests of AWS share: a cloud of the session's own, sessions of boto3 with it, and what is left in it."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import boto3
import botocore.session
import psutil
from botocore.config import Config
from botocore.loaders import Loader

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tests.aws.faults import Faults

REGION = "eu-central-1"
BUCKET = "skyward-tests"
HERE = "127.0.0.1/32"  # who may reach the nodes: nobody asks the internet who we are
ACCESS = "AKIAIOSFODNN7EXAMPLE"
SECRET = "wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY"  # noqa: S105 - AWS's own example
LOADER = Loader()  # of all sessions: botocore's files are read once, and a fork has what its parent has read


def session(url: str, faults: Faults | None = None) -> Any:
    """Return a session of boto3 whose every client talks to a cloud of ours."""
    below = botocore.session.get_session()
    below.register_component("data_loader", LOADER)
    made = boto3.Session(
        aws_access_key_id=ACCESS, aws_secret_access_key=SECRET, region_name=REGION, botocore_session=below
    )
    original = made.client

    def client(name: str, **arguments: Any) -> Any:
        built = original(name, endpoint_url=url, **arguments)  # type: ignore[call-overload]  # any service
        return faults.watch(built) if faults else built

    made.client = client  # type: ignore[assignment]  # as AWS_ENDPOINT_URL would, for this session alone
    return made


class Cloud:
    """A process with moto's server, and with machines or agents behind its instances."""

    def __init__(self, directory: Path, mode: str, cache: str = "") -> None:
        self.directory = directory
        self._clients: dict[str, Any] = {}
        directory.mkdir(parents=True, exist_ok=True)
        command = [sys.executable, "-m", "tests.aws.cloud", str(directory), mode, *([cache] if cache else [])]
        env = os.environ | {"AWS_ACCESS_KEY_ID": "moto", "AWS_SECRET_ACCESS_KEY": "moto"}
        self._log = (directory / "cloud.log").open("wb")
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._log, env=env
        )
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, (directory / "cloud.log").read_text()
        self.url = f"http://127.0.0.1:{int(line)}"
        self.client("s3").create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": REGION})

    def close(self) -> None:
        """End it, and all machines."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(30)
        self._process.stdout.close()
        self._log.close()

    def forget(self) -> None:
        """Forget instances that are terminated, as EC2 does after an hour; nobody may use the cloud meanwhile."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(b"forget\n")
        self._process.stdin.flush()
        assert self._process.stdout.readline() == b"forgotten\n"

    @property
    def process(self) -> psutil.Process:
        """Return the cloud itself; machines are its children."""
        return psutil.Process(self._process.pid)

    def session(self, faults: Faults | None = None) -> Any:
        """Return a session of boto3 whose every client talks to this cloud, watched if somebody wants that."""
        return session(self.url, faults)

    def client(self, service: str) -> Any:
        """Return a client of its own for a test that looks for itself."""
        if service not in self._clients:
            self._clients[service] = self.session().client(service, config=Config(retries={"total_max_attempts": 5}))
        return self._clients[service]

    def alive(self) -> list[str]:
        """Return the instances that run."""
        wanted = [{"Name": "instance-state-name", "Values": ["pending", "running"]}]
        said = self.client("ec2").describe_instances(Filters=wanted)["Reservations"]
        return [str(each["InstanceId"]) for reservation in said for each in reservation["Instances"]]

    # --- what there is -----------------------------------------------------------------------

    def left(self) -> list[str]:
        """Return all resources that cost something or are in the way, apart from what an account has anyway."""
        ec2, s3 = self.client("ec2"), self.client("s3")
        states = ["pending", "running", "shutting-down", "stopping", "stopped"]
        found = [
            f"instance {each['InstanceId']} {each['State']['Name']}"
            for reservation in ec2.describe_instances(Filters=[{"Name": "instance-state-name", "Values": states}])[
                "Reservations"
            ]
            for each in reservation["Instances"]
        ]
        found += [f"volume {each['VolumeId']}" for each in ec2.describe_volumes()["Volumes"]]
        found += [
            f"interface {each['NetworkInterfaceId']}" for each in ec2.describe_network_interfaces()["NetworkInterfaces"]
        ]
        found += [
            f"group {each['GroupId']} {each['GroupName']}"
            for each in ec2.describe_security_groups()["SecurityGroups"]
            if each["GroupName"] != "default"
        ]
        found += [f"key pair {each['KeyName']}" for each in ec2.describe_key_pairs()["KeyPairs"]]
        found += [f"object {each['Key']}" for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ())]
        return found

    def wipe(self) -> None:
        """Make everything gone, after a test that has left something on purpose."""
        ec2, s3 = self.client("ec2"), self.client("s3")
        for reservation in ec2.describe_instances()["Reservations"]:
            ec2.terminate_instances(InstanceIds=[each["InstanceId"] for each in reservation["Instances"]])
        while any(line.startswith("instance") for line in self.left()):
            pass
        for each in ec2.describe_network_interfaces()["NetworkInterfaces"]:
            ec2.delete_network_interface(NetworkInterfaceId=each["NetworkInterfaceId"])
        for each in ec2.describe_volumes()["Volumes"]:
            ec2.delete_volume(VolumeId=each["VolumeId"])
        for each in ec2.describe_security_groups()["SecurityGroups"]:
            if each["GroupName"] != "default":
                ec2.delete_security_group(GroupId=each["GroupId"])
        for each in s3.list_objects_v2(Bucket=BUCKET).get("Contents", ()):
            s3.delete_object(Bucket=BUCKET, Key=each["Key"])


def running(directory: Path, mode: str, cache: str = "") -> Iterator[Cloud]:
    """Yield a cloud; for fixtures."""
    cloud = Cloud(directory, mode, cache)
    try:
        yield cloud
    finally:
        cloud.close()
