//! The rules for properties against the librdkafka that is linked.

use rdkafka_sys as sys;
use std::collections::BTreeSet;
use std::ffi::{CStr, c_char};
use tidemark_settings::kafka::rules;

/// What librdkafka itself writes into its documentation.
fn documentation() -> String {
    let mut text = vec![0u8; 1 << 20];
    // SAFETY: the stream writes into `text`, which outlives it, and is closed once.
    unsafe {
        let stream = libc::fmemopen(text.as_mut_ptr().cast(), text.len(), c"w".as_ptr());
        assert!(!stream.is_null());
        sys::rd_kafka_conf_properties_show(stream.cast());
        libc::fclose(stream);
        CStr::from_ptr(text.as_ptr().cast::<c_char>()).to_string_lossy().into_owned()
    }
}

#[test]
fn each_property_of_librdkafka_has_a_rule_and_each_rule_a_property() {
    let text = documentation();
    let is_name = |name: &&str| !name.is_empty() && *name != "Property" && !name.starts_with("--");
    let theirs: BTreeSet<&str> =
        text.lines().filter_map(|line| line.split_once('|')).map(|(name, _)| name.trim()).filter(is_name).collect();
    let ours: BTreeSet<&str> = rules::names().collect();
    assert!(theirs.len() > 150, "{text}");
    assert_eq!(theirs.difference(&ours).collect::<Vec<_>>(), Vec::<&&str>::new(), "properties without a rule");
    assert_eq!(ours.difference(&theirs).collect::<Vec<_>>(), Vec::<&&str>::new(), "rules without a property");
}
