//! The file log as it should be, and as it should not.

use super::*;
use crate::reading::Monotonic;
use std::io::Write;
use std::ops::ControlFlow;

fn read_all(source: &mut dyn Source, before: Option<i64>) -> Vec<(i64, Option<i64>, String)> {
    let mut records = Vec::new();
    for _ in 0..10 {
        source
            .read(0, before, 2, &mut |record| {
                let payload = String::from_utf8(record.payload.unwrap().to_vec()).unwrap();
                records.push((record.offset, record.time.map(|time| time.0), payload));
                ControlFlow::Continue(())
            })
            .unwrap();
    }
    records
}

#[test]
fn a_line_without_its_end_is_not_yet_there() {
    let dir = tempfile::tempdir().unwrap();
    let topic = dir.path().join("t");
    std::fs::create_dir(&topic).unwrap();
    let mut file = File::create(topic.join("0.log")).unwrap();
    file.write_all(b"5 a\n6 bb\nplain\n7 unfinished").unwrap();
    let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
    assert_eq!(log.describe().unwrap().partitions[&0], Bounds { low: 0, high: 15 });
    let mut source = log.open(&BTreeMap::from([(0, 0)])).unwrap();
    assert!(!source.position(0).unwrap().at_end);
    let expected = [(0, Some(5_000), "a"), (4, Some(6_000), "bb"), (9, None, "plain")];
    let expected = expected.map(|(offset, time, payload)| (offset, time, payload.to_owned()));
    assert_eq!(read_all(source.as_mut(), None), expected);
    assert!(source.position(0).unwrap().at_end);
    assert_eq!(read_all(log.open(&BTreeMap::from([(0, 4)])).unwrap().as_mut(), Some(9)), expected[1..2]);
    file.write_all(b"!\n").unwrap();
    assert!(!source.position(0).unwrap().at_end);
    assert_eq!(read_all(source.as_mut(), None), [(15, Some(7_000), "unfinished!".to_owned())]);
    assert_eq!(
        source.position(0).unwrap(),
        Position { next_offset: 29, end_offset: 29, at_end: true, confirmed: None, low_offset: 0 }
    );
}

#[test]
fn a_topic_that_was_made_anew_is_another_one() {
    let dir = tempfile::tempdir().unwrap();
    let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
    std::fs::create_dir(dir.path().join("t")).unwrap();
    std::fs::write(dir.path().join("t/0.log"), "").unwrap();
    assert_eq!(log.describe().unwrap().id, "file:t");
    std::fs::write(dir.path().join("t/topic.id"), "ab12\n").unwrap();
    assert_eq!(log.describe().unwrap().id, "file:t#ab12");
    std::fs::write(dir.path().join("t/topic.id"), " \n").unwrap();
    assert!(matches!(log.describe(), Err(SourceError::Fatal(_))));
}

#[test]
fn a_partition_that_comes_is_found_and_read_from_its_beginning() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("t")).unwrap();
    for partition in [0, 1] {
        std::fs::write(dir.path().join(format!("t/{partition}.log")), "1 a\n").unwrap();
    }
    let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
    let reader = Reader::open(dir.path().join("t/1.log"), 4).unwrap();
    let just_now = Instant::now();
    let mut source = FileSource { log, readers: BTreeMap::from([(1, reader)]), looked: just_now, same: just_now, now: None };
    assert!(source.others().unwrap().is_empty(), "it does not look all the time");
    source.looked = just_now.checked_sub(LOOK_EVERY).unwrap();
    assert_eq!(source.others().unwrap(), [0]);
    source.add(0).unwrap();
    assert_eq!(read_all(&mut source, None), [(0, Some(1_000), "a".to_owned())]);
    source.looked = just_now.checked_sub(LOOK_EVERY).unwrap();
    assert!(source.others().unwrap().is_empty());
}

