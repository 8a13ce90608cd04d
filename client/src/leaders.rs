//! One question about partitions, in lines: split by leader, asked at once, asked again where leaders have moved.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use libp2p::PeerId;
use rafka_broker::request::PartitionReply;
use rafka_dht::Route;
use rafka_model::{PartitionId, TopicName, TopicPartition};
use rafka_protocols::{Answer, DecodeError, Frame, Protocol, fetch};
use tokio::time::{Instant, sleep};

use crate::backoff::Random;
use crate::{Client, Error, ErrorKind};

/// One partition and what is asked of it.
pub(crate) type Asked<Q> = (PartitionId, Q);

/// Asks the leaders of `wanted`; retries until the client's request timeout. The answers are in the order asked.
pub(crate) async fn ask<Q: Clone, T>(
    client: &Client,
    topic: &TopicName,
    wanted: Vec<Asked<Q>>,
    request: impl Fn(&[(Arc<Route>, Q)]) -> fetch::Request,
    replies: impl Fn(fetch::Reply) -> Option<Vec<PartitionReply<T>>>,
) -> Vec<(PartitionId, Result<T, Error>)> {
    let order: Vec<_> = wanted.iter().map(|(partition, _)| *partition).collect();
    let end = Instant::now() + client.deadline();
    let (mut done, mut rounds, mut random) = (BTreeMap::new(), 0, Random::from_system());
    let numbered = wanted.into_iter().enumerate();
    let mut left: Vec<Line<Q>> =
        numbered.map(|(number, (partition, query))| Line { number, partition, query }).collect();
    loop {
        let (mut unrouted, mut failed) = (Vec::new(), Vec::new());
        let groups = group(client, topic, left, &mut unrouted).await;
        let exchanges = groups.into_iter().map(|(peer, lines)| {
            let frame = fetch::encode_request(&request(&questions(&lines)));
            let remaining = end.saturating_duration_since(Instant::now());
            exchange(client, peer, lines, frame, remaining, &replies)
        });
        for (line, result) in join_all(exchanges).await.into_iter().flatten() {
            match result {
                Ok(found) => {
                    done.insert(line.number, Ok(found));
                }
                Err(error) => failed.push((line, error)),
            }
        }
        rounds += 1;
        // Who is asked may not have heard of a new topic yet; only the directory's word that there is none is final.
        let (unknown, failed): (Vec<_>, Vec<_>) = unrouted
            .into_iter()
            .map(|failed| (true, failed))
            .chain(failed.into_iter().map(|failed| (false, failed)))
            .partition(|(unrouted, (_, error))| *unrouted && error.kind() == ErrorKind::NotFound);
        done.extend(unknown.into_iter().map(|(_, (line, error))| (line.number, Err(error))));
        let pause = client.backoff().after(rounds, &mut random);
        let over = Instant::now() + pause >= end;
        left = Vec::new();
        for (_, (line, error)) in failed {
            if over || !error.is_retriable() {
                done.insert(line.number, Err(error));
            } else {
                left.push(line);
            }
        }
        if left.is_empty() {
            break;
        }
        sleep(pause).await;
    }
    // The lines are numbered without gaps, and each ended above.
    order.into_iter().zip(done.into_values()).collect()
}

/// One line of the question; a partition may have several.
struct Line<Q> {
    number: usize,
    partition: PartitionId,
    query: Q,
}

type Failed<Q> = (Line<Q>, Error);
/// Lines of one leader.
type Lines<Q> = Vec<(Arc<Route>, Line<Q>)>;

fn questions<Q: Clone>(lines: &Lines<Q>) -> Vec<(Arc<Route>, Q)> {
    lines.iter().map(|(route, line)| (route.clone(), line.query.clone())).collect()
}

async fn group<Q>(
    client: &Client,
    topic: &TopicName,
    wanted: Vec<Line<Q>>,
    failed: &mut Vec<Failed<Q>>,
) -> BTreeMap<PeerId, Lines<Q>> {
    let routes = join_all(wanted.iter().map(|line| client.routes().route(topic, line.partition))).await;
    let mut groups: BTreeMap<PeerId, Lines<Q>> = BTreeMap::new();
    for (line, route) in wanted.into_iter().zip(routes) {
        match route {
            Ok(route) => groups.entry(route.peer).or_default().push((route, line)),
            Err(error) => failed.push((line, error)),
        }
    }
    groups
}

async fn exchange<Q, T>(
    client: &Client,
    peer: PeerId,
    lines: Lines<Q>,
    frame: Frame,
    deadline: Duration,
    replies: &impl Fn(fetch::Reply) -> Option<Vec<PartitionReply<T>>>,
) -> Vec<(Line<Q>, Result<T, Error>)> {
    let decode = |frame: &Frame| -> Result<Answer<Vec<PartitionReply<T>>>, DecodeError> {
        match fetch::decode_reply(frame)? {
            Ok(reply) => replies(reply).map(Ok).ok_or(DecodeError::Missing("reply of the kind asked for")),
            Err(failure) => Ok(Err(failure)),
        }
    };
    match client.handle().exchange(peer, Protocol::Fetch, &frame, deadline, decode).await {
        Ok(found) => {
            // Answers of one partition come in the order of its lines.
            let mut answers: BTreeMap<TopicPartition, VecDeque<_>> = BTreeMap::new();
            for reply in found {
                answers.entry(reply.partition).or_default().push_back(reply.result);
            }
            let each = |(route, line): (Arc<Route>, Line<Q>)| {
                let what = || format!("{}/{} was not answered", route.name, route.partition);
                let at = TopicPartition { topic: route.topic, partition: route.partition };
                let result = match answers.get_mut(&at).and_then(VecDeque::pop_front) {
                    Some(Ok(found)) => Ok(found),
                    Some(Err(failure)) => {
                        client.routes().refused(&route, &failure);
                        Err(Error::refused(what(), &failure, Some(route.leader)))
                    }
                    None => Err(Error::new(ErrorKind::Failed, what())),
                };
                (line, result)
            };
            lines.into_iter().map(each).collect()
        }
        Err(trouble) => {
            let each = |(route, line): (Arc<Route>, Line<Q>)| {
                client.routes().broken(&route, &trouble);
                let what = format!("{}/{} was not answered", route.name, route.partition);
                (line, Err(trouble.clone().into_error(what)))
            };
            lines.into_iter().map(each).collect()
        }
    }
}
