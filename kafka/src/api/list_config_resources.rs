//! ListConfigResources: what has configs (KIP-1142; version 0 asks for subscriptions to metrics of clients alone).

use rafka_broker::ErrorCode;
use rafka_broker::metadata::Image;

use crate::advertise::number;
use crate::configs::resource;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::list_config_resources::{ConfigResource, Request, Response};
use crate::wire::Str;

const ALL: [i8; 5] =
    [resource::TOPIC, resource::BROKER, resource::BROKER_LOGGER, resource::CLIENT_METRICS, resource::GROUP];

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let kinds = match version {
        ..1 => vec![resource::CLIENT_METRICS],
        _ if request.resource_types.is_empty() => ALL.to_vec(),
        _ => request.resource_types,
    };
    if kinds.iter().any(|kind| !ALL.contains(kind)) {
        return Response { error_code: error::number(ErrorCode::UnsupportedVersion), ..Response::default() };
    }
    let image = door.desk.image();
    let each = ALL.into_iter().filter(|kind| kinds.contains(kind));
    Response { config_resources: each.flat_map(|kind| resources(&image, kind)).collect(), ..Response::default() }
}

fn resources(image: &Image, kind: i8) -> Vec<ConfigResource> {
    let resource = |name: String| ConfigResource { resource_name: Str::from(name), resource_type: kind };
    match kind {
        resource::TOPIC => image.topic_ids.keys().map(|name| resource(name.to_string())).collect(),
        resource::BROKER | resource::BROKER_LOGGER => {
            image.nodes.keys().map(|id| resource(number(*id).to_string())).collect()
        }
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::decides::{ask, deciding};

    #[tokio::test]
    async fn things_with_configs_are_listed_by_kind() {
        assert!(ask(&deciding(), 0, &Request::default()).await.config_resources.is_empty());
        let list = async |resource_types: Vec<i8>| {
            let told = ask(&deciding(), 1, &Request { resource_types }).await;
            let name = |one: &ConfigResource| (one.resource_type, one.resource_name.to_string());
            (told.error_code, told.config_resources.iter().map(name).collect::<Vec<_>>())
        };
        let one = |kind, name: &str| (kind, name.to_owned());
        assert_eq!(list(vec![resource::TOPIC]).await, (0, vec![one(2, "orders")]));
        assert_eq!(list(vec![resource::BROKER, resource::GROUP]).await, (0, vec![one(4, "1"), one(4, "2")]));
        assert_eq!(list(Vec::new()).await.1.len(), 5);
        assert_eq!(list(vec![3]).await, (35, Vec::new()));
    }
}
