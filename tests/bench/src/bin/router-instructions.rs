//! Handles some packets of each case with so many live flows, to be run under callgrind with `--toggle-collect=*measured_*` and
//! `--dump-after=acorn_case_ends`, which makes a profile of each case. Prints a line per case: its name and its packets.
//!
//! Fails when a packet is not sent on, or when handling packets allocates memory.

use acorn_bench::stage;
use std::alloc::{GlobalAlloc, Layout, System};
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};

/// As many packets of each case: enough to average out how far each flow is from where its hash says.
const PACKETS: usize = 256;

static ALLOCATED: AtomicUsize = AtomicUsize::new(0);

/// The system's allocator, which counts the bytes that it is asked for.
struct Counting;

// SAFETY: every call goes on to the system's allocator as it came.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATED.fetch_add(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's promise is passed on.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's promise is passed on.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

fn main() -> ExitCode {
    let Some(flows) = std::env::args().nth(1).and_then(|flows| flows.parse().ok()) else {
        eprintln!("usage: router-instructions FLOWS");
        return ExitCode::FAILURE;
    };
    let mut stage = stage::set_up(flows);
    for case in stage::cases_of(flows) {
        let mut packets = stage.packets(case, PACKETS);
        let before = ALLOCATED.load(Ordering::Relaxed);
        let sent = stage.handle(case, &mut packets);
        let allocated = ALLOCATED.load(Ordering::Relaxed) - before;
        acorn_case_ends();
        if sent != PACKETS || allocated != 0 {
            eprintln!("{case} with {flows} flows: {sent} of {PACKETS} packets sent on, {allocated} bytes allocated");
            return ExitCode::FAILURE;
        }
        println!("{case} {sent}");
        stage.forget_newcomer();
    }
    ExitCode::SUCCESS
}

/// Tells the profiler that a case ends here.
// SAFETY: no other function has this name.
#[unsafe(no_mangle)]
#[inline(never)]
extern "C" fn acorn_case_ends() {
    std::hint::black_box(());
}
