"""What an operator sets up at AWS before a task can run there: a bucket, a role, a compute environment, a queue."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from task_runners.aws_access import AwsAccess

KEYS: dict[str, Any] = {"region": "us-east-1", "access_key_id": "testing", "secret_key_id": "testing"}


@dataclass(frozen=True)
class Account:
    """The properties of a task runner that finds everything there."""

    address: str
    bucket: str
    role: str
    environment: str
    queue: str

    @property
    def properties(self) -> dict[str, Any]:
        return {
            **KEYS,
            "endpoint_override": self.address,
            "bucket": self.bucket,
            "compute_environment_arn": self.environment,
            "job_queue_arn": self.queue,
            "execution_role_arn": self.role,
            "resources": {"request": {"cpu": 0.25, "memory": 512}},
        }

    def client(self, service: str) -> Any:
        return AwsAccess(endpoint=self.address, **KEYS).client(service)


def account(address: str, name: str) -> Account:
    """Make everything under `name`."""
    made = Account(address, name, "", "", "")
    made.client("s3").create_bucket(Bucket=name)
    role = made.client("iam").create_role(RoleName=name, AssumeRolePolicyDocument="{}")["Role"]["Arn"]
    ec2, batch = made.client("ec2"), made.client("batch")
    resources = {
        "type": "FARGATE",
        "maxvCpus": 4,
        "subnets": [ec2.describe_subnets()["Subnets"][0]["SubnetId"]],
        "securityGroupIds": [ec2.describe_security_groups()["SecurityGroups"][0]["GroupId"]],
    }
    environment = batch.create_compute_environment(
        computeEnvironmentName=name, type="MANAGED", state="ENABLED", computeResources=resources, serviceRole=role
    )["computeEnvironmentArn"]
    queue = batch.create_job_queue(
        jobQueueName=name,
        state="ENABLED",
        priority=1,
        computeEnvironmentOrder=[{"order": 1, "computeEnvironment": environment}],
    )["jobQueueArn"]
    return Account(address, name, role, environment, queue)
