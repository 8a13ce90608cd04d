use super::*;
use crate::disk::{FaultyDisk, MemoryDisk};

const DIR: &str = "/log";

fn nth(i: u32) -> Entry {
    Entry { relative: i * 10 + 5, position: i * 100 + 50, max_before: i64::from(i) * 2 }
}

fn filled(disk: &dyn Disk, entries: u32) -> Index {
    disk.create_dir_all(Path::new(DIR)).expect("creates");
    let index = Index::active(Path::new(DIR), Offset(7), 0);
    (0..entries).for_each(|i| index.push(disk, nth(i)));
    index
}

#[test]
fn entries_are_found_in_memory_and_in_the_files_alike() {
    let disk = MemoryDisk::new();
    let index = filled(&disk, 2000);
    assert_eq!(index.count(), 2000);
    for i in [0, 1, 255, 256, 1000, 1998, 1999] {
        let at = |key| index.floor(&disk, key, 0).expect("healthy");
        assert_eq!(at(Key::Offset(i * 10 + 5)), Some(nth(i)));
        assert_eq!(at(Key::Offset(i * 10 + 14)), Some(nth(i)));
        assert_eq!(at(Key::Time(i64::from(i) * 2 + 1)), Some(nth(i)));
        assert_eq!(at(Key::Time(i64::from(i) * 2)), i.checked_sub(1).map(nth));
    }
    assert_eq!(index.floor(&disk, Key::Offset(4), 0).expect("healthy"), None);
}

#[test]
fn a_sealed_index_is_whole_or_damaged() {
    let disk = MemoryDisk::new();
    let index = filled(&disk, 700);
    let end = Entry { relative: 9000, position: 90_000, max_before: 5000 };
    index.seal(&disk, end);
    let reopened = || Index::sealed(Path::new(DIR), Offset(7));
    assert_eq!(reopened().end(&disk, 90_000).expect("whole"), end);
    assert_eq!(reopened().floor(&disk, Key::Offset(8999), 90_000).expect("whole"), Some(nth(699)));
    assert!(reopened().end(&disk, 90_001).is_err(), "of another length");
    assert!(Index::sealed(Path::new(DIR), Offset(8)).end(&disk, 90_000).is_err(), "of another segment");
    for path in index.paths() {
        let whole = disk.bytes(path).expect("there");
        disk.put(path, &whole[..whole.len() - 1]);
        assert!(reopened().end(&disk, 90_000).is_err());
        disk.put(path, &whole);
        disk.flip(path, 5, 1).expect("flips");
        assert!(reopened().floor(&disk, Key::Offset(6), 90_000).is_err());
        disk.put(path, &whole);
    }
}

#[test]
fn truncation_forgets_entries_wherever_they_are() {
    for kept in [0, 1, 300, 1500, 1990] {
        let disk = MemoryDisk::new();
        let index = filled(&disk, 2000);
        index.truncate(&disk, u64::from(kept) * 100 + 50, 0);
        assert_eq!(index.count(), kept);
        index.push(&disk, nth(kept));
        assert_eq!(index.save(&disk).expect("saves"), kept + 1);
        let again = Index::active(Path::new(DIR), Offset(7), kept + 1);
        assert_eq!(again.floor(&disk, Key::Offset(u32::MAX), 0).expect("healthy"), Some(nth(kept)));
    }
}

#[test]
fn an_index_that_cannot_be_written_gets_sparser_not_longer() {
    let (disk, faults) = FaultyDisk::new(Arc::new(MemoryDisk::new()));
    let index = filled(&disk, 300);
    faults.set_read_only(true);
    (300..10_000).for_each(|i| index.push(&disk, nth(i)));
    assert!(index.count() <= RECENT_MAX as u32);
    faults.set_read_only(false);
    index.save(&disk).expect("saves");
    let found = index.floor(&disk, Key::Offset(50_000), 0).expect("healthy").expect("some");
    assert!(found.relative <= 50_000);
}
