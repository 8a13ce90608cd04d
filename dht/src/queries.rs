//! Drives kad's queries: gets that end with the right record, puts to named holders.
//!
//! The task that owns the swarm calls [`Queries::get`] and [`Queries::put`] and passes it every
//! `kad::Event`; answers leave through oneshot channels.

use std::collections::HashMap;

use libp2p::PeerId;
use libp2p::kad::{
    self, GetRecordOk, K_VALUE, KBucketKey, Mode, PeerRecord, PutRecordError, QueryId, QueryResult, Quorum, Record,
};
use rafka_model::limits::DHT_READ_HOLDERS;
use tokio::sync::oneshot;

use crate::walk::Walk;
use crate::{Behaviour, Key, SignedRecord, Verifier, Version};

/// What a lookup found.
#[derive(Clone, Debug, Default)]
pub struct Found {
    /// The newest valid record that was seen, perhaps older than asked for, perhaps a tombstone.
    pub record: Option<SignedRecord>,
    /// Peers that answered or broke off, in order; empty if this node held the record itself. (Peers that could
    /// not be dialled are not in it: kad does not tell for whose sake it dialled.)
    pub asked: Vec<PeerId>,
    /// Length of the shortest chain of referrals to the peer that gave the record (1 = it was in our own
    /// routing table, 0 = this node held it), or to the farthest peer asked if there was no record.
    pub hops: u32,
    /// Peers that answered, with or without the record.
    pub answered: u32,
    /// Records that were given and were not valid.
    pub invalid: u32,
}

/// What became of a put.
#[derive(Clone, Debug, Default, Eq, PartialEq)]
pub struct Stored {
    /// Holders that now have it, this node with them if it is one.
    pub stored: Vec<PeerId>,
    /// Holders that it was offered to, this node with them.
    pub offered: usize,
}

impl Stored {
    /// True if every holder has it.
    #[must_use]
    pub fn everywhere(&self) -> bool {
        self.stored.len() == self.offered
    }
}

/// Counters since the start.
#[derive(Clone, Copy, Debug, Default, Eq, PartialEq)]
pub struct QueryCounts {
    /// Lookups begun.
    pub gets: u64,
    /// Lookups that found a valid record.
    pub found: u64,
    /// Invalid records that peers answered with.
    pub invalid: u64,
    /// Puts begun.
    pub puts: u64,
    /// Puts that every holder took.
    pub stored: u64,
    /// Holders that gave an old record and were sent the new one.
    pub repaired: u64,
}

struct Get {
    key: Key,
    min: Version,
    reply: oneshot::Sender<Found>,
    best: Option<(SignedRecord, Option<PeerId>)>,
    /// Who gave valid records, and of which version.
    holders: Vec<(PeerId, Version)>,
    valid: usize,
    invalid: u32,
}

struct Put {
    reply: oneshot::Sender<Stored>,
    holders: Vec<PeerId>,
    local: Option<PeerId>,
    offered: usize,
}

/// The queries under way.
pub struct Queries {
    verifier: Verifier,
    local: PeerId,
    gets: HashMap<QueryId, Get>,
    puts: HashMap<QueryId, Put>,
    counts: QueryCounts,
}

impl Queries {
    /// Queries of the node `local`; `verifier` is the one its [`Behaviour`] has.
    #[must_use]
    pub fn new(local: PeerId, verifier: Verifier) -> Self {
        Self { verifier, local, gets: HashMap::new(), puts: HashMap::new(), counts: QueryCounts::default() }
    }

    /// Counters.
    #[must_use]
    pub fn counts(&self) -> QueryCounts {
        self.counts
    }

    /// Queries under way.
    #[must_use]
    pub fn in_flight(&self) -> usize {
        self.gets.len() + self.puts.len()
    }

    /// Looks `key` up. The lookup ends at the first valid record of at least `min`; else it answers with the
    /// newest of the first three valid records, or of those that there are.
    pub fn get(&mut self, behaviour: &mut Behaviour, key: Key, min: Version, reply: oneshot::Sender<Found>) {
        self.counts.gets += 1;
        if let Some(record) = behaviour.store_mut().read(&key)
            && record.version() >= min
        {
            self.counts.found += 1;
            let _ = reply.send(Found { record: Some(record.clone()), ..Found::default() });
            return;
        }
        let cluster = self.verifier.cluster_id();
        let place = KBucketKey::new(key.record_key(&cluster));
        // kad begins with the same peers.
        let known: Vec<_> = behaviour.get_closest_local_peers(&place).take(K_VALUE.get()).collect();
        let query = behaviour.get_record(key.record_key(&cluster));
        behaviour.watch(query, Walk::from_table(known.into_iter().map(KBucketKey::into_preimage)));
        let get = Get { key, min, reply, best: None, holders: Vec::new(), valid: 0, invalid: 0 };
        self.gets.insert(query, get);
    }