#[test]
fn a_missing_topic_may_come_and_a_shrunken_file_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
    assert!(matches!(log.describe(), Err(SourceError::NotYet(_))));
    std::fs::create_dir(dir.path().join("t")).unwrap();
    std::fs::write(dir.path().join("t/0.log"), "1 a\n2 b\n").unwrap();
    let mut source = log.open(&BTreeMap::from([(0, 0)])).unwrap();
    assert_eq!(read_all(source.as_mut(), None).len(), 2);
    std::fs::write(dir.path().join("t/0.log"), "1 a\n").unwrap();
    assert!(matches!(source.position(0), Err(SourceError::Fatal(_))));
}

/// A topic whose partition 0 has this text, and a reader of it that has read all.
fn read_to_the_end(text: &str) -> (tempfile::TempDir, PathBuf, Box<dyn Source>) {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("t/0.log");
    std::fs::create_dir(dir.path().join("t")).unwrap();
    std::fs::write(&path, text).unwrap();
    let mut source = FileLog::new(dir.path().to_owned(), "t".to_owned()).open(&BTreeMap::from([(0, 0)])).unwrap();
    read_all(source.as_mut(), None);
    assert!(source.position(0).unwrap().at_end);
    (dir, path, source)
}

/// What a reader says within a few turns, if it says anything; no record may be handed out meanwhile.
fn said(source: &mut dyn Source) -> Option<String> {
    let until = Instant::now() + SAME_EVERY * 2;
    while Instant::now() < until {
        let mut read = 0;
        let turn = source
            .read(0, None, 10, &mut |_| {
                read += 1;
                ControlFlow::Continue(())
            })
            .and_then(|()| source.position(0).map(drop))
            .and_then(|()| source.serve(Asked { at: Monotonic(0), worker_0: None }));
        if let Err(error) = turn {
            return Some(error.to_string());
        }
        assert_eq!(read, 0, "it reads on in another file");
        std::thread::sleep(Duration::from_millis(20));
    }
    None
}

#[test]
fn a_file_that_is_cut_and_grows_again_is_noticed() {
    let (_dir, path, mut source) = read_to_the_end("1 a\n2 b\n");
    std::fs::write(&path, "3 c\n4 d\n5 e\n").unwrap();
    let told = said(source.as_mut()).expect("it is noticed");
    assert!(told.contains("written anew before byte 8") && told.contains("0.log"), "{told}");
}

#[test]
fn a_file_that_is_replaced_is_noticed() {
    let (dir, path, mut source) = read_to_the_end("1 a\n2 b\n");
    let other = dir.path().join("other");
    std::fs::write(&other, "1 a\n2 b\n3 c\n").unwrap();
    std::fs::rename(&other, &path).unwrap();
    let told = said(source.as_mut()).expect("it is noticed");
    assert!(told.contains("another file has its name"), "{told}");

    let (_dir, path, mut source) = read_to_the_end("1 a\n");
    std::fs::remove_file(path).unwrap();
    assert!(said(source.as_mut()).expect("it is noticed").contains("removed"));
}

#[test]
fn a_file_that_is_cut_while_much_is_unread_is_noticed() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::create_dir(dir.path().join("t")).unwrap();
    let path = dir.path().join("t/0.log");
    let line = format!("1 {}\n", "x".repeat(1_000));
    std::fs::write(&path, line.repeat(3_000)).unwrap();
    let mut source = FileLog::new(dir.path().to_owned(), "t".to_owned()).open(&BTreeMap::from([(0, 0)])).unwrap();
    source.read(0, None, 1, &mut |_| ControlFlow::Continue(())).unwrap();
    std::fs::write(&path, "").unwrap();
    source.read(0, None, 10_000, &mut |_| ControlFlow::Continue(())).unwrap();
    assert!(said(source.as_mut()).expect("it is noticed").contains("shrank to 0 bytes"));
}

#[test]
fn a_stored_offset_that_the_file_does_not_have_is_refused() {
    let (dir, _, _) = read_to_the_end("1 a\n2 b\n");
    let log = FileLog::new(dir.path().to_owned(), "t".to_owned());
    for (offset, why) in [(9, "it has 8 bytes"), (6, "midst of a line")] {
        let Err(error) = log.open(&BTreeMap::from([(0, offset)])) else { panic!("{offset} is no offset of it") };
        assert!(error.to_string().contains(why), "{error}");
    }
    assert!(log.open(&BTreeMap::from([(0, 8)])).is_ok());
}
