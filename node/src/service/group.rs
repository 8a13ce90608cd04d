//! Groups, for members that come over the mesh.

use std::time::Duration;

use rafka_broker::group::request::{Caller, Commit, OffsetToCommit};
use rafka_broker::group::{GroupReply, GroupRequest};
use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};
use rafka_model::TopicName;
use rafka_model::limits::{EXCHANGE_MS_MAX, GROUP_WAIT_MS_MAX};
use rafka_protocols::group::{self, Reply, Request};
use rafka_protocols::rpc::Responder;
use rafka_protocols::{Answer, Frame};

use super::{Outcome, Served, Service, malformed};
use crate::mesh::PeerId;

pub(super) async fn serve(service: &Service, peer: PeerId, frame: Frame, respond: &mut Responder) -> Served {
    let request = group::decode_request(&frame).map_err(malformed);
    drop(frame);
    let answer = match request {
        Ok(request) => answer(service, peer, request, respond).await,
        Err(failure) => Err(failure),
    };
    (group::encode_reply(&answer), first_error(&answer))
}

async fn answer(service: &Service, peer: PeerId, request: Request, respond: &mut Responder) -> Answer<Reply> {
    let groups = &service.groups;
    match request {
        Request::List => groups.list().await.map(Reply::List),
        Request::Coordinator { group } => groups.coordinator(&group).await.map(Reply::Coordinator),
        Request::Group(mut request) => {
            if let Some(caller) = caller(&mut request) {
                // Who speaks is known for certain; what it calls itself is its own affair.
                caller.client_host = peer.to_string();
            }
            let reply = match request {
                GroupRequest::Commit(commit) => {
                    let image = service.cluster.images.current();
                    commit_known(&image, commit, async |commit| groups.ask(GroupRequest::Commit(commit)).await).await
                }
                request if request.waits_for_others() => {
                    // Longer than an exchange lasts nobody listens any more.
                    let ms = if respond.is_of_lane() { GROUP_WAIT_MS_MAX } else { EXCHANGE_MS_MAX };
                    tokio::select! {
                        reply = groups.ask(request) => reply,
                        () = tokio::time::sleep(Duration::from_millis(ms)) => Err(too_long()),
                        () = respond.closed() => Err(too_long()),
                    }
                }
                request => groups.ask(request).await,
            };
            reply.map(Reply::Group)
        }
    }
}

fn too_long() -> Failure {
    Failure::new(ErrorCode::RequestTimedOut, "the group's other members did not come in time; join again")
}

fn caller(request: &mut GroupRequest) -> Option<&mut Caller> {
    match request {
        GroupRequest::Join(join) => Some(&mut join.caller),
        GroupRequest::ConsumerHeartbeat(heartbeat) => Some(&mut heartbeat.caller),
        _ => None,
    }
}

/// Commits what there is a partition for, and says of the rest that there is none.
async fn commit_known(
    image: &Image,
    mut commit: Commit,
    ask: impl AsyncFnOnce(Commit) -> Result<GroupReply, Failure>,
) -> Result<GroupReply, Failure> {
    let asked = std::mem::take(&mut commit.offsets);
    let mut known = Vec::with_capacity(asked.len());
    for mut offset in asked {
        let found = identify(image, &mut offset);
        known.push(found);
        if found {
            commit.offsets.push(offset);
        }
    }
    // Asked even if nothing is left: whether the member may commit at all is for the coordinator to say.
    let GroupReply::Commit(results) = ask(commit).await? else {
        return Err(Failure::new(ErrorCode::Unknown, "the coordinator's answer is of another kind"));
    };
    let mut results = results.into_iter();
    let missing = Err(ErrorCode::UnknownTopicOrPartition);
    let result = |found: bool| if found { results.next().unwrap_or(Err(ErrorCode::Unknown)) } else { missing };
    Ok(GroupReply::Commit(known.into_iter().map(result).collect()))
}

/// Is there such a partition? Then its topic's id is filled in.
fn identify(image: &Image, offset: &mut OffsetToCommit) -> bool {
    let topic = match offset.topic_id {
        Some(id) => image.topics.get(&id).map(AsRef::as_ref),
        None => TopicName::new(&offset.topic).ok().and_then(|name| image.topic(&name)),
    };
    let Some(topic) = topic.filter(|topic| topic.partition(offset.partition).is_some()) else { return false };
    offset.topic_id = Some(topic.id);
    offset.topic = topic.name.to_string();
    true
}

/// What to count an answer as that has its errors inside.
fn first_error(answer: &Answer<Reply>) -> Outcome {
    match answer {
        Err(failure) => Some(failure.code),
        Ok(Reply::Group(GroupReply::Commit(results) | GroupReply::ForgetOffsets(results))) => {
            results.iter().find_map(|result| result.err())
        }
        Ok(_) => None,
    }
}