    /// Stores `record` at `holders` (see [`crate::holders`]), this node itself if it is among them, and nowhere
    /// else. Answers when each has taken or refused it.
    pub fn put(
        &mut self,
        behaviour: &mut Behaviour,
        record: &SignedRecord,
        mut holders: Vec<PeerId>,
        reply: oneshot::Sender<Stored>,
    ) {
        self.counts.puts += 1;
        holders.sort_unstable();
        holders.dedup();
        let offered = holders.len();
        let name = record.key().record_key(&self.verifier.cluster_id());
        let mut local = None;
        // kad would wait for itself until the query times out.
        if let Ok(at) = holders.binary_search(&self.local) {
            holders.remove(at);
            local = behaviour.store_mut().offer(&name, record.bytes()).is_ok().then_some(self.local);
        }
        if holders.is_empty() {
            let stored: Vec<_> = local.into_iter().collect();
            self.counts.stored += u64::from(stored.len() == offered);
            let _ = reply.send(Stored { stored, offered });
            return;
        }
        let query = behaviour.put_record_to(to_kad(name, record), holders.clone().into_iter(), Quorum::All);
        self.puts.insert(query, Put { reply, holders, local, offered });
    }

    /// Takes an event of the behaviour. Events of other queries are ignored.
    pub fn on_event(&mut self, behaviour: &mut Behaviour, event: kad::Event) {
        let kad::Event::OutboundQueryProgressed { id, result, .. } = event else { return };
        match result {
            QueryResult::GetRecord(Ok(GetRecordOk::FoundRecord(found))) => self.on_found(behaviour, id, found),
            QueryResult::GetRecord(_) => self.finish_get(behaviour, id),
            QueryResult::PutRecord(result) => self.finish_put(id, result),
            _ => {}
        }
    }

    fn on_found(&mut self, behaviour: &mut Behaviour, id: QueryId, PeerRecord { peer, record }: PeerRecord) {
        let Some(get) = self.gets.get_mut(&id) else { return };
        let record = match self.verifier.verify_for(&get.key, &record.value) {
            Ok(record) => record,
            Err(invalid) => {
                get.invalid += 1;
                self.counts.invalid += 1;
                tracing::debug!(key = %get.key, ?peer, %invalid, "invalid record in answer to a lookup");
                return;
            }
        };
        get.valid += 1;
        get.holders.extend(peer.map(|peer| (peer, record.version())));
        if get.best.as_ref().is_none_or(|(best, _)| best.version() < record.version()) {
            get.best = Some((record, peer));
        }
        let enough = get.best.as_ref().is_some_and(|(best, _)| best.version() >= get.min);
        if enough || get.valid >= DHT_READ_HOLDERS {
            if let Some(mut query) = behaviour.query_mut(&id) {
                query.finish();
            }
            self.finish_get(behaviour, id);
        }
    }

    fn finish_get(&mut self, behaviour: &mut Behaviour, id: QueryId) {
        let Some(get) = self.gets.remove(&id) else { return };
        let hops = match (&get.best, behaviour.walk(&id)) {
            (Some((_, None)), _) | (_, None) => 0,
            (Some((_, Some(peer))), Some(walk)) => walk.depth_of(peer),
            (None, Some(walk)) => walk.depth_max(),
        };
        let walk = behaviour.unwatch(&id);
        let answered = walk.answers();
        let record = get.best.map(|(record, _)| record);
        if let Some(record) = &record {
            self.counts.found += 1;
            self.repair(behaviour, record, &get.holders);
        }
        // Nobody may be waiting any more; that is theirs to decide.
        let _ = get.reply.send(Found { record, asked: walk.into_asked(), hops, answered, invalid: get.invalid });
    }

    /// Sends the newest record to holders that gave an older one. Nobody waits for it.
    fn repair(&mut self, behaviour: &mut Behaviour, record: &SignedRecord, holders: &[(PeerId, Version)]) {
        let stale: Vec<_> =
            holders.iter().filter(|(_, version)| *version < record.version()).map(|(p, _)| *p).collect();
        if behaviour.mode() == Mode::Server && !stale.is_empty() {
            self.counts.repaired += stale.len() as u64;
            let name = record.key().record_key(&self.verifier.cluster_id());
            behaviour.put_record_to(to_kad(name, record), stale.into_iter(), Quorum::All);
        }
    }

    fn finish_put(&mut self, id: QueryId, result: kad::PutRecordResult) {
        let Some(put) = self.puts.remove(&id) else { return };
        let mut stored = match result {
            Ok(_) => put.holders,
            Err(PutRecordError::QuorumFailed { success, .. } | PutRecordError::Timeout { success, .. }) => success,
        };
        stored.extend(put.local);
        self.counts.stored += u64::from(stored.len() == put.offered);
        let _ = put.reply.send(Stored { stored, offered: put.offered });
    }
}

fn to_kad(key: kad::RecordKey, record: &SignedRecord) -> Record {
    Record { key, value: record.bytes().to_vec(), publisher: None, expires: None }
}
