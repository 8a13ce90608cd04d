//! AlterConfigs: says all configs of a topic anew; what is not named goes back to its default.
//!
//! [`Alteration`] serves this API and IncrementalAlterConfigs.

use std::collections::{BTreeMap, BTreeSet};

use rafka_broker::request::{Admin, ConfigChange};
use rafka_broker::{ErrorCode, Failure};

use crate::changes;
use crate::configs::resource;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::alter_configs::{AlterConfigsResource, AlterConfigsResourceResponse, Request, Response};
use crate::wire::Str;
use rafka_model::limits::CONTROL_DEADLINE_MS;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, _: i16, request: Request) -> Response {
    let resources = request.resources.into_iter().map(|resource| {
        let changes = replacement(&resource);
        (resource.resource_type, resource.resource_name, changes)
    });
    let alteration = Alteration { replace: true, validate_only: request.validate_only };
    let outcomes = alteration.carry_out(door, resources.collect()).await;
    let response = |Outcome { kind, name, error_code, error_message }| AlterConfigsResourceResponse {
        error_code,
        error_message,
        resource_type: kind,
        resource_name: name,
    };
    Response { responses: outcomes.into_iter().map(response).collect(), ..Response::default() }
}

fn replacement(resource: &AlterConfigsResource) -> Result<Changes, Failure> {
    let change = |config: &crate::messages::alter_configs::AlterableConfig| {
        Ok((config.name.clone(), ConfigChange::Set(value(&config.name, config.value.as_ref())?)))
    };
    once(resource.configs.iter().map(change))
}

/// Changes of one thing, by key.
pub(crate) type Changes = BTreeMap<String, ConfigChange>;

/// What became of one thing.
pub(crate) struct Outcome {
    pub(crate) kind: i8,
    pub(crate) name: Str,
    pub(crate) error_code: i16,
    pub(crate) error_message: Option<Str>,
}

/// How configs are altered.
pub(crate) struct Alteration {
    pub(crate) replace: bool,
    pub(crate) validate_only: bool,
}

impl Alteration {
    /// Alters each of these things, given by kind, name, and changes.
    pub(crate) async fn carry_out<D: FrontDesk>(
        &self,
        door: &Door<D>,
        resources: Vec<(i8, Str, Result<Changes, Failure>)>,
    ) -> Vec<Outcome> {
        let (mut once, mut repeated) = (BTreeSet::new(), BTreeSet::new());
        for (kind, name, _) in &resources {
            if !once.insert((*kind, name.clone())) {
                repeated.insert((*kind, name.clone()));
            }
        }
        let mut outcomes = Vec::with_capacity(resources.len());
        let (mut asked, mut places) = (Vec::new(), Vec::new());
        for (kind, name, changes) in resources {
            let request = match repeated.contains(&(kind, name.clone())) {
                true => Err(changes::duplicate(&name)),
                false => changes.and_then(|changes| self.request(kind, &name, changes)),
            };
            let (error_code, error_message) = match request {
                Ok(Some(request)) => {
                    asked.push(request);
                    places.push(outcomes.len());
                    (error::NONE, None)
                }
                Ok(None) => (error::NONE, None),
                Err(failure) => error::refusal(&failure),
            };
            outcomes.push(Outcome { kind, name, error_code, error_message });
        }
        let timeout_ms = i32::try_from(CONTROL_DEADLINE_MS).unwrap_or(i32::MAX);
        let replies = changes::ask_each(door, asked, timeout_ms).await;
        for (place, reply) in places.into_iter().zip(replies) {
            if let Err(failure) = reply {
                (outcomes[place].error_code, outcomes[place].error_message) = error::refusal(&failure);
            }
        }
        outcomes
    }

    /// What to ask of the controller; `None` if there is nothing to do.
    fn request(&self, kind: i8, name: &str, changes: Changes) -> Result<Option<Admin>, Failure> {
        let refuse = |text: &str| Err(Failure::new(ErrorCode::InvalidRequest, text));
        match kind {
            resource::TOPIC => Ok(Some(Admin::AlterConfigs {
                name: name.to_owned(),
                changes,
                replace: self.replace,
                validate_only: self.validate_only,
            })),
            resource::BROKER if changes.is_empty() => Ok(None),
            resource::BROKER => refuse(
                "configs of nodes cannot be altered from here: set them in each node's configuration file \
                 (rafka.yaml, or the one given by --config), and start the node again",
            ),
            resource::BROKER_LOGGER => {
                refuse("log levels cannot be altered from here: set node.log_level in the node's configuration file")
            }
            resource::CLIENT_METRICS => refuse("subscriptions to metrics of clients are not available in this version"),
            resource::GROUP => refuse("configs of a group cannot be altered: all groups have those of their coordinator's node"),
            _ => refuse("there are no configs of this type of resource"),
        }
    }
}

/// The value that has to be there.
pub(crate) fn value(key: &str, value: Option<&Str>) -> Result<String, Failure> {
    let missing = || Failure::new(ErrorCode::InvalidRequest, format!("{key} has no value"));
    value.map(ToString::to_string).ok_or_else(missing)
}

/// Changes whose keys come once.
pub(crate) fn once(given: impl Iterator<Item = Result<(Str, ConfigChange), Failure>>) -> Result<Changes, Failure> {
    let mut changes = Changes::new();
    for change in given {
        let (key, change) = change?;
        if changes.insert(key.to_string(), change).is_some() {
            return Err(changes::duplicate(&key));
        }
    }
    Ok(changes)
}
