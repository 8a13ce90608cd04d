use std::fs;
use std::os::unix::fs::symlink;
use std::path::Path;

use rafka_model::{BootId, ClusterId, NodeId};

use super::*;

fn open(root: &Path) -> DataDir {
    DataDir::open(root).unwrap_or_else(|error| panic!("{error}"))
}

fn refused(root: &Path) -> String {
    DataDir::open(root).expect_err("refused").to_string()
}

const MEMBER: Membership = Membership { cluster_id: ClusterId([7; 32]), node_id: Some(NodeId(3)) };

#[test]
fn a_directory_keeps_its_identity_and_membership() {
    let temporary = tempfile::tempdir().expect("a directory");
    let root = temporary.path().join("deep/data");
    let first = open(&root);
    let directory = first.directory_id();
    assert_eq!((first.last_end(), first.membership()), (LastEnd::New, None));
    first.save_nominee("12D3KooW").expect("saves");
    first.save_membership(Membership { node_id: None, ..MEMBER }).expect("saves");
    first.save_membership(MEMBER).expect("saves");
    let incarnation = first.incarnation();
    drop(first);
    let second = open(&root);
    assert_eq!(second.directory_id(), directory);
    assert_eq!(second.membership(), Some(MEMBER));
    assert_eq!(second.nominee().as_deref(), Some("12D3KooW"));
    assert_ne!(second.incarnation(), incarnation);
    let other = Membership { cluster_id: ClusterId([8; 32]), node_id: None };
    assert!(second.save_membership(other).is_err(), "a cluster id is final");
    assert!(second.save_membership(Membership { node_id: Some(NodeId(4)), ..MEMBER }).is_err(), "so is a node id");
}

#[test]
fn a_second_process_is_told_who_holds_the_lock() {
    let root = tempfile::tempdir().expect("a directory");
    let held = open(root.path());
    let error = refused(root.path());
    assert!(error.contains(&format!("in use by process {}", std::process::id())), "{error}");
    assert!(error.contains("hint:"), "{error}");
    drop(held);
    open(root.path());
}

#[test]
fn the_end_of_the_last_process_is_known() {
    let root = tempfile::tempdir().expect("a directory");
    open(root.path());
    assert_eq!(open(root.path()).last_end(), LastEnd::Killed, "the same boot");
    let clean = open(root.path());
    clean.mark_clean().expect("marks");
    drop(clean);
    assert_eq!(open(root.path()).last_end(), LastEnd::Clean);
    assert_eq!(open(root.path()).last_end(), LastEnd::Killed, "the marker counts once");
    fs::write(root.path().join("boot"), BootId([9; 16]).to_string()).expect("writes");
    assert_eq!(open(root.path()).last_end(), LastEnd::PowerLost);
    fs::write(root.path().join("boot"), [0xff, 0xfe]).expect("writes");
    assert_eq!(open(root.path()).last_end(), LastEnd::PowerLost, "a damaged note proves nothing");
}

#[test]
fn a_damaged_or_missing_node_file_is_never_replaced() {
    let root = tempfile::tempdir().expect("a directory");
    open(root.path()).save_membership(MEMBER).expect("saves");
    let path = root.path().join("node.json");
    let good = fs::read(&path).expect("reads");
    for at in 0..good.len() {
        let mut bad = good.clone();
        bad[at] ^= 1;
        fs::write(&path, &bad).expect("writes");
        match DataDir::open(root.path()) {
            // Only white space between the fields carries nothing.
            Ok(dir) => assert_eq!(dir.membership(), Some(MEMBER), "byte {at}"),
            Err(error) => assert!(matches!(error, DataDirError::Corrupted { .. }), "byte {at}: {error}"),
        }
        assert_eq!(fs::read(&path).expect("reads"), bad);
    }
    fs::write(root.path().join("logs/something"), "records").expect("writes");
    fs::remove_file(&path).expect("removes");
    assert!(refused(root.path()).contains("missing, but logs/ holds data"));
}

#[test]
fn foreign_files_and_unusable_places_are_refused_with_a_hint() {
    let root = tempfile::tempdir().expect("a directory");
    fs::write(root.path().join("thesis.odt"), "years of work").expect("writes");
    let error = refused(root.path());
    assert!(error.contains("\"thesis.odt\"") && error.contains("hint:"), "{error}");
    let error = refused(&root.path().join("thesis.odt"));
    assert!(error.contains("is not a directory"), "{error}");
    // Nobody may create directories there, root neither.
    let error = refused(Path::new("/sys/rafka"));
    assert!(error.contains("cannot be written") && error.contains("hint:"), "{error}");
}

#[test]
fn a_full_disk_is_named() {
    let root = tempfile::tempdir().expect("a directory");
    symlink("/dev/full", root.path().join("boot.tmp")).expect("links");
    let error = refused(root.path());
    assert!(error.contains("no space is left"), "{error}");
}

#[test]
fn space_is_measured() {
    let root = tempfile::tempdir().expect("a directory");
    let space = open(root.path()).space().expect("measures");
    assert!(space.total_bytes >= space.free_bytes && space.total_bytes > 0);
}
