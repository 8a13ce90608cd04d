//! ApiVersions: which APIs are served, and which features the cluster has.

use crate::ApiKey;
use crate::api::SERVED;
use crate::desk::FrontDesk;
use crate::door::{Client, Door, METADATA_VERSION, METADATA_VERSION_MIN};
use crate::error;
use crate::messages::api_versions::{ApiVersion, FinalizedFeatureKey, Request, Response, SupportedFeatureKey};
use rafka_broker::ErrorCode;

/// What clients look at to know what a cluster can do.
pub(crate) struct Feature {
    pub(crate) name: &'static str,
    /// Lowest level that is supported.
    pub(crate) level_min: i16,
    /// Highest level that is supported; the level that is in force.
    pub(crate) level: i16,
}

/// The features, whose levels follow Rafka's own version.
pub(crate) const FEATURES: &[Feature] = &[
    Feature { name: "metadata.version", level_min: METADATA_VERSION_MIN, level: METADATA_VERSION },
    // Groups of KIP-848.
    Feature { name: "group.version", level_min: 0, level: 1 },
];

/// First version that can tell a lowest level of 0 (KIP-1022).
const LEVEL_ZERO_FROM: i16 = 4;

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    if version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return Response { error_code: error::number(ErrorCode::InvalidRequest), ..Response::default() };
    }
    let epoch = i64::try_from(door.desk.image().index.0).unwrap_or(i64::MAX);
    Response {
        api_keys: SERVED.iter().copied().map(row).collect(),
        supported_features: FEATURES.iter().filter_map(|feature| supported(version, feature)).collect(),
        finalized_features_epoch: epoch,
        finalized_features: FEATURES.iter().map(finalized).collect(),
        ..Response::default()
    }
}

/// `None` where the version cannot tell it.
fn supported(version: i16, feature: &Feature) -> Option<SupportedFeatureKey> {
    (version >= LEVEL_ZERO_FROM || feature.level_min > 0).then(|| SupportedFeatureKey {
        name: feature.name.into(),
        min_version: feature.level_min,
        max_version: feature.level,
    })
}

fn finalized(feature: &Feature) -> FinalizedFeatureKey {
    FinalizedFeatureKey {
        name: feature.name.into(),
        max_version_level: feature.level,
        min_version_level: feature.level,
    }
}

/// The answer to a version that is not known: in the oldest layout, which every client can read.
pub(crate) fn too_new() -> Response {
    Response {
        error_code: error::number(ErrorCode::UnsupportedVersion),
        api_keys: vec![row(ApiKey::ApiVersions)],
        ..Response::default()
    }
}

fn row(key: ApiKey) -> ApiVersion {
    let range = key.advertised();
    ApiVersion { api_key: key.number(), min_version: *range.start(), max_version: *range.end() }
}

/// KIP-511: letters, digits, `.` and `-`, which neither begins nor ends it.
fn is_name(text: &str) -> bool {
    let inner = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'.' || byte == b'-';
    let outer = |byte: Option<&u8>| byte.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = text.as_bytes();
    outer(bytes.first()) && outer(bytes.last()) && bytes.iter().copied().all(inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake::{Fake, client, door};

    async fn ask(version: i16, name: &'static str) -> Response {
        let request = Request { client_software_name: name.into(), client_software_version: "1.0-a".into() };
        serve(&door(Fake::default()), &client("127.0.0.1:9092"), version, request).await
    }

    #[tokio::test]
    async fn what_is_served_is_advertised_and_produce_from_zero() {
        let response = ask(4, "kafka.py").await;
        assert_eq!(response.error_code, 0);
        assert_eq!(response.api_keys.len(), SERVED.len());
        let produce = &response.api_keys[0];
        assert_eq!((produce.api_key, produce.min_version, produce.max_version), (0, 0, 13), "KAFKA-18659");
        let levels: Vec<_> =
            response.finalized_features.iter().map(|one| (&*one.name, one.max_version_level)).collect();
        assert_eq!(levels, [("metadata.version", METADATA_VERSION), ("group.version", 1)]);
        let supported = |response: &Response| response.supported_features.len();
        assert_eq!((supported(&response), supported(&ask(3, "kafka.py").await)), (2, 1), "KIP-1022");
    }

    #[tokio::test]
    async fn a_client_without_a_proper_name_is_refused_where_it_gives_one() {
        for name in ["", "-a", "a-", "a b", "ä"] {
            assert_eq!(ask(3, name).await.error_code, 42, "{name:?}");
            assert_eq!(ask(2, name).await.error_code, 0, "{name:?}");
        }
    }

    #[test]
    fn a_version_from_the_future_is_told_the_range() {
        let response = too_new();
        assert_eq!(response.error_code, 35);
        assert_eq!((response.api_keys.len(), response.api_keys[0].api_key), (1, 18));
    }
}
