//! UpdateFeatures: features stay at their levels, which follow Rafka's own version.

use std::collections::BTreeSet;

use rafka_broker::ErrorCode;

use crate::api::api_versions::FEATURES;
use crate::desk::FrontDesk;
use crate::door::{Client, Door};
use crate::error;
use crate::messages::update_features::{FeatureUpdateKey, Request, Response, UpdatableFeatureResult};

/// Last version whose response tells of each feature.
const RESULTS_UNTIL: i16 = 1;

pub(crate) async fn serve<D: FrontDesk>(_: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    let updates = request.feature_updates;
    let mut once = BTreeSet::new();
    let refused = updates.iter().find_map(|update| match once.insert(&update.feature) {
        true => refusal(update),
        false => Some((error::number(ErrorCode::InvalidRequest), format!("{} comes twice", update.feature))),
    });
    let mut response = Response::default();
    if let Some((code, text)) = refused {
        let text = format!("no feature was updated, for one cannot be: {text}");
        (response.error_code, response.error_message) = (code, Some(text.into()));
    }
    if version <= RESULTS_UNTIL {
        let result = |update: FeatureUpdateKey| UpdatableFeatureResult {
            feature: update.feature,
            error_code: response.error_code,
            error_message: response.error_message.clone(),
        };
        response.results = updates.into_iter().map(result).collect();
    }
    response
}

fn refusal(update: &FeatureUpdateKey) -> Option<(i16, String)> {
    let (name, level) = (&update.feature, update.max_version_level);
    let text = match FEATURES.iter().find(|feature| *name == feature.name) {
        Some(feature) if feature.level == level => return None,
        Some(feature) => format!("{name} is {} and cannot be {level}", feature.level),
        None => {
            let known: Vec<_> = FEATURES.iter().map(|feature| feature.name).collect();
            let name: String = name.chars().take(80).collect();
            format!("there is no feature {name:?}, only {}", known.join(" and "))
        }
    };
    Some((error::number(ErrorCode::InvalidUpdateVersion), text))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::door::METADATA_VERSION;
    use crate::fake::decides::{ask, deciding};

    const METADATA_FEATURE: &str = "metadata.version";

    fn update(feature: &'static str, max_version_level: i16) -> FeatureUpdateKey {
        FeatureUpdateKey { feature: feature.into(), max_version_level, ..FeatureUpdateKey::default() }
    }

    #[tokio::test]
    async fn the_level_that_is_may_be_asked_for_and_no_other() {
        for version in [0, 1, 2] {
            for (updates, code) in [
                (vec![update(METADATA_FEATURE, METADATA_VERSION)], 0),
                (vec![update("group.version", 1)], 0),
                (vec![update("group.version", 0)], 95),
                (vec![update(METADATA_FEATURE, METADATA_VERSION - 1)], 95),
                (vec![update(METADATA_FEATURE, METADATA_VERSION + 1)], 95),
                (vec![update(METADATA_FEATURE, METADATA_VERSION), update("foo", 1)], 95),
                (vec![update(METADATA_FEATURE, METADATA_VERSION), update(METADATA_FEATURE, METADATA_VERSION)], 42),
            ] {
                let results = if version <= RESULTS_UNTIL { updates.len() } else { 0 };
                let request = Request { feature_updates: updates, ..Request::default() };
                let told = ask(&deciding(), version, &request).await;
                assert_eq!((told.error_code, told.results.len()), (code, results));
                assert!(told.results.iter().all(|result| result.error_code == code));
            }
        }
    }
}
