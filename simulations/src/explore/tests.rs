use super::*;
use rafka_broker::replication::Rule;

fn run(bounds: &str, without: Option<Rule>) -> Report {
    explore(&bounds.parse().expect("legal"), without.map(Mutant::Replication), &mut |_| ())
}

#[test]
fn nothing_breaks_within_tiny_bounds_and_the_count_of_states_repeats() {
    let (once, again) = (run("fences=1", None), run("fences=1", None));
    assert!(once.complete && once.way.is_none(), "{:?}", once.way);
    assert!(once.progress.states > 1_000 && once.progress.ends > 0, "{:?}", once.progress);
    let figures = |report: &Report| (report.progress.states, report.progress.transitions, report.progress.depth);
    assert_eq!(figures(&once), figures(&again));
}

#[test]
fn a_missing_rule_is_found_by_the_shortest_way() {
    let report = run("fences=1", Some(Rule::MaximalIsrCounts));
    let way = report.way.expect("it is needed");
    assert_eq!(way.broken.invariant, 3);
    assert!(way.steps.len() < 12 && way.steps[0].contains("the beginning"), "{:?}", way.steps);
}

#[test]
fn bounds_are_read() {
    let bounds: Bounds = "records=2, fences=1,fsync".parse().expect("legal");
    assert_eq!((bounds.records, bounds.fences, bounds.kills), (2, 1, 0));
    assert!(["records", "records=x", "records=99", "wishes=3"].iter().all(|text| text.parse::<Bounds>().is_err()));
}
