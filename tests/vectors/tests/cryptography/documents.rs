//! The test vectors of RFC 7748 (X25519), RFC 8439 (ChaCha20, Poly1305 and both together) and draft-irtf-cfrg-xchacha-03.

use acorn_vectors::cryptography::{Case, Origin, What};
use hex::decode;

use super::Bytes;

/// How many vectors are for ChaCha20 alone, and how many for Poly1305 alone.
pub const CHACHA20: u32 = 12;
pub const POLY1305: u32 = 12;

/// RFC 7748 section 6.1: a private and its public key, Alice's and Bob's.
pub const KEY_PAIRS: [(&str, &str); 2] = [
    (
        "77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a",
        "8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a",
    ),
    (
        "5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb",
        "de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f",
    ),
];
const BASE: &str = "0900000000000000000000000000000000000000000000000000000000000000";
const SHARED: &str = "4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742";

/// RFC 7748 section 5.2: scalar, point, product.
const PRODUCTS: [[&str; 3]; 2] = [
    [
        "a546e36bf0527c9d3b16154b82465edd62144c0ac1fc5a18506a2244ba449ac4",
        "e6db6867583030db3594c1a424b15f7c726624ec26b3353b10a903a6d0ab1c4c",
        "c3da55379de9c6908e94ea4df28d084f32eccf03491c71f754b4075577a28552",
    ],
    [
        "4b66e9d4d1b4673c5ad22691957d6af5c11b6421e0ea01d42ca4169e7918ba0d",
        "e5210f12786811d3f4b7959d0538ae2c31dbe7106fc03c3efc4cd549c715a493",
        "95cbde9476e8907d7aade45cb4b873f88b595a68799fa152e6f8f7647aac7957",
    ],
];

/// RFC 7748 section 5.2, again and again. The million is too slow for a microcontroller.
const ITERATED: [(u32, &str); 2] = [
    (1, "422c8e7a6227d7bca1350b3e2bb7279f7897b87bb6854b783c60e80311ae3079"),
    (1000, "684cf59ba83309552800ef566f2f4d3c1c3887c49360e3875f2eb94d99532c51"),
];

const ZERO: &str = "0000000000000000000000000000000000000000000000000000000000000000";
const ONE: &str = "0000000000000000000000000000000000000000000000000000000000000001";
/// Bytes that count up, from 0x00 and from 0x80.
const RISING: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
const RISING_HIGH: &str = "808182838485868788898a8b8c8d8e8f909192939495969798999a9b9c9d9e9f";
/// The key of RFC 8439's appendices.
const APPENDIX: &str = "1c9240a5eb55d38af333888604f6b5f0473917c1402b80099dca5cbc207075c0";
const S_ALONE: &str = "0000000000000000000000000000000036e5f6b5c5e06070f0efca96227a863e";
const R_ALONE: &str = "36e5f6b5c5e06070f0efca96227a863e00000000000000000000000000000000";
const NONCE_0: &str = "000000000000000000000000";
const NONCE_2: &str = "000000000000000000000002";

const SUNSCREEN: &str = "Ladies and Gentlemen of the class of '99: If I could offer you only one tip for the future, sunscreen would \
                         be it.";
const JABBERWOCKY: &str = "'Twas brillig, and the slithy toves\nDid gyre and gimble in the wabe:\nAll mimsy were the borogoves,\nAnd \
                           the mome raths outgrabe.";
const CONTRIBUTION: &str = "Any submission to the IETF intended by the Contributor for publication as all or part of an IETF \
                            Internet-Draft or RFC and any statement made within the context of an IETF activity is considered an \
                            \"IETF Contribution\". Such statements include oral statements in IETF sessions, as well as written and \
                            electronic communications made at any time or place, which are addressed to";
const DRAFTS: &str = "Internet-Drafts are draft documents valid for a maximum of six months and may be updated, replaced, or obsoleted \
                      by other documents at any time. It is inappropriate to use Internet-Drafts as reference material or to cite them \
                      other than as /\u{201c}work in progress./\u{201d}";

