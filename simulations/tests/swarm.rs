//! Small swarms of real nodes, as the tests have time for.

use std::time::Duration;

use rafka_simulations::progress::Progress;
use rafka_simulations::swarm::{self, Config};

fn small() -> Config {
    Config { topics: 6, partitions: 4, lookups: 150, hints: 5, ..Config::default() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_swarm_of_twenty_resolves_everything_by_the_dht_alone_also_after_churn() {
    let config = Config { nodes: 20, churn: Duration::from_secs(1), ..small() };
    let report = swarm::run(&config, Progress::Silent).await.expect("runs");
    assert!(report.missed.is_empty(), "{:?}\n{report:#?}", report.missed);
    assert_eq!((report.resolve.routes, report.resolve.fallbacks), (20 * 6, 0));
    let churn = report.churn.expect("there was churn");
    assert!(churn.crashes >= 2 && churn.lookups.made > 0, "{churn:#?}");
    assert_eq!(churn.lookups.found, churn.lookups.made, "two of eight holders may be away");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn five_that_join_at_once_through_one_address_know_each_other_within_two_seconds() {
    for tcp in [false, true] {
        let config = Config { nodes: 5, at_once: true, tcp, lookups: 20, ..small() };
        let report = swarm::run(&config, Progress::Silent).await.expect("runs");
        assert!(report.missed.is_empty(), "{:?}\n{report:#?}", report.missed);
        assert_eq!((report.join.neighbours, report.join.routing_table.p50), (4, 4.0));
    }
}
