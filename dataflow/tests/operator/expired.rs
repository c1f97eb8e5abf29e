//! The beginning of the topic has expired: what is left is verified and rebuilt, and what is older stays.

use super::stack::{START, Stack};
use std::collections::BTreeMap;
use tidemark_model::Micros;

/// A time, in hours after the first record, as the store's SQL writes it.
pub(super) fn at(stack: &Stack, hours: i64) -> String {
    let time = Micros(START.0 + hours * 3_600_000_000);
    if stack.is_postgres() { format!("timestamptz '{time}'") } else { time.0.to_string() }
}

/// The viewers of the second day's first two hours have timed out by then, and nothing of the third day has begun.
const KEPT_BEFORE: i64 = 24 + 14;
const THIRD_DAY: i64 = 2 * 24;

/// Rows of the first days, of all grains, with the commits that wrote them.
fn older(stack: &Stack) -> i64 {
    let (columns, before) =
        ("window_start, chat_messages, donations, active_viewers, unique_viewers, epoch", at(stack, KEPT_BEFORE));
    let rows = ["minute", "hour", "day"].map(|grain| format!("select {columns} from stream_metrics_{grain}")).join(" union all ");
    stack.number(&format!(
        "select cast(sum(chat_messages * 31 + donations * 17 + active_viewers * 13 + unique_viewers * 7 + epoch) as bigint)
         from ({rows}) as all_rows where window_start < {before}"
    ))
}

fn newer(stack: &Stack) -> (i64, i64) {
    let from = at(stack, THIRD_DAY);
    let late = format!("select count(*) from dead_letters where reason = 'late' and record_time >= {from}");
    let chats = format!("select cast(sum(chat_messages) as bigint) from stream_metrics_minute where window_start >= {from}");
    (stack.number(&late), stack.number(&chats))
}

/// Where the log stood when the watermark came to this hour.
fn offsets_of_entry(stack: &Stack, hours: i64) -> BTreeMap<i32, i64> {
    let next = |of: i32| {
        let next = match stack.is_postgres() {
            true => format!("cast(partitions -> '{of}' ->> 'next_offset' as bigint)"),
            false => format!("partitions ->> '$.\"{of}\".next_offset'"),
        };
        let from = at(stack, hours);
        stack.number(&format!("select {next} from progress_history where watermark >= {from} order by watermark limit 1"))
    };
    (0..3).map(|of| (of, next(of))).collect()
}

pub(super) fn next_offsets(stack: &Stack) -> BTreeMap<i32, i64> {
    let next = |of| stack.number(&format!("select next_offset from progress_partitions where partition = {of}"));
    (0..3).map(|of| (of, next(of))).collect()
}

/// The log in a topic, with each store.
pub(super) fn on_kafka(test: &str) -> impl Iterator<Item = Stack> {
    let stacks = |test: &str| Stack::all(test).into_iter().filter(Stack::is_kafka);
    stacks(test).chain(stacks(&format!("{test}_lite")).map(Stack::on_sqlite))
}

#[test]
fn what_the_topic_still_has_is_verified_and_rebuilt_and_older_rows_stay() {
    for stack in on_kafka("expired") {
        for day in 0..2 {
            stack.publish_hour_of(day, 2_000, 11);
            stack.catch_up(&[]);
        }
        // Events of one instant in all partitions: the watermark gets to their hour at once, so the history has one entry of it.
        let time = Micros(START.0 + 26 * 3_600_000_000);
        let payload = format!(r#"{{"event_type":"chat_message","stream_id":"s","ts":"{time}"}}"#);
        stack.publish((0..30).map(|key| (format!("key {key}"), payload.clone().into_bytes(), time)));
        stack.catch_up(&[]);
        let below = offsets_of_entry(&stack, 25);
        stack.publish_hour_of(2, 2_000, 11);
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
        let kept = older(&stack);
        std::fs::remove_dir_all(stack.path("checkpoints")).unwrap();
        stack.expire(&below);
        stack.publish_hour_of(3, 2_000, 11);
        stack.catch_up(&[]);
        assert_eq!(older(&stack), kept, "a run without a checkpoint");
        let verified = stack.run(&["verify"]).expect(0);
        assert!(verified.out.contains("older rows cannot be judged"), "{verified:#?}");
        // A cell that can be judged.
        let wrong = format!(
            "update stream_metrics_minute set chat_messages = chat_messages + 1 where window_start >= {}",
            at(&stack, 3 * 24)
        );
        stack.sql(&wrong, &wrong);
        stack.run(&["verify"]).expect(1);
        let (late, chats) = newer(&stack);
        assert!(late > 20, "{late}");

        stack.run(&["rebuild", "--drop-history", "--yes"]).expect(2);
        let plan = stack.run(&["rebuild", "--watermark", "2h"]).expect(2);
        assert!(plan.out.contains("kept") && plan.out.contains("stay as they are"), "{plan:#?}");
        let done = stack.run(&["rebuild", "--watermark", "2h", "--yes"]).expect(0);
        assert_eq!(older(&stack), kept, "{done:#?}");
        let after = newer(&stack);
        assert!(after.0 == 0 && after.1 != chats, "late events came in, and the wrong cells went: {after:?}, {chats}");
        let verified = stack.run(&["verify"]).expect(0);
        assert!(verified.out.contains("older rows cannot be judged"), "{verified:#?}");
        stack.publish_hour_of(4, 2_000, 11);
        stack.catch_up(&["--watermark", "2h"]);
        stack.run(&["verify"]).expect(0);

        // What the next run would go on with must be there.
        let all = next_offsets(&stack);
        stack.expire(&all);
        let refused = stack.run(&["rebuild", "--watermark", "2h", "--yes"]).expect(2);
        assert!(refused.err.contains("not final: they would be wrong") && refused.err.contains("--drop-history"), "{refused:#?}");
        assert_eq!(older(&stack), kept);
        stack.publish_hour_of(5, 2_000, 11);
        stack.run(&["rebuild", "--watermark", "2h", "--drop-history", "--yes-drop-history", "--yes"]).expect(0);
        let gone = format!("select count(*) from stream_metrics_minute where window_start < {}", at(&stack, KEPT_BEFORE));
        assert_eq!(stack.number(&gone), 0);
        stack.run(&["verify"]).expect(0);
    }
}
