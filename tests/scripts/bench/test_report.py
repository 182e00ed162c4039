"""What a run has found, as text, as JSON, and as what is drawn."""

from __future__ import annotations

import json

from skyward_scripts.bench.catalogue import choose
from skyward_scripts.bench.chart import panels
from skyward_scripts.bench.facts import gather_facts, warnings
from skyward_scripts.bench.report import render, table
from skyward_scripts.bench.results import Results, from_json
from skyward_scripts.bench.workloads import BY_NAME, WORKLOADS
from tests.scripts.bench.facts import FACTS


def some() -> Results:
    """Return results of two workloads."""
    results = Results(dict(FACTS))
    for number, (ours, theirs) in enumerate([(30.0, 10.0), (20.0, 10.0), (60.0, 20.0)]):
        results.showing("gather", "skyward").turns[number] = {"": ours, "tasks": 20_000, "workers": 2}
        results.showing("gather", "multiprocessing").turns[number] = {"": theirs, "tasks": 5_000, "workers": 2}
    results.showing("gather", "ray").failure = "not installed: no such version"
    results.showing("lone", "zmq-two-legs").failure = "its process ended"
    return results


def report(results: Results, *, quick: bool = False) -> str:
    """Return the whole report."""
    return render(results, WORKLOADS, choose(None), quick=quick)


def test_report_shows_medians_with_their_range() -> None:
    """One row for each contestant, with how many tasks and workers there were."""
    lines = [line.split("  ") for line in report(some()).splitlines()]
    rows = {cells[1]: [cell.strip() for cell in cells[2:] if cell] for cells in lines if len(cells) > 2}
    assert rows["skyward"] == ["30.0 (20.0–60.0)", "20,000", "2"]
    assert "10.0 (10.0–20.0)" in rows["multiprocessing"]


def test_report_names_machine_versions_and_commit() -> None:
    """A figure means something only together with where it was measured."""
    head = report(some()).partition("\n\n")[0]
    assert all(text in head for text in ("2 × Some CPU", "16 GiB", "commit abc", "libzmq 4.3.5", "skyward 0.1.0"))
    assert "Warning" not in head


def test_report_warns_of_figures_that_mean_nothing() -> None:
    """A busy machine, uncommitted changes, and a quick run are named."""
    results = some()
    results.facts |= {"load": 1.5, "commit": "abc+"}
    head = report(results, quick=True).partition("\n\n")[0]
    assert head.count("Warning: ") == 3
    assert warnings(FACTS) == []


def test_report_gives_the_reason_of_a_failure() -> None:
    """And a contestant that has failed has no row."""
    text = report(some())
    assert "gather: ray: not installed: no such version" in text
    assert some().failures(["ray"]) == ["gather: ray: not installed: no such version"]
    assert some().failures(["skyward"]) == []


def test_report_says_what_to_know_of_those_that_are_shown() -> None:
    """Who shares the fate of a chunk, or balances no load."""
    text = report(some())
    assert "multiprocessing: multiprocessing.Pool, map in its best chunks; lives on one machine only; map: an" in text
    assert "  ray: " not in text


def test_report_ends_with_the_targets() -> None:
    """Measured ratios beside their bounds, and whether they are met."""
    last = report(some()).rpartition("Targets\n")[2]
    rows = [" ".join(line.split()) for line in last.splitlines()]
    row = "single no-op tasks/s in a gather, ipc fast by default ≥ 1.5 × multiprocessing 3.00 (2.00–3.00) met"
    assert row in rows
    assert "faster than every peer ≥ 5 × multiprocessing 3.00 (2.00–3.00) not met" in rows
    assert "fast by default ≥ 10 × ray or ray-actors not measured" in rows
    assert not [row for row in rows if "straggler" in row]  # nobody has asked
    assert rows[-2:] == [
        "fast by default: 0 not met, 14 not measured, 0 met",
        "faster than every peer: 1 not met, 14 not measured, 0 met",
    ]


def test_table_is_as_wide_as_its_cells() -> None:
    """And has no blanks at the end of lines."""
    assert table(("a", "b"), [("longer", ""), ("c", "dd")]) == "  a       b\n  longer\n  c       dd"


def test_results_survive_json() -> None:
    """What is written can be read again, medians included."""
    results = some()
    told = json.loads(json.dumps(results.as_json()))
    again = from_json(told)
    assert again == results
    summary = told["workloads"]["gather"]["skyward"]["summary"]
    assert summary[""] == {"median": 30.0, "lowest": 20.0, "highest": 60.0}


def test_panels_have_a_bar_for_each_that_has_a_figure() -> None:
    """Best first, with its range; nothing is drawn of workloads without figures."""
    found = panels(some(), WORKLOADS, choose(None))
    assert found == [
        {
            "title": "gather: tasks/s (more is better)",
            "bars": [
                ("skyward", "skyward", 30.0, 20.0, 60.0),
                ("multiprocessing", "peer", 10.0, 10.0, 20.0),
            ],
        }
    ]


def test_facts_tell_the_machine() -> None:
    """Nothing is missing that the report shows, and all of it can be written as JSON."""
    facts = gather_facts()
    assert facts.keys() == FACTS.keys()
    assert json.loads(json.dumps(facts)) == facts
    assert facts["cpus"] >= 1


def test_quick_sizes_are_a_part_of_the_sizes() -> None:
    """A quick run does the same work, and less of it."""
    for workload in WORKLOADS:
        sizes, quick = workload.sizes_for(quick=False), workload.sizes_for(quick=True)
        assert sizes.keys() == quick.keys()
        assert all(quick[name] <= sizes[name] for name in sizes)
    assert BY_NAME["lone"].sizes_for(quick=False) == {"calls": 2_000}
