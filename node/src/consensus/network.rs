//! Between voters: openraft's calls over a [`Transport`] that moves bytes.
//!
//! A single voter calls no one ([`NoPeers`]). The lane swarm's `/rafka/<cid>/raft/1` will be another transport; its
//! server side hands what it receives to [`RaftLog::serve`](super::RaftLog::serve).

use std::future::Future;
use std::io;
use std::time::Duration;

use bytes::Bytes;
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{RPCOption, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, TransferLeaderRequest, TransferLeaderResponse,
    VoteRequest, VoteResponse,
};
use openraft::{OptionalSend, RaftNetworkFactory};
use rafka_model::cbor;
use rafka_model::limits::{ENTRY_BYTES_MAX, METADATA_READ_BYTES_MAX};
use rafka_model::{NodeId, limits};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::types::{Member, Snapshot, SnapshotMeta, TypeConfig, Vote};

/// A request between voters: one read of the log and the entry that crossed its limit.
pub(super) const REQUEST_BYTES_MAX: usize = METADATA_READ_BYTES_MAX + ENTRY_BYTES_MAX + limits::MIB;

/// What a voter asks another.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub enum Rpc {
    /// Take these entries, or just notice that I lead.
    Append,
    /// Support me.
    Vote,
    /// Would you support me?
    PreVote,
    /// Take this snapshot: the request is its description, the body the image.
    Snapshot,
    /// Lead in my place.
    TransferLeader,
}

/// Why a call between voters failed.
#[derive(Clone, Debug, Eq, PartialEq, thiserror::Error)]
pub enum TransportError {
    /// Nobody there; the caller backs off.
    #[error("voter cannot be reached: {0}")]
    Unreachable(String),
    /// The call may have arrived.
    #[error("call to a voter failed: {0}")]
    Failed(String),
}

/// Carries calls between voters.
pub trait Transport: Clone + Send + Sync + 'static {
    /// Sends `request` (and `body`, for a snapshot) to voter `to` and returns its answer.
    ///
    /// # Errors
    /// [`TransportError`], at the latest after `deadline`.
    fn call(
        &self,
        to: NodeId,
        member: &Member,
        rpc: Rpc,
        request: Bytes,
        body: Bytes,
        deadline: Duration,
    ) -> impl Future<Output = Result<Bytes, TransportError>> + Send;
}

/// The transport of a cluster with one voter.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoPeers;

impl Transport for NoPeers {
    async fn call(
        &self,
        to: NodeId,
        _: &Member,
        _: Rpc,
        _: Bytes,
        _: Bytes,
        _: Duration,
    ) -> Result<Bytes, TransportError> {
        Err(TransportError::Unreachable(format!("node {to} is not a voter of a cluster with one")))
    }
}

/// What goes with the body of a snapshot.
#[derive(Serialize, Deserialize)]
pub(super) struct SnapshotRequest {
    pub(super) vote: Vote,
    pub(super) meta: SnapshotMeta,
}

pub(super) struct Network<T>(pub(super) T);

pub(super) struct Peer<T> {
    transport: T,
    to: NodeId,
    member: Member,
}

impl<T: Transport> RaftNetworkFactory<TypeConfig> for Network<T> {
    type Network = Peer<T>;

    async fn new_client(&mut self, to: u64, member: &Member) -> Peer<T> {
        Peer { transport: self.0.clone(), to: NodeId(to), member: member.clone() }
    }
}

impl<T: Transport> Peer<T> {
    async fn call<Q: Serialize, A: DeserializeOwned>(
        &self,
        rpc: Rpc,
        request: &Q,
        body: Bytes,
        option: &RPCOption,
    ) -> Result<A, RPCError<TypeConfig>> {
        let failed = |reason: String| RPCError::Network(NetworkError::from_string(reason));
        let request = cbor::encode(request, REQUEST_BYTES_MAX).map_err(|error| failed(error.to_string()))?;
        let call = self.transport.call(self.to, &self.member, rpc, request.into(), body, option.soft_ttl());
        let answer = call.await.map_err(|error| match error {
            TransportError::Unreachable(reason) => RPCError::Unreachable(Unreachable::from_string(reason)),
            TransportError::Failed(reason) => failed(reason),
        })?;
        decode(&answer).map_err(|error| failed(error.to_string()))
    }
}

impl<T: Transport> RaftNetworkV2<TypeConfig> for Peer<T> {
    type SnapshotData = Bytes;

    async fn append_entries(
        &mut self,
        request: AppendEntriesRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Rpc::Append, &request, Bytes::new(), &option).await
    }

    async fn vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Rpc::Vote, &request, Bytes::new(), &option).await
    }

    async fn pre_vote(
        &mut self,
        request: VoteRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<VoteResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Rpc::PreVote, &request, Bytes::new(), &option).await
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        option: RPCOption,
    ) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
        let request = SnapshotRequest { vote, meta: snapshot.meta };
        tokio::select! {
            closed = cancel => Err(closed.into()),
            answer = self.call(Rpc::Snapshot, &request, snapshot.snapshot, &option) => Ok(answer?),
        }
    }

    async fn transfer_leader(
        &mut self,
        request: TransferLeaderRequest<TypeConfig>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<TypeConfig>, RPCError<TypeConfig>> {
        self.call(Rpc::TransferLeader, &request, Bytes::new(), &option).await
    }
}

pub(super) fn encode<T: Serialize>(value: &T) -> io::Result<Bytes> {
    cbor::encode(value, REQUEST_BYTES_MAX).map(Bytes::from).map_err(io::Error::other)
}

pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> io::Result<T> {
    cbor::decode(bytes, REQUEST_BYTES_MAX).map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}
