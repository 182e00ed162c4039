"""What commands that look after meshes are told, and what they have removed."""

from __future__ import annotations

import json
import threading
from dataclasses import replace
from math import isnan
from typing import TYPE_CHECKING

import pytest

import skyward as sky
from skyward.providers.aws.journal import left_behind
from skyward.providers.aws.standing import read_price
from tests.aws import scenario
from tests.aws.clouds import BUCKET, REGION

if TYPE_CHECKING:
    from tests.aws.clouds import Cloud


def test_recipe_makes_the_same_provider_elsewhere(agents: Cloud) -> None:
    """The region is in it, also if only the environment has said it; it is JSON."""
    made = sky.AWS(bucket=BUCKET, subnet="subnet-1234abcd", session=agents.session())
    recipe = json.loads(json.dumps(made.recipe()))
    assert recipe == {"region": REGION, "bucket": BUCKET, "subnet": ["subnet-1234abcd"]}
    assert sky.AWS(**recipe).settings == replace(made.settings, region=REGION)


def test_quote_names_the_machines_and_starts_nothing(agents: Cloud) -> None:
    """Where the price cannot be learnt it is not a number, which is not nothing."""
    quote = sky.AWS(bucket=BUCKET, session=agents.session(), vcpus=2, memory_gb=8).quote(scenario.SPEC, 3)
    assert quote.text.startswith("3 × ")
    assert quote.text.endswith(f" in {REGION}")
    assert isnan(quote.hourly)


def test_price_is_that_of_an_hour_on_demand() -> None:
    """As AWS's price list says it: other terms and units are passed over."""
    dimensions = {"x": {"unit": "Quantity", "pricePerUnit": {"USD": "9"}}}
    dimensions["y"] = {"unit": "Hrs", "pricePerUnit": {"USD": "0.0960000000"}}
    terms = {"Reserved": {"r": {"priceDimensions": {}}}, "OnDemand": {"d": {"priceDimensions": dimensions}}}
    assert read_price([json.dumps({"terms": {}}), json.dumps({"terms": terms})]) == 0.096
    assert isnan(read_price([]))


@pytest.mark.rule("F46")
def test_nodes_that_nobody_knows_are_ended_alone(agents: Cloud) -> None:
    """Those of the same mesh that are known stay, with all that they need; the journal goes with the last."""
    made = scenario.provider(agents.session()).for_mesh("blue")
    made.prepare()
    spec = replace(scenario.SPEC, persist=True, mesh="blue")
    known, lost = (made.launch(spec, index, threading.Event()) for index in range(2))
    made._signs.stop()  # as if it had been killed
    made._ground.close(keep=True)
    other = sky.AWS(bucket=BUCKET, session=agents.session())
    told = (f"instance {lost.ident} of mesh blue",)
    assert other.sweep("blue", keep=[known.ident], dry_run=True) == told
    assert sorted(agents.alive()) == sorted([known.ident, lost.ident])
    assert other.sweep("blue", keep=[known.ident]) == told
    assert agents.alive() == [known.ident]
    assert other.sweep("blue", keep=[known.ident]) == ()
    assert len(left_behind()) == 1
    other.sweep("blue")
    assert (agents.left(), left_behind()) == ([], ())


@pytest.mark.rule("F46")
def test_mesh_is_swept_by_its_name_alone(agents: Cloud) -> None:
    """By a provider made anew; without a name it is nobody's garbage, and a rehearsal removes nothing."""
    made = scenario.provider(agents.session()).for_mesh("blue")
    made.prepare()
    launched = made.launch(replace(scenario.SPEC, persist=True, mesh="blue"), 0, threading.Event())
    made.close()
    other = sky.AWS(bucket=BUCKET, session=agents.session())
    assert other.sweep() == ()
    assert f"instance {launched.ident}" in other.sweep("blue", dry_run=True)
    assert agents.alive() == [launched.ident]
    assert f"instance {launched.ident}" in other.sweep("blue")
    assert agents.left() == []
    assert other.sweep("blue") == ()
