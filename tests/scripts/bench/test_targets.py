"""Whether a run shows what skyward has to reach."""

from __future__ import annotations

from skyward_scripts.bench.catalogue import PEERS, REFERENCES, SKYWARD
from skyward_scripts.bench.results import Results
from skyward_scripts.bench.summary import Spread
from skyward_scripts.bench.targets import COLUMNS, TARGETS, Bound, Finding, Verdict, check, count
from skyward_scripts.bench.workloads import BY_NAME


def results(**figures: list[float]) -> Results:
    """Return results of one workload with a figure of the same name, by contestant and round."""
    found = Results()
    for name, values in figures.items():
        found.showing("w", name).turns.update({number: {"f": value} for number, value in enumerate(values)})
    return found


def test_ratio_is_taken_within_each_round() -> None:
    """A machine that was slow in one round was slow for both."""
    ratio = Bound("w", "f", "less", 1.5, ("ours",), ("theirs",))
    assert ratio.measure(results(ours=[1.0, 10.0, 3.0], theirs=[1.0, 10.0, 1.0])) == Spread(1.0, 1.0, 3.0)


def test_rounds_that_only_one_has_shown_are_left_out() -> None:
    """A contestant that failed half-way is compared in the rounds it did."""
    ratio = Bound("w", "f", "less", 1.5, ("ours",), ("theirs",))
    assert ratio.measure(results(ours=[2.0, 4.0], theirs=[1.0])) == Spread(2.0, 2.0, 2.0)


def test_worst_of_ours_meets_the_best_of_theirs() -> None:
    """In whatever direction is better."""
    found = results(a=[1.0], b=[2.0], c=[10.0], d=[20.0])
    less = Bound("w", "f", "less", 1, ("a", "b"), ("c", "d")).measure(found)
    more = Bound("w", "f", "more", 1, ("a", "b"), ("c", "d")).measure(found)
    assert (less, more) == (Spread(0.2, 0.2, 0.2), Spread(0.05, 0.05, 0.05))


def test_bound_alone_is_on_the_figure_itself() -> None:
    """Seconds and bytes have bounds of their own."""
    bound = Bound("w", "f", "less", 20, ("ours",), unit="ms")
    assert bound.measure(results(ours=[19.0, 21.0, 20.0])) == Spread(20.0, 19.0, 21.0)
    assert str(bound) == "f: ≤ 20 ms"


def test_verdict_depends_on_the_median() -> None:
    """On the bound is met, in both directions; nothing is said about what was not measured."""
    less, more = Bound("w", "f", "less", 1.5), Bound("w", "f", "more", 1.5)
    at, below, above = Spread(1.5, 0, 9), Spread(1.4, 0, 9), Spread(1.6, 0, 9)
    assert [less.verdict(each) for each in (at, below, above)] == ["met", "met", "not met"]
    assert [more.verdict(each) for each in (at, below, above)] == ["met", "not met", "met"]
    assert less.verdict(None) == "not measured"
    assert Bound("w", "f", "less", 1, ("ours",), ("theirs",)).measure(results(ours=[1.0])) is None


def test_every_bound_can_be_measured() -> None:
    """Workloads, figures and contestants of the table exist, and take part."""
    entries = {entry.name: entry for entry in (*SKYWARD, *REFERENCES, *PEERS)}
    for target in TARGETS:
        for bound in (*target.default, *target.fastest):
            workload = BY_NAME[bound.workload]
            assert {figure.name: figure.better for figure in workload.figures}[bound.figure] == bound.better
            assert all(entries[name].takes_part(workload) for name in (*bound.ours, *bound.others)), bound


def test_second_column_asks_more_than_the_first() -> None:
    """Where both bound the same, faster than every peer is the harder one."""
    for target in TARGETS:
        for easy in target.default:
            same = [hard for hard in target.fastest if _key(hard) == _key(easy)]
            for hard in same:
                assert hard.limit <= easy.limit if easy.better == "less" else hard.limit >= easy.limit


def _key(bound: Bound) -> tuple[str, str, tuple[str, ...]]:
    return bound.workload, bound.figure, bound.others


def test_check_says_something_about_every_bound() -> None:
    """A run of nothing measures nothing, and leaves no row out."""
    findings = check(Results())
    assert len(findings) == sum(len(target.default) + len(target.fastest) for target in TARGETS)
    assert {finding.verdict for finding in findings} == {"not measured"}
    assert len({finding.target for finding in findings}) == len(TARGETS) == 15


def test_target_is_as_good_as_its_worst_bound() -> None:
    """One bound that is not met, or not measured, spoils it."""
    column = COLUMNS[0]
    verdicts: dict[str, list[Verdict]] = {
        "a": ["met", "met"], "b": ["met", "not met", "not measured"], "c": ["met", "not measured"],
    }  # fmt: skip
    findings = [Finding(name, column, "", "", "", verdict) for name, given in verdicts.items() for verdict in given]
    assert count(findings, column) == {"not met": 1, "not measured": 1, "met": 1}
    assert count(findings, COLUMNS[1]) == {"not met": 0, "not measured": 0, "met": 0}