const SUNSCREEN_ENCRYPTED: &str = concat!(
    "6e2e359a2568f98041ba0728dd0d6981e97e7aec1d4360c20a27afccfd9fae0bf91b65c5524733ab8f593dabcd62b3571639",
    "d624e65152ab8f530c359f0861d807ca0dbf500d6a6156a38e088a22b65e52bc514d16ccf806818ce91ab77937365af90bbf",
    "74a35be6b40b8eedf2785e42874d",
);
const SUNSCREEN_SEALED: &str = concat!(
    "d31a8d34648e60db7b86afbc53ef7ec2a4aded51296e08fea9e2b5a736ee62d63dbea45e8ca9671282fafb69da92728b1a71",
    "de0a9e060b2905d6a5b67ecd3b3692ddbd7f2d778b8c9803aee328091b58fab324e4fad675945585808b4831d7bc3ff4def0",
    "8e4b7a9de576d26586cec64b61161ae10b594f09e26a7e902ecbd0600691",
);
const SUNSCREEN_LONG_SEALED: &str = concat!(
    "bd6d179d3e83d43b9576579493c0e939572a1700252bfaccbed2902c21396cbb731c7f1b0b4aa6440bf3a82f4eda7e39ae64",
    "c6708c54c216cb96b72e1213b4522f8c9ba40db5d945b11b69b982c1bb9e3f3fac2bc369488f76b2383565d3fff921f9664c",
    "97637da9768812f615c68b13b52ec0875924c1c7987947deafd8780acf49",
);
const CONTRIBUTION_ENCRYPTED: &str = concat!(
    "a3fbf07df3fa2fde4f376ca23e82737041605d9f4f4f57bd8cff2c1d4b7955ec2a97948bd3722915c8f3d337f7d370050e9e",
    "96d647b7c39f56e031ca5eb6250d4042e02785ececfa4b4bb5e8ead0440e20b6e8db09d881a7c6132f420e52795042bdfa77",
    "73d8a9051447b3291ce1411c680465552aa6c405b7764d5e87bea85ad00f8449ed8f72d0d662ab052691ca66424bc86d2df8",
    "0ea41f43abf937d3259dc4b2d0dfb48a6c9139ddd7f76966e928e635553ba76c5c879d7b35d49eb2e62b0871cdac638939e2",
    "5e8a1e0ef9d5280fa8ca328b351c3c765989cbcf3daa8b6ccc3aaf9f3979c92b3720fc88dc95ed84a1be059c6499b9fda236",
    "e7e818b04b0bc39c1e876b193bfe5569753f88128cc08aaa9b63d1a16f80ef2554d7189c411f5869ca52c5b83fa36ff216b9",
    "c1d30062bebcfd2dc5bce0911934fda79a86f6e698ced759c3ff9b6477338f3da4f9cd8514ea9982ccafb341b2384dd902f3",
    "d1ab7ac61dd29c6f21ba5b862f3730e37cfdc4fd806c22f221",
);
const JABBERWOCKY_ENCRYPTED: &str = concat!(
    "62e6347f95ed87a45ffae7426f27a1df5fb69110044c0d73118effa95b01e5cf166d3df2d721caf9b21e5fb14c616871fd84",
    "c54f9d65b283196c7fe4f60553ebf39c6402c42234e32a356b3e764312a61a5532055716ead6962568f87d3f3f7704c6a8d1",
    "bcd1bf4d50d6154b6da731b187b58dfd728afa36757a797ac188d1",
);
const DRAFTS_SEALED: &str = concat!(
    "64a0861575861af460f062c79be643bd5e805cfd345cf389f108670ac76c8cb24c6cfc18755d43eea09ee94e382d26b0bdb7",
    "b73c321b0100d4f03b7f355894cf332f830e710b97ce98c8a84abd0b948114ad176e008d33bd60f982b1ff37c8559797a06e",
    "f4f0ef61c186324e2b3506383606907b6a7c02b0f9f6157b53c867e4b9166c767b804d46a59b5216cde7a4e99040c5a40433",
    "225ee282a1b0a06c523eaf4534d7f83fa1155b0047718cbc546a0d072b04b3564eea1b422273f548271a0bb2316053fa7699",
    "1955ebd63159434ecebb4e466dae5a1073a6727627097a1049e617d91d361094fa68f0ff77987130305beaba2eda04df997b",
    "714d6c6f2c29a6ad5cb4022b02709beead9d67890cbb22392336fea1851f38",
);

