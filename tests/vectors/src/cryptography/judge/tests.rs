//! A judge that lets everything pass is none: implementations that are wrong in one way each, and what is found.

use super::*;
use crate::cryptography::{CHACHA20_POLY1305, WireGuardSansIo, X25519, XCHACHA20_POLY1305};

/// An implementation that is right but for what the macro's body says.
macro_rules! wrong {
    ($name:ident: $($method:item)+) => {
        struct $name;

        impl Wrong for $name {
            $($method)+
        }
    };
}

/// As [`Primitives`], right unless something else is said.
trait Wrong {
    fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
        WireGuardSansIo::agree(scalar, point)
    }

    fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        WireGuardSansIo::x25519(scalar, point)
    }

    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        WireGuardSansIo::open(key, nonce, aad, sealed, out)
    }

    fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        WireGuardSansIo::seal(key, nonce, aad, text, out)
    }
}

impl<W: Wrong> Primitives for W {
    fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        W::x25519(scalar, point)
    }

    fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
        W::agree(scalar, point)
    }

    fn seal(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        W::seal(key, nonce, aad, text, out)
    }

    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        W::open(key, nonce, aad, sealed, out)
    }

    fn xseal(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        WireGuardSansIo::xseal(key, nonce, aad, text, out)
    }

    fn xopen(key: &[u8; 32], nonce: &[u8; 24], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        WireGuardSansIo::xopen(key, nonce, aad, sealed, out)
    }

    fn hchacha20(key: &[u8; 32], nonce: &[u8; 16]) -> [u8; 32] {
        WireGuardSansIo::hchacha20(key, nonce)
    }

    fn chacha20(_: &[u8; 32], _: &[u8; 12], _: u32, _: &mut [u8]) -> Option<()> {
        None
    }

    fn poly1305(_: &[u8; 32], _: &[u8]) -> Option<[u8; 16]> {
        None
    }
}

// Takes any point.
wrong!(Credulous:
    fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
        Some(WireGuardSansIo::x25519(scalar, point))
    }
);
// Does not ignore the highest bit of a point (RFC 7748 section 5).
wrong!(HighBit:
    fn x25519(scalar: &[u8; 32], point: &[u8; 32]) -> [u8; 32] {
        if point[31] & 0x80 == 0 { WireGuardSansIo::x25519(scalar, point) } else { [1; 32] }
    }
);
// Looks at half of a tag.
wrong!(HalfTag:
    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let (cipher, tag) = sealed.split_at_checked(sealed.len().checked_sub(16)?)?;
        let mut text = cipher.to_vec();
        <WireGuardSansIo as Primitives>::chacha20(key, nonce, 1, &mut text)?;
        let mut again = vec![0; sealed.len()];
        WireGuardSansIo::seal(key, nonce, aad, &text, &mut again)?;
        if again[cipher.len()..][..8] != tag[..8] {
            return None;
        }
        out[..text.len()].copy_from_slice(&text);
        Some(text.len())
    }
);
// Decrypts, then looks at the tag.
wrong!(Hasty:
    fn open(key: &[u8; 32], nonce: &[u8; 12], aad: &[u8], sealed: &[u8], out: &mut [u8]) -> Option<usize> {
        let len = sealed.len().checked_sub(16)?;
        let opened = WireGuardSansIo::open(key, nonce, aad, sealed, out);
        out[..len].copy_from_slice(&sealed[..len]);
        if opened.is_some() { WireGuardSansIo::open(key, nonce, aad, sealed, out) } else { None }
    }
);
// Forgets what is authenticated beside the text.
wrong!(Forgetful:
    fn seal(key: &[u8; 32], nonce: &[u8; 12], _: &[u8], text: &[u8], out: &mut [u8]) -> Option<usize> {
        WireGuardSansIo::seal(key, nonce, &[], text, out)
    }
);
wrong!(Right: fn agree(scalar: &[u8; 32], point: &[u8; 32]) -> Option<[u8; 32]> {
    WireGuardSansIo::agree(scalar, point)
});

fn flaws<W: Wrong>(file: &[u8]) -> Vec<Flaw> {
    let mut flaws = Vec::new();
    let tally = judge::<W>(file, |failure| flaws.push(failure.flaw));
    assert_eq!(tally.failed as usize, flaws.len());
    assert_eq!(tally.is_good(), flaws.is_empty());
    flaws.sort_by_key(|flaw| *flaw as u8);
    flaws.dedup();
    flaws
}

#[test]
fn what_is_wrong_is_found() {
    assert_eq!(flaws::<Credulous>(X25519), [Flaw::Contribution]);
    assert_eq!(flaws::<HighBit>(X25519), [Flaw::Result]);
    assert_eq!(flaws::<HalfTag>(CHACHA20_POLY1305), [Flaw::Forgery]);
    assert_eq!(flaws::<Hasty>(CHACHA20_POLY1305), [Flaw::Leak]);
    assert_eq!(flaws::<Forgetful>(CHACHA20_POLY1305), [Flaw::Result]);
    assert_eq!(flaws::<Right>(XCHACHA20_POLY1305), []);
}

#[test]
fn a_file_that_ends_in_the_middle_fails() {
    let mut flaws = Vec::new();
    let cut = &X25519[..X25519.len() - 1];
    let tally = judge::<WireGuardSansIo>(cut, |failure| flaws.push(failure.flaw));
    assert_eq!((tally.failed, flaws), (1, vec![Flaw::Unreadable]));
    assert!(!judge::<WireGuardSansIo>(&[], |_| {}).is_good(), "no vectors are none that hold");
}
