"""Nodes on EC2. `provider` joins the parts; those named PURE decide, and `api` alone knows boto3.

settings, choosing, attempts  PURE: what was asked for; which machine; where to try, in which order
tags, rules, requests         PURE: what marks a resource as ours; who may come in; how an instance is asked for
userdata, reports             PURE: what an instance is told, and what it says back
failures, garbage             PURE: what an error of AWS means; whose resources nobody wants any more
journal                       what is about to be asked for, on this machine
api                           boto3: clients, calls, their errors
network, storage, instances   driving EC2's groups, S3, EC2's instances
handover, launching_by_ssh    the way of code and news without a bucket
planning                      what all launches of a pool share, looked up once
sweeping                      teardown from tags alone
"""
