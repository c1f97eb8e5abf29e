//! `rebuild`: late events come in, readers see all of the old or all of the new, and nobody else writes meanwhile.

use super::stack::Stack;

#[test]
fn a_larger_lateness_lets_late_events_in_and_the_epoch_goes_on() {
    for stack in Stack::all("rebuild") {
        stack.publish_hostile_hour(4_000);
        stack.catch_up(&[]);
        let late = "select count(*) from dead_letters where reason = 'late'";
        let rows = "select count(*) from stream_metrics_minute";
        let epoch = "select epoch from progress";
        let untouched = "select count(*) from stream_metrics_minute where epoch <= 1000";
        let before = (stack.number(late), stack.number(rows), stack.number(epoch));
        assert!(before.0 > 50);

        let plan = stack.run(&["rebuild", "--watermark", "2h"]).expect(2);
        for part in ["4000", "lateness=600000000us", "lateness=7200000000us", "offsets 0 to", "nothing was done", "--yes"] {
            assert!(part == "4000" || plan.out.contains(part), "{part} is not in {plan:#?}");
        }
        assert_eq!((stack.number(late), stack.number(rows), stack.number(epoch)), before);

        // A letter that was replayed stays marked, also through a rebuild.
        let broken =
            stack.run(&["dead-letters", "list", "--json", "--reason", "bad_ts", "--limit", "1"]).expect(0).json().remove(0);
        let at = format!("{}:{}", broken["partition"], broken["offset"]);
        stack.run(&["dead-letters", "replay", &at]).expect(0);

        let done = stack.run(&["rebuild", "--watermark", "2h", "--yes"]).expect(0);
        assert!(done.out.contains("rebuilt from 4001 records"), "{done:#?}");
        assert_eq!(stack.number(late), 0);
        assert!(stack.number(rows) > before.1);
        assert_eq!(stack.number(epoch), before.2 + 1);
        assert!(stack.number(untouched) > 0);
        stack.run(&["verify"]).expect(0);
        assert_eq!(stack.number("select count(*) from dead_letters where replayed_at is not null"), 1);

        // It goes on with the new settings, and not with the old ones.
        let refused = stack.run(&["run", "--until-end"]).expect(1);
        assert!(refused.err.contains("rebuild"), "{refused:#?}");
        stack.publish_hostile_hour(500);
        stack.catch_up(&["--watermark", "2h"]);
        stack.run(&["verify"]).expect(0);

        // The same settings again change no row.
        let again = stack.run(&["rebuild", "--watermark", "2h", "--yes"]).expect(0);
        assert!(again.out.contains(" 0 rows new or changed, 0 removed; 0 dead letters new or changed, 0 removed"), "{again:#?}");
        // And less lateness takes rows away again.
        let less = stack.run(&["rebuild", "--watermark", "1m", "--yes"]).expect(0);
        assert!(!less.out.contains(" 0 removed; "), "{less:#?}");
        stack.run(&["verify"]).expect(0);
    }
}

#[test]
fn it_is_refused_while_the_pipeline_runs_and_a_zombie_is_fenced_off() {
    for stack in Stack::all("held") {
        stack.publish_hostile_hour(1_000);
        let running = stack.start();
        stack.wait_for_tables();
        stack.wait_for("select coalesce(max(epoch), 0) from progress", 1);
        let fence = stack.number("select fence from progress");
        let refused = stack.run(&["rebuild", "--yes"]).expect(2);
        assert!(refused.err.contains("a run of pipeline tidemark holds") && refused.err.contains("stop it"), "{refused:#?}");
        assert_eq!(stack.number("select fence from progress"), fence, "a refusal changes nothing");
        running.stop().expect(0);
        stack.run(&["rebuild", "--yes"]).expect(0);
        assert!(stack.number("select fence from progress") > fence, "a run that nobody sees may write nothing any more");
        stack.run(&["verify"]).expect(0);
    }
}

#[test]
fn a_run_that_is_started_meanwhile_waits() {
    for stack in Stack::all("meanwhile") {
        stack.publish_hostile_hour(500);
        stack.catch_up(&[]);
        let lock = stack.hold_as_a_rebuild_does();
        let refused = stack.run(&["run", "--until-end", "--wait", "0s"]).expect(1);
        assert!(refused.err.contains("under way"), "{refused:#?}");
        let waits = stack.start();
        std::thread::sleep(std::time::Duration::from_millis(300));
        let fence = stack.number("select fence from progress");
        drop(lock);
        stack.wait_for("select fence from progress", fence + 1);
        waits.stop().expect(0);
    }
}

#[test]
fn a_rebuild_that_was_killed_has_changed_nothing_and_can_be_begun_again() {
    for stack in Stack::all("killed") {
        stack.publish_hostile_hour(3_000);
        stack.catch_up(&[]);
        let epoch = stack.number("select epoch from progress");
        let mut child =
            stack.command(&["rebuild", "--watermark", "2h", "--yes"]).stdout(std::process::Stdio::null()).spawn().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(120));
        child.kill().unwrap();
        child.wait().unwrap();
        // It may have been done already, but nothing in between.
        let done = stack.number("select epoch from progress") - epoch;
        assert!(done == 0 || done == 1);
        stack.run(&["verify"]).expect(0);
        stack.run(&["rebuild", "--watermark", "2h", "--yes"]).expect(0);
        stack.run(&["verify"]).expect(0);
        assert_eq!(stack.number("select epoch from progress"), epoch + done + 1);
    }
}
