//! DescribeConfigs: every config of a topic or a node, with its default, type, source and words.

use std::collections::BTreeSet;

use rafka_broker::{ErrorCode, Failure};

use crate::advertise::number;
use crate::configs::{self, Described, resource};
use crate::desk::FrontDesk;
use crate::door::{Client, Door, topic_by_name};
use crate::error;
use crate::messages::describe_configs::{
    DescribeConfigsResource, DescribeConfigsResourceResult, DescribeConfigsResult, DescribeConfigsSynonym, Request,
    Response,
};
use crate::wire::Str;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let Request { resources, include_synonyms, include_documentation } = request;
    // Each thing once: what is asked in few bytes is answered in many.
    let mut once = BTreeSet::new();
    let fresh = |asked: &DescribeConfigsResource| once.insert((asked.resource_type, asked.resource_name.clone()));
    let results = resources.into_iter().filter(fresh).map(|asked| {
        let wanted = |config: &Described| match &asked.configuration_keys {
            Some(keys) if !keys.is_empty() => keys.iter().any(|key| *key == config.name.as_str()),
            _ => true,
        };
        let (error_code, error_message, configs) = match described(door, &asked) {
            Ok(configs) => (error::NONE, None, configs),
            Err(failure) => {
                let (code, message) = error::refusal(&failure);
                (code, message, Vec::new())
            }
        };
        let configs = configs.into_iter().filter(wanted);
        DescribeConfigsResult {
            error_code,
            error_message,
            configs: configs.map(|config| row(config, include_synonyms, include_documentation)).collect(),
            resource_type: asked.resource_type,
            resource_name: asked.resource_name,
        }
    });
    Response { results: results.collect(), ..Response::default() }
}

fn described<D: FrontDesk>(door: &Door<D>, asked: &DescribeConfigsResource) -> Result<Vec<Described>, Failure> {
    let name = &asked.resource_name;
    match asked.resource_type {
        resource::TOPIC => match topic_by_name(&door.desk.image(), name) {
            Some(topic) => Ok(configs::of_topic(&topic.configs).collect()),
            None => Err(Failure::new(ErrorCode::UnknownTopicOrPartition, format!("topic {} does not exist", name))),
        },
        // What holds for all nodes is nothing: each has its own file.
        resource::BROKER if name.is_empty() => Ok(Vec::new()),
        resource::BROKER => {
            here(door, name)?;
            Ok(configs::of_node(door.desk.settings()).collect())
        }
        resource::BROKER_LOGGER => here(door, name).map(|()| Vec::new()),
        resource::GROUP if !name.is_empty() => Ok(configs::of_group(&door.desk.settings()).collect()),
        resource::CLIENT_METRICS if !name.is_empty() => Ok(Vec::new()),
        kind => {
            let text = format!("there are no configs of {} {:?}", resource::name(kind), name);
            Err(Failure::new(ErrorCode::InvalidRequest, text))
        }
    }
}

/// Is this node meant? Each node tells its own settings only.
fn here<D: FrontDesk>(door: &Door<D>, name: &str) -> Result<(), Failure> {
    let me = door.desk.node().map(number);
    let Ok(asked) = name.parse::<i32>() else {
        let text = format!("a broker is named by its number, not {:?}", name.chars().take(80).collect::<String>());
        return Err(Failure::new(ErrorCode::InvalidRequest, text));
    };
    match me {
        Some(me) if me == asked => Ok(()),
        Some(me) => {
            let text = format!("this is node {me}; the configs of node {asked} are to be asked there");
            Err(Failure::new(ErrorCode::InvalidRequest, text))
        }
        None => Err(Failure::new(ErrorCode::NotReady, "this node has not joined yet")),
    }
}

