use super::*;

const ME: NodeId = NodeId(1);
const NODE: NodeId = NodeId(2);
const OTHER: NodeId = NodeId(3);
const EPOCH: BrokerEpoch = BrokerEpoch(7);

fn ms(ms: u64) -> Monotonic {
    Monotonic::default().plus(Duration::from_millis(ms))
}

struct Bench(Detector);

impl Bench {
    fn new(nodes: u64) -> Self {
        let mut detector = Detector::new(ME);
        detector.members((1..=nodes).map(|id| (NodeId(id), EPOCH)).collect(), nodes as usize);
        Self(detector)
    }

    fn step(&mut self, at: u64, input: Input) -> Vec<Output> {
        let mut out = Vec::new();
        self.0.step(ms(at), input, &mut out);
        out
    }

    fn report(&mut self, at: u64, by: NodeId, sign: Sign) -> Vec<Output> {
        self.step(at, Input::Reported { by, node: NODE, epoch: EPOCH, sign })
    }

    fn probe(&mut self, at: u64, sign: Option<Sign>) -> Vec<Output> {
        self.step(at, Input::Probed { node: NODE, epoch: EPOCH, sign })
    }
}

const PROBE: Output = Output::Probe { node: NODE, epoch: EPOCH };
const FENCE: Output = Output::Fence { node: NODE, epoch: EPOCH };

#[test]
fn a_killed_process_is_fenced_once_the_controller_saw_it_too() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.report(0, OTHER, Sign::Reset), [PROBE]);
    assert_eq!(bench.report(1, OTHER, Sign::Refused), [], "one probe at a time");
    assert_eq!(bench.probe(5, Some(Sign::Refused)), [FENCE]);
    assert_eq!(bench.probe(6, Some(Sign::Refused)), [], "once");
}

#[test]
fn the_controllers_own_word_is_not_enough() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.report(0, ME, Sign::Reset), [PROBE]);
    assert_eq!(bench.probe(5, Some(Sign::Refused)), []);
    assert_eq!(bench.report(100, OTHER, Sign::Refused), [PROBE, FENCE], "now it is");
}

#[test]
fn of_two_nodes_one_is_the_only_witness() {
    let mut bench = Bench::new(2);
    assert_eq!(bench.report(0, ME, Sign::Refused), [PROBE]);
    assert_eq!(bench.probe(5, Some(Sign::Refused)), [], "nothing but refused dials");
    assert_eq!(bench.report(10, ME, Sign::Reset), [PROBE, FENCE]);
}

#[test]
fn silence_answers_and_heartbeats_leave_a_node_in_service() {
    let mut bench = Bench::new(3);
    assert_eq!(bench.report(0, OTHER, Sign::Silent), []);
    assert_eq!(bench.report(0, OTHER, Sign::Reset), [PROBE]);
    assert_eq!(bench.probe(5, Some(Sign::Silent)), []);
    assert_eq!(bench.report(10, OTHER, Sign::Reset), [PROBE]);
    assert_eq!(bench.probe(15, None), []);
    assert_eq!(bench.probe(16, Some(Sign::Refused)), [], "void by the answer");
    bench.report(20, OTHER, Sign::Reset);
    bench.step(25, Input::Heard { node: NODE, epoch: EPOCH });
    assert_eq!(bench.probe(30, Some(Sign::Refused)), [], "void by the heartbeat");
    bench.report(40, OTHER, Sign::Reset);
    bench.step(45, Input::Heard { node: NODE, epoch: BrokerEpoch(6) });
    assert_eq!(bench.probe(50, Some(Sign::Refused)), [FENCE], "a former life does not count");
}

#[test]
fn old_signs_and_old_registrations_do_not_count() {
    let mut bench = Bench::new(3);
    bench.report(0, OTHER, Sign::Reset);
    assert_eq!(bench.probe(2_000, Some(Sign::Refused)), []);
    assert_eq!(bench.report(3_900, ME, Sign::Refused), [PROBE], "the probe has ended, so there is another");
    bench.report(4_000, OTHER, Sign::Reset);
    let anew = BrokerEpoch(9);
    bench.0.members(BTreeMap::from([(ME, EPOCH), (NODE, anew), (OTHER, EPOCH)]), 3);
    assert_eq!(bench.probe(4_001, Some(Sign::Refused)), []);
    assert_eq!(bench.report(4_002, OTHER, Sign::Reset), []);
    assert_eq!(
        bench.step(4_003, Input::Reported { by: NodeId(8), node: NODE, epoch: anew, sign: Sign::Reset }),
        [],
        "no member"
    );
    assert_eq!(bench.step(4_004, Input::Reported { by: OTHER, node: ME, epoch: EPOCH, sign: Sign::Reset }), []);
}

#[test]
fn a_lease_ends_a_session_after_the_heartbeat_was_sent() {
    let mut lease = Lease::new(Duration::from_secs(6), ms(0));
    assert!(!lease.holds(ms(0)), "nothing was answered yet");
    lease.answered(ms(1_000), ms(3_000));
    lease.answered(ms(500), ms(3_100));
    assert_eq!(lease.ends(), Some(ms(7_000)));
    assert!(lease.holds(ms(6_999)) && !lease.holds(ms(7_000)));
}

#[test]
fn a_sleep_is_noticed_once() {
    let mut lease = Lease::new(Duration::from_secs(6), ms(0));
    assert_eq!(lease.awake(ms(900)), None);
    assert_eq!(lease.awake(ms(3_000)), Some(Duration::from_millis(2_100)));
    assert_eq!(lease.awake(ms(3_100)), None);
}

#[test]
fn a_slow_disk_does_not_lead_until_it_was_well_for_a_while() {
    let mut disk = DiskWatch::new();
    disk.began(1, ms(0));
    assert_eq!(disk.health(ms(4_999)), DiskHealth::Well);
    assert_eq!(disk.health(ms(5_000)), DiskHealth::Slow, "it need not end");
    disk.ended(1, ms(7_000), false);
    assert_eq!(disk.health(ms(66_999)), DiskHealth::Slow);
    assert_eq!(disk.health(ms(67_000)), DiskHealth::Well);
    disk.began(2, ms(70_000));
    disk.slept(Duration::from_secs(9), ms(80_000));
    assert_eq!(disk.health(ms(80_000)), DiskHealth::Well, "the process slept, not the disk");
    disk.ended(2, ms(80_001), true);
    disk.began(3, ms(80_002));
    disk.ended(3, ms(80_003), false);
    assert_eq!(disk.health(ms(900_000)), DiskHealth::Failed);
}
