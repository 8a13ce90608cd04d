//! Three whole brokers, each killed once.

use rafka_simulations::cluster::{self, Config};
use rafka_simulations::progress::Progress;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_each_of_three_brokers_is_killed_and_returns() {
    let config = Config { records: 4_000, ..Config::default() };
    let report = cluster::run(&config, Progress::Silent).await.expect("runs");
    assert!(report.violations.is_empty(), "{report:#?}");
    assert_eq!((report.kills, report.acknowledged), (3, report.sent));
    assert_eq!(report.duplicates, 0, "a retry is known by its sequence numbers");
}
