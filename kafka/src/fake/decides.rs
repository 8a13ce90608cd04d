//! The cluster's real controller, for a node that lives in memory, and requests to its door.

use std::sync::Arc;

use bytes::Bytes;
use rafka_broker::Failure;
use rafka_broker::controller::{Answer, Command, Config, Controller};
use rafka_broker::metadata::Image;
use rafka_broker::request::{Admin, AdminReply};
use rafka_model::Monotonic;

use super::{Fake, client, door};
use crate::api::{Incoming, Outcome, Reply, begin};
use crate::door::Door;
use crate::header::ResponseHeader;
use crate::messages::{Call, decode_all, encode_all};
use crate::wire::{Reader, Writer};

/// Answers a change as the controller does, and applies it.
fn decides(image: &mut Image, request: Admin) -> Result<AdminReply, Failure> {
    let mut controller = Controller::new(image.clone(), Config::default(), Monotonic::default());
    let seed = [u8::try_from(image.index.0 % 251).expect("small"); 32];
    let decision = controller.evaluate(Command::Admin { request, seed }, Monotonic::default());
    for entry in controller.take_entries() {
        image.apply(&entry).expect("what the controller decides can be applied");
    }
    match decision.answer {
        Answer::Admin(reply) => Ok(reply),
        Answer::Refused(failure) => Err(failure),
        other => panic!("not an answer to an admin request: {other:?}"),
    }
}

/// A door in front of a node that is its own controller.
pub(crate) fn deciding() -> Arc<Door<Fake>> {
    deciding_with(|_| {})
}

/// As [`deciding`], with another beginning.
pub(crate) fn deciding_with(change: impl FnOnce(&mut Fake)) -> Arc<Door<Fake>> {
    let mut fake = Fake { answer: Box::new(decides), ..Fake::default() };
    change(&mut fake);
    door(fake)
}

/// The answer of the door to a request, over the bytes of this version.
pub(crate) async fn ask<C: Call>(door: &Arc<Door<Fake>>, version: i16, request: &C) -> C::Response {
    let mut body = Writer::new();
    encode_all(C::KEY, version, request, &mut body).expect("the version can carry it");
    let mut body = Reader::new(Bytes::from(body.finish().expect("fits").concat()));
    let call = Incoming { door: door.clone(), client: client("127.0.0.1:9092"), version, correlation_id: 5 };
    let work = begin(C::KEY, call, &mut body).expect("is well-formed").expect("is served");
    let frame = match work.await {
        Outcome::Done(Reply::Frame(chunks)) => Bytes::from(chunks.concat()),
        _ => panic!("no frame in answer to {}", C::KEY),
    };
    let mut from = Reader::new(frame.slice(4..));
    let header = ResponseHeader::decode(C::KEY, version, &mut from).expect("is well-formed");
    assert_eq!(header.correlation_id, 5);
    decode_all(C::KEY, version, &mut from).expect("is well-formed")
}
