//! The allocator of the programs, benches and examples. Of hash tables of many sizes, all of which grow, it leaves little memory unused,
//! and it is quick.
//!
//! It asks the system for huge pages. A table of viewers is looked at in no order, and with pages of 4 KiB most looks first wait for the
//! page table. docs/performance.md has what that is worth. A process takes some 20 MB more for it.

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// jemalloc's options, read before `main` (its manual, `opt.thp`). `_RJEM_MALLOC_CONF` in the environment goes before them.
// SAFETY: jemalloc declares a `const char *` of this name for its user to define, and nobody else here does.
#[unsafe(export_name = "_rjem_malloc_conf")]
pub static OPTIONS: &[u8; 11] = b"thp:always\0";
