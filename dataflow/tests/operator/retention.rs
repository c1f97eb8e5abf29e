//! Rows that are old enough are dropped, and `verify`, `rebuild` and runs with and without a checkpoint do without them.

use super::expired::at;
use super::stack::Stack;

const KEEP: [&str; 4] = ["--retention", "30h", "--retention-dead-letters", "36h"];

/// Rows and totals of minutes that are older than what the tables say is kept, and letters likewise.
fn overdue(stack: &Stack) -> i64 {
    let minutes = ["metrics", "totals"]
        .map(|of| format!("(select count(*) from stream_{of}_minute where window_start < (select minutes_from from progress))"));
    let letters = "(select count(*) from dead_letters as letter join progress_partitions as of
        on of.topic = letter.topic and of.partition = letter.partition where letter.\"offset\" < of.letters_from)";
    stack.number(&format!("select {} + {letters}", minutes.join(" + ")))
}

fn count(stack: &Stack, table: &str, before_day: i64) -> i64 {
    let time = if table == "dead_letters" { "record_time" } else { "window_start" };
    stack.number(&format!("select count(*) from {table} where {time} < {}", at(stack, before_day * 24)))
}

#[test]
fn what_is_old_enough_goes_and_nothing_misses_it() {
    for stack in Stack::all("retention") {
        for day in 0..3 {
            stack.publish_hour_of(day, 2_000, 11);
            stack.catch_up(&[]);
        }
        assert!(count(&stack, "stream_metrics_minute", 1) > 300 && count(&stack, "dead_letters", 1) > 20);
        let (hours, days) = (count(&stack, "stream_metrics_hour", 1), count(&stack, "stream_metrics_day", 1));
        stack.publish_hour_of(3, 2_000, 11);
        stack.catch_up(&KEEP);
        assert_eq!(overdue(&stack), 0);
        for table in ["stream_metrics_minute", "stream_totals_minute", "dead_letters"] {
            assert_eq!(count(&stack, table, 1), 0, "{table}");
            assert!(count(&stack, table, 3) > 50, "{table}: the third day stays");
        }
        assert_eq!(count(&stack, "stream_metrics_hour", 1), hours);
        assert_eq!(count(&stack, "stream_metrics_day", 1), days);
        stack.run(&["verify"]).expect(0);

        // With a checkpoint, and without.
        stack.publish_hour_of(4, 2_000, 12);
        stack.catch_up(&KEEP);
        stack.run(&["verify"]).expect(0);
        std::fs::remove_dir_all(stack.path("checkpoints")).unwrap();
        stack.publish_hour_of(5, 2_000, 13);
        stack.catch_up(&KEEP);
        assert_eq!((overdue(&stack), count(&stack, "stream_metrics_minute", 3)), (0, 0));
        stack.run(&["verify"]).expect(0);
        let refused = stack.run(&["run", "--until-end", "--ignore-checkpoints"]);
        assert!(refused.code != 0 && refused.err.contains("RETENTION_DEAD_LETTERS has dropped"), "{refused:#?}");

        // What the tables lack of what is kept comes back, and nothing else does.
        let lose = format!("delete from stream_metrics_minute where window_start >= {}", at(&stack, 5 * 24));
        stack.sql(&lose, &lose);
        stack.run(&["verify"]).expect(1);
        let letters = count(&stack, "dead_letters", 6);
        stack.run(&["rebuild", "--yes"]).expect(0);
        assert_eq!((overdue(&stack), count(&stack, "stream_metrics_minute", 3)), (0, 0));
        assert_eq!(count(&stack, "dead_letters", 6), letters);
        stack.run(&["verify"]).expect(0);
        // All that is kept is made anew of all that there is.
        stack.catch_up(&KEEP);
        stack.run(&["verify"]).expect(0);
    }
}

#[test]
fn a_retention_that_is_surely_a_mistake_is_refused_and_the_least_is_told() {
    let stack = &Stack::all("little")[0];
    for flag in ["--retention", "--retention-dead-letters"] {
        let refused = stack.run(&["run", "--until-end", flag, "12h"]).expect(1);
        assert!(refused.err.contains("must be at least 12h 11m (WATERMARK + VIEWER_TIMEOUT + a minute), or off"), "{refused:#?}");
    }
    let refused = stack.run(&["run", "--until-end", "--retention", "30"]).expect(2);
    assert!(refused.err.contains("or off"), "{refused:#?}");
}