/// Section of RFC 8439, key, nonce, number of the block, key stream. A.4 is a block of which the first half is used.
const BLOCKS: [(&str, &str, &str, u32, &str); 9] = [
    (
        "RFC 8439 2.3.2",
        RISING,
        "000000090000004a00000000",
        1,
        concat!(
            "10f1e7e4d13b5915500fdd1fa32071c4c7d1f4c733c068030422aa9ac3d46c4e",
            "d2826446079faa0914c2d705d98b02a2b5129cd1de164eb9cbd083e8a2503c4e",
        ),
    ),
    (
        "RFC 8439 A.1 1, A.2 1 and A.4 1",
        ZERO,
        NONCE_0,
        0,
        concat!(
            "76b8e0ada0f13d90405d6ae55386bd28bdd219b8a08ded1aa836efcc8b770dc7",
            "da41597c5157488d7724e03fb8d84a376a43b8f41518a11cc387b669b2ee6586",
        ),
    ),
    (
        "RFC 8439 A.1 2",
        ZERO,
        NONCE_0,
        1,
        concat!(
            "9f07e7be5551387a98ba977c732d080dcb0f29a048e3656912c6533e32ee7aed",
            "29b721769ce64e43d57133b074d839d531ed1f28510afb45ace10a1f4b794d6f",
        ),
    ),
    (
        "RFC 8439 A.1 3",
        ONE,
        NONCE_0,
        1,
        concat!(
            "3aeb5224ecf849929b9d828db1ced4dd832025e8018b8160b82284f3c949aa5a",
            "8eca00bbb4a73bdad192b5c42f73f2fd4e273644c8b36125a64addeb006c13a0",
        ),
    ),
    (
        "RFC 8439 A.1 4",
        "00ff000000000000000000000000000000000000000000000000000000000000",
        NONCE_0,
        2,
        concat!(
            "72d54dfbf12ec44b362692df94137f328fea8da73990265ec1bbbea1ae9af0ca",
            "13b25aa26cb4a648cb9b9d1be65b2c0924a66c54d545ec1b7374f4872e99f096",
        ),
    ),
    (
        "RFC 8439 A.1 5",
        ZERO,
        NONCE_2,
        0,
        concat!(
            "c2c64d378cd536374ae204b9ef933fcd1a8b2288b3dfa49672ab765b54ee27c7",
            "8a970e0e955c14f3a88e741b97c286f75f8fc299e8148362fa198a39531bed6d",
        ),
    ),
    (
        "RFC 8439 2.6.2",
        RISING_HIGH,
        "000000000001020304050607",
        0,
        "8ad5a08b905f81cc815040274ab29471a833b637e3fd0da508dbb8e2fdd1a646",
    ),
    ("RFC 8439 A.4 2", ONE, NONCE_2, 0, "ecfa254f845f647473d3cb140da9e87606cb33066c447b87bc2666dde3fbb739"),
    ("RFC 8439 A.4 3", APPENDIX, NONCE_2, 0, "965e3bc6f9ec7ed9560808f4d229f94b137ff275ca9b3fcbdd59deaad23310ae"),
];

/// RFC 8439 A.3, where the text is not words: number, key, text, tag. They end where a carry or a reduction is easily forgotten.
const CARRIES: [(&str, &str, &str, &str); 8] = [
    (
        "RFC 8439 A.3 1",
        ZERO,
        concat!(
            "0000000000000000000000000000000000000000000000000000000000000000",
            "0000000000000000000000000000000000000000000000000000000000000000",
        ),
        "00000000000000000000000000000000",
    ),
    (
        "RFC 8439 A.3 5",
        "0200000000000000000000000000000000000000000000000000000000000000",
        "ffffffffffffffffffffffffffffffff",
        "03000000000000000000000000000000",
    ),
    (
        "RFC 8439 A.3 6",
        "02000000000000000000000000000000ffffffffffffffffffffffffffffffff",
        "02000000000000000000000000000000",
        "03000000000000000000000000000000",
    ),
    (
        "RFC 8439 A.3 7",
        "0100000000000000000000000000000000000000000000000000000000000000",
        concat!("fffffffffffffffffffffffffffffffff0ffffffffffffffffffffffffffffff", "11000000000000000000000000000000",),
        "05000000000000000000000000000000",
    ),
    (
        "RFC 8439 A.3 8",
        "0100000000000000000000000000000000000000000000000000000000000000",
        concat!("fffffffffffffffffffffffffffffffffbfefefefefefefefefefefefefefefe", "01010101010101010101010101010101",),
        "00000000000000000000000000000000",
    ),
    (
        "RFC 8439 A.3 9",
        "0200000000000000000000000000000000000000000000000000000000000000",
        "fdffffffffffffffffffffffffffffff",
        "faffffffffffffffffffffffffffffff",
    ),
    (
        "RFC 8439 A.3 10",
        "0100000000000000040000000000000000000000000000000000000000000000",
        concat!(
            "e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000",
            "0000000000000000000000000000000001000000000000000000000000000000",
        ),
        "14000000000000005500000000000000",
    ),
    (
        "RFC 8439 A.3 11",
        "0100000000000000040000000000000000000000000000000000000000000000",
        concat!("e33594d7505e43b900000000000000003394d7505e4379cd0100000000000000", "00000000000000000000000000000000",),
        "13000000000000000000000000000000",
    ),
];

