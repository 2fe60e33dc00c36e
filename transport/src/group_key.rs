//! The files of the mesh's group keys. `group.keys`: one a line, `<epoch> <64 hexadecimal digits>`, `#` begins a comment.
//! `group.signed`: what an administrator last signed about them, as hexadecimal digits on one line, comments likewise.
//! `admin.pub`: whose signature counts.

use std::fmt::Write;

use rustls_pki_types::SubjectPublicKeyInfoDer;
use rustls_pki_types::pem::PemObject;
use zeroize::Zeroizing;

/// One group key with its epoch.
pub(crate) type GroupKey = (u32, Zeroizing<[u8; 32]>);

/// The most epochs a file may hold: two are in use at a time, a few more may be prepared or not yet removed.
const MAX_EPOCHS: usize = 16;

/// What a public Ed25519 key (RFC 8410) starts with before its 32 bytes.
const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];

/// A new key.
pub(crate) fn fresh() -> Zeroizing<[u8; 32]> {
    let mut key = Zeroizing::new([0; 32]);
    aws_lc_rs::rand::fill(&mut *key).expect("the system's random source works");
    key
}

/// A file with one fresh key, epoch 1.
pub(crate) fn first() -> Zeroizing<String> {
    write(vec![(1, fresh())])
}

/// A file of these keys, newest epoch first.
pub(crate) fn write(mut keys: Vec<GroupKey>) -> Zeroizing<String> {
    keys.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
    let heading = "# Group keys of the mesh: epoch and key. Keep them secret.\n";
    // No secret is left behind by a text that has to move as it grows.
    let mut text = Zeroizing::new(String::with_capacity(heading.len() + keys.len() * 80));
    text.push_str(heading);
    for (epoch, key) in keys {
        write!(text, "{epoch} ").expect("text grows");
        key.iter().for_each(|byte| write!(text, "{byte:02x}").expect("text grows"));
        text.push('\n');
    }
    text
}

/// A file with an encoded signed statement.
pub(crate) fn write_statement(signed: &[u8]) -> String {
    let mut text = String::from("# What an administrator last signed about the group keys. No secret.\n");
    for byte in signed {
        write!(text, "{byte:02x}").expect("text grows");
    }
    text.push('\n');
    text
}

/// Reads what [`write_statement`] wrote.
pub(crate) fn parse_statement(text: &str) -> Option<Vec<u8>> {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
    let (line, None) = (lines.next()?, lines.next()) else { return None };
    if line.len() % 2 != 0 || !line.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    (0..line.len()).step_by(2).map(|index| u8::from_str_radix(&line[index..index + 2], 16).ok()).collect()
}

/// Reads a PEM file of administrators' public keys.
pub(crate) fn parse_administrators(text: &str) -> Result<Vec<[u8; 32]>, String> {
    let mut keys = Vec::new();
    for key in SubjectPublicKeyInfoDer::pem_slice_iter(text.as_bytes()) {
        let key = key.map_err(|error| format!("no public key in PEM form ({error})"))?;
        let key = key.strip_prefix(&ED25519).and_then(|key| key.try_into().ok());
        keys.push(key.ok_or("a public key that is none of Ed25519")?);
    }
    if keys.is_empty() { Err("no public key in PEM form".to_owned()) } else { Ok(keys) }
}

/// Reads a file of keys, newest epoch first. The error names the line.
pub(crate) fn parse(text: &str) -> Result<Vec<GroupKey>, String> {
    let mut keys: Vec<GroupKey> = Vec::new();
    for (number, line) in text.lines().enumerate().map(|(index, line)| (index + 1, line.trim())) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let (epoch, key) = line
            .split_once(' ')
            .and_then(|(epoch, key)| Some((epoch.parse().ok()?, digits(key.trim())?)))
            .ok_or_else(|| format!("line {number} is not '<epoch> <64 hexadecimal digits>'"))?;
        if keys.iter().any(|(known, _)| *known == epoch) {
            return Err(format!("line {number} gives epoch {epoch} a second time"));
        }
        keys.push((epoch, key));
    }
    if keys.is_empty() || keys.len() > MAX_EPOCHS {
        return Err(format!("it holds {} keys, not 1 to {MAX_EPOCHS}", keys.len()));
    }
    keys.sort_by_key(|(epoch, _)| std::cmp::Reverse(*epoch));
    Ok(keys)
}

fn digits(text: &str) -> Option<Zeroizing<[u8; 32]>> {
    if text.len() != 64 || !text.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    let mut key = Zeroizing::new([0; 32]);
    for (byte, index) in key.iter_mut().zip((0..64).step_by(2)) {
        *byte = u8::from_str_radix(&text[index..index + 2], 16).ok()?;
    }
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fresh_file_reads_as_epoch_one() {
        let keys = parse(&first()).unwrap();
        assert_eq!(keys.len(), 1);
        assert_eq!(keys[0].0, 1);
        assert_ne!(*keys[0].1, [0; 32]);
    }

    #[test]
    fn the_newest_epoch_comes_first() {
        let (a, b) = ("aa".repeat(32), "bb".repeat(32));
        let keys = parse(&format!("# two\n3 {a}\n\n7 {b}\n")).unwrap();
        assert_eq!(keys.iter().map(|(epoch, key)| (*epoch, key[0])).collect::<Vec<_>>(), [(7, 0xbb), (3, 0xaa)]);
    }

    #[test]
    fn what_is_written_reads_the_same() {
        let keys = vec![(1, fresh()), (3, fresh())];
        let read = parse(&write(keys.clone())).unwrap();
        assert_eq!(read, keys.into_iter().rev().collect::<Vec<_>>());
        let signed: Vec<u8> = (0..=255).collect();
        assert_eq!(parse_statement(&write_statement(&signed)), Some(signed));
        for bad in ["", "# only\n", "abc\n", "zz\n", "ab\ncd\n", "é0\n"] {
            assert_eq!(parse_statement(bad), None, "{bad:?}");
        }
    }

    #[test]
    fn administrators_are_read_and_other_keys_are_named() {
        let pem = |kind| rcgen::KeyPair::generate_for(kind).unwrap();
        let (one, two) = (pem(&rcgen::PKCS_ED25519), pem(&rcgen::PKCS_ED25519));
        let both = one.public_key_pem() + &two.public_key_pem();
        let read = parse_administrators(&both).unwrap();
        assert_eq!(read.iter().map(|key| &key[..]).collect::<Vec<_>>(), [one.public_key_raw(), two.public_key_raw()]);
        let other = pem(&rcgen::PKCS_ECDSA_P256_SHA256).public_key_pem();
        assert!(parse_administrators(&other).unwrap_err().contains("none of Ed25519"));
        assert!(parse_administrators("nothing").unwrap_err().contains("PEM"));
    }

    #[test]
    fn a_bad_line_is_named() {
        let key = "aa".repeat(32);
        for (text, words) in [
            (String::new(), "0 keys"),
            ("1 abc".to_owned(), "line 1 is not"),
            (format!("1 {key}\nx {key}"), "line 2 is not"),
            (format!("1 {key}\n1 {key}"), "line 2 gives epoch 1 a second time"),
            (format!("1 {}", "é".repeat(32)), "line 1 is not"),
        ] {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(words), "{error}");
        }
    }
}
