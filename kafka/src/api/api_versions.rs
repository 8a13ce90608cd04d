//! ApiVersions: which APIs are served, and which features the cluster has.

use crate::ApiKey;
use crate::api::SERVED;
use crate::desk::FrontDesk;
use crate::door::{Client, Door, METADATA_VERSION, METADATA_VERSION_MIN};
use crate::error;
use crate::messages::api_versions::{ApiVersion, FinalizedFeatureKey, Request, Response, SupportedFeatureKey};
use rafka_broker::ErrorCode;

/// Name of the one feature.
pub(crate) const METADATA_FEATURE: &str = "metadata.version";

pub(crate) async fn serve<D: FrontDesk>(door: &Door<D>, _: &Client, version: i16, request: Request) -> Response {
    if version >= 3 && !(is_name(&request.client_software_name) && is_name(&request.client_software_version)) {
        return Response { error_code: error::number(ErrorCode::InvalidRequest), ..Response::default() };
    }
    let epoch = i64::try_from(door.desk.image().index.0).unwrap_or(i64::MAX);
    Response {
        api_keys: SERVED.iter().copied().map(row).collect(),
        supported_features: vec![SupportedFeatureKey {
            name: METADATA_FEATURE.into(),
            // Below version 4 a minimum of 0 cannot be told; this one never is 0 (KIP-1022).
            min_version: METADATA_VERSION_MIN,
            max_version: METADATA_VERSION,
        }],
        finalized_features_epoch: epoch,
        finalized_features: vec![FinalizedFeatureKey {
            name: METADATA_FEATURE.into(),
            max_version_level: METADATA_VERSION,
            min_version_level: METADATA_VERSION,
        }],
        ..Response::default()
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
        assert_eq!(response.finalized_features[0].max_version_level, METADATA_VERSION);
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
