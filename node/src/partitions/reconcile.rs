//! Makes what this node hosts agree with the metadata: opens and creates logs, follows leadership and configuration,
//! removes what is placed elsewhere or deleted.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use rafka_broker::ErrorCode;
use rafka_broker::metadata::{Image, PartitionState, Topic};
use rafka_log::{LogError, Recovery};
use rafka_model::limits::OPEN_THREADS_MAX;
use rafka_model::{MetadataIndex, NodeId, PartitionId, StorageEngine, TopicConfig, TopicId, TopicPartition};

use super::Inner;
use super::folders;
use super::meta::{self, Meta};
use super::replica::Replica;

/// Partitions that one thread opens before it shows them to clients.
const OPEN_CHUNK: usize = 32;

/// What a reconciliation did.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Reconciled {
    /// Logs opened, new ones with them.
    pub opened: usize,
    /// Partitions that left this node.
    pub removed: usize,
    /// Logs that are not open because they could not be, and why. Tried again when it may help.
    pub failed: Vec<(TopicPartition, String)>,
}

/// Why a log is not open.
#[derive(Clone, Debug)]
pub(super) struct Failed {
    pub(super) reason: String,
    /// For clients.
    pub(super) code: ErrorCode,
    /// The disk may behave again; damage does not heal.
    pub(super) may_heal: bool,
}

/// What was reconciled last; under one lock, so that reconciliations follow one another.
#[derive(Debug, Default)]
pub(super) struct Progress {
    me: NodeId,
    /// Last change of each topic that was carried out.
    seen: HashMap<TopicId, MetadataIndex>,
    /// Folders that no metadata claims, from the scan at start; `None` before it.
    unclaimed: Option<BTreeMap<TopicPartition, Option<Meta>>>,
}

/// A log to open.
struct Job<'a> {
    at: TopicPartition,
    topic: &'a Topic,
    state: &'a PartitionState,
    config: Arc<TopicConfig>,
}

