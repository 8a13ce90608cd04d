use std::path::Path;
use std::time::Duration;

use rafka_broker::metadata::encode_image;
use rafka_log::atomic_file;
use rafka_log::disk::{Disk, FaultyDisk, MemoryDisk};
use rafka_model::limits::METADATA_RECENT_ENTRIES_MAX;
use tokio_util::sync::CancellationToken;

use super::testing::entry;
use super::*;

const DATA: &str = "/data";
const FILE: &str = "/data/metadata/image";

fn store_of(entries: u64) -> ImageStore {
    let store = ImageStore::default();
    for index in 1..=entries {
        assert_eq!(store.apply(entry(index)), Ok(MetadataIndex(index)));
    }
    store
}

#[test]
fn images_are_the_fold_of_the_entries_whether_readers_hold_old_ones_or_not() {
    let (store, mut fold) = (ImageStore::default(), Image::default());
    let mut held = Vec::new();
    for index in 1..=40 {
        let bytes = encode_entry(&entry(index)).expect("encodes");
        store.apply_encoded(bytes.into()).expect("applies");
        fold.apply(&entry(index)).expect("applies");
        assert_eq!(*store.current(), fold);
        if index % 3 == 0 {
            held.push((store.current(), fold.clone()));
        }
    }
    assert!(held.iter().all(|(image, fold)| **image == *fold), "an image that is held never changes");
}

#[test]
fn an_image_that_nobody_holds_is_reused() {
    let store = store_of(4);
    let spare = |store: &ImageStore| store.writer.lock().spare.as_ref().map(|(image, _)| Arc::as_ptr(image));
    let before = spare(&store).expect("there is one");
    store.apply(entry(5)).expect("applies");
    assert_eq!(Arc::as_ptr(&store.current()), before);
}

#[test]
fn what_does_not_follow_changes_nothing() {
    let store = store_of(3);
    let before = store.current();
    for index in [1, 3, 5] {
        assert!(matches!(store.apply(entry(index)), Err(ImageError::Apply(ApplyError::Gap { .. }))));
    }
    assert!(matches!(store.apply_encoded(Bytes::from_static(b"\xff")), Err(ImageError::Codec(_))));
    let unknown = rafka_broker::metadata::Delta::NodeFenced { id: rafka_model::NodeId(99) };
    let half = Entry { index: MetadataIndex(4), deltas: [entry(4).deltas, vec![unknown]].concat() };
    assert!(matches!(store.apply(half), Err(ImageError::Apply(ApplyError::UnknownNode(_)))));
    assert_eq!(store.current(), before);
    assert_eq!(store.entries_since(MetadataIndex(3)), Some(vec![]));
    store.apply(entry(4)).expect("goes on");
}

#[test]
fn the_feed_gives_what_follows_and_says_when_it_cannot() {
    let store = store_of(5);
    let since = |index| store.entries_since(MetadataIndex(index));
    assert_eq!(since(3).expect("held"), [4, 5].map(|i| Bytes::from(encode_entry(&entry(i)).expect("encodes"))));
    assert_eq!((since(5), since(9)), (Some(vec![]), Some(vec![])));
    store.install((*store_of(8).current()).clone());
    assert_eq!(store.index(), MetadataIndex(8));
    assert_eq!(store.entries_since(MetadataIndex(7)), None, "a snapshot skips entries");
    store.apply(entry(9)).expect("applies");
    assert_eq!(store.entries_since(MetadataIndex(8)).map(|entries| entries.len()), Some(1));
}

#[test]
fn recent_entries_are_bounded() {
    let mut recent = Recent::after(MetadataIndex(0));
    let many = METADATA_RECENT_ENTRIES_MAX as u64 + 10;
    (1..=many).for_each(|index| recent.push(MetadataIndex(index), Bytes::from_static(b"x")));
    assert_eq!(recent.since(MetadataIndex(9)), None);
    assert_eq!(recent.since(MetadataIndex(10)).map(|entries| entries.len()), Some(METADATA_RECENT_ENTRIES_MAX));
    let large = Bytes::from(vec![0; 7 << 20]);
    (1..=3).for_each(|index| recent.push(MetadataIndex(many + index), large.clone()));
    assert_eq!(recent.since(MetadataIndex(many)), None);
    assert_eq!(recent.since(MetadataIndex(many + 1)).map(|entries| entries.len()), Some(2));
}

#[tokio::test]
async fn who_waits_for_an_index_gets_an_image_that_has_it() {
    let store = Arc::new(store_of(2));
    let waits = tokio::spawn({
        let store = store.clone();
        async move { store.wait_for(MetadataIndex(4)).await.index }
    });
    store.apply(entry(3)).expect("applies");
    store.apply(entry(4)).expect("applies");
    assert!(waits.await.expect("runs") >= MetadataIndex(4));
}

#[tokio::test]
async fn the_latest_image_is_saved_and_loaded() {
    let disk = Arc::new(MemoryDisk::new());
    let (faulty, faults) = FaultyDisk::new(disk.clone());
    let mut file = ImageFile::new(Arc::new(faulty), Path::new(DATA));
    file.pause = Duration::from_millis(1);
    assert_eq!(file.load(), Ok(Image::default()));
    let store = Arc::new(store_of(1));
    let stop = CancellationToken::new();
    let keeper = tokio::spawn(file.clone().keep(store.clone(), stop.clone()));
    tokio::task::yield_now().await;
    let saved = |index: u64| {
        let file = file.clone();
        async move {
            while file.load().expect("loads").index != MetadataIndex(index) {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        }
    };
    store.apply(entry(2)).expect("applies");
    saved(2).await;
    let operations = faults.operations();
    faults.set_free_bytes(Some(0));
    store.apply(entry(3)).expect("applies");
    // The directory, the new file, the write that fails.
    while faults.operations() < operations + 3 {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(file.load().expect("loads").index, MetadataIndex(2), "a failed save leaves the old file");
    faults.set_free_bytes(None);
    store.apply(entry(4)).expect("applies");
    saved(4).await;
    store.apply(entry(5)).expect("applies");
    stop.cancel();
    keeper.await.expect("ends");
    assert_eq!(file.load(), Ok((*store.current()).clone()), "the last image is saved at the end");
}

#[test]
fn a_damaged_image_is_moved_aside_and_counts_as_none() {
    let disk = Arc::new(MemoryDisk::new());
    let file = ImageFile::new(disk.clone(), Path::new(DATA));
    let image = store_of(3).current();
    file.save(&image).expect("saves");
    disk.flip(Path::new(FILE), 40, 1).expect("flips");
    assert_eq!(file.load(), Ok(Image::default()));
    assert!(disk.exists(Path::new("/data/metadata/image.damaged")).expect("looks"));
    // Whole, but not an image.
    let mut bytes = encode_image(&image).expect("encodes");
    bytes.truncate(20);
    atomic_file::write(&*disk, Path::new(FILE), &bytes).expect("writes");
    assert_eq!(file.load(), Ok(Image::default()));
    file.save(&image).expect("saves again");
    assert_eq!(file.load(), Ok((*image).clone()));
}
