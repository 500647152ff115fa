//! All cases of a file.

use core::fmt;

use super::{Case, Origin, Primitives, What};
use crate::{Stream, Tally};

/// The longest text that a case has, with its tag, in bytes.
pub const LONGEST: usize = 640;

/// What lies in a buffer that nothing was written to.
const UNTOUCHED: u8 = 0x5a;

/// The base point of X25519 (RFC 7748 section 4.1).
const BASE: [u8; 32] = {
    let mut point = [0; 32];
    point[0] = 9;
    point
};

/// What an implementation does wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The file ends in the middle.
    Unreadable,
    /// The case is longer than the buffers here, or has a nonce that nobody takes.
    Impossible,
    /// Another result.
    Result,
    /// A shared secret that is zero is taken, or another one is not.
    Contribution,
    /// The text can't be sealed.
    NotSealed,
    /// A genuine text is not opened.
    NotOpened,
    /// A forged text is opened.
    Forgery,
    /// A forged text is not opened, but something of it was written.
    Leak,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Unreadable => "the file of vectors can't be read",
            Self::Impossible => "the vector can't be used",
            Self::Result => "another result",
            Self::Contribution => "a shared secret of zero is taken, or another one refused",
            Self::NotSealed => "not sealed",
            Self::NotOpened => "a genuine text is not opened",
            Self::Forgery => "a forged text is opened",
            Self::Leak => "a forged text is not opened, but written",
        })
    }
}

impl core::error::Error for Flaw {}

/// A case in which an implementation does something wrong.
#[derive(Clone, Copy, Debug)]
pub struct Failure<'a> {
    /// Which case of the file it is, from 1.
    pub case: u32,
    /// Where the answer is from, when that could be read.
    pub origin: Option<Origin<'a>>,
    /// What is wrong.
    pub flaw: Flaw,
}

/// Holds an implementation against all cases of a file.
pub fn judge<P: Primitives>(file: &[u8], mut failed: impl FnMut(&Failure<'_>)) -> Tally {
    let mut tally = Tally::default();
    for item in Stream::<Case<'_>>::new(file) {
        let (origin, verdict) = match item {
            Ok(case) => (Some(case.origin), hold::<P>(&case.what)),
            Err(_) => (None, Err(Flaw::Unreadable)),
        };
        match verdict {
            Ok(true) => tally.ran += 1,
            Ok(false) => tally.not_offered += 1,
            Err(flaw) => {
                (tally.ran, tally.failed) = (tally.ran + 1, tally.failed + 1);
                failed(&Failure { case: tally.ran + tally.not_offered, origin, flaw });
            }
        }
    }
    tally
}

/// Whether the implementation offers what the case needs.
fn hold<P: Primitives>(what: &What<'_>) -> Result<bool, Flaw> {
    match *what {
        What::Exchange { scalar, point, shared } => {
            same(&P::x25519(&scalar, &point), &shared)?;
            let agreed = Some(shared).filter(|shared| *shared != [0; 32]);
            if P::agree(&scalar, &point) != agreed {
                return Err(Flaw::Contribution);
            }
        }
        What::Iterated { times, end } => {
            let (mut scalar, mut point) = (BASE, BASE);
            for _ in 0..times {
                (scalar, point) = (P::x25519(&scalar, &point), scalar);
            }
            same(&scalar, &end)?;
        }
        What::Sealed { key, nonce, aad, text, sealed, is_genuine } => {
            if let Ok(nonce) = <&[u8; 12]>::try_from(nonce) {
                let seal = |out: &mut [u8]| P::seal(&key, nonce, aad, text, out);
                open_and_seal(text, sealed, is_genuine, |out| P::open(&key, nonce, aad, sealed, out), seal)?;
            } else {
                let nonce = <&[u8; 24]>::try_from(nonce).map_err(|_| Flaw::Impossible)?;
                let seal = |out: &mut [u8]| P::xseal(&key, nonce, aad, text, out);
                open_and_seal(text, sealed, is_genuine, |out| P::xopen(&key, nonce, aad, sealed, out), seal)?;
            }
        }
        What::Encrypted { key, nonce, counter, text, cipher } => {
            let mut buffer = [0; LONGEST];
            let buffer = buffer.get_mut(..cipher.len()).ok_or(Flaw::Impossible)?;
            if !text.is_empty() {
                buffer.get_mut(..text.len()).ok_or(Flaw::Impossible)?.copy_from_slice(text);
            }
            if P::chacha20(&key, &nonce, counter, buffer).is_none() {
                return Ok(false);
            }
            same(buffer, cipher)?;
        }
        What::Subkey { key, nonce, subkey } => same(&P::hchacha20(&key, &nonce), &subkey)?,
        What::Tag { key, text, tag } => match P::poly1305(&key, text) {
            Some(is) => same(&is, &tag)?,
            None => return Ok(false),
        },
    }
    Ok(true)
}

fn open_and_seal(
    text: &[u8],
    sealed: &[u8],
    is_genuine: bool,
    open: impl FnOnce(&mut [u8]) -> Option<usize>,
    seal: impl FnOnce(&mut [u8]) -> Option<usize>,
) -> Result<(), Flaw> {
    if sealed.len() > LONGEST {
        return Err(Flaw::Impossible);
    }
    let mut out = [UNTOUCHED; LONGEST];
    match open(&mut out) {
        Some(_) if !is_genuine => return Err(Flaw::Forgery),
        Some(len) => same(out.get(..len).unwrap_or_default(), text)?,
        None if is_genuine => return Err(Flaw::NotOpened),
        None if out != [UNTOUCHED; LONGEST] => return Err(Flaw::Leak),
        None => return Ok(()),
    }
    let len = seal(&mut out).ok_or(Flaw::NotSealed)?;
    same(out.get(..len).unwrap_or_default(), sealed)
}

fn same(is: &[u8], should_be: &[u8]) -> Result<(), Flaw> {
    if is == should_be { Ok(()) } else { Err(Flaw::Result) }
}

#[cfg(test)]
mod tests;
