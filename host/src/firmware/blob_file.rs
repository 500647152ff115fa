//! The file that a board is flashed with.

use std::fs;
use std::path::Path;

use acorn_core::provision::{PROVISIONING_MAX, Provisioning};
use zeroize::Zeroizing;

use super::ProvisionError;
use crate::identity::state_file;

/// Writes what a board is told to the file `path`, for its owner's eyes only, complete or not at all, and gives its length in
/// bytes. A file that is there is replaced only if `replace` says so, because it may hold the key of another board.
///
/// # Errors
/// [`ProvisionError::Flaw`], [`ProvisionError::Exists`] and [`ProvisionError::Write`]; what was there is untouched.
pub fn write(path: &Path, provisioning: &Provisioning, replace: bool) -> Result<usize, ProvisionError> {
    let mut buffer = Zeroizing::new([0; PROVISIONING_MAX]);
    let blob = provisioning.encode(&mut buffer)?;
    // A link counts as a file, wherever it leads.
    if !replace && fs::symlink_metadata(path).is_ok() {
        return Err(ProvisionError::Exists(path.to_owned()));
    }
    state_file::replace(path, blob).map_err(|reason| ProvisionError::Write { path: path.to_owned(), reason })?;
    Ok(blob.len())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::firmware::order::tests::order;
    use crate::identity::Identity;
    use acorn_core::provision::{Flaw, decode};
    use std::os::unix::fs::PermissionsExt;

    fn provisioning() -> Provisioning {
        order(&["192.0.2.1:50103"]).provisioning(&Identity::generate().unwrap(), 0).unwrap()
    }

    #[test]
    fn what_is_written_is_what_a_board_reads() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("board.bin");
        let wanted = provisioning();
        let length = write(&path, &wanted, false).unwrap();
        let blob = fs::read(&path).unwrap();
        assert_eq!(blob.len(), length);
        assert_eq!(decode(&blob), Ok(wanted));
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_file_is_replaced_only_when_that_is_wanted() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("board.bin");
        write(&path, &provisioning(), false).unwrap();
        let before = fs::read(&path).unwrap();
        let wanted = provisioning();
        let error = write(&path, &wanted, false).unwrap_err();
        assert!(matches!(error, ProvisionError::Exists(_)) && error.to_string().contains("--force"), "{error}");
        assert_eq!(fs::read(&path).unwrap(), before);
        write(&path, &wanted, true).unwrap();
        assert_eq!(decode(&fs::read(&path).unwrap()), Ok(wanted));

        let link = dir.path().join("link");
        std::os::unix::fs::symlink(dir.path().join("nowhere"), &link).unwrap();
        assert!(matches!(write(&link, &provisioning(), false), Err(ProvisionError::Exists(_))));
    }

    #[test]
    fn what_can_not_be_written_leaves_nothing_behind() {
        let dir = tempfile::tempdir().unwrap();
        let missing = dir.path().join("missing").join("board.bin");
        let error = write(&missing, &provisioning(), false).unwrap_err();
        assert!(matches!(error, ProvisionError::Write { .. }) && error.to_string().contains("missing"), "{error}");
        let mut bad = provisioning();
        bad.port = 0;
        let path = dir.path().join("board.bin");
        assert!(matches!(write(&path, &bad, false), Err(ProvisionError::Flaw(Flaw::Port))));
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 0);
    }
}
