use std::collections::BTreeMap;

use bytes::Bytes;
use openraft::storage::RaftLogStorageExt;
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::type_config::TypeConfigExt;
use openraft::{RaftLogReader, StorageError as RaftStorageError};
use rafka_log::disk::{Crash, FaultyDisk, MemoryDisk};

use super::super::machine::Machine;
use super::super::snapshots::SnapshotFile;
use super::super::types::{LeaderId, Proposal};
use super::*;
use crate::image::ImageStore;

const DIR: &str = "/log";
const SMALL: Sizes = Sizes { segment_bytes: 400, cache_bytes: 600 };
const EIO: i32 = 5;

fn id(term: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderId { term, node_id: 1 }, index }
}

/// An entry whose content tells which one it is.
fn entry(term: u64, index: u64) -> RaftEntry {
    let content: Vec<u8> = format!("{term}/{index} ").into_bytes().repeat(5);
    RaftEntry { log_id: id(term, index), payload: RaftPayload::Normal(Proposal(content.into())) }
}

fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderId { term, node_id: 1 }, committed: true }
}

fn open(disk: Arc<dyn Disk>) -> Result<(LogStore, Worker), OpenError> {
    LogStore::open_with(disk, Path::new(DIR), 0, SMALL)
}

fn close(store: LogStore, mut worker: Worker) {
    drop(store);
    worker.close();
    worker.join();
}

async fn append(store: &mut LogStore, entries: impl IntoIterator<Item = RaftEntry>) -> bool {
    let entries: Vec<RaftEntry> = entries.into_iter().collect();
    store.blocking_append(entries).await.is_ok()
}

async fn entries(store: &mut LogStore) -> Vec<RaftEntry> {
    store.get_log_reader().await.try_get_log_entries(..).await.expect("reads")
}

fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().expect("builds").block_on(future)
}

struct InMemory;

impl StoreBuilder<TypeConfig, LogStore, Machine, Worker> for InMemory {
    async fn build(&self) -> Result<(Worker, LogStore, Machine), RaftStorageError<TypeConfig>> {
        let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
        let (store, worker) = open(disk.clone()).expect("opens");
        let machine = Machine::new(Arc::new(ImageStore::default()), SnapshotFile::new(disk, Path::new(DIR)));
        Ok((worker, store, machine))
    }
}

#[test]
fn openraft_finds_nothing_wrong_with_the_store() {
    block_on(Suite::test_all(InMemory)).expect("passes");
}

#[tokio::test]
async fn what_was_written_is_there_after_a_restart_and_is_read_from_disk_when_memory_has_let_it_go() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let all: Vec<RaftEntry> = (0..40).map(|index| entry(1 + index / 20, index)).collect();
    let (mut store, worker) = open(disk.clone()).expect("opens");
    store.save_vote(&vote(2)).await.expect("saves");
    for few in all.chunks(3) {
        assert!(append(&mut store, few.to_vec()).await);
    }
    store.save_committed(Some(id(2, 30))).await.expect("saves");
    let in_memory = |worker: &Worker| worker.shared.state.lock().slots.iter().filter(|s| s.entry.is_some()).count();
    assert!(in_memory(&worker) < 10, "the cache is bounded");
    assert_eq!(entries(&mut store).await, all);
    close(store, worker);
    let (mut store, worker) = open(disk).expect("opens");
    assert!(in_memory(&worker) < 10, "the cache is bounded");
    assert_eq!(entries(&mut store).await, all);
    assert_eq!(store.get_log_reader().await.read_vote().await.expect("reads"), Some(vote(2)));
    assert_eq!(store.read_committed().await.expect("reads"), Some(id(2, 30)));
    let state = store.get_log_state().await.expect("reads");
    assert_eq!((state.last_purged_log_id, state.last_log_id), (None, Some(id(2, 39))));
    let mut reader = store.get_log_reader().await;
    assert_eq!(reader.try_get_log_entries(5..7).await.expect("reads"), all[5..7]);
    let streamed: Vec<RaftEntry> =
        futures::TryStreamExt::try_collect(reader.entries_stream(35..).await).await.expect("reads");
    assert_eq!(streamed, all[35..]);
    close(store, worker);
}

