//! QEMU as the MPS2 AN385 board.

use crate::debian;
use anyhow::{Result, bail};
use std::path::Path;
use std::process::Command;

/// The emulator, installed if need be, as a board without a network that runs a program with these words on its command line.
///
/// # Errors
/// When there is no QEMU and it can't be installed, or a word has a space, which semihosting can't pass on.
pub fn board(program: &Path, words: &[String]) -> Result<Command> {
    debian::require(&debian::EMULATOR)?;
    let mut qemu = Command::new("qemu-system-arm");
    qemu.args(["-M", "mps2-an385", "-nographic", "-monitor", "none", "-serial", "none"]);
    qemu.arg("-semihosting-config").arg(semihosting(words)?).arg("-kernel").arg(program);
    Ok(qemu)
}

/// Gives a board its provisioning blob, at the address where it looks for it.
pub fn provision(qemu: &mut Command, blob: &Path, address: u64) {
    let file = escaped(&blob.to_string_lossy());
    qemu.arg("-device").arg(format!("loader,file={file},addr={address:#010x},force-raw=on"));
}

/// Logs are bytes on the semihosting console, and files of this machine are the board's storage.
fn semihosting(words: &[String]) -> Result<String> {
    if let Some(word) = words.iter().find(|word| word.contains(char::is_whitespace)) {
        bail!("`{word}` has a space, and the board's command line is split at spaces");
    }
    let arguments: String = words.iter().map(|word| format!(",arg={}", escaped(word))).collect();
    // The first argument is the program's name.
    Ok(format!("enable=on,target=native,arg=board{arguments}"))
}

/// QEMU takes a comma for the end of a value unless there are two.
fn escaped(value: &str) -> String {
    value.replace(',', ",,")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_reach_the_board_as_they_are_or_not_at_all() {
        let line = semihosting(&["state=/tmp/a,b".to_owned()]).unwrap();
        assert_eq!(line, "enable=on,target=native,arg=board,arg=state=/tmp/a,,b");
        assert!(semihosting(&["state=/tmp/a b".to_owned()]).is_err());
    }
}
