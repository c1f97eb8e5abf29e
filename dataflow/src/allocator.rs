//! The allocator of the dataflow: of its program, tests, benches and examples. Of hash tables of many sizes, all of which grow, it leaves
//! little memory unused, and it is quick.
//!
//! It asks the system for huge pages. A table of viewers is looked at in no order, and with pages of 4 KiB most looks first wait for the
//! page table. There are two arenas and not four for each core, because each leaves some of its huge pages unused. docs/performance.md has
//! what both are worth.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's options, read before `main` (its manual, `opt.thp`). `_RJEM_MALLOC_CONF` in the environment wins over them.
// SAFETY: jemalloc declares a `const char *` of this name for its user to define, and nobody else here does.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static OPTIONS: &[u8; 21] = b"thp:always,narenas:2\0";