#[tokio::test]
async fn truncated_and_purged_entries_stay_gone() {
    let disk: Arc<dyn Disk> = Arc::new(MemoryDisk::new());
    let (mut store, worker) = open(disk.clone()).expect("opens");
    assert!(append(&mut store, (0..30).map(|index| entry(1, index))).await);
    store.truncate_after(Some(id(1, 19))).await.expect("truncates");
    store.purge(id(1, 11)).await.expect("purges");
    assert!(append(&mut store, [entry(2, 20), entry(2, 21)]).await);
    let expected: Vec<RaftEntry> = (12..20).map(|i| entry(1, i)).chain([entry(2, 20), entry(2, 21)]).collect();
    assert_eq!(entries(&mut store).await, expected);
    let files = disk.list(Path::new(DIR)).expect("lists");
    close(store, worker);
    let (mut store, worker) = open(disk.clone()).expect("opens");
    assert_eq!(entries(&mut store).await, expected);
    assert_eq!(store.get_log_state().await.expect("reads").last_purged_log_id, Some(id(1, 11)));
    assert!(files.iter().filter(|name| name.ends_with(".log")).count() < 7, "purged segments are freed: {files:?}");
    // A snapshot of another voter may be far ahead.
    store.purge(id(3, 100)).await.expect("purges");
    assert_eq!(store.get_log_state().await.expect("reads").last_log_id, Some(id(3, 100)));
    assert!(append(&mut store, [entry(3, 101)]).await);
    close(store, worker);
    let (mut store, worker) = open(disk).expect("opens");
    assert_eq!(entries(&mut store).await, [entry(3, 101)]);
    store.truncate_after(None).await.expect("truncates");
    assert_eq!(entries(&mut store).await, []);
    close(store, worker);
}

#[tokio::test]
async fn entries_come_in_order_when_a_truncation_reaches_behind_what_memory_holds() {
    let (mut store, worker) = open(Arc::new(MemoryDisk::new())).expect("opens");
    assert!(append(&mut store, (0..40).map(|index| entry(1, index))).await);
    store.truncate_after(Some(id(1, 9))).await.expect("truncates");
    for index in 10..60 {
        assert!(append(&mut store, [entry(2, index)]).await);
        let expected = (0..10).map(|index| entry(1, index)).chain((10..=index).map(|index| entry(2, index)));
        assert_eq!(entries(&mut store).await, expected.collect::<Vec<_>>());
    }
    close(store, worker);
}

/// What the store has acknowledged, and what it had been told when the machine stopped.
#[derive(Clone, Debug, Default)]
struct Model {
    vote: Option<Vote>,
    purged: Option<LogId>,
    entries: BTreeMap<u64, LogId>,
}

#[derive(Clone, Copy, Debug)]
enum Step {
    Vote(u64),
    Append { term: u64, from: u64, to: u64 },
    Truncate(LogId),
    Purge(LogId),
}

/// The second append finds a segment that only the commit mark behind the first has filled; the first truncation takes
/// several segments away.
const STEPS: [Step; 11] = [
    Step::Vote(1),
    Step::Append { term: 1, from: 0, to: 5 },
    Step::Vote(2),
    Step::Append { term: 1, from: 5, to: 18 },
    Step::Truncate(LogId { leader_id: LeaderId { term: 1, node_id: 1 }, index: 3 }),
    Step::Append { term: 2, from: 4, to: 14 },
    Step::Purge(LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index: 8 }),
    Step::Truncate(LogId { leader_id: LeaderId { term: 2, node_id: 1 }, index: 10 }),
    Step::Vote(3),
    Step::Append { term: 3, from: 11, to: 12 },
    Step::Append { term: 3, from: 12, to: 20 },
];

impl Model {
    fn step(&mut self, step: Step) {
        match step {
            Step::Vote(term) => self.vote = Some(vote(term)),
            Step::Append { term, from, to } => self.entries.extend((from..to).map(|index| (index, id(term, index)))),
            Step::Truncate(last) => drop(self.entries.split_off(&(last.index + 1))),
            Step::Purge(upto) => {
                self.purged = Some(upto);
                self.entries = self.entries.split_off(&(upto.index + 1));
            }
        }
    }

