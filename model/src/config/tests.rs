use super::*;
use crate::limits::BATCH_BYTES_DEFAULT;

fn set(key: &str, value: &str) -> Result<TopicConfig, ConfigError> {
    TopicConfig::resolve(&BTreeMap::from([(key.to_owned(), value.to_owned())]))
}

#[test]
fn the_table_is_sorted_and_its_defaults_are_legal() {
    assert!(KEYS.windows(2).all(|pair| pair[0].name < pair[1].name));
    for key in KEYS {
        assert_eq!(key.check(key.default), Ok(()));
    }
    assert_eq!(TopicConfig::default().max_message_bytes, BATCH_BYTES_DEFAULT);
    assert_eq!(TopicConfig::default().retention_ms, Some(604_800_000));
}

#[test]
fn keys_without_effect_are_accepted_and_say_so() {
    for (key, value) in [
        ("compression.zstd.level", "19"),
        ("follower.replication.throttled.replicas", "0:1,1:2"),
        ("local.retention.ms", "-2"),
        ("segment.index.bytes", "4096"),
        ("segment.jitter.ms", "100"),
    ] {
        assert!(set(key, value).is_ok(), "{key}");
        assert!(Key::find(key).expect("known").doc.contains("effect"), "{key}");
    }
    assert!(set("remote.storage.enable", "true").is_err(), "it would not be done");
}

#[test]
fn minus_one_is_no_limit() {
    assert_eq!(set("retention.ms", "-1").expect("legal").retention_ms, None);
    assert_eq!(set("retention.bytes", "5").expect("legal").retention_bytes, Some(5));
}

#[test]
fn slips_get_a_suggestion_and_bad_values_say_what_is_legal() {
    let error = set("retention.sm", "1").expect_err("unknown");
    assert_eq!(error.to_string(), "unknown topic config \"retention.sm\"; did you mean \"retention.ms\"?");
    let error = set("segment.bytes", "12").expect_err("too small");
    assert_eq!(
        error.to_string(),
        "invalid value \"12\" for segment.bytes: expected an integer from 1024 to 2147483647"
    );
}

#[test]
fn compaction_is_set_by_policy_ratio_and_lags() {
    let policy = |text| set("cleanup.policy", text).expect("legal").cleanup;
    assert_eq!(policy("compact"), CleanupPolicy { delete: false, compact: true });
    assert_eq!(policy("delete"), TopicConfig::default().cleanup);
    assert_eq!(policy("compact,delete"), policy("delete,compact"));
    let ratio = |text| set("min.cleanable.dirty.ratio", text).map(|config| config.min_cleanable_dirty_ratio_ppm).ok();
    assert_eq!((ratio("0"), ratio("0.01"), ratio("1")), (Some(0), Some(10_000), Some(1_000_000)));
    assert_eq!((ratio("1.1"), ratio("-0.1"), ratio("NaN"), ratio("half")), (None, None, None, None));
    assert_eq!(TopicConfig::default().min_cleanable_dirty_ratio_ppm, 500_000);
}
