//! The rules of the house hold.

use xtask::{house, root};

fn holds(rule: house::Rule) {
    let violations = rule(&root()).expect("the rule can be checked");
    assert!(violations.is_empty(), "\n  {}", violations.join("\n  "));
}

#[test]
fn crates_use_lower_layers_only() {
    holds(house::layers);
}

#[test]
fn dependencies_have_allowed_licences_and_sources() {
    holds(house::supply);
}

#[test]
fn what_ships_cannot_switch_rules_off() {
    holds(house::features);
}

#[test]
fn libp2p_is_named_in_its_rooms_only() {
    holds(house::libp2p_is_named_in_its_rooms);
}

#[test]
fn sources_have_the_shape_of_the_house() {
    holds(house::shape);
}

#[test]
fn limits_are_documented_and_kept() {
    holds(house::limits);
}