    fn end(&self) -> u64 {
        self.entries.last_key_value().map_or(0, |(index, _)| index + 1)
    }
}

async fn take(store: &mut LogStore, step: Step) -> bool {
    match step {
        Step::Vote(term) => store.save_vote(&vote(term)).await.is_ok(),
        Step::Append { term, from, to } => {
            let appended = append(store, (from..to).map(|index| entry(term, index))).await;
            appended && store.save_committed(Some(id(term, from))).await.is_ok()
        }
        Step::Truncate(last) => store.truncate_after(Some(last)).await.is_ok(),
        Step::Purge(upto) => store.purge(upto).await.is_ok(),
    }
}

/// Runs the steps on a disk that stops at operation `n`; returns what was acknowledged, and that with the step that
/// was under way.
fn run_until(memory: &Arc<MemoryDisk>, n: u64) -> (Model, Model, bool) {
    let (disk, faults) = FaultyDisk::new(memory.clone());
    faults.halt_at(n);
    let (mut before, mut after) = (Model::default(), Model::default());
    let Ok((mut store, worker)) = open(Arc::new(disk)) else { return (before, after, false) };
    block_on(async {
        for step in STEPS {
            after.step(step);
            if !take(&mut store, step).await {
                break;
            }
            before.step(step);
        }
    });
    close(store, worker);
    (before, after, !faults.halted())
}

/// Claim: whatever the store acknowledged survives any crash, and what is there besides is a part of what was under way.
#[test]
fn acknowledged_votes_and_entries_survive_a_crash_at_every_operation() {
    for n in 0.. {
        let memory = Arc::new(MemoryDisk::new());
        let (before, after, finished) = run_until(&memory, n);
        for seed in 0..12 {
            let disk = Arc::new(memory.crash(Crash::Power { seed }));
            check(&disk, &before, &after, &format!("stopped at operation {n}, power cut {seed}"));
        }
        // Killed: the operating system still has what was not synced, until the power fails too.
        check(&memory, &before, &after, &format!("killed at operation {n}"));
        if finished {
            assert!(n > 40, "{n} operations");
            return;
        }
    }
}

fn check(disk: &Arc<MemoryDisk>, before: &Model, after: &Model, at: &str) {
    let (mut store, worker) = open(disk.clone()).unwrap_or_else(|error| panic!("{at}: {error}"));
    // What an opened log shows, consensus relies on: it must not go with the power.
    let again = open(Arc::new(disk.crash(Crash::Power { seed: 3 })));
    let (mut again, its_worker) = again.unwrap_or_else(|error| panic!("{at}, then the power fails: {error}"));
    assert_eq!(block_on(entries(&mut again)), block_on(entries(&mut store)), "{at}, then the power fails");
    close(again, its_worker);
    block_on(async {
        let found = store.get_log_reader().await.read_vote().await.expect("reads");
        assert!(found == before.vote || found == after.vote, "{at}: vote {found:?}");
        let state = store.get_log_state().await.expect("reads");
        let purged = state.last_purged_log_id;
        assert!(purged == before.purged || purged == after.purged, "{at}: purged {purged:?}");
        let read = entries(&mut store).await;
        let first = purged.map_or(0, |purged| purged.index + 1);
        let end = first + read.len() as u64;
        assert!(end >= before.end().min(after.end()), "{at}: ends at {end}");
        for (index, found) in (first..).zip(&read) {
            let id = found.log_id;
            assert_eq!(*found, entry(id.leader_id.term, index), "{at}");
            let known = [before, after].map(|model| model.entries.get(&index) == Some(&id));
            assert!(known.contains(&true), "{at}: {id} was never written");
        }
        let committed = store.read_committed().await.expect("reads");
        assert!(committed.is_none_or(|committed| committed.index < end), "{at}: {committed:?} is committed");
        // It goes on from there.
        store.save_vote(&vote(9)).await.expect("saves");
        assert!(append(&mut store, [entry(9, end)]).await, "{at}");
    });
    let expected = block_on(entries(&mut store));
    close(store, worker);
    let (mut store, worker) = open(disk.clone()).unwrap_or_else(|error| panic!("{at}, again: {error}"));
    assert_eq!(block_on(entries(&mut store)), expected, "{at}");
    close(store, worker);
}

