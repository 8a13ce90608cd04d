//! IncrementalAlterConfigs: changes the configs that are named, and words of lists (KIP-339).

use rafka_broker::request::ConfigChange;
use rafka_broker::{ErrorCode, Failure};

use crate::api::alter_configs::{Alteration, Outcome, once, value};
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::messages::incremental_alter_configs::{AlterConfigsResourceResponse, AlterableConfig, Request, Response};
use crate::wire::Str;

const SET: i8 = 0;
const DELETE: i8 = 1;
const APPEND: i8 = 2;
const SUBTRACT: i8 = 3;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let resources = request.resources.into_iter().map(|resource| {
        let changes = once(resource.configs.iter().map(change));
        (resource.resource_type, resource.resource_name, changes)
    });
    let alteration = Alteration { replace: false, validate_only: request.validate_only };
    let outcomes = alteration.carry_out(door, resources.collect()).await;
    let response = |Outcome { kind, name, error_code, error_message }| AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type: kind,
        resource_name: name,
    };
    Response { responses: outcomes.into_iter().map(response).collect(), ..Response::default() }
}

fn change(config: &AlterableConfig) -> Result<(Str, ConfigChange), Failure> {
    let value = || value(&config.name, config.value.as_ref());
    let change = match config.config_operation {
        SET => ConfigChange::Set(value()?),
        DELETE => ConfigChange::Reset,
        APPEND => ConfigChange::Append(value()?),
        SUBTRACT => ConfigChange::Subtract(value()?),
        other => {
            let text = format!("{}: there is no operation {other} on configs", config.name);
            return Err(Failure::new(ErrorCode::InvalidRequest, text));
        }
    };
    Ok((config.name.clone(), change))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::api::alter_configs;
    use crate::configs::resource;
    use crate::fake::decides::{ask, deciding};
    use crate::messages::alter_configs as legacy;
    use crate::messages::incremental_alter_configs::AlterConfigsResource;

    const THROTTLED: &str = "leader.replication.throttled.replicas";

    fn on(resource_type: i8, name: &'static str, configs: &[(&'static str, i8, Option<&'static str>)]) -> Request {
        let config = |(name, config_operation, value): &(&'static str, i8, Option<&'static str>)| AlterableConfig {
            name: (*name).into(),
            config_operation: *config_operation,
            value: value.map(Str::from),
        };
        let configs = configs.iter().map(config).collect();
        let resource = AlterConfigsResource { resource_type, resource_name: name.into(), configs };
        Request { resources: vec![resource], validate_only: false }
    }

    fn stored<D: FrontDesk>(door: &Door<D>) -> BTreeMap<String, String> {
        door.desk.image().topics.values().next().expect("one").configs.clone()
    }

    #[tokio::test]
    async fn configs_are_set_deleted_and_edited_in_both_versions() {
        for version in [0, 1] {
            let door = deciding();
            let set = [("retention.ms", SET, Some("5")), (THROTTLED, APPEND, Some("0:1,1:1"))];
            assert_eq!(ask(&door, version, &on(resource::TOPIC, "orders", &set)).await.responses[0].error_code, 0);
            let edit = [("retention.ms", DELETE, None), (THROTTLED, SUBTRACT, Some("0:1"))];
            assert_eq!(ask(&door, version, &on(resource::TOPIC, "orders", &edit)).await.responses[0].error_code, 0);
            assert_eq!(stored(&door), BTreeMap::from([(THROTTLED.to_owned(), "1:1".to_owned())]));
        }
    }

    #[tokio::test]
    async fn what_cannot_be_altered_is_refused() {
        let door = deciding();
        let one = [("retention.ms", SET, Some("5"))];
        for (kind, name, configs, code) in [
            (resource::TOPIC, "nope", &one[..], 3),
            (resource::TOPIC, "orders", &[("retention.ms", SET, Some("x"))], 40),
            (resource::TOPIC, "orders", &[("nope", SET, Some("x"))], 40),
            (resource::TOPIC, "orders", &[("retention.ms", SET, None)], 42),
            (resource::TOPIC, "orders", &[("retention.ms", 9, Some("1"))], 42),
            (resource::TOPIC, "orders", &[("retention.ms", APPEND, Some("1"))], 40),
            (resource::TOPIC, "orders", &[one[0], one[0]], 42),
            (resource::BROKER, "1", &one, 42),
            (resource::BROKER, "", &one, 42),
            (resource::BROKER, "1", &[], 0),
            (resource::BROKER_LOGGER, "1", &one, 42),
            (resource::CLIENT_METRICS, "x", &one, 42),
            (resource::GROUP, "g", &one, 42),
            (77, "x", &one, 42),
        ] {
            let told = ask(&door, 1, &on(kind, name, configs)).await.responses.remove(0);
            assert_eq!(told.error_code, code, "{kind} {name} {configs:?}");
            assert_eq!(told.error_message.is_some(), code != 0);
        }
        let broker = ask(&door, 1, &on(resource::BROKER, "1", &one)).await.responses.remove(0);
        assert!(broker.error_message.is_some_and(|text| text.contains("configuration file")));
        assert_eq!(stored(&door), BTreeMap::new());
    }

    #[tokio::test]
    async fn each_thing_is_named_once_and_a_check_changes_nothing() {
        let door = deciding();
        let one = on(resource::TOPIC, "orders", &[("retention.ms", SET, Some("5"))]);
        let check = Request { validate_only: true, ..one.clone() };
        assert_eq!(ask(&door, 1, &check).await.responses[0].error_code, 0);
        let twice = Request { resources: [one.resources.clone(), one.resources].concat(), validate_only: false };
        let codes: Vec<_> = ask(&door, 1, &twice).await.responses.iter().map(|told| told.error_code).collect();
        assert_eq!(codes, [42, 42]);
        assert_eq!(stored(&door), BTreeMap::new());
    }

    #[tokio::test]
    async fn the_older_api_replaces_everything() {
        for version in [0, 2] {
            let door = deciding();
            ask(&door, 1, &on(resource::TOPIC, "orders", &[("retention.ms", SET, Some("5"))])).await;
            let config = |value| legacy::AlterableConfig { name: "segment.ms".into(), value };
            let request = |configs| legacy::Request {
                resources: vec![legacy::AlterConfigsResource {
                    resource_type: resource::TOPIC,
                    resource_name: "orders".into(),
                    configs,
                }],
                validate_only: false,
            };
            let refused = ask(&door, version, &request(vec![config(None)])).await;
            assert_eq!(refused.responses[0].error_code, 42);
            let replaced = ask(&door, version, &request(vec![config(Some("7".into()))])).await;
            assert_eq!(replaced.responses[0].error_code, 0);
            assert_eq!(stored(&door), BTreeMap::from([("segment.ms".to_owned(), "7".to_owned())]));
        }
        let nothing = alter_configs::Alteration { replace: true, validate_only: false };
        assert!(nothing.carry_out(&*deciding(), Vec::new()).await.is_empty());
    }
}
