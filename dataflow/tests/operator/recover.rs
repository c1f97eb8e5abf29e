//! Records that the pipeline needs have expired: `recover` goes on from what is left.

use super::expired::{at, next_offsets, on_kafka};
use super::stack::Stack;
use std::collections::BTreeMap;

/// Rows of all grains that end by this hour after the first record, with the commits that wrote them.
fn ended(stack: &Stack, hours: i64) -> i64 {
    let columns = "window_end, chat_messages, donations, active_viewers, unique_viewers, epoch";
    let rows = ["minute", "hour", "day"].map(|grain| format!("select {columns} from stream_metrics_{grain}")).join(" union all ");
    stack.number(&format!(
        "select cast(sum(chat_messages * 31 + donations * 17 + active_viewers * 13 + unique_viewers * 7 + epoch) as bigint)
         from ({rows}) as all_rows where window_end <= {}",
        at(stack, hours)
    ))
}

fn marks(stack: &Stack) -> i64 {
    stack.number("select count(*) from inexact_windows")
}

/// What is judged agrees, and a wrong cell of the day would be noticed.
fn judged(stack: &Stack, day: i64) {
    let verified = stack.run(&["verify"]).expect(0);
    assert!(verified.out.contains("older rows cannot be judged"), "{verified:#?}");
    let change = |by: &str| {
        let from = at(stack, 24 * day);
        let update =
            format!("update stream_metrics_minute set chat_messages = chat_messages {by} 1 where window_start >= {from}");
        assert!(stack.sql(&update, &update) > 0);
    };
    change("+");
    stack.run(&["verify"]).expect(1);
    change("-");
    stack.run(&["verify"]).expect(0);
}

fn refuses(stack: &Stack, missing: &str) {
    let refused = stack.run(&["run", "--until-end"]).expect(1);
    assert!(refused.err.contains("tidemark-dataflow recover; or"), "{refused:#?}");
    let epoch = || stack.number("select epoch from progress") + stack.number("select fence from progress");
    let before = (epoch(), marks(stack));
    let plan = stack.run(&["recover"]).expect(2);
    assert!(plan.out.contains(missing) && plan.out.contains("nothing was done"), "{plan:#?}");
    assert_eq!((epoch(), marks(stack)), before, "{plan:#?}");
}

/// Goes on from what is left, then without a checkpoint; rows that ended by this hour stay.
fn goes_on(stack: &Stack, ended_by: i64, lost_before: &str) {
    let (kept, marked) = (ended(stack, ended_by), marks(stack));
    let done = stack.run(&["recover", "--lost-before", lost_before, "--yes"]).expect(0);
    assert!(done.out.contains("windows that begin at"), "{done:#?}");
    assert_eq!(marks(stack), marked + 1);
    stack.catch_up(&[]);
    stack.run(&["verify"]).expect(0);
    stack.publish_hour_of(4, 2_000, 11);
    stack.catch_up(&[]);
    judged(stack, 4);
    std::fs::remove_dir_all(stack.path("checkpoints")).unwrap();
    stack.publish_hour_of(6, 2_000, 11);
    stack.catch_up(&[]);
    judged(stack, 6);
    assert_eq!(ended(stack, ended_by), kept);
    let again = stack.run(&["recover", "--yes"]).expect(2);
    assert!(again.err.contains("there is nothing to recover"), "{again:#?}");
}

#[test]
fn after_records_expired_unread_the_pipeline_goes_on_from_what_is_left() {
    for stack in on_kafka("recover_unread") {
        for day in 0..2 {
            stack.publish_hour_of(day, 2_000, 11);
            stack.catch_up(&[]);
        }
        let fine = stack.run(&["recover"]).expect(2);
        assert!(fine.err.contains("there is nothing to recover"), "{fine:#?}");
        stack.publish_hour_of(2, 2_000, 11);
        let ends = stack.log().describe().unwrap().partitions;
        let middle = |(of, next): (i32, i64)| (of, i64::midpoint(next, ends[&of].high));
        let below: BTreeMap<i32, i64> = next_offsets(&stack).into_iter().map(middle).collect();
        stack.expire(&below);
        refuses(&stack, "expired before they were read");
        goes_on(&stack, 24, "2026-01-03T00:59:00Z");
        // The rows that are marked stay as they are, as far as they are made of records that are gone.
        let rebuilt = stack.run(&["rebuild", "--yes"]).expect(0);
        assert!(rebuilt.out.contains("stay as they are"), "{rebuilt:#?}");
        stack.run(&["verify"]).expect(0);
        assert_eq!(marks(&stack), 1);
        stack.run(&["rebuild", "--drop-history", "--yes-drop-history", "--yes"]).expect(0);
        assert_eq!(marks(&stack), 0);

        // Nobody says when the records were written: all windows up to the present time may lack them.
        stack.publish_hour_of(8, 2_000, 11);
        let ends = stack.log().describe().unwrap().partitions.into_iter().map(|(of, bounds)| (of, bounds.high));
        stack.expire(&ends.collect());
        let done = stack.run(&["recover", "--yes", "--ignore-checkpoints"]).expect(0);
        assert!(done.out.contains("as new as the present time"), "{done:#?}");
        let now = match stack.is_postgres() {
            true => "now()",
            false => "unixepoch() * 1000000",
        };
        assert_eq!(stack.number(&format!("select count(*) from inexact_windows where inexact_until > {now}")), 1);
        stack.catch_up(&[]);
        stack.run(&["verify"]).expect(0);
    }
}

#[test]
fn after_the_state_was_lost_and_the_log_too_the_pipeline_goes_on_from_what_is_left() {
    for (stack, history_is_lost) in on_kafka("recover_state").zip([false, true]) {
        for day in 0..2 {
            stack.publish_hour_of(day, 2_000, 11);
            stack.catch_up(&[]);
        }
        std::fs::remove_dir_all(stack.path("checkpoints")).unwrap();
        if history_is_lost {
            let delete = "delete from progress_history";
            stack.sql(delete, delete);
        }
        let below = next_offsets(&stack).into_iter().map(|(of, next)| (of, next - 100)).collect();
        stack.expire(&below);
        refuses(&stack, "is lost, and not all records of before it are left");
        goes_on(&stack, 24, "2026-01-02T00:59:00Z");
    }
}

#[test]
fn a_pipeline_that_runs_or_is_not_there_is_left_alone() {
    for stack in Stack::all("recover_running") {
        if !stack.is_postgres() {
            let refused = stack.run(&["recover", "--yes"]).expect(2);
            assert!(refused.err.contains("is not there: check DATA_DIR") && !stack.path("tidemark.db").exists(), "{refused:#?}");
        }
        stack.publish_hour(500, 3);
        let running = stack.start();
        stack.wait_for_tables();
        stack.wait_for("select coalesce(max(epoch), 0) from progress", 1);
        let refused = stack.run(&["recover", "--yes"]).expect(2);
        assert!(refused.err.contains("a run of pipeline tidemark holds"), "{refused:#?}");
        let stopped = running.stop().expect(0);
        assert!(stopped.err.contains("everything that was read is committed"), "{stopped:#?}");
    }
}