fn segments(disk: &dyn Disk) -> Vec<PathBuf> {
    let names = disk.list(Path::new(DIR)).expect("lists").into_iter();
    names.filter(|name| name.ends_with(".log")).map(|name| Path::new(DIR).join(name)).collect()
}

/// A log of three segments and a commit mark.
fn written() -> Arc<MemoryDisk> {
    let disk = Arc::new(MemoryDisk::new());
    let (mut store, worker) = open(disk.clone()).expect("opens");
    block_on(async {
        store.save_vote(&vote(1)).await.expect("saves");
        for index in 0..14 {
            assert!(append(&mut store, [entry(1, index)]).await);
        }
        store.save_committed(Some(id(1, 13))).await.expect("saves");
    });
    close(store, worker);
    disk
}

#[test]
fn a_flipped_bit_in_what_was_acknowledged_is_an_error_that_names_file_and_place() {
    let disk = written();
    let files = segments(&*disk);
    assert!(files.len() >= 3, "{files:?}");
    for file in &files {
        let bytes = disk.bytes(file).expect("there").len() as u64;
        // The last frame of the log is a commit mark, which no one relies on.
        let relied_on = if Some(file) == files.last() { bytes - frame::FRAME_HEADER_BYTES as u64 } else { bytes };
        for at in (0..relied_on).step_by(7) {
            disk.flip(file, at, 0x10).expect("flips");
            match open(disk.clone()).map(drop) {
                Err(OpenError::Damaged { file: named, position, .. }) => {
                    assert_eq!(named, *file);
                    assert!(position <= at, "flipped {at}, reported {position}");
                }
                other => panic!("flipped byte {at} of {}: {other:?}", file.display()),
            }
            disk.flip(file, at, 0x10).expect("flips back");
        }
    }
    let (mut store, worker) = open(disk.clone()).expect("nothing was changed");
    assert_eq!(block_on(entries(&mut store)).len(), 14);
    close(store, worker);
    let error = {
        disk.flip(&files[0], 100, 1).expect("flips");
        open(disk).map(drop).expect_err("damaged").to_string()
    };
    assert!(error.contains("restore the metadata directory") && error.contains("at byte"), "{error}");
}

#[test]
fn a_lost_segment_a_damaged_vote_and_an_oversized_file_are_errors() {
    let disk = written();
    let files = segments(&*disk);
    let bytes = disk.bytes(&files[1]).expect("there");
    disk.remove(&files[1]).expect("removes");
    assert!(matches!(open(disk.clone()).map(drop), Err(OpenError::Missing { .. })));
    disk.put(&files[1], &bytes);
    let vote = Path::new(DIR).join("vote");
    disk.flip(&vote, 14, 1).expect("flips");
    let error = open(disk.clone()).map(drop).expect_err("damaged").to_string();
    assert!(error.contains("vote is damaged") && error.contains("restore"), "{error}");
    disk.flip(&vote, 14, 1).expect("flips");
    open(disk.clone()).map(drop).expect("whole again");
    let huge = disk.open(&files[1]).expect("opens");
    huge.truncate(1 << 40).expect("grows");
    assert!(matches!(open(disk).map(drop), Err(OpenError::Damaged { .. })));
}

#[test]
fn damage_that_comes_while_the_log_is_open_is_noticed_by_the_read() {
    let disk = written();
    let (mut store, worker) = open(disk.clone()).expect("opens");
    let place = worker.shared.state.lock().slots[2].place.expect("on disk");
    disk.flip(&writer::segment_path(Path::new(DIR), place.segment), place.position.into(), 1).expect("flips");
    block_on(async {
        let mut reader = store.get_log_reader().await;
        let error = reader.try_get_log_entries(2..3).await.expect_err("damaged").to_string();
        assert!(error.contains("is damaged at byte"), "{error}");
        assert_eq!(reader.try_get_log_entries(3..4).await.expect("reads"), [entry(1, 3)]);
    });
    close(store, worker);
}