impl Inner {
    /// Blocks until all is done; partitions serve as soon as each is ready.
    pub(super) fn reconcile(self: &Arc<Self>, image: &Arc<Image>, me: NodeId) -> Reconciled {
        let mut progress = self.progress.lock();
        let known = self.known.load();
        if self.is_stopping() || (known.me == me && image.index < known.image.index) {
            return Reconciled::default();
        }
        let next = Arc::new(known.next(image.clone(), me));
        self.known.store(next.clone());
        if image.cluster.is_none() {
            // Not metadata of a cluster: says nothing about what should be here.
            return Reconciled::default();
        }
        if progress.me != me {
            progress.me = me;
            progress.seen.clear();
        }
        let removed = self.remove_what_left(image, me);
        if !Arc::ptr_eq(&known.members, &next.members) {
            self.replicas.load().values().for_each(|replica| replica.meet(self, &next.members));
        }
        progress.seen.retain(|id, _| image.topics.contains_key(id));
        let mut done = Reconciled { removed, ..Reconciled::default() };
        let mut jobs = Vec::new();
        for topic in image.topics.values() {
            if progress.seen.get(&topic.id) == Some(&topic.changed) {
                continue;
            }
            match TopicConfig::resolve(&topic.configs) {
                Ok(config) => self.follow(topic, &Arc::new(config), me, &mut jobs),
                Err(error) => {
                    // A newer controller allowed it; better to keep what we have than to guess.
                    tracing::error!(topic = %topic.name, %error, "topic has a configuration that is not understood");
                    continue;
                }
            }
            progress.seen.insert(topic.id, topic.changed);
        }
        let meta = |job: &Job<'_>| Meta {
            topic: job.topic.name.clone(),
            partition: job.at,
            cluster: image.cluster.as_ref().map(|cluster| cluster.id).unwrap_or(rafka_model::ClusterId([0; 32])),
            index: image.index,
        };
        done.opened = self.open_all(&jobs, me, &meta);
        done.failed = self.failed.lock().iter().map(|(at, failed)| (*at, failed.reason.clone())).collect();
        self.sweep(&mut progress, image, me);
        self.reconciled.send_replace(image.index);
        done
    }

    /// Tries again to open what failed for reasons that may have gone.
    pub(super) fn retry_failed(self: &Arc<Self>) {
        let failed = self.failed.lock();
        let again: Vec<_> = failed.iter().filter(|(_, failed)| failed.may_heal).map(|(at, _)| at.topic).collect();
        drop(failed);
        if again.is_empty() {
            return;
        }
        let mut progress = self.progress.lock();
        progress.seen.retain(|topic, _| !again.contains(topic));
        drop(progress);
        let known = self.known.load_full();
        self.reconcile(&known.image, known.me);
    }

    fn remove_what_left(&self, image: &Image, me: NodeId) -> usize {
        let placed = |at: &TopicPartition| is_placed(image, *at, me);
        self.failed.lock().retain(|at, _| placed(at));
        let replicas = self.replicas.load();
        let left: Vec<_> = replicas.values().filter(|replica| !placed(&replica.at)).cloned().collect();
        if left.is_empty() {
            return 0;
        }
        let gone: HashSet<_> = left.iter().map(|replica| replica.at).collect();
        self.replicas.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.retain(|at, _| !gone.contains(at));
            map
        });
        for replica in &left {
            replica.retire(self);
            self.cache.drop_partition(replica.at);
            if replica.folder().is_some() {
                self.keeper.delete(replica.at);
            }
            tracing::info!(topic = %replica.topic, partition = %replica.at.partition, "partition left this node");
        }
        left.len()
    }

    /// Brings the open partitions of `topic` up to date; adds those to be opened to `jobs`.
    fn follow<'a>(&self, topic: &'a Topic, config: &Arc<TopicConfig>, me: NodeId, jobs: &mut Vec<Job<'a>>) {
        let replicas = self.replicas.load();
        for (index, state) in (0..).zip(&topic.partitions) {
            if !state.replicas.contains(&me) {
                continue;
            }
            let at = TopicPartition { topic: topic.id, partition: PartitionId(index) };
            match replicas.get(&at) {
                Some(replica) => replica.apply(self, me, state, config.clone()),
                None => jobs.push(Job { at, topic, state, config: config.clone() }),
            }
        }
    }

    /// Opens logs on a few threads; returns how many opened.
    fn open_all(&self, jobs: &[Job<'_>], me: NodeId, meta: &(dyn Fn(&Job<'_>) -> Meta + Sync)) -> usize {
        let (next, opened) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let work = || {
            let mut ready = Vec::new();
            loop {
                let job = jobs.get(next.fetch_add(1, Ordering::Relaxed)).filter(|_| !self.is_stopping());
                if job.is_none() || ready.len() >= OPEN_CHUNK {
                    opened.fetch_add(ready.len(), Ordering::Relaxed);
                    self.show(std::mem::take(&mut ready));
                }
                let Some(job) = job else { return };
                match self.open_one(job, meta) {
                    Ok(replica) => {
                        replica.apply(self, me, job.state, job.config.clone());
                        self.failed.lock().remove(&job.at);
                        ready.push(replica);
                    }
                    Err(failed) => drop(self.failed.lock().insert(job.at, failed)),
                }
            }
        };
        let threads = self.config.open_threads.clamp(1, OPEN_THREADS_MAX).min(jobs.len());
        match threads {
            0 => {}
            1 => work(),
            _ => std::thread::scope(|scope| (0..threads).for_each(|_| drop(scope.spawn(work)))),
        }
        opened.into_inner()
    }

    fn show(&self, ready: Vec<Arc<Replica>>) {
        if ready.is_empty() {
            return;
        }
        self.replicas.rcu(|map| {
            let mut map = HashMap::clone(map);
            map.extend(ready.iter().map(|replica| (replica.at, replica.clone())));
            map
        });
    }

    fn open_one(&self, job: &Job<'_>, meta: &dyn Fn(&Job<'_>) -> Meta) -> Result<Arc<Replica>, Failed> {
        let dir = self.logs.join(meta::folder(job.at));
        let opened = self.open_log(job, meta, &dir);
        let (replica, recovery) = opened.map_err(|error| {
            let name = format!("{}/{}", job.topic.name, job.at.partition);
            tracing::error!(partition = %name, %error, "partition cannot be opened");
            let may_heal = !matches!(error, LogError::Corrupt(_));
            let code = if self.note_full(&error) { ErrorCode::DiskFull } else { ErrorCode::StorageError };
            Failed { reason: error.to_string(), code, may_heal }
        })?;
        report(&replica, &recovery);
        Ok(Arc::new(replica))
    }

    fn open_log(
        &self,
        job: &Job<'_>,
        meta: &dyn Fn(&Job<'_>) -> Meta,
        dir: &std::path::Path,
    ) -> Result<(Replica, Recovery), LogError> {
        let identity = (job.at, job.topic.name.clone());
        let now = self.clock.wall();
        let disk = &self.disk;
        if job.config.storage_engine == StorageEngine::File {
            self.keeper.finish_deletion(self, job.at)?;
        }
        let opened = Replica::open(disk.clone(), dir, identity, job.config.clone(), self.shutdown, now)?;
        if job.config.storage_engine == StorageEngine::File
            && !Meta::exists(&**disk, dir)
            && let Err(error) = meta(job).write(&**disk, dir)
        {
            // Only people and the sweep of orphans miss it.
            tracing::warn!(dir = %dir.display(), %error, "cannot write partition.meta");
        }
        Ok(opened)
    }

    /// Deletes folders that the metadata, being new enough to know, places nowhere here. Whatever is not proven to be
    /// gone stays, with a warning.
    fn sweep(&self, progress: &mut Progress, image: &Image, me: NodeId) {
        let first = progress.unclaimed.is_none();
        let unclaimed = progress.unclaimed.get_or_insert_with(|| folders::scan(&*self.disk, &self.logs));
        let cluster = image.cluster.as_ref().map(|cluster| cluster.id);
        unclaimed.retain(|at, meta| {
            if is_placed(image, *at, me) {
                return false;
            }
            let proven = meta.as_ref().is_some_and(|meta| {
                meta.partition == *at && Some(meta.cluster) == cluster && meta.index <= image.index
            });
            if proven || folders::is_doomed(&*self.disk, &self.logs.join(meta::folder(*at))) {
                tracing::info!(partition = %at, "deleting a partition that is not on this node any more");
                self.keeper.delete(*at);
                return false;
            }
            if first {
                tracing::warn!(
                    partition = %at,
                    folder = %self.logs.join(meta::folder(*at)).display(),
                    "keeping a folder that this cluster's metadata does not know; remove it by hand if it is of no use"
                );
            }
            true
        });
    }
}

fn is_placed(image: &Image, at: TopicPartition, me: NodeId) -> bool {
    image.partition(at).is_some_and(|state| state.replicas.contains(&me))
}

fn report(replica: &Replica, recovery: &Recovery) {
    let (topic, partition) = (&replica.topic, replica.at.partition);
    if recovery.cut_bytes > 0 || recovery.segments_dropped > 0 {
        let (bytes, segments) = (recovery.cut_bytes, recovery.segments_dropped);
        tracing::warn!(%topic, %partition, bytes, segments, "recovery cut an unfinished end off the log");
    }
    for damage in &recovery.damaged {
        tracing::error!(%topic, %partition, %damage, "a batch is damaged; reads of it will fail");
    }
    if recovery.scanned_bytes > 0 {
        let bytes = recovery.scanned_bytes;
        tracing::debug!(%topic, %partition, bytes, all = recovery.scanned_all, "log recovered");
    }
}
