//! `verify`, `dead-letters`, `recover`, `rebuild` and `checkpoint`, from outside: the program itself on the file log and SQLite, and on a real Kafka and a
//! real Postgres where `TIDEMARK_TEST_KAFKA` and `TIDEMARK_TEST_POSTGRES` say that they are.
#![allow(clippy::unwrap_used, reason = "a test says what failed by where it failed")]

mod checkpoints;
mod dead_letters;
mod expired;
mod rebuild;
mod recover;
mod retention;
mod stack;
mod verify;
