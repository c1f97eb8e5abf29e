//! The file log's writer against real files.

use super::*;
use tidemark_model::Micros;
use tidemark_model::file_log::parse_line;

const TOPIC: &str = "t";

fn record(payload: &[u8]) -> Record<'_> {
    Record { key: Some(b"s"), payload, time: Some(Micros(1_234_567)), partition: None }
}

fn content(dir: &Path, partition: i32) -> Vec<u8> {
    std::fs::read(partition_path(dir, TOPIC, partition)).unwrap()
}

#[test]
fn records_come_back_with_their_time() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::open(dir.path(), TOPIC, 1).unwrap();
    for payload in [&b"one"[..], b"", b"\xFF"] {
        log.publish(record(payload)).unwrap();
    }
    assert_eq!(log.tally().delivered, 0);
    log.finish().unwrap();
    assert_eq!(log.tally().delivered, 3);
    let content = content(dir.path(), 0);
    let lines: Vec<_> = content.split_inclusive(|byte| *byte == b'\n').map(|line| parse_line(&line[..line.len() - 1])).collect();
    assert_eq!(lines, [(Some(1_234), &b"one"[..]), (Some(1_234), b""), (Some(1_234), b"\xFF")]);
}

#[test]
fn a_payload_with_a_newline_is_a_failure_and_writes_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::open(dir.path(), TOPIC, 1).unwrap();
    log.publish(record(b"a\nb")).unwrap();
    log.finish().unwrap();
    assert_eq!((log.tally().delivered, log.tally().failed()), (0, 1));
    assert!(content(dir.path(), 0).is_empty());
}

#[test]
fn a_second_writer_is_refused_while_the_first_lives() {
    let dir = tempfile::tempdir().unwrap();
    let first = FileLog::open(dir.path(), TOPIC, 2).unwrap();
    let error = FileLog::open(dir.path(), TOPIC, 2).unwrap_err();
    assert!(matches!(&error, PublishError::Locked(path) if path.ends_with("t/0.log")), "{error}");
    drop(first);
    FileLog::open(dir.path(), TOPIC, 2).unwrap();
}

#[test]
fn an_unfinished_last_line_is_cut_off() {
    let torn_after = "x".repeat(200_000);
    for (before, after) in [("1 a\n2 b", "1 a\n"), ("1 a", ""), ("1 a\n", "1 a\n"), (&format!("1 a\n{torn_after}"), "1 a\n")] {
        let dir = tempfile::tempdir().unwrap();
        drop(FileLog::open(dir.path(), TOPIC, 1).unwrap());
        std::fs::write(partition_path(dir.path(), TOPIC, 0), before).unwrap();
        let mut log = FileLog::open(dir.path(), TOPIC, 1).unwrap();
        log.publish(record(b"c")).unwrap();
        log.finish().unwrap();
        assert_eq!(content(dir.path(), 0), format!("{after}1234 c\n").as_bytes());
    }
}

#[test]
fn an_existing_topic_keeps_its_partitions_and_a_gap_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(FileLog::open(dir.path(), TOPIC, 3).unwrap().partitions(), 3);
    assert_eq!(FileLog::open(dir.path(), TOPIC, 8).unwrap().partitions(), 3);
    std::fs::remove_file(partition_path(dir.path(), TOPIC, 1)).unwrap();
    let error = FileLog::open(dir.path(), TOPIC, 3).unwrap_err().to_string();
    assert!(error.contains("partition 1 of 3 is missing"), "{error}");
}

#[test]
fn a_key_keeps_its_partition_and_keys_spread() {
    let mut counts = [0; 4];
    for stream in crate::traffic::numbered_streams(1_000) {
        counts[partition_for(stream.as_bytes(), 4)] += 1;
    }
    assert!(counts.iter().all(|count| (200..300).contains(count)), "{counts:?}");
    // Where these two lie must never change: their order within the partition hangs on it.
    assert_eq!([partition_for(b"stream_0001", 4), partition_for(b"", 4)], [1, 1]);
}

#[test]
fn a_batch_shows_up_soon_without_another_record() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::open(dir.path(), TOPIC, 1).unwrap();
    log.publish(record(b"a")).unwrap();
    log.serve(Duration::from_millis(60)).unwrap();
    assert_eq!(log.tally().delivered, 1);
    assert_eq!(content(dir.path(), 0), b"1234 a\n");
}

#[test]
fn a_directory_that_cannot_be_made_is_named() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let error = FileLog::open(&dir.path().join("file"), TOPIC, 1).unwrap_err().to_string();
    assert!(error.contains("file/t") && error.contains("DATA_DIR"), "{error}");
}

#[test]
fn a_record_can_name_its_partition() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::open(dir.path(), TOPIC, 3).unwrap();
    for partition in 0..3 {
        log.publish(Record { partition: Some(partition), ..record(b"x") }).unwrap();
    }
    log.finish().unwrap();
    assert!((0..3).all(|partition| content(dir.path(), partition) == b"1234 x\n"));
    let refused = log.publish(Record { partition: Some(3), ..record(b"x") }).unwrap_err().to_string();
    assert!(refused.contains("no partition 3") && refused.contains("has 3"), "{refused}");
}

#[test]
fn a_file_that_is_replaced_delivers_nothing() {
    let dir = tempfile::tempdir().unwrap();
    let mut log = FileLog::open(dir.path(), "t", 1).unwrap();
    log.publish(Record { payload: b"first", ..Record::default() }).unwrap();
    log.finish().unwrap();
    let path = partition_path(dir.path(), "t", 0);
    std::fs::rename(&path, dir.path().join("0.log.1")).unwrap();
    std::fs::write(&path, "").unwrap();
    log.publish(Record { payload: b"second", ..Record::default() }).unwrap();
    assert!(matches!(log.finish(), Err(PublishError::Replaced(replaced)) if replaced == path));
    assert_eq!(log.tally().delivered, 1);
}
