//! What the machine lacks and the host of the emulator gives through semihosting (Arm's ABI-AA, `semihosting.rst`): a command
//! line, entropy, and a file that outlives the run. And the provisioning blob, which QEMU loads into the flash.
//!
//! Semihosting stops a processor that no debugger and no emulator watches: this is a board for QEMU.

mod state;

use core::cell::Cell;
use core::mem::MaybeUninit;

use critical_section::Mutex;
use semihosting::fs::File;
use semihosting::io::Read;
use semihosting::sys::arm_compat::sys_get_cmdline_uninit;
use static_cell::ConstStaticCell;

pub use self::state::{State, StateError};

/// The longest command line, in bytes, the terminating zero included.
const COMMAND_LINE: usize = 512;

/// The value of the argument `name=value` on the command line of the program, which QEMU makes of
/// `-semihosting-config ...,arg=PROGRAM,arg=name=value`. `None` when there is none, or when the command line is longer than
/// 511 bytes. Values hold no spaces.
pub fn arg(name: &str) -> Option<&'static str> {
    command_line().split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The command line, read once.
fn command_line() -> &'static str {
    static READ: Mutex<Cell<Option<&'static str>>> = Mutex::new(Cell::new(None));
    static TEXT: ConstStaticCell<[MaybeUninit<u8>; COMMAND_LINE]> =
        ConstStaticCell::new([MaybeUninit::uninit(); COMMAND_LINE]);

    critical_section::with(|cs| {
        let read = READ.borrow(cs);
        let text = read.get().unwrap_or_else(|| {
            let text = TEXT.try_take().and_then(|room| sys_get_cmdline_uninit(room).ok());
            text.and_then(|text| core::str::from_utf8(text).ok()).unwrap_or("")
        });
        read.set(Some(text));
        text
    })
}

/// The host gave no random bytes.
#[derive(Clone, Copy, PartialEq, Eq, Debug, defmt::Format)]
pub struct NoEntropy;

/// Fills `bytes` from the host's `/dev/urandom`: the machine has no source of its own. Never gives weak bytes: when the host
/// has no such file or does not fill all of `bytes`, they are zeroed and this is an error.
pub fn entropy(bytes: &mut [u8]) -> Result<(), NoEntropy> {
    let filled = File::open(c"/dev/urandom").and_then(|mut source| source.read_exact(bytes));
    filled.map_err(|_| {
        bytes.fill(0);
        NoEntropy
    })
}

/// Where the provisioning blob lies, in bytes from the start of the address space. The program ends below (see `memory.x`).
pub const PROVISIONING_ADDRESS: usize = 0x0030_0000;

/// The bytes that the blob may have.
pub const PROVISIONING_BYTES: usize = 4096;

/// The provisioning region. QEMU fills it with `-device loader,file=blob.bin,addr=0x00300000,force-raw=on`; bytes that nothing was
/// loaded to are zero.
pub fn provisioning() -> &'static [u8] {
    // SAFETY: flash that no section of the program lies in and that nothing writes.
    unsafe { core::slice::from_raw_parts(PROVISIONING_ADDRESS as *const u8, PROVISIONING_BYTES) }
}

/// Ends QEMU with an exit code, 0 to 255.
pub fn exit(code: u8) -> ! {
    semihosting::process::exit(code.into())
}