fn row(config: Described, synonyms: bool, documentation: bool) -> DescribeConfigsResourceResult {
    let synonym = |(name, value, source): (String, Option<String>, i8)| DescribeConfigsSynonym {
        name: name.into(),
        value: value.map(Str::from),
        source,
    };
    DescribeConfigsResourceResult {
        name: config.name.into(),
        value: config.value.map(Str::from),
        read_only: config.read_only,
        config_source: config.source,
        is_sensitive: config.sensitive,
        synonyms: if synonyms { config.synonyms.into_iter().map(synonym).collect() } else { Vec::new() },
        config_type: config.kind,
        documentation: documentation.then(|| config.doc.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::configs::source;
    use crate::desk::{Setting, SettingKind};
    use crate::fake::Fake;
    use crate::fake::decides::{ask, deciding, deciding_with};

    fn about(resource_type: i8, name: &'static str, keys: Option<Vec<Str>>) -> Request {
        let resource = DescribeConfigsResource { resource_type, resource_name: name.into(), configuration_keys: keys };
        Request { resources: vec![resource], include_synonyms: true, include_documentation: false }
    }

    fn with_setting(fake: &mut Fake) {
        fake.settings = vec![Setting {
            name: "message.max.bytes".to_owned(),
            value: Some("7".to_owned()),
            is_default: false,
            is_secret: false,
            kind: SettingKind::Integer,
            doc: "Largest batch.".to_owned(),
        }];
        let mut image = fake.image.lock();
        for topic in Arc::make_mut(&mut image).topics.values_mut() {
            Arc::make_mut(topic).configs.insert("segment.bytes".to_owned(), "4096".to_owned());
        }
    }

    #[tokio::test]
    async fn a_topic_tells_all_its_configs_and_where_they_come_from() {
        let door = deciding_with(with_setting);
        for version in [1, 4] {
            let told = ask(&door, version, &about(resource::TOPIC, "orders", None)).await.results.remove(0);
            assert_eq!((told.error_code, told.configs.len()), (0, rafka_model::config::KEYS.len()));
            let named = |name: &str| told.configs.iter().find(|config| config.name == name).expect("told").clone();
            let set = named("segment.bytes");
            assert_eq!((set.value.as_deref(), set.config_source), (Some("4096"), source::TOPIC));
            let synonyms: Vec<_> = set.synonyms.iter().map(|synonym| (&*synonym.name, synonym.source)).collect();
            assert_eq!(synonyms, [("segment.bytes", source::TOPIC), ("log.segment.bytes", source::DEFAULT)]);
            let default = named("cleanup.policy");
            assert_eq!((default.value.as_deref(), default.config_source), (Some("delete"), source::DEFAULT));
            assert!(!default.read_only && !default.is_sensitive && default.documentation.is_none());
        }
    }

    #[tokio::test]
    async fn keys_and_words_come_as_asked() {
        let door = deciding();
        let keys = Some(vec!["retention.ms".into(), "nope".into()]);
        let request =
            Request { include_synonyms: false, include_documentation: true, ..about(resource::TOPIC, "orders", keys) };
        let told = ask(&door, 3, &request).await.results.remove(0).configs;
        assert_eq!(told.len(), 1);
        assert!(told[0].synonyms.is_empty() && told[0].documentation.as_deref().is_some_and(|text| !text.is_empty()));
        let all = ask(&door, 4, &about(resource::TOPIC, "orders", Some(Vec::new()))).await.results.remove(0).configs;
        assert!(all.len() > 20, "an empty list is everything");
    }

    #[tokio::test]
    async fn a_node_tells_its_own_settings_only() {
        let door = deciding_with(with_setting);
        let told = ask(&door, 4, &about(resource::BROKER, "1", None)).await.results.remove(0);
        assert_eq!((&*told.configs[0].name, told.configs[0].read_only), ("message.max.bytes", true));
        assert_eq!(told.configs[0].config_source, source::STATIC_BROKER);
        for (kind, name, code, count) in [
            (resource::BROKER, "", 0, 0),
            (resource::BROKER, "2", 42, 0),
            (resource::BROKER, "one", 42, 0),
            (resource::BROKER_LOGGER, "1", 0, 0),
            (resource::BROKER_LOGGER, "2", 42, 0),
            (resource::GROUP, "g", 0, 3),
            (resource::GROUP, "", 42, 0),
            (resource::CLIENT_METRICS, "", 42, 0),
            (resource::TOPIC, "nope", 3, 0),
            (99, "x", 42, 0),
        ] {
            let told = ask(&door, 4, &about(kind, name, None)).await.results.remove(0);
            assert_eq!((told.error_code, told.configs.len()), (code, count), "{kind} {name:?}");
        }
    }

    #[tokio::test]
    async fn a_group_has_the_settings_of_its_node() {
        let door = deciding_with(|fake| {
            fake.settings = vec![Setting {
                name: "group.consumer.session.timeout.ms".to_owned(),
                value: Some("9000".to_owned()),
                ..Setting::default()
            }];
        });
        let told = ask(&door, 4, &about(resource::GROUP, "g", None)).await.results.remove(0).configs;
        let told: Vec<_> = told
            .iter()
            .map(|one| (&*one.name, one.value.as_deref().expect("a value"), one.config_source, &*one.synonyms[0].name))
            .collect();
        let assignment =
            ("consumer.assignment.interval.ms", "1000", source::DEFAULT, "group.consumer.assignment.interval.ms");
        let heartbeat =
            ("consumer.heartbeat.interval.ms", "5000", source::DEFAULT, "group.consumer.heartbeat.interval.ms");
        let session =
            ("consumer.session.timeout.ms", "9000", source::STATIC_BROKER, "group.consumer.session.timeout.ms");
        assert_eq!(told, [assignment, heartbeat, session]);
    }
}
