//! Resolve: the metered way to records for who did not find them in the DHT. The controller signs what its image says;
//! other nodes pass the question on, or give what they hold of the directory when the controller is away.

use std::time::Duration;

use rafka_broker::metadata::Image;
use rafka_broker::{ErrorCode, Failure};
use rafka_dht::{Key, Version};
use rafka_model::limits::CONTROL_DEADLINE_MS;
use rafka_protocols::resolve::{self, Records, Subject};
use rafka_protocols::{Frame, Protocol};

use super::{Served, Service, malformed, outcome};

pub(super) async fn serve(service: &Service, frame: &Frame) -> Served {
    let answer = match resolve::decode_request(frame).map_err(malformed) {
        Ok(subjects) => answer(service, frame, &subjects).await,
        Err(failure) => Err(failure),
    };
    (resolve::encode_reply(&answer), outcome(&answer))
}

async fn answer(service: &Service, frame: &Frame, subjects: &[Subject]) -> Result<Records, Failure> {
    let cluster = &service.cluster;
    let image = cluster.images.current();
    if let Some(controller) = &cluster.controller {
        let sign = |subject: &Subject| {
            let key = key(&image, subject)?;
            controller.sign(&image, &key).ok_or_else(|| unknown(subject))
        };
        return Ok(subjects.iter().map(sign).collect());
    }
    let deadline = Duration::from_millis(CONTROL_DEADLINE_MS / 2);
    match cluster.ask_controller(Protocol::Resolve, frame.clone(), deadline).await {
        Ok(reply) => resolve::decode_reply(&reply, subjects.len()).map_err(malformed)?,
        Err(_) => {
            let mut held = Vec::with_capacity(subjects.len());
            for subject in subjects {
                held.push(match key(&image, subject) {
                    Err(failure) => Err(failure),
                    Ok(key) => {
                        let found = cluster.mesh.dht_get(key, Version::ANY).await.record;
                        found.map(|record| record.bytes().clone()).ok_or_else(|| {
                            Failure::new(
                                ErrorCode::ControllerUnavailable,
                                "the controller does not answer, and the directory has no record",
                            )
                        })
                    }
                });
            }
            Ok(held)
        }
    }
}

fn key(image: &Image, subject: &Subject) -> Result<Key, Failure> {
    match subject {
        Subject::Quorum => Ok(Key::Quorum),
        Subject::Topic(name) if image.topic(name).is_none() => Err(unknown(subject)),
        Subject::Topic(name) => Ok(Key::Topic(name.clone())),
        Subject::TopicId(id) if !image.topics.contains_key(id) => Err(unknown(subject)),
        Subject::TopicId(id) => Ok(Key::Name(*id)),
        Subject::Shard(id, shard) => Ok(Key::Shard(*id, *shard)),
        Subject::Node(id) => Ok(Key::Node(*id)),
    }
}

fn unknown(subject: &Subject) -> Failure {
    match subject {
        Subject::TopicId(id) => Failure::new(ErrorCode::UnknownTopicId, format!("no topic has the id {id}")),
        Subject::Topic(name) => {
            Failure::new(ErrorCode::UnknownTopicOrPartition, format!("topic {:?} does not exist", name.as_str()))
        }
        _ => Failure::new(ErrorCode::UnknownTopicOrPartition, "there is no such record"),
    }
}