pub fn x25519() -> Bytes {
    let mut made = Bytes(Vec::new());
    let mut product = |section, scalar, point, shared| {
        let what = What::Exchange { scalar: array(scalar), point: array(point), shared: array(shared) };
        made.push(&Case { origin: Origin::Document(section), what });
    };
    for [scalar, point, shared] in PRODUCTS {
        product("RFC 7748 5.2", scalar, point, shared);
    }
    let [(alice, for_alice), (bob, for_bob)] = KEY_PAIRS;
    product("RFC 7748 6.1, Alice's public key", alice, BASE, for_alice);
    product("RFC 7748 6.1, Bob's public key", bob, BASE, for_bob);
    product("RFC 7748 6.1, Alice's side", alice, for_bob, SHARED);
    product("RFC 7748 6.1, Bob's side", bob, for_alice, SHARED);
    for (times, end) in ITERATED {
        let what = What::Iterated { times, end: array(end) };
        made.push(&Case { origin: Origin::Document("RFC 7748 5.2, iterated"), what });
    }
    made
}

pub fn chacha20_poly1305() -> Bytes {
    let mut made = Bytes(Vec::new());
    for (section, key, nonce, counter, stream) in BLOCKS {
        encrypted(&mut made, section, [key, nonce, stream], counter, "");
    }
    encrypted(&mut made, "RFC 8439 2.4.2", [RISING, "000000000000004a00000000", SUNSCREEN_ENCRYPTED], 1, SUNSCREEN);
    encrypted(&mut made, "RFC 8439 A.2 2", [ONE, NONCE_2, CONTRIBUTION_ENCRYPTED], 1, CONTRIBUTION);
    encrypted(&mut made, "RFC 8439 A.2 3", [APPENDIX, NONCE_2, JABBERWOCKY_ENCRYPTED], 42, JABBERWOCKY);

    let mut tag = |section, key, text: &[u8], tag| {
        let what = What::Tag { key: array(key), text, tag: array(tag) };
        made.push(&Case { origin: Origin::Document(section), what });
    };
    let forum = "85d6be7857556d337f4452fe42d506a80103808afb0db2fd4abff6af4149f51b";
    tag("RFC 8439 2.5.2", forum, b"Cryptographic Forum Research Group", "a8061dc1305136c6c22b8baf0c0127a9");
    tag("RFC 8439 A.3 2", S_ALONE, CONTRIBUTION.as_bytes(), "36e5f6b5c5e06070f0efca96227a863e");
    tag("RFC 8439 A.3 3", R_ALONE, CONTRIBUTION.as_bytes(), "f3477e7cd95417af89a6b8794c310cf0");
    tag("RFC 8439 A.3 4", APPENDIX, JABBERWOCKY.as_bytes(), "4541669a7eaaee61e708dc7cbcc5eb62");
    for (section, key, text, is) in CARRIES {
        tag(section, key, &decode(text).expect("hex"), is);
    }

    let aad = "50515253c0c1c2c3c4c5c6c7";
    sealed(&mut made, "RFC 8439 2.8.2", [RISING_HIGH, "070000004041424344454647", aad, SUNSCREEN_SEALED], SUNSCREEN);
    let aad = "f33388860000000000004e91";
    sealed(&mut made, "RFC 8439 A.5", [APPENDIX, "000000000102030405060708", aad, DRAFTS_SEALED], DRAFTS);
    made
}

pub fn xchacha20_poly1305() -> Bytes {
    let mut made = Bytes(Vec::new());
    let what = What::Subkey {
        key: array(RISING),
        nonce: array("000000090000004a0000000031415927"),
        subkey: array("82413b4227b27bfed30e42508a877d73a0f9e4d58a74a853c12ec41326d3ecdc"),
    };
    made.push(&Case { origin: Origin::Document("draft-irtf-cfrg-xchacha-03 2.2.1"), what });
    let nonce = "404142434445464748494a4b4c4d4e4f5051525354555657";
    let bytes = [RISING_HIGH, nonce, "50515253c0c1c2c3c4c5c6c7", SUNSCREEN_LONG_SEALED];
    sealed(&mut made, "draft-irtf-cfrg-xchacha-03 A.3.1", bytes, SUNSCREEN);
    made
}

fn encrypted(made: &mut Bytes, section: &str, [key, nonce, cipher]: [&str; 3], counter: u32, text: &str) {
    let cipher = &decode(cipher).expect("hex");
    let what = What::Encrypted { key: array(key), nonce: array(nonce), counter, text: text.as_bytes(), cipher };
    made.push(&Case { origin: Origin::Document(section), what });
}

fn sealed(made: &mut Bytes, section: &str, bytes: [&str; 4], text: &str) {
    let [key, nonce, aad, sealed] = &bytes.map(|bytes| decode(bytes).expect("hex"));
    let key = key[..].try_into().expect("32 bytes");
    let what = What::Sealed { key, nonce, aad, text: text.as_bytes(), sealed, is_genuine: true };
    made.push(&Case { origin: Origin::Document(section), what });
}

fn array<const N: usize>(bytes: &str) -> [u8; N] {
    decode(bytes).expect("hex").try_into().expect("as many bytes")
}