#[tokio::test]
async fn a_full_disk_delays_writes_and_loses_none() {
    let memory = Arc::new(MemoryDisk::new());
    let (disk, faults) = FaultyDisk::new(memory.clone());
    let (mut store, worker) = open(Arc::new(disk)).expect("opens");
    assert!(append(&mut store, [entry(1, 0)]).await);
    faults.set_free_bytes(Some(60));
    let (flushed, is_flushed) = TypeConfig::oneshot();
    let mut is_flushed = std::pin::pin!(is_flushed);
    store.append((1..20).map(|index| entry(1, index)), IOFlushed::signal(flushed)).await.expect("is taken");
    while !worker.is_stalled() {
        tokio::task::yield_now().await;
    }
    assert!(futures::poll!(&mut is_flushed).is_pending(), "not acknowledged before it is on disk");
    faults.set_free_bytes(None);
    is_flushed.await.expect("answered").expect("written");
    assert!(!worker.is_stalled());
    close(store, worker);
    let (mut store, worker) = open(memory).expect("opens");
    assert_eq!(entries(&mut store).await, (0..20).map(|index| entry(1, index)).collect::<Vec<_>>());
    close(store, worker);
}

#[tokio::test]
async fn a_write_that_waits_for_space_fails_when_the_node_stops() {
    let memory = Arc::new(MemoryDisk::new());
    let (disk, faults) = FaultyDisk::new(memory.clone());
    let (mut store, worker) = open(Arc::new(disk)).expect("opens");
    assert!(append(&mut store, [entry(1, 0)]).await);
    faults.set_free_bytes(Some(0));
    let (flushed, is_flushed) = TypeConfig::oneshot();
    store.append([entry(1, 1)], IOFlushed::signal(flushed)).await.expect("is taken");
    while !worker.is_stalled() {
        tokio::task::yield_now().await;
    }
    close(store, worker);
    assert!(is_flushed.await.expect("answered").is_err());
    let (mut store, worker) = open(memory).expect("opens");
    assert_eq!(entries(&mut store).await, [entry(1, 0)]);
    close(store, worker);
}

#[tokio::test]
async fn after_a_failed_sync_nothing_is_acknowledged_any_more() {
    let memory = Arc::new(MemoryDisk::new());
    let (disk, faults) = FaultyDisk::new(memory.clone());
    let (mut store, worker) = open(Arc::new(disk)).expect("opens");
    assert!(append(&mut store, [entry(1, 0)]).await);
    faults.set_fail_syncs(true);
    assert!(!append(&mut store, [entry(1, 1)]).await);
    faults.set_fail_syncs(false);
    assert!(!append(&mut store, [entry(1, 2)]).await);
    let error = store.save_vote(&vote(4)).await.expect_err("stopped").to_string();
    assert!(error.contains("stopped after an error"), "{error}");
    close(store, worker);
    let (mut store, worker) = open(memory).expect("opens");
    assert_eq!(entries(&mut store).await[0], entry(1, 0));
    assert_eq!(store.get_log_reader().await.read_vote().await.expect("reads"), None);
    close(store, worker);
}

#[tokio::test]
async fn an_error_of_the_disk_is_an_error_of_the_write() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let (mut store, worker) = open(Arc::new(disk)).expect("opens");
    faults.fail_at(faults.operations(), EIO);
    let error = store.save_vote(&vote(4)).await.expect_err("fails").to_string();
    assert!(error.contains("vote"), "{error}");
    close(store, worker);
}

#[test]
fn the_log_of_another_group_is_refused() {
    let disk = written();
    let opened = LogStore::open_with(disk, Path::new(DIR), 1, SMALL).map(drop);
    assert!(matches!(opened, Err(OpenError::Damaged { position: 0, .. })), "{opened:?}");
}

#[tokio::test]
async fn entries_are_read_in_bounded_pieces_but_never_none() {
    let (mut store, worker) = LogStore::open(Arc::new(MemoryDisk::new()), Path::new(DIR), 0).expect("opens");
    let large = |index| RaftEntry {
        log_id: id(1, index),
        payload: RaftPayload::Normal(Proposal(Bytes::from(vec![0; 5 << 20]))),
    };
    assert!(append(&mut store, (0..4).map(large)).await);
    let mut reader = store.get_log_reader().await;
    assert_eq!(reader.limited_get_log_entries(0, 4).await.expect("reads").len(), 1);
    assert_eq!(reader.try_get_log_entries(0..4).await.expect("reads").len(), 4);
    close(store, worker);
}
